"""A stage's key: the hash of a document that names everything its outputs depend on."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simpipe.engine.stage import Stage, declared

FORMAT = 1
"""Raised when keys are made in another way; every stage is then stale once, and the plan says why."""


@dataclass(frozen=True)
class Reason:
    """Why a stage is to run: data first, a sentence second.

    `code` is one of missing, damaged, forced, format, version, config, input, upstream.
    """

    code: str
    key: str = ""
    old: Any = None
    new: Any = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a document; a changed key keeps both values, also where one of them is null."""
        values = asdict(self)
        changed = self.code in ("config", "input", "version", "format")
        return {k: v for k, v in values.items() if (changed and k in ("old", "new")) or v not in ("", None)}

    def __str__(self) -> str:
        match self.code:
            case "config":
                return f"{self.key} {_short(self.old)} → {_short(self.new)}"
            case "input":
                return f"{self.key} changed"
            case "version":
                return f"this version of simpipe computes it differently ({self.old} → {self.new})"
            case "format":
                return "another version of simpipe made it"
            case "missing":
                return self.detail or "not there yet"
            case "upstream":
                return f"if {self.key} gives something new"
            case _:
                return self.detail or self.code


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:15]}…" if text.startswith("sha256:") else text


def key_document(stage: Stage, inputs: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the stage's outputs depend on.

    Args:
        stage: its declaration.
        inputs: the hashes of the artifacts it reads, and of the content outside the run directory.
        values: the whole configuration, flat; only what the stage declares gets in.
    """
    return {
        "format": FORMAT,
        "stage": stage.name,
        "version": stage.version,
        "inputs": dict(inputs),
        "config": declared(values, stage.config),
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Reason]:
    """What changed between two key documents; empty if and only if they are equal."""
    if old.get("format") != new["format"]:
        return [Reason("format", old=old.get("format"), new=new["format"])]
    reasons = []
    if old["version"] != new["version"]:
        reasons.append(Reason("version", old=old["version"], new=new["version"]))
    reasons += [Reason("config", *change) for change in _changes(old["config"], new["config"])]
    reasons += [Reason("input", *change) for change in _changes(old["inputs"], new["inputs"])]
    return reasons


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            yield key, old.get(key), new.get(key)
