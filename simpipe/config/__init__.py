"""What the user asked for: one section of settings per stage, read from YAML or a preset."""

from simpipe.config.loading import (
    JSON,
    config_stem,
    dump_yaml,
    flatten,
    load,
    override,
    preset_names,
    preset_text,
    read_resolved,
)
from simpipe.config.models import Config

__all__ = [
    "JSON",
    "Config",
    "config_stem",
    "dump_yaml",
    "flatten",
    "load",
    "override",
    "preset_names",
    "preset_text",
    "read_resolved",
]
