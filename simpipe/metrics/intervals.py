"""How sure a number is: 95 % bootstrap percentile intervals over groups or classes, Wilson, sign test.

Images of one duplicate group stand or fall together, and so do those of one class where the question
is how the model does on other classes. What is drawn again is therefore the group or the class, never
the image. A stratum of `n` units is drawn `n - 1` times and weighed with `n / (n - 1)`, which gives the
variance without the bias of a small stratum (Rao & Wu 1988).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Array = NDArray[np.float64]

RESAMPLES = 2000
LEVELS = (2.5, 97.5)
MIN_CLASSES = 20  # below, an interval over classes is too narrow: it covers 85 % at 5, 93 % at 20
BLOCK_VALUES = 1 << 21
Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A mean over `n` queries with its interval; None where there is none, and `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


def bootstrap_groups(
    values: Array,
    classes: Ints,
    groups: Ints,
    resamples: int = RESAMPLES,
    seed: int = 0,
    macro: bool = False,
) -> list[Estimate]:
    """An estimate for each column of `values` [nq, m], resampling duplicate groups within their classes.

    NaN are left out. The mean is over all queries, or with `macro` the mean over classes of their
    means. A group with several classes counts as one unit in each. For a paired difference give the
    differences: the same seed draws the same groups.
    """
    units = pool_units(classes, groups)
    sums, counts = _unit_sums(values, units)

    def means(weights: Array) -> Array:
        if not macro:
            return _divide(weights @ sums, weights @ counts)
        top, bottom = (
            np.add.reduceat(weights[:, :, None] * each, units.starts, axis=1) for each in (sums, counts)
        )
        # how often a class was drawn: once, but for the classes of one unit
        drawn = np.add.reduceat(weights, units.starts, axis=1) / np.diff(units.starts, append=units.total)
        times = drawn[:, :, None] * (bottom > 0)
        return _divide(np.sum(times * top / np.maximum(bottom, 1e-12), axis=1), times.sum(axis=1))

    width = units.total * (values.shape[1] if macro else 1)
    blocks = unit_weights(units, resamples, seed, width)
    return _estimates(values, means(np.ones((1, len(sums)))), blocks, means)


def bootstrap_classes(
    values: Array, classes: Ints, resamples: int = RESAMPLES, seed: int = 0
) -> list[Estimate]:
    """An estimate of the mean over queries for each column of `values` [nq, m], resampling whole classes.

    Below `MIN_CLASSES` classes there is no interval: it would claim far more than it knows.
    """
    units = pool_units(np.zeros_like(classes), classes)
    sums, counts = _unit_sums(values, units)

    def means(weights: Array) -> Array:
        return _divide(weights @ sums, weights @ counts)

    few = units.total < MIN_CLASSES
    blocks = () if few else unit_weights(units, resamples, seed, units.total)
    estimates = _estimates(values, means(np.ones((1, len(sums)))), blocks, means)
    reason = f"an interval over classes needs {MIN_CLASSES} of them; here are {units.total}"
    return [each._replace(reason=reason) if few and each.n else each for each in estimates]


def wilson(successes: float, n: float) -> tuple[float, float] | None:
    """The 95 % interval of a share of `n` independent trials (Wilson 1927); None without trials.

    Of trials that are not independent `n` is their effective number, and `successes` their share times it.
    """
    if not n:
        return None
    share, spread = successes / n, Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def sign_test(fixed: int, broken: int) -> float:
    """The exact two-sided p of McNemar: a change for the better is as likely as one for the worse."""
    from scipy.special import bdtr

    if not fixed + broken:
        return 1.0
    return float(min(1.0, 2 * bdtr(min(fixed, broken), fixed + broken, 0.5)))


class Units(NamedTuple):
    """What is drawn: `unit` int64 [nq] of each query.

    Units of one class have consecutive numbers, from `starts` int64 [classes] on. Units of one stratum
    do too; `sizes` int64 [strata] says how many they are.
    """

    unit: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.sizes.sum())


def pool_units(classes: Ints, groups: Ints) -> Units:
    """The distinct (class, group) pairs of the queries [nq], as units. Each class is a stratum.

    The classes of one unit are one stratum together: apart, none of them could vary.
    """
    pairs, unit = np.unique(np.stack([classes, groups], axis=1), axis=0, return_inverse=True)
    _, stratum, sizes = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    alone = sizes[stratum] == 1
    order = np.argsort(~alone, kind="stable")
    number = np.argsort(order)
    starts = np.flatnonzero(np.diff(stratum[order], prepend=-1))
    together = np.array([alone.sum()]) if alone.any() else sizes[:0]
    return Units(number[unit.reshape(-1)], starts, np.concatenate([together, sizes[sizes > 1]]))


def unit_weights(units: Units, resamples: int, seed: int | tuple[int, ...], width: int) -> Iterator[Array]:
    """Yield the weights of the units in each resample, as blocks [b, units]; each stratum keeps its sum.

    `width` is how many values one resample costs the caller, for the size of a block; the weights do
    not depend on it.
    """
    rng = np.random.default_rng(seed)
    total = units.total
    draws = np.maximum(units.sizes - 1, 1)
    first = np.repeat(np.cumsum(units.sizes) - units.sizes, draws)
    size = np.repeat(units.sizes, draws)
    scale = np.repeat(units.sizes / draws, units.sizes)
    step = max(1, BLOCK_VALUES // max(1, width))
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        drawn = first + (rng.random((block, len(first))) * size).astype(np.int64)
        drawn += np.arange(block)[:, None] * total
        yield np.bincount(drawn.ravel(), minlength=block * total).reshape(block, total) * scale


def only_these(count: int, what: str) -> str:
    """What an interval over few classes is to be read with: it does not say how others would do."""
    return f"for these {count} {what} only: too few to resample classes"


def percentiles(draws: Array) -> tuple[Array, Array]:
    """The 2.5 and 97.5 percentiles of each column of `draws` [resamples, m], NaN left out."""
    defined = np.where(np.isfinite(draws).any(axis=0), draws, 0.0)
    low, high = np.nanpercentile(defined, LEVELS, axis=0)
    return low, high


def _unit_sums(values: Array, units: Units) -> tuple[Array, Array]:
    """Sum and count of the values that are numbers, per unit and column: float64 [units, m] each."""
    present = np.isfinite(values)

    def total(table: Array) -> Array:
        return np.stack([np.bincount(units.unit, column, units.total) for column in table.T], axis=1)

    return total(np.where(present, values, 0.0)), total(present.astype(np.float64))


def _estimates(
    values: Array, point: Array, blocks: Iterable[Array], means: Callable[[Array], Array]
) -> list[Estimate]:
    present = np.isfinite(values).sum(axis=0)
    if not blocks or not len(values):
        low = high = [None] * len(present)
    else:
        low, high = (each.tolist() for each in percentiles(np.concatenate([means(w) for w in blocks])))
    return [
        Estimate(value, a, b, n) if n else Estimate(None, None, None, 0, "no query counts")
        for value, a, b, n in zip(point[0].tolist(), low, high, present.tolist(), strict=True)
    ]


def _divide(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
