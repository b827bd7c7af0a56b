"""Known against unknown: can the distance of the best match tell that a label is not in the gallery?

Known queries are the accepted side, the score is `-distance`. At chance `auroc` is 0.5, `fpr95` 0.95,
`aupr_known` and `aupr_unknown` the share of known and of unknown queries; `oscr` is half the accuracy at
most, and its ceiling is the accuracy, as that of `gap` is. Ties never help: they count a half in `auroc`,
as one step in the precisions, against the model in the other two.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import (
    MIN_CLASSES,
    RESAMPLES,
    Z95,
    Estimate,
    only_these,
    percentiles,
    pool_units,
    unit_weights,
)

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

FORMULAS = {
    "auroc": "P(a known query is nearer than an unknown one), ties a half",
    "fpr95": "share of unknown queries accepted at the smallest threshold that accepts 95 % of the known",
    "oscr": "area under the share of known queries accepted and right, against the share of unknown accepted",
    "aupr_known": "average precision, known queries are positive, nearest first",
    "aupr_unknown": "average precision, unknown queries are positive, farthest first",
    "gap": "(1/known) sum_i P(i) rel(i) over all queries, nearest first; rel: known and matched right",
}
NAMES = tuple(FORMULAS)
PRECISIONS = slice(3, 6)
WIDTH = 2  # a small block stays in the cache


def auroc(known: Floats, unknown: Floats) -> float:
    """P(distance of a known < distance of an unknown), ties a half; from the distances [n], [m]."""
    return float(open_set_values(known, np.ones(len(known), bool), unknown)[0, 0])


def fpr95(known: Floats, unknown: Floats) -> float:
    """The share of unknowns accepted at the smallest threshold that accepts 95 % of the known."""
    return float(open_set_values(known, np.ones(len(known), bool), unknown)[0, 1])


def oscr(known: Floats, correct: NDArray[np.bool_], unknown: Floats) -> float:
    """The area under CCR against FPR (Dhamija et al. 2018), as a step function from below.

    CCR is the share of known queries accepted and right, FPR the share of unknown ones accepted. For
    each FPR the CCR is that of the largest threshold which stays under it, so this is the mean over
    unknowns of the CCR strictly below their distance.
    """
    return float(open_set_values(known, correct, unknown)[0, 2])


def aupr(known: Floats, unknown: Floats) -> tuple[float, float]:
    """Average precision with the known as positives, by closeness, and with the unknown, by distance."""
    both = open_set_values(known, np.ones(len(known), bool), unknown)[0, 3:5]
    return float(both[0]), float(both[1])


def gap(known: Floats, correct: NDArray[np.bool_], unknown: Floats) -> float:
    """Global average precision, micro AP: all queries by closeness, a known one matched right is relevant.

    `(1/M) sum_i P(i) rel(i)` with `M` the number of known queries (Weyand et al. 2020, GLDv2).
    """
    return float(open_set_values(known, correct, unknown)[0, 5])


def open_set_values(
    known: Floats,
    correct: NDArray[np.bool_],
    unknown: Floats,
    known_weights: Array | None = None,
    unknown_weights: Array | None = None,
) -> Array:
    """The metrics of `NAMES` for each of `b` weightings [b, n], [b, m] of the queries: float64 [b, 6].

    Without weights every query counts once (b = 1). NaN where one side has no weight.
    """
    curve = Curve.of(known, correct, unknown)
    w_near = np.ones((1, len(known))) if known_weights is None else known_weights
    w_far = np.ones((1, len(unknown))) if unknown_weights is None else unknown_weights
    return curve.values(w_near, w_far)


class Curve(NamedTuple):
    """The queries of both sides by ascending distance, and how many of each are at or below each cut.

    `near` int [n] and `far` int [m] are orders, `right` bool [n] is in the order `near`; `near_upto` and
    `far_upto` int [cuts + 1] begin with a cut that accepts nothing.
    """

    near: Ints
    far: Ints
    right: NDArray[np.bool_]
    near_upto: Ints
    far_upto: Ints

    @classmethod
    def of(cls, known: Floats, correct: NDArray[np.bool_], unknown: Floats) -> "Curve":
        near, far = np.argsort(known, kind="stable"), np.argsort(unknown, kind="stable")
        cuts = np.unique(np.concatenate([known, unknown]))
        near_upto, far_upto = (
            np.concatenate([[0], np.searchsorted(side, cuts, side="right")])
            for side in (known[near], unknown[far])
        )
        return cls(near, far, correct[near], near_upto, far_upto)

    def separation(self, known_weights: Array, unknown_weights: Array) -> Array:
        """`auroc` and `fpr95` alone, for weights [b, n] and [b, m]: float64 [b, 2]."""
        accepted = _reached(np.take(known_weights, self.near, axis=1), self.near_upto)
        passed = _reached(np.take(unknown_weights, self.far, axis=1), self.far_upto)
        return np.stack(_separation(accepted, passed), axis=1)

    def values(self, known_weights: Array, unknown_weights: Array) -> Array:
        """The metrics of `NAMES` for weights [b, n] and [b, m]: float64 [b, 6]."""
        w_near = np.take(known_weights, self.near, axis=1)
        accepted = _reached(w_near, self.near_upto)
        right = _reached(w_near * self.right, self.near_upto)
        passed = _reached(np.take(unknown_weights, self.far, axis=1), self.far_upto)
        n, m, unknown_step = accepted[:, -1], passed[:, -1], np.diff(passed, axis=1)
        tiny = 1e-12  # where nothing is accepted there is no step either
        closer = 1.0 / np.maximum(accepted + passed, tiny)[:, 1:]
        farther = m[:, None] - passed[:, :-1]
        beyond = np.maximum(farther + n[:, None] - accepted[:, :-1], tiny)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack(
                [
                    *_separation(accepted, passed),
                    np.einsum("bc,bc->b", unknown_step, right[:, :-1]) / (n * m),
                    np.einsum("bc,bc,bc->b", np.diff(accepted, axis=1), accepted[:, 1:], closer) / n,
                    np.einsum("bc,bc->b", unknown_step, farther / beyond) / m,
                    np.einsum("bc,bc,bc->b", np.diff(right, axis=1), right[:, 1:], closer) / n,
                ],
                axis=1,
            )


def _separation(accepted: Array, passed: Array) -> tuple[Array, Array]:
    """`auroc` and `fpr95` [b] of the known and the unknown weight at or below each cut [b, cuts + 1]."""
    n, m = accepted[:, -1], passed[:, -1]
    # the first cut at which 95 % are accepted; the slack is for weights that are no integers
    reach = np.argmax(accepted >= (0.95 - 1e-9) * n[:, None], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.einsum("bc,bc->b", np.diff(passed, axis=1), accepted[:, :-1] + accepted[:, 1:])
        return area / (2 * n * m), passed[np.arange(len(passed)), reach] / np.where(n > 0, m, np.nan)


def open_set_estimates(
    known: Floats,
    correct: NDArray[np.bool_],
    known_classes: Ints,
    known_groups: Ints,
    unknown: Floats,
    unknown_classes: Ints,
    unknown_groups: Ints,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The metrics of `NAMES` with 95 % intervals; `n` counts known and unknown queries together.

    Known queries are resampled by duplicate group within their class. Unknown ones are resampled by
    class from `MIN_CLASSES` classes on; with fewer by group within class, and the `reason` says that the
    interval then holds for these unknown classes only. Percentiles; of the precisions on the logit scale.
    """
    sides = Sides(known_classes, known_groups, unknown_classes, unknown_groups)
    return estimates(known, correct, unknown, sides, resamples, seed)


def estimates(
    known: Floats,
    correct: NDArray[np.bool_],
    unknown: Floats,
    sides: "Sides",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """`open_set_estimates` of distances [n], [m] whose classes and groups are `sides`."""
    if not len(known) or not len(unknown):
        side = "unknown" if len(known) else "known"
        return {name: Estimate(None, None, None, 0, f"there is no {side} query") for name in NAMES}
    curve = Curve.of(known, correct, unknown)
    point = curve.values(*sides.once())[0]
    draws = np.concatenate([curve.values(*weights) for weights in sides.weights(resamples, seed)])
    low, high = percentiles(draws)
    n = len(known) + len(unknown)
    low[PRECISIONS], high[PRECISIONS] = _logit_interval(point[PRECISIONS], draws[:, PRECISIONS], n)
    return {
        name: Estimate(float(point[j]), float(low[j]), float(high[j]), n, sides.reason)
        for j, name in enumerate(NAMES)
    }


def _logit_interval(point: Array, draws: Array, n: int) -> tuple[Array, Array]:
    """Bounds of average precisions [m] over `n` queries: normal on the scale of log(p / (1 - p)).

    As Boyd, Eng & Page (2013) recommend, with the spread of the draws [resamples, m]: percentiles of an
    average precision cover 90 %, for repeated queries raise it. Where it is 0 or 1 the bounds are as well.
    """
    nearest = 0.5 / n

    def logit(share: Array) -> Array:
        inside = np.clip(share, nearest, 1.0 - nearest)
        return np.asarray(np.log(inside / (1.0 - inside)))

    half = Z95 * np.nanstd(logit(draws), axis=0)
    bounds = [1.0 / (1.0 + np.exp(-(logit(point) + side * half))) for side in (-1, 1)]
    whole = (point <= 0.0) | (point >= 1.0)
    low, high = (np.where(whole, point, bound) for bound in bounds)
    return np.minimum(low, point), np.maximum(high, point)


class Sides(NamedTuple):
    """Classes and duplicate groups of the known and the unknown queries, and how these are resampled.

    Each known query stands for `known_scale` of them, where they are a sample: AUPR and GAP depend on how
    many there are for each unknown one.
    """

    known_classes: Ints
    known_groups: Ints
    unknown_classes: Ints
    unknown_groups: Ints
    known_scale: float = 1.0

    @property
    def reason(self) -> str | None:
        """What an interval is to be read with."""
        classes = len(np.unique(self.unknown_classes))
        return None if classes >= MIN_CLASSES else only_these(classes, "unknown classes")

    def once(self) -> tuple[Array, Array]:
        """Every query once: weights [1, n] and [1, m]."""
        shape = (1, len(self.known_classes))
        return np.full(shape, self.known_scale), np.ones((1, len(self.unknown_classes)))

    def weights(self, resamples: int, seed: int) -> Iterator[tuple[Array, Array]]:
        """Yield the weights of the known [b, n] and the unknown queries [b, m] in some of the resamples."""
        near = pool_units(self.known_classes, self.known_groups)
        if self.reason is None:
            far = pool_units(np.zeros_like(self.unknown_classes), self.unknown_classes)
        else:
            far = pool_units(self.unknown_classes, self.unknown_groups)
        width = WIDTH * (len(self.known_classes) + len(self.unknown_classes))
        for w_near, w_far in zip(
            unit_weights(near, resamples, (seed, 0), width),
            unit_weights(far, resamples, (seed, 1), width),
            strict=True,
        ):
            yield self.known_scale * np.take(w_near, near.unit, axis=1), np.take(w_far, far.unit, axis=1)


def _reached(weights: Array, upto: Ints) -> Array:
    """[b, n] -> [b, cuts]: the weight of the first `upto` columns at each cut."""
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    return np.take(below, upto, axis=1)
