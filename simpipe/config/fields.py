"""What all sections are made of: strict types, and the errors that people read."""

import re
from difflib import get_close_matches
from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from simpipe.config.problems import shown

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
"""The kinds of label tables, by the ends of their names."""


def whole(value: object) -> object:
    """A float without a fraction as an int; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"{value} is listed twice")
    return values


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def check_pattern(text: str, groups: tuple[str, ...]) -> None:
    """Refuse a regular expression that cannot be read, or that names none of `groups`."""
    try:
        named = re.compile(text).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    if groups and not set(groups) & set(named):
        wanted = " or ".join(f"(?P<{name}>…)" for name in groups)
        raise ValueError(f"{text!r} has no group {wanted}")


Int = Annotated[int, BeforeValidator(whole)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Range = Annotated[tuple[float, float], BeforeValidator(_listed)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Targets = Annotated[
    tuple[Fraction, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
]


def conflict(keys: tuple[str, ...], text: str) -> PydanticCustomError:
    """The error of values that are fine each, but not together; `keys` are their dotted names."""
    return PydanticCustomError("conflict", "{text}", {"keys": keys, "text": text})


def is_path(value: str) -> bool:
    """Whether a value means a file or folder: a name alone, without a folder or a suffix, never does."""
    return "/" in value or "\\" in value or bool(PurePath(value).suffix)


def not_one_of(value: object, choices: tuple[str, ...]) -> str:
    """What is said of a value that is none of `choices`, with the one that was perhaps meant."""
    near = get_close_matches(str(value).lower(), choices, n=1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"{shown(value)} is not one of {', '.join(choices)}.{guess}"


class Section(BaseModel):
    """What all sections have in common: no unknown key, no change after the start, no guessed type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
