"""From which distance on is a match "unknown"? Thresholds chosen on calibration queries.

Everything works on three arrays, one entry per query: `distance` of its best match (inf where it has
none), `correct` (the match's label is the query's) and `known` (the query's label is in the gallery).
A match is accepted where `distance <= threshold`. Precision, recall and F1 count known queries only:
accepted and right is a true positive, every other known query a miss.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import MIN_CLASSES, wilson

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer[Any]]

MEASURES = {"precision": "precision", "recall": "recall", "familiar": "accepted"}
"""What of an operating point is to be at least the level of a target."""


class Threshold(NamedTuple):
    """A distance for one target; None where the target cannot be met, and `reason` says why.

    `caution` says why a distance that was found may not hold.
    """

    target: str
    distance: float | None
    reason: str | None = None
    caution: str | None = None


class Target(NamedTuple):
    """What a threshold is for: `kind` optimal | precision | recall | unknown_accept, its level in (0, 1)."""

    kind: str
    level: Fraction | None = None


def parse_target(name: str) -> Target:
    """`optimal`, `precision_0.95`, `recall_0.90`, … -> Target. Raises ValueError for other names."""
    kind, _, level = name.rpartition("_")
    if name == "optimal":
        return Target("optimal")
    try:
        parsed = Fraction(level)
    except (ValueError, ZeroDivisionError):
        parsed = Fraction(0)
    if kind not in ("precision", "recall", "unknown_accept") or not 0 < parsed < 1:
        raise ValueError(
            f"{name!r} is no target; targets are optimal, precision_P, recall_R and unknown_accept_A "
            "with P, R, A between 0 and 1"
        )
    return Target(kind, parsed)


def choose_thresholds(
    distance: Floats, correct: Bools, known: Bools, targets: Sequence[str]
) -> dict[str, Threshold]:
    """The threshold of each target, from the calibration queries [n]; O(n log n).

    - `optimal`: the largest F1; among equals the smallest distance.
    - `precision_P`: the largest distance at which the precision is at least P, that is the one with the
      largest recall. Of few accepted queries all may be right by luck: below P / (1 - P) of them, not one
      more that is wrong would be borne, and `caution` says so.
    - `recall_R`: the smallest distance at which the recall is at least R.
    - `unknown_accept_A`: strictly below the j-th smallest distance of the m unknown queries, with
      j = floor((m + 1) A). Another unknown, exchangeable with these, has a rank among the m + 1 that is
      uniform, so that it is accepted with probability at most j / (m + 1) <= A. Needs m >= 1/A - 1.
      It counts images: unknowns of the same class are alike, so the number of classes belongs beside.

    A threshold lies midway between the last distance that it accepts and the next one.
    """
    curve = _Curve.of(distance, correct, known)
    choose = {
        "optimal": _optimal,
        "precision": _precision,
        "recall": _recall,
        "unknown_accept": _unknown_accept,
    }
    chosen = {}
    for name in targets:
        kind, level = parse_target(name)
        cut = choose[kind](curve, level or Fraction(0))
        if isinstance(cut, str):
            chosen[name] = Threshold(name, None, cut)
            continue
        caution = _by_luck(int(curve.claimed[cut]), level) if level and kind == "precision" else None
        chosen[name] = Threshold(name, curve.threshold(cut), caution=caution)
    return chosen


def familiar(distance: Floats, level: str) -> Threshold:
    """The distance within which another image of the same kind has a neighbour, with probability `level`.

    `distance` [m] is that of each calibration query from its nearest, inf where it has none; no labels are
    needed. It is the j-th smallest, j = ceil((m + 1) level): an image that is exchangeable with the queries
    has a rank among the m + 1 that is uniform (split conformal prediction: Vovk, Gammerman and Shafer 2005).
    Needs m >= level / (1 - level). `level`, such as "0.95", is in the threshold's name: `familiar_0.95`.
    """
    name, share, m = f"familiar_{level}", Fraction(level), len(distance)
    rank = -int(-(m + 1) * share // 1)
    if rank > m:
        needed = -int(-share / (1 - share) // 1)
        return Threshold(name, None, f"{level} needs {needed} queries; here {'is' if m == 1 else 'are'} {m}")
    found = float(np.sort(distance)[rank - 1])
    if not np.isfinite(found):
        return Threshold(name, None, f"more than {float(1 - share):.0%} of the queries have no neighbour")
    return Threshold(name, found)


def operating_point(
    distance: Floats, correct: Bools, known: Bools, threshold: float, classes: Ints, groups: Ints
) -> dict[str, float | int | None]:
    """What accepting `distance <= threshold` does on these queries [n].

    `precision` (None where nothing known is accepted), `recall`, `f1`, `accepted` (share of the known)
    and `unknown_accept` (share of the unknown, None without any), each but `f1` with a 95 % Wilson
    interval as `<name>_low` and `<name>_high`. Queries that stand or fall together count as one there:
    those of one of `groups` [n], and the unknown of one of `classes` [n] from `MIN_CLASSES` classes on.
    `n_known`, `n_unknown` and `n_unknown_classes` count queries and classes.
    """
    accept = distance <= np.float32(threshold)
    unknown_classes = len(np.unique(classes[~known]))
    unknown_units = classes if unknown_classes >= MIN_CLASSES else groups
    point: dict[str, float | int | None] = {}
    for name, hit, among, units in (
        ("precision", correct, accept & known, groups),
        ("recall", accept & correct, known, groups),
        ("accepted", accept, known, groups),
        ("unknown_accept", accept, ~known, unknown_units),
    ):
        share = float(hit[among].mean()) if among.any() else None
        independent = len(np.unique(units[among]))
        bounds = None if share is None else wilson(share * independent, independent)
        point |= {name: share, f"{name}_low": bounds and bounds[0], f"{name}_high": bounds and bounds[1]}
    right, claimed, n_known = (int(each.sum()) for each in (accept & known & correct, accept & known, known))
    point["f1"] = 2 * right / (claimed + n_known) if n_known else None
    counts = {"n_known": n_known, "n_unknown": int((~known).sum()), "n_unknown_classes": unknown_classes}
    return point | counts


def few_unknown(point: Mapping[str, float | int | None]) -> str | None:
    """What the share of unknowns is to be taken with; None from `MIN_CLASSES` classes on."""
    classes = point["n_unknown_classes"] or 0
    if not classes or classes >= MIN_CLASSES:
        return None
    labels = "one unknown label" if classes == 1 else f"{classes} unknown labels"
    return f"tested on {labels} only: others may do otherwise"


def working_threshold(thresholds: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the threshold to work with, of those in calibration.json; None where none could be chosen.

    The first for a precision that can be met, or else the best F1, which looks at no unknown, or else any.
    """
    usable = [name for name, entry in thresholds.items() if entry.get("distance") is not None]
    best = [name for name in usable if name.startswith("precision")] + [n for n in usable if n == "optimal"]
    return next(iter(best + usable), None)


def held(target: str, point: Mapping[str, float | int | None]) -> bool | None:
    """Whether what `target` asks for held at an operating point; False only where the interval excludes it.

    None where it cannot be told: without queries to measure it on, for `optimal`, which asks for no level,
    and for unknowns of less than `MIN_CLASSES` classes, as those of other classes may be quite different.
    """
    kind, _, level = target.rpartition("_")
    if kind == "unknown_accept":
        least = point["unknown_accept_low"]
        few = (point["n_unknown_classes"] or 0) < MIN_CLASSES
        return None if least is None or few else least <= float(level)
    most = point[f"{MEASURES[kind]}_high"] if kind in MEASURES else None
    return None if most is None else most >= float(level)


class _Curve(NamedTuple):
    """The distinct finite distances ascending, float32 [u], and what a cut after each accepts, int64 [u]."""

    distance: NDArray[np.float32]
    claimed: NDArray[np.int64]
    right: NDArray[np.int64]
    unknown: NDArray[np.int64]
    n_known: int
    n_unknown: int

    @classmethod
    def of(cls, distance: Floats, correct: Bools, known: Bools) -> "_Curve":
        finite = np.isfinite(distance)
        distinct, inverse = np.unique(distance[finite].astype(np.float32), return_inverse=True)
        known_finite, right = known[finite], (known & correct)[finite]

        def upto(which: Bools) -> NDArray[np.int64]:
            return np.cumsum(np.bincount(inverse[which], minlength=len(distinct)))

        return cls(
            distinct,
            upto(known_finite),
            upto(right),
            upto(~known_finite),
            int(known.sum()),
            int((~known).sum()),
        )

    @property
    def most(self) -> int:
        """How many known queries are matched with their own label, at whatever distance."""
        return int(self.right[-1]) if len(self.right) else 0

    def threshold(self, cut: int) -> float:
        """A float32 value that accepts the distances up to number `cut` and no more."""
        last = self.distance[cut]
        if cut + 1 == len(self.distance):
            return float(last)
        following = self.distance[cut + 1]
        middle = np.float32((float(last) + float(following)) / 2)
        return float(middle if middle < following else last)


def _optimal(curve: _Curve, _level: Fraction) -> int | str:
    if not curve.most:
        return _nothing_right(curve)
    return int(np.argmax(2 * curve.right / (curve.claimed + curve.n_known)))


def _precision(curve: _Curve, level: Fraction) -> int | str:
    # a cut is worth a threshold where it accepts a known query more than the one before
    steps = np.flatnonzero(np.diff(curve.claimed, prepend=0))
    if not curve.most:
        return _nothing_right(curve)
    met = curve.right[steps] * level.denominator >= curve.claimed[steps] * level.numerator
    if not met.any():
        best = float(np.max(curve.right[steps] / curve.claimed[steps]))
        return f"no distance reaches a precision of {float(level):g}; the best is {best:.3f}, ask for less"
    return int(steps[met][-1])


def _recall(curve: _Curve, level: Fraction) -> int | str:
    if not curve.most:
        return _nothing_right(curve)
    needed = -(-curve.n_known * level.numerator // level.denominator)
    if curve.most < needed:
        return (
            f"no distance reaches a recall of {float(level):g}; of {curve.n_known} known images {curve.most} "
            f"match their own label ({curve.most / curve.n_known:.1%}), ask for less or train better"
        )
    return int(np.searchsorted(curve.right, needed))


def _unknown_accept(curve: _Curve, level: Fraction) -> int | str:
    if not curve.n_unknown:
        return (
            "no image has an unknown label to calibrate on; labels are held out as unknown from 10 on, where "
            "ingest.unseen is above 0 and the data has no splits of its own"
        )
    allowed = int((curve.n_unknown + 1) * level)
    if not allowed:
        needed = -(-level.denominator // level.numerator) - 1
        return (
            f"{float(level):g} needs {needed} images of unknown labels; here "
            f"{'is' if curve.n_unknown == 1 else 'are'} {curve.n_unknown}, hold out more (ingest.unseen) or "
            "allow more"
        )
    # the first distance by which `allowed` unknowns are accepted is theirs; unknowns without a match
    # are farther than any
    cut = int(np.searchsorted(curve.unknown, allowed)) - 1
    if cut < 0:
        return (
            f"{allowed} of {curve.n_unknown} unknown images are as near as the nearest match of any; the "
            "embedding does not tell them apart, allow more or train better"
        )
    return cut


def _nothing_right(curve: _Curve) -> str:
    if not curve.n_known:
        return "no image of a known label is in the split val; raise ingest.val, or add images per label"
    return f"of {curve.n_known} known images none matches its own label; look at the labels, or train better"


def _by_luck(claimed: int, level: Fraction) -> str | None:
    needed = -int(-level / (1 - level) // 1)
    if claimed >= needed:
        return None
    return (
        f"chosen on {claimed} accepted image{'s' * (claimed != 1)}; a precision of {float(level):g} takes "
        f"{needed} to be told from luck"
    )
