"""The thresholds as a table, and what every other distance would do on the test images."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.metrics.calibration import working_threshold
from simpipe.reporting.content import Content
from simpipe.reporting.text import clean, number, value_text

COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "accepted": "answered",
    "unknown_accept": "unknown let in",
}
TARGETS = {"precision": "precision ≥", "recall": "recall ≥", "unknown_accept": "unknown let in ≤"}
MOST = 390


@dataclass(frozen=True)
class Threshold:
    """One threshold: what was asked, the distance (None: cannot be met), and each measure on both sides.

    `held`: whether the test agrees (None: it cannot tell); `caution`: why it is to be taken with care;
    `key`: its name in calibration.json; `working`: whether `simpipe query` uses it unless told otherwise.
    """

    name: str
    distance: float | None
    reason: str
    on_calibration: list[float | None]
    on_test: list[float | None]
    held: bool | None = None
    caution: str = ""
    key: str = ""
    working: bool = False


@dataclass(frozen=True)
class Answers:
    """The test images by the distance of their match: float32, ascending; without a match in none of these.

    `right` and `wrong` are of the `known` images, whose label training has; `unknown` of the others, which
    are `strangers` in number.
    """

    right: np.ndarray
    wrong: np.ndarray
    unknown: np.ndarray
    known: int
    strangers: int


@dataclass(frozen=True)
class Curve:
    """What a threshold at each of the ascending distances, float32 (s,), does to the test images.

    `right`, `wrong` and `let_in` count, int (s,), the right and wrong answers and the unknown images that
    get one. `answered` and `unknown` are shares of the known and of the unknown images, `precision` is NaN
    where none is answered; `unknown` is None without unknown images.
    """

    distance: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    let_in: np.ndarray
    known: int
    strangers: int

    @property
    def answered(self) -> np.ndarray:
        return np.asarray((self.right + self.wrong) / self.known)

    @property
    def precision(self) -> np.ndarray:
        given = self.right + self.wrong
        return np.where(given > 0, self.right / np.maximum(given, 1), np.nan)

    @property
    def unknown(self) -> np.ndarray | None:
        return self.let_in / self.strangers if self.strangers else None


def table(calibration: dict[str, Any]) -> list[Threshold]:
    """The thresholds in the file's order."""
    given = calibration.get("thresholds") or {}
    working = working_threshold(given)
    return [
        Threshold(
            asked(name),
            number(entry.get("distance")),
            clean(entry.get("reason") or "cannot be met"),
            [number((entry.get("on_calibration") or {}).get(column)) for column in COLUMNS],
            [number((entry.get("on_test") or {}).get(column)) for column in COLUMNS],
            entry.get("held"),
            clean(entry["caution"]) if entry.get("caution") else "",
            clean(name),
            name == working,
        )
        for name, entry in given.items()
    ]


def asked(name: str) -> str:
    """What a threshold was chosen for, in words: `precision_0.95` is precision ≥ 95 %."""
    if name == "optimal":
        return "best F1"
    parts = re.fullmatch(r"(.+)_(\d*\.?\d+)", name)
    if parts and parts[1] in TARGETS:
        return f"{TARGETS[parts[1]]} {100 * float(parts[2]):g} %"
    return value_text(name)


def answers(content: Content) -> Answers | None:
    """The test images by their distance; None where no image of a known label is matched."""
    given, right, known = match_distances(content), content.match_correct, known_queries(content)
    right = content.correct[content.test_rows] == 1 if right is None else right
    unknown = content.unknown_distances if content.unknown_distances is not None else np.zeros(0)
    strangers = np.concatenate([unknown, given[~known]])
    if not np.isfinite(given[known]).any():
        return None
    return Answers(
        _ranked(given[known & right]),
        _ranked(given[known & ~right]),
        _ranked(strangers),
        int(known.sum()),
        len(strangers),
    )


def match_distances(content: Content) -> np.ndarray:
    """What a threshold is compared with for each test query, float `(q,)`; inf without a match."""
    if content.match_distances is not None:
        return content.match_distances
    found = np.where(content.test_ids >= 0, content.test_distances, np.inf)
    return np.asarray(found.min(axis=1, initial=np.inf))


def known_queries(content: Content) -> np.ndarray:
    """Which test queries have a label that has train images, bool `(q,)`: as in calibration.json."""
    train = np.array([split == "train" for split in content.split], bool)
    return np.isin(content.label_id[content.test_rows], np.unique(content.label_id[train]))


def _ranked(distances: np.ndarray) -> np.ndarray:
    return np.sort(distances[np.isfinite(distances)].astype(np.float32))


def curve_at(found: Answers, distance: np.ndarray) -> Curve:
    """What thresholds at these ascending distances (s,) do."""
    steps = distance.astype(np.float32)
    right, wrong, let_in = (
        np.searchsorted(ranked, steps, side="right") for ranked in (found.right, found.wrong, found.unknown)
    )
    return Curve(steps, right, wrong, let_in, found.known, found.strangers)


def curve(content: Content) -> Curve | None:
    """The curve at every distance at which something changes; None without test images.

    Of more than about `MOST` distances as many are kept, evenly spread over the right answers, the wrong
    ones and the unknown images; 0, the thresholds and the farthest are always among them.
    """
    found = answers(content)
    if found is None:
        return None
    kinds = [ranked for ranked in (found.right, found.wrong, found.unknown) if len(ranked)]
    steps = np.unique(np.concatenate(kinds))
    if not is_whole(found):
        spread = [np.linspace(0, len(ranked) - 1, MOST // len(kinds)).astype(int) for ranked in kinds]
        steps = np.concatenate([ranked[places] for ranked, places in zip(kinds, spread, strict=True)])
    chosen = [each.distance for each in table(content.calibration) if each.distance is not None]
    return curve_at(found, np.unique(np.concatenate([steps, np.array([0.0, *chosen], np.float32)])))


def is_whole(found: Answers) -> bool:
    """Whether the curve has every distance at which something changes."""
    return len(np.unique(np.concatenate([found.right, found.wrong, found.unknown]))) <= MOST
