"""What is conspicuous in a data set, as findings with a score in [0, 1]. They point; a person decides.

Neighbours are rows of the data set, `ids` int [n, k] and `distances` float [n, k], nearest first, own
duplicate group left out, padded with -1 and inf. `labels` int [n] number the `names`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Pair = tuple[int, int, str]
Severity = Literal["high", "medium", "low"]

SMALL_CLASS = 5
SIMILAR = 0.015  # cosine distance of pretrained features; above, different photos of one thing begin
PAIR_SCORE = {"exact": 1.0, "pixels": 1.0, "near": 0.9, "similar": 0.7}
SHARED = {
    "exact": "the same bytes",
    "pixels": "the same pixels",
    "near": "nearly the same image",
    "similar": "much the same image",
}
OUTLIER_NEIGHBOURS = 3
OUTLIER_Z = 3.5  # robust standard deviations (Iglewicz & Hoaglin 1993)
OUTLIER_CLASS = 10  # smaller classes are compared with the whole set
SPLIT_ORDER = ("train", "val", "unseen_calib", "test", "unseen_test")
SUGGESTIONS = {
    "label_error": "look at it: if it shows {other}, move it there",
    "hard": "look at it: a wrong label or a bad photo goes; else add more images like it",
    "duplicate_conflict": "keep the copy whose label is right",
    "leak": "leave this copy out, or keep both in one split with ingest.group_from",
    "duplicate": "keep one of the two",
    "outlier": "look at it: if it does not belong, leave it out; else add more images like it",
    "hub": "look at it: a blank or blurred image goes, for it turns up whatever is searched",
    "merge": "merge the two labels, or add images that show the difference",
    "split": "look at the two parts: give each a label of its own, or add images between them",
    "small_class": "add images until there are at least {enough}, or leave the label out",
    "unreadable": "replace the file, or delete it",
    "collapse": "train with a lower train.lr or another train.loss; until then set train.ship to best",
}
"""What a person can do about a finding of each kind; `{other}` is the other label."""


class Finding(NamedTuple):
    """One conspicuous thing: about the image `row`, the class `label`, or the file `path`.

    `other_row` or `other_label` is what it is set against; `exclude` says that a cleaned data set would
    go without `row`.
    """

    kind: str
    severity: Severity
    score: float
    detail: str
    row: int | None = None
    label: str = ""
    path: str = ""
    other_row: int | None = None
    other_label: str = ""
    exclude: bool = False

    @property
    def suggestion(self) -> str:
        """What a person can do about it."""
        return (
            SUGGESTIONS[self.kind].replace("{other}", self.other_label).replace("{enough}", str(SMALL_CLASS))
        )


def duplicate_findings(pairs: Iterable[Pair], labels: Ints, splits: Sequence[str]) -> list[Finding]:
    """`duplicate_conflict` for pairs with two labels, `leak` for pairs in two splits, else `duplicate`.

    A pair is (row, row, kind) with kind exact | pixels | near | similar. Of a pair of equal bytes or pixels
    under one label one image would go: the one in the earlier split of `SPLIT_ORDER`, else the later row.
    """
    findings = []
    for first, second, kind in pairs:
        keep, drop = sorted((first, second), key=lambda row: (-_split_rank(splits[row]), row))
        conflict, leak = bool(labels[keep] != labels[drop]), splits[keep] != splits[drop]
        equal = kind in ("exact", "pixels")
        severity: Severity = "high" if equal else "medium"
        found: list[tuple[str, Severity, str]] = []
        if conflict:
            found.append(("duplicate_conflict", severity, "under two labels"))
        if leak:
            found.append(("leak", severity, f"in {splits[drop]} and {splits[keep]}"))
        if not found:
            found.append(("duplicate", "low", "twice"))
        findings += [
            Finding(
                name,
                grade,
                PAIR_SCORE[kind],
                f"{SHARED[kind]} {where}",
                row=drop,
                other_row=keep,
                exclude=equal and not conflict,
            )
            for name, grade, where in found
        ]
    return findings


def similar_pairs(ids: Ints, distances: Floats, limit: float = SIMILAR) -> list[Pair]:
    """Pairs of images that are each other's nearest in pretrained features, within `limit`."""
    if not ids.size:
        return []
    rows = np.arange(len(ids))
    closest = ids[:, 0]
    mutual = (closest > rows) & (closest[closest] == rows) & (distances[:, 0] <= limit)
    return [(int(row), int(closest[row]), "similar") for row in np.flatnonzero(mutual)]


def outliers(distances: Floats, labels: Ints) -> list[Finding]:
    """Images far from every other image: beyond `OUTLIER_Z` robust deviations of their class.

    The measure is the mean distance of the nearest three. An outlier is also among the farthest
    hundredth of the whole set, so that there are few.
    """
    depth = min(OUTLIER_NEIGHBOURS, distances.shape[1])
    if not len(labels) or not depth:
        return []
    reach = distances[:, :depth].astype(np.float64).mean(axis=1)
    measured = np.asarray(np.isfinite(reach))
    reach[~measured] = 0.0
    z = _robust_z(reach, measured)
    for label in np.unique(labels):
        members = measured & (labels == label)
        if members.sum() >= OUTLIER_CLASS:
            z[members] = np.minimum(z[members], _robust_z(reach, members)[members])
    edge = np.quantile(reach[measured], 0.99) if measured.any() else np.inf
    return [
        Finding(
            "outlier",
            "medium",
            float(1.0 / (1.0 + np.exp(OUTLIER_Z - min(z[row], 30.0)))),
            f"far from every other image: mean distance of the nearest {depth} is {reach[row]:.3f}",
            row=int(row),
        )
        for row in np.flatnonzero(measured & (z >= OUTLIER_Z) & (reach >= edge))
    ]


def small_classes(labels: Ints, names: Sequence[str]) -> list[Finding]:
    """Classes with fewer than `SMALL_CLASS` images."""
    counts = np.bincount(labels, minlength=len(names))
    return [
        Finding(
            "small_class",
            "medium",
            1.0 - count / SMALL_CLASS,
            f"{count} image{'s' if count != 1 else ''}; every number about this label is a guess",
            label=name,
        )
        for name, count in zip(names, counts.tolist(), strict=True)
        if 0 < count < SMALL_CLASS
    ]


def unreadable(files: Iterable[tuple[str, str]]) -> list[Finding]:
    """Files that could not be read, as (path, reason)."""
    return [Finding("unreadable", "medium", 1.0, reason, path=path) for path, reason in files]


def _split_rank(split: str) -> int:
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else -1


def _robust_z(values: Array, members: NDArray[np.bool_]) -> Array:
    """Deviations from the median of the members, in units of their scaled median absolute deviation."""
    if not members.any():
        return np.zeros(len(values))
    median = np.median(values[members])
    spread = 1.4826 * np.median(np.abs(values[members] - median))
    return np.asarray((values - median) / max(spread, 1e-2))
