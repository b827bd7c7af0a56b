"""A commented configuration, written from the models, so that what is said of a key is said once."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from simpipe.config import reader
from simpipe.config.checking import names_of
from simpipe.config.loading import JSON, flatten
from simpipe.config.models import Config

WIDTH = 110

_INTRO = (
    "Every key of simpipe, with its value. A file of your own needs only the keys that differ from the "
    "defaults; delete the others at will. One value for one run: simpipe run DATA --set train.epochs=60"
)


def commented_yaml(config: Config, readers: Mapping[str, Sequence[str]]) -> str:
    """`config` as YAML with every key, each below its meaning, its choices and who reads it.

    `load` gives it back equal. `readers` names for each dotted key the stages that read it.
    """
    defaults = flatten(Config())
    blocks = [_comment(_INTRO)]
    section = ""
    for key, value in flatten(config).items():
        head, _, leaf = key.rpartition(".")
        if head != section:
            section = head
            blocks.append(f"{head}:  # {_section(head).__doc__}")
        indent = "  " if head else ""
        facts = [
            f"One of {', '.join(choices(key))}." if choices(key) else "",
            f"Default: {written(defaults[key])}." if value != defaults[key] else "",
            f"Read by {', '.join(readers[key])}.",
        ]
        about = f"{_section(head).model_fields[leaf].description}."
        comments = [_comment(text, indent) for text in (about, " ".join(filter(None, facts)))]
        blocks.append("\n".join([*comments, f"{indent}{leaf}: {written(value)}"]))
    return "\n\n".join(blocks) + "\n"


def choices(key: str) -> tuple[str, ...]:
    """The names that a dotted key takes; none where it takes other values."""
    section, _, leaf = key.rpartition(".")
    return names_of(key) or tuple(_section(section).model_fields[leaf].examples or ())


def written(value: JSON) -> str:
    """`value` as it stands behind its key in YAML."""
    return reader.dump({"key": value}).removeprefix("key:").strip()


def _section(name: str) -> Any:
    """The model of a section, or of the whole configuration if `name` is empty."""
    return Config.model_fields[name].annotation if name else Config


def _comment(text: str, indent: str = "") -> str:
    start = f"{indent}# "
    return fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )
