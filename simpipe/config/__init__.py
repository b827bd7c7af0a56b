"""What the user asked for: one section of settings per stage, read from YAML or a preset."""

from simpipe.config.fields import TABLES
from simpipe.config.idle import idle_settings
from simpipe.config.loading import (
    FILE_KEYS,
    JSON,
    config_stem,
    dump_yaml,
    flatten,
    load,
    override,
    preset_names,
    read_resolved,
)
from simpipe.config.models import Config
from simpipe.config.template import choices, commented_yaml, written

__all__ = [
    "FILE_KEYS",
    "JSON",
    "TABLES",
    "Config",
    "choices",
    "commented_yaml",
    "config_stem",
    "dump_yaml",
    "flatten",
    "idle_settings",
    "load",
    "override",
    "preset_names",
    "read_resolved",
    "written",
]
