"""From a tree of plain values to a `Config`, with all problems at once and the key that was meant."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from simpipe.config.fields import Section, not_one_of, whole
from simpipe.config.models import Config
from simpipe.config.problems import shown
from simpipe.config.reader import Tree

# What other tools call a key of ours; names that look alike need no entry.
SYNONYMS = {
    "learning_rate": "train.lr",
    "batch_size": "sampler.classes_per_batch",
    "images_per_class": "sampler.examples_per_class_per_batch",
    "model": "train.backbone",
    "architecture": "train.backbone",
    "image_size": "train.input_size",
    "dim": "train.embedding_size",
    "embedding_dim": "train.embedding_size",
    "early_stopping": "train.patience",
    "random_seed": "seed",
    "random_state": "seed",
    "n_neighbors": "report.neighbours",
    "bootstrap": "evaluate.resamples",
}


def _leaves() -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for leaf, inner in field.annotation.model_fields.items():
                leaves[f"{name}.{leaf}"] = inner.annotation
        else:
            leaves[name] = field.annotation
    return leaves


LEAVES = _leaves()  # dotted key -> type, in the order of the models
SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in LEAVES if "." in key))


def names_of(key: str) -> tuple[str, ...]:
    """The names that a dotted key takes, null aside; none where it takes other values."""
    kinds = (LEAVES[key], *get_args(LEAVES[key]))
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


@dataclass(frozen=True)
class Fault:
    """What is wrong with the value of a dotted key; `keys` are all that have a part in it."""

    keys: tuple[str, ...]
    message: str
    unknown: bool = False


def check(tree: Tree, faulty: Iterable[str] = ()) -> tuple[Config, list[Fault]]:
    """The configuration of all values that are right, and what is wrong with the others.

    `faulty` are keys known to be wrong and absent from the tree; what clashes only with them or with
    another fault is not reported, for mending the fault may settle it.
    """
    tree = {name: dict(value) if isinstance(value, dict) else value for name, value in tree.items()}
    seen = set(faulty)
    faults: list[Fault] = []
    while True:
        try:
            return Config.model_validate(tree), faults
        except ValidationError as error:
            found = [_fault(detail) for detail in error.errors(include_url=False)]
        faults += [fault for fault in found if not _follows(fault, seen)]
        for key in {key for fault in found for key in fault.keys}:
            seen.add(leaf_of(key))
            _drop(tree, leaf_of(key))


def unknown_key(key: str) -> Fault:
    """The fault of a key that no section has, with the nearest one that exists."""
    near = nearest_key(key)
    return Fault((key,), f"unknown key.{f' Did you mean {near}?' if near else ''}", unknown=True)


def nearest_key(key: str) -> str | None:
    """The section or dotted key that `key` resembles most, by its last part first; None if none does."""
    last = key.rpartition(".")[2].lower().replace("-", "_")
    if last in SYNONYMS:
        return SYNONYMS[last]
    known = [*LEAVES, *(SECTIONS if "." not in key else ())]
    near = get_close_matches(last, {name.rpartition(".")[2] for name in known}, n=1)
    same = [name for name in known if name.rpartition(".")[2] in near]
    return max(same, key=lambda name: SequenceMatcher(None, key, name).ratio(), default=None)


def _follows(fault: Fault, seen: set[str]) -> bool:
    """Whether values clash of which one, or its section, is a fault already."""
    return len(fault.keys) > 1 and any(key in seen or key.partition(".")[0] in seen for key in fault.keys)


def leaf_of(key: str) -> str:
    """The key that a dotted path is or lies in: `calibrate.precision` of `calibrate.precision.1`."""
    return ".".join(key.split(".")[:2])


def _drop(tree: Tree, key: str) -> None:
    section, _, leaf = key.partition(".")
    if not leaf:
        tree.pop(section, None)
    elif isinstance(tree.get(section), dict):
        tree[section].pop(leaf, None)


def _fault(detail: ErrorDetails) -> Fault:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "conflict":
        return Fault(detail["ctx"]["keys"], detail["msg"])
    if detail["type"] == "extra_forbidden":
        return unknown_key(key)
    return Fault((key,), _explain(detail, key))


_BOUNDS = {
    "greater_than": ("gt", "small", "above"),
    "greater_than_equal": ("ge", "small", "at least"),
    "less_than": ("lt", "large", "below"),
    "less_than_equal": ("le", "large", "at most"),
}


def _explain(detail: ErrorDetails, key: str) -> str:
    value, context = shown(detail["input"]), detail.get("ctx", {})
    match detail["type"]:
        case "literal_error":
            return not_one_of(detail["input"], names_of(key))
        case "int_type":
            return f"{value} is not a whole number"
        case "float_type":
            return f"{value} is not a number"
        case "finite_number":
            return f"{value} is not a finite number"
        case "string_type" if isinstance(detail["input"], bool | int | float):
            return f"{value} is not a text; put it in quotes"
        case "string_type":
            return f"{value} is not a text"
        case "tuple_type":
            return f"{value} is not a list; write [{value}]"
        case "model_type":
            return f"{value} stands where keys are needed, such as {first_key(key)}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            bound, size, must = _BOUNDS[detail["type"]]
            return f"{value} is too {size}; it must be {must} {shown(whole(context[bound]))}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{value}: {detail['msg']}"


def first_key(section: str) -> str:
    """The first key of a section, dotted."""
    return next(key for key in LEAVES if key.startswith(f"{section}."))
