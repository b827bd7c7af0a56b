"""Do two images show the same class? Error rates over pairs, and how far classes differ at one threshold.

A pair is a query with an image of the gallery, or two queries where there is no gallery; images of one
duplicate group are no pair. A pair of one class is positive, every other negative. It matches where
`distance <= threshold`: FNMR is the share of positives that do not match, FMR that of negatives that do.

Positives are all there are. Negatives are all, or a seeded sample in which each query meets equally many
images and each pair has the same chance; without a gallery a pair can be drawn from both of its ends.
Similarities are whole steps of `similarity.RESOLUTION`, so that pairs within one step are ties.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import (
    MIN_CLASSES,
    RESAMPLES,
    Estimate,
    only_these,
    percentiles,
    pool_units,
    unit_weights,
)
from simpipe.metrics.pairs import STEPS, Images, Pairs, Positives, count_pairs, negative_pairs, positive_pairs
from simpipe.similarity import RESOLUTION, single_threaded_blas

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

FMR_LEVELS = {"fnmr@fmr=1e-1": 1e-1, "fnmr@fmr=1e-2": 1e-2, "fnmr@fmr=1e-3": 1e-3, "fnmr@fmr=1e-4": 1e-4}
FORMULAS = {
    **{
        name: f"share of positive pairs beyond the largest threshold with FMR <= {level:g}"
        for name, level in FMR_LEVELS.items()
    },
    "eer": "where FNMR equals FMR, on the line through the steps of the curve",
    "auroc": "P(a positive pair is nearer than a negative one), ties a half",
}
NAMES = tuple(FORMULAS)
GLOBAL_LEVELS = (1e-2, 1e-1)  # the FMR of the global threshold: the first that can be told
FALSE_MATCHES = 30  # the rule of 30 (Doddington 2000): with fewer errors a rate is not known within 30 %
NEGATIVES = 1 << 22
DRAWN_POSITIVES = 1 << 16
DRAWN_PER_OCTAVE = 1 << 12
CELLS = 1 << 11
IN_CACHE = 8


class ClassRates(NamedTuple):
    """The rates of each class at the threshold of FMR `level`, NaN where the class has no pair.

    `labels` int [C]; `positives` and `negatives` int64 [C] count the pairs. `fnmr` float64 [C] is over the
    positives of the class, `fmr` float64 [C] over the negatives that have one end in it.
    """

    level: float
    labels: Ints
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    fnmr: Array
    fmr: Array


class Verification(NamedTuple):
    """The result of `verify`.

    - `counts`: `positives`, `negatives` (looked at) and `negatives_in_all`.
    - `metrics`: an estimate for each of `NAMES`; `n` is the number of positives, which are exact.
    - `thresholds`: the distance of each level of `FMR_LEVELS`, in [0, 2]; None where it cannot be told.
    - `classes`: the rates by class at one global threshold, or why there are none.
    """

    counts: dict[str, int]
    metrics: dict[str, Estimate]
    thresholds: dict[str, float | None]
    classes: ClassRates | str


def verify(
    queries: Images,
    gallery: Images | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    negatives: int = NEGATIVES,
) -> Verification:
    """Error rates over the pairs of `queries` with `gallery`, or of `queries` with each other.

    - `fnmr@fmr=a`: the FNMR of the largest threshold whose FMR is at most `a`; None where `a` times the
      number of negatives is below `FALSE_MATCHES`.
    - `eer`: where FNMR equals FMR on the line through the steps of the curve.
    - `auroc`: P(a positive is nearer than a negative), ties a half.

    What is drawn again for the intervals: with a gallery, duplicate groups of queries within their classes;
    without one, classes from `MIN_CLASSES` on, with fewer groups within classes, and `reason` says so.

    Looks at `negatives` pairs at most, of which those that are no negatives drop out. Memory is
    O(negatives + classes), time O(positives + negatives).
    """
    rng = np.random.default_rng((seed, 2))
    n_true, n_false = count_pairs(queries, gallery)
    with single_threaded_blas():
        false = negative_pairs(queries, gallery, negatives if n_true and n_false else 0, rng)
        n_seen = len(false.steps)
        if not n_true or not n_seen:
            return _nothing(n_true, n_false)
        histogram = np.bincount(false.steps + STEPS, minlength=2 * STEPS + 1)
        matching = np.cumsum(histogram[::-1])[::-1]  # negatives at or above each step
        allowed = [int(level * n_seen + 1e-9) for level in FMR_LEVELS.values()]
        # what is above the limit of a level matches
        limits = np.array([np.flatnonzero(matching > most)[-1] - STEPS for most in allowed])
        true = positive_pairs(queries, gallery, limits, min(1.0, DRAWN_POSITIVES / n_true), rng)
    used = np.flatnonzero(histogram + true.histogram)
    point = pair_rates(true.histogram[None, used], histogram[None, used])[0]
    drawn = true.drawn, _thin(false, matching, rng)
    low, high, reason = _interval(queries, gallery, *drawn, point, resamples, seed)

    untold = {level: _untold(level, n_seen) for level in FMR_LEVELS.values()}
    metrics = {}
    for j, name in enumerate(NAMES):
        why = untold[FMR_LEVELS[name]] if name in FMR_LEVELS else None
        metrics[name] = (
            Estimate(None, None, None, n_true, why)
            if why
            else Estimate(float(point[j]), float(low[j]), float(high[j]), n_true, reason)
        )
    thresholds = {
        name: None if untold[level] else 1.0 - (limit + 1) * RESOLUTION
        for (name, level), limit in zip(FMR_LEVELS.items(), limits.tolist(), strict=True)
    }
    told = [level for level in GLOBAL_LEVELS if not untold[level]]
    return Verification(
        {"positives": n_true, "negatives": n_seen, "negatives_in_all": n_false},
        metrics,
        thresholds,
        _by_class(queries, gallery, true, false, limits, told[0]) if told else str(untold[GLOBAL_LEVELS[-1]]),
    )


def pair_rates(positive: Ints | Array, negative: Ints | Array) -> Array:
    """The metrics of `NAMES` for each of `b` weightings of the pairs: float64 [b, 6].

    `positive` and `negative` [b, s] are the weights of the pairs at each of `s` similarities, in ascending
    order of the similarity. NaN where one side has no weight.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        # the threshold just above each similarity, after one that accepts all
        fnmr, left = _cumulative_share(positive), _cumulative_share(negative)
        fmr = 1.0 - left
        rows = np.arange(len(fnmr))
        at = [np.sum(fmr > level + 1e-12, axis=1) for level in FMR_LEVELS.values()]
        later = np.argmax(fnmr >= fmr, axis=1)
        before = np.maximum(later - 1, 0)
        gap, gap_before = fnmr[rows, later] - fmr[rows, later], fnmr[rows, before] - fmr[rows, before]
        rise = fnmr[rows, later] - fnmr[rows, before]
        eer = fnmr[rows, before] - rise * gap_before / (gap - gap_before)
        area = np.sum((fmr[:, :-1] - fmr[:, 1:]) * (2.0 - fnmr[:, :-1] - fnmr[:, 1:]), axis=1) / 2
    rates = np.stack([*(fnmr[rows, np.minimum(k, fnmr.shape[1] - 1)] for k in at), eer, area], axis=1)
    return np.where(np.isfinite(area)[:, None], rates, np.nan)


def _nothing(n_true: int, n_false: int) -> Verification:
    missing = "negative" if n_true else "positive"
    reason = f"there is no {missing} pair" + (" in the sample" if n_true and n_false else "")
    return Verification(
        {"positives": n_true, "negatives": 0, "negatives_in_all": n_false},
        dict.fromkeys(NAMES, Estimate(None, None, None, n_true, reason)),
        dict.fromkeys(FMR_LEVELS, None),
        reason,
    )


def _untold(level: float, negatives: int) -> str | None:
    """Why the FMR `level` cannot be told from that many negatives, if so."""
    needed = round(FALSE_MATCHES / level)
    if negatives >= needed:
        return None
    return f"an FMR of {level:g} needs {needed:,} negative pairs; here are {negatives:,}"


def _thin(pairs: Pairs, matching: Ints, rng: np.random.Generator) -> Pairs:
    """A sample for the intervals: the tail whole, and about `DRAWN_PER_OCTAVE` from each octave of FMR."""
    octave = np.floor(np.log2(np.maximum(matching[pairs.steps + STEPS] / DRAWN_PER_OCTAVE, 1.0)))
    times = np.exp2(octave)
    kept = rng.random(len(times)) * times < 1.0
    return Pairs(pairs.steps[kept], pairs.query[kept], pairs.other[kept], times[kept])


def _interval(
    queries: Images,
    gallery: Images | None,
    true: Pairs,
    false: Pairs,
    point: Array,
    resamples: int,
    seed: int,
) -> tuple[Array, Array, str | None]:
    """The bounds of each metric, and what they are to be read with.

    A pair whose two ends are drawn weighs the product of their weights (Arcones & Giné 1992, bootstrap of
    U-statistics); two images of one drawn class stay together, and so does an image of the gallery.
    """
    classes = len(np.unique(queries.labels))
    by_class = gallery is None and classes >= MIN_CLASSES
    reason: str | None = None
    if by_class:
        units = pool_units(np.zeros_like(queries.labels), queries.labels)
    else:
        units = pool_units(queries.labels, queries.groups)
        if gallery is None:
            reason = only_these(classes, "classes")
    size = np.repeat(units.sizes, units.sizes)
    stratum = np.repeat(np.arange(len(units.sizes)), units.sizes)
    fixed = units.total

    def ends(pairs: Pairs, one_ended: bool) -> tuple[Ints, Ints, Array]:
        """The units of both ends, and what makes the weights of a pair 1 on average."""
        first = units.unit[pairs.query]
        if one_ended:
            return first, np.full_like(first, fixed), pairs.times
        second = units.unit[pairs.other]
        # of n units, n - 1 are drawn: a product within a stratum is (n - 2) / (n - 1) on average
        together, n = stratum[first] == stratum[second], size[first]
        scale = np.where(together & (n > 2), (n - 1) / np.maximum(n - 2, 1), 1.0)
        pair = together & (n <= 2)
        return np.where(pair, fixed, first), np.where(pair, fixed, second), pairs.times * scale

    edges = _edges(true.steps, false.steps)
    sides: list[tuple[Ints, Ints, Array, Ints, Ints]] = []
    for pairs, one_ended in ((true, gallery is not None or by_class), (false, gallery is not None)):
        cell = np.searchsorted(edges, pairs.steps)
        order = np.argsort(cell, kind="stable")
        filled, starts = np.unique(cell[order], return_index=True)
        first, second, scale = ends(pairs, one_ended)
        sides.append((first[order], second[order], scale[order], filled, starts))

    def masses(drawn: Array, first: Ints, second: Ints, scale: Array, filled: Ints, starts: Ints) -> Array:
        """The weight of the pairs in each cell of similarity, for each row of weights of the units."""
        mass = np.zeros((len(drawn), len(edges)))
        weight = np.take(drawn, first, axis=1)
        weight *= np.take(drawn, second, axis=1)
        weight *= scale
        mass[:, filled] = np.add.reduceat(weight, starts, axis=1)
        return mass

    draws = []
    width = IN_CACHE * (len(true.steps) + len(false.steps))
    for weights in unit_weights(units, resamples, (seed, 3), width):
        drawn = np.concatenate([weights, np.ones((len(weights), 1))], axis=1)
        draws.append(pair_rates(*(masses(drawn, *side) for side in sides)))
    low, high = percentiles(np.concatenate(draws))
    # of the same pairs and cells, each counted once
    alike = [
        np.bincount(np.searchsorted(edges, side.steps), side.times, len(edges)) for side in (true, false)
    ]
    shift = point - pair_rates(*(side[None] for side in alike))[0]
    return np.clip(low + shift, 0.0, 1.0), np.clip(high + shift, 0.0, 1.0), reason


def _edges(*sides: Ints) -> Ints:
    """Steps of similarity, at most `CELLS` of each side, at which the curves of the resamples are taken."""
    chosen = [np.sort(steps)[:: max(1, len(steps) // CELLS)] for steps in sides]
    return np.unique(np.concatenate([*chosen, [max(int(steps.max()) for steps in sides)]]))


def _by_class(
    queries: Images, gallery: Images | None, true: Positives, false: Pairs, limits: Ints, level: float
) -> ClassRates:
    other = gallery or queries
    at = list(FMR_LEVELS.values()).index(level)
    one, two = (np.searchsorted(true.labels, side.labels) for side in (queries, other))
    ends = np.stack([one[false.query], two[false.other]])
    negatives, matched = (
        np.bincount(ends[:, which].ravel(), minlength=len(true.labels))
        for which in (slice(None), false.steps > limits[at])
    )
    with np.errstate(invalid="ignore"):
        fnmr, fmr = true.missed[:, at] / true.held, matched / negatives
    return ClassRates(level, true.labels, true.held, negatives, fnmr, fmr)


def _cumulative_share(weights: Ints | Array) -> Array:
    """[b, s] -> float64 [b, s + 1], from 0 to 1: the share of the weight in the first `i` columns."""
    below = np.cumsum(weights, axis=1, dtype=np.float64)
    return np.concatenate([np.zeros((len(below), 1)), below], axis=1) / below[:, -1:]
