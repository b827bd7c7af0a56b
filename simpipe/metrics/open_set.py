"""Known against unknown: can the distance of the best match tell that a label is not in the gallery?

Known queries are the accepted side, the score is `-distance`. At chance `auroc` is 0.5 and `fpr95`
0.95; `oscr` at chance is half the accuracy at most, and its ceiling is the accuracy. Ties never help:
they count a half in `auroc`, against the model in the other two.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import (
    MIN_CLASSES,
    RESAMPLES,
    Estimate,
    percentiles,
    pool_units,
    unit_weights,
)

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

NAMES = ("auroc", "fpr95", "oscr")


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


def open_set_values(
    known: Floats,
    correct: NDArray[np.bool_],
    unknown: Floats,
    known_weights: Array | None = None,
    unknown_weights: Array | None = None,
) -> Array:
    """The metrics of `NAMES` for each of `b` weightings [b, n], [b, m] of the queries: float64 [b, 3].

    Without weights every query counts once (b = 1). NaN where one side has no weight.
    """
    by_known, by_unknown = np.argsort(known, kind="stable"), np.argsort(unknown, kind="stable")
    near, far = known[by_known], unknown[by_unknown]
    w_near = np.ones((1, len(near))) if known_weights is None else known_weights[:, by_known]
    w_far = np.ones((1, len(far))) if unknown_weights is None else unknown_weights[:, by_unknown]
    if not len(near) or not len(far):
        return np.full((len(w_near), 3), np.nan)
    below, upto = (np.searchsorted(near, far, side=side) for side in ("left", "right"))
    accepted = _cumulative(w_near)
    right = _cumulative(w_near * correct[by_known])
    n, m = accepted[:, -1], w_far.sum(axis=1)
    # the first known distance at which 95 % are accepted; the slack is for weights that are no integers
    reached = np.argmax(accepted[:, 1:] >= 0.95 * n[:, None] - 1e-9 * n[:, None], axis=1)
    passed = np.searchsorted(far, near[reached], side="right")
    rows = np.arange(len(w_near))
    with np.errstate(invalid="ignore"):
        return np.stack(
            [
                np.sum(w_far * (accepted[:, below] + accepted[:, upto]), axis=1) / (2 * n * m),
                _cumulative(w_far)[rows, passed] / m,
                np.sum(w_far * right[:, below], axis=1) / (n * m),
            ],
            axis=1,
        )


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
    interval then holds for these unknown classes only.
    """
    if not len(known) or not len(unknown):
        side = "known" if not len(known) else "unknown"
        return {name: Estimate(None, None, None, 0, f"there is no {side} query") for name in NAMES}
    near = pool_units(known_classes, known_groups)
    classes = len(np.unique(unknown_classes))
    by_class = classes >= MIN_CLASSES
    strata = np.zeros_like(unknown_classes) if by_class else unknown_classes
    far = pool_units(strata, unknown_classes if by_class else unknown_groups)
    images = len(known) + len(unknown)
    blocks = zip(
        unit_weights(near, resamples, (seed, 0), images),
        unit_weights(far, resamples, (seed, 1), images),
        strict=True,
    )
    draws = [
        open_set_values(known, correct, unknown, w_near[:, near.unit], w_far[:, far.unit])
        for w_near, w_far in blocks
    ]
    low, high = percentiles(np.concatenate(draws))
    point = open_set_values(known, correct, unknown)[0]
    reason = None if by_class else f"for these {classes} unknown classes only: too few to resample classes"
    return {
        name: Estimate(float(point[j]), float(low[j]), float(high[j]), images, reason)
        for j, name in enumerate(NAMES)
    }


def _cumulative(weights: Array) -> Array:
    """[b, n] -> [b, n + 1]: the weight of the first `i` columns."""
    return np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
