"""The thresholds as a table, and what every other distance would do as a curve."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.reporting.content import Content
from simpipe.reporting.text import clean, number, percent, value_text

COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "accepted": "answered",
    "unknown_accept": "unknown let in",
}
TARGETS = {"precision": "precision ≥", "recall": "recall ≥", "unknown_accept": "unknown let in ≤"}
STEPS = 200


@dataclass(frozen=True)
class Threshold:
    """One threshold: what was asked, the distance (None: cannot be met), and each measure on both sides.

    `held`: whether the test agrees (None: it cannot tell); `caution`: why it is to be taken with care.
    """

    name: str
    distance: float | None
    reason: str
    on_calibration: list[float | None]
    on_test: list[float | None]
    held: bool | None = None
    caution: str = ""


@dataclass(frozen=True)
class Curve:
    """For ascending distances: the share answered, the precision of the answers, the unknowns let in."""

    distance: np.ndarray
    answered: np.ndarray
    precision: np.ndarray
    unknown: np.ndarray | None


def table(calibration: dict[str, Any]) -> list[Threshold]:
    """The thresholds in the file's order."""
    return [
        Threshold(
            asked(name),
            number(entry.get("distance")),
            clean(entry.get("reason") or "cannot be met"),
            [number((entry.get("on_calibration") or {}).get(column)) for column in COLUMNS],
            [number((entry.get("on_test") or {}).get(column)) for column in COLUMNS],
            entry.get("held"),
            clean(entry["caution"]) if entry.get("caution") else "",
        )
        for name, entry in (calibration.get("thresholds") or {}).items()
    ]


def asked(name: str) -> str:
    """What a threshold was chosen for, in words: `precision_0.95` is precision ≥ 95 %."""
    if name == "optimal":
        return "best F1"
    parts = re.fullmatch(r"(.+)_(\d*\.?\d+)", name)
    if parts and parts[1] in TARGETS:
        return f"{TARGETS[parts[1]]} {percent(float(parts[2]))}"
    return value_text(name)


def curve(content: Content) -> Curve | None:
    """The curve over the test queries; None without any."""
    if not len(content.test_rows):
        return None
    given = content.match_distances
    if given is None:
        if not content.test_distances.shape[1]:
            return None
        given = np.where(content.test_ids[:, 0] >= 0, content.test_distances[:, 0], np.inf)
    right = content.correct[content.test_rows] == 1
    usable = np.isfinite(given)
    if not usable.any():
        return None
    order = np.argsort(given, kind="stable")
    ranked, hits = given[order], np.cumsum(right[order])
    unknown = content.unknown_distances if content.unknown_distances is not None else np.zeros(0)
    distance = np.linspace(0, float(np.concatenate([given[usable], unknown]).max()), STEPS)
    answers = np.searchsorted(ranked, distance, side="right")
    with np.errstate(invalid="ignore"):
        precision = np.where(answers > 0, hits[np.maximum(answers - 1, 0)] / np.maximum(answers, 1), np.nan)
    let_in = (
        np.searchsorted(np.sort(unknown), distance, side="right") / len(unknown) if len(unknown) else None
    )
    return Curve(distance, answers / len(given), precision, let_in)
