"""How likely is it that an answer is right? A probability from the distance of a match and its margin.

Two steps. The score `w * margin - (1 - w) * distance`, with `w` in [0, 1], puts both into one number that
can only fall with the distance and rise with the margin. Isotonic regression (Zadrozny and Elkan 2002) turns
the score into the share of right answers, without any assumption but that it rises. Both are fitted on the
calibration queries: a known query is answered right or wrong, an unknown one always wrong. How many of the
images to come are unknown is nothing that a data set tells, so unknown queries are weighted to a share that
is given.

One entry per query: `distance` and `margin` of its match, `correct` (the match's label is the query's),
`known` (the query's label is in the gallery). Queries without a match, at distance inf, have no probability.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import RESAMPLES, Z95, percentiles, pool_units, unit_weights, wilson

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer[Any]]

MIN_QUERIES = 50
MIN_EACH = 5
MARGIN_WEIGHTS = tuple(step / 20 for step in range(21))
BINS = 15
MIN_PER_BIN = 20


class Calibrated(NamedTuple):
    """A fitted probability: `margin_weight` w in [0, 1], and the knots of a rising line.

    `scores` float64 [m] and `probabilities` float64 [m] ascend; between knots the line is straight, beyond
    them it is level.
    """

    margin_weight: float
    scores: Array
    probabilities: Array

    def of(self, distance: Floats, margin: Floats) -> Array:
        """P(the label of the match is right) of each query, float64 [n] in (0, 1); NaN without a match."""
        matched = np.isfinite(distance)
        score = _score(np.where(matched, distance, 0), margin, self.margin_weight)
        return np.where(matched, np.interp(score, self.scores, self.probabilities), np.nan)


def query_weights(known: Bools, unknown_share: float) -> Array:
    """1 for a known query; for the unknown ones what makes them `unknown_share` of the whole: float64 [n]."""
    unknown = int((~known).sum())
    each = unknown_share / (1 - unknown_share) * (len(known) - unknown) / max(unknown, 1)
    return np.where(known, 1.0, each)


def fit_probability(
    distance: Floats, margin: Floats, correct: Bools, known: Bools, unknown_share: float = 0.1
) -> Calibrated | str:
    """The probability that these calibration queries [n] show, or why they are too few to show any.

    Of the weights w = 0, 0.05, …, 1 it is the one with the least squared error. One made-up right answer at
    the lowest score and one wrong at the highest keep the probability off 0 and 1: over n right answers it
    is at most n / (n + 1), the rule of succession.
    """
    weights = query_weights(known, unknown_share)
    used = np.isfinite(distance) & (weights > 0)
    right = (correct & known)[used]
    counts = len(right), int(right.sum()), int((~right).sum())
    if counts[0] < MIN_QUERIES:
        return f"it needs {MIN_QUERIES} calibration images; here {_are(counts[0])}"
    if min(counts[1:]) < MIN_EACH:
        return (
            f"it needs {MIN_EACH} calibration images answered right and {MIN_EACH} answered wrong; "
            f"here {_are(counts[1])} and {counts[2]}"
        )
    distance, margin, weights = distance[used], margin[used], weights[used]
    fits = [_fit(distance, margin, right, weights, weight) for weight in MARGIN_WEIGHTS]
    errors = [brier(each.of(distance, margin), right, weights) for each in fits]
    return fits[int(np.argmin(np.round(errors, 9)))]


def brier(probability: Array, correct: Bools, weights: Array) -> float:
    """The weighted mean squared error of the probabilities [n] (Brier 1950); 0 is perfect."""
    return float(np.average((probability - correct) ** 2, weights=weights))


def mass_bins(probability: Array, weights: Array, bins: int) -> NDArray[np.int64]:
    """The bin of each query [n], from 0 up: runs of ascending probability with 1 / `bins` of the weight each.

    Equal probabilities are never parted, so that a bin may hold more; what is left at the end joins the last.
    """
    distinct, code = np.unique(probability, return_inverse=True)
    mass = np.bincount(code, weights)
    number = np.zeros(len(distinct), np.int64)
    full, held, left = mass.sum() / bins * (1 - 1e-9), 0.0, float(mass.sum())
    for at in range(1, len(distinct)):
        held, left = held + mass[at - 1], left - mass[at - 1]
        closes = held >= full and left >= full
        number[at] = number[at - 1] + closes
        held = 0.0 if closes else held
    found: NDArray[np.int64] = number[code]
    return found


def ece(probability: Array, correct: Bools, weights: Array, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015) over `mass_bins`, in [0, 1]; 0 is perfect.

    The weighted mean over the bins of |share of right answers - mean probability|.
    """
    gap = np.bincount(mass_bins(probability, weights, bins), weights * (correct - probability))
    return float(np.abs(gap).sum() / weights.sum())


def verify_probability(
    probability: Array,
    correct: Bools,
    known: Bools,
    classes: Ints,
    groups: Ints,
    unknown_share: float = 0.1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any] | None:
    """What the probabilities [n] of fresh queries are worth; None without any.

    - `reliability`: for each of up to 15 bins of equal weight, `predicted` (mean probability) and `observed`
      (share of right answers, with a Wilson interval by the effective number of its queries), and `n`.
    - `brier`: `value` with a 95 % interval that resamples duplicate groups within their classes; `constant`
      is that of giving every query the same probability, the share of right answers here.
    - `ece`: the same over these bins; `by_chance` is what flawless probabilities would show with as many
      groups, as an ECE is never 0. A resample has the noise of the sample twice, so that its bias is taken
      off the interval, which reaches down to 0 where chance explains the value.
    """
    weights = query_weights(known, unknown_share)
    used = np.isfinite(probability) & (weights > 0)
    if not used.any():
        return None
    right, weights, probability = (correct & known)[used], weights[used], probability[used]
    n = len(right)
    number = mass_bins(probability, weights, int(np.clip(n // MIN_PER_BIN, 1, BINS)))
    inside = number[:, None] == np.unique(number)
    bins = inside.shape[1]
    gap, noise = weights * (right - probability), weights * np.sqrt(probability * (1 - probability))
    squared = weights * (probability - right) ** 2
    units = pool_units(classes[used], groups[used])
    table = np.column_stack([inside * gap[:, None], squared, weights, inside * noise[:, None]])
    sums = np.stack([np.bincount(units.unit, column, units.total) for column in table.T], axis=1)
    sums, spread = sums[:, : bins + 2], np.sqrt((sums[:, bins + 2 :] ** 2).sum(axis=0)) / weights.sum()

    def scores(drawn: Array) -> Array:
        totals = drawn @ sums
        return np.stack([np.abs(totals[:, :bins]).sum(axis=1), totals[:, bins]], axis=1) / totals[:, [-1]]

    error, squares = scores(np.ones((1, units.total)))[0]
    draws = np.concatenate([scores(block) for block in unit_weights(units, resamples, seed, units.total)])
    low, high = percentiles(draws)
    bias = draws[:, 0].mean() - error
    # the mean and the spread of a sum of |N(0, spread)|
    by_chance = np.sqrt(2 / np.pi) * spread.sum()
    explained = error <= by_chance + Z95 * np.sqrt((1 - 2 / np.pi) * (spread**2).sum())
    share = float(np.average(right, weights=weights))
    return {
        "reliability": [_bin(probability[part], right[part], weights[part]) for part in inside.T],
        "ece": {
            "value": float(error),
            "low": 0.0 if explained else max(0.0, float(low[0] - 2 * bias)),
            "high": float(high[0] - bias),
            "n": n,
            "by_chance": float(by_chance),
        },
        "brier": {
            "value": float(squares),
            "low": float(low[1]),
            "high": float(high[1]),
            "n": n,
            "constant": share * (1 - share),
        },
    }


def _score(distance: Floats, margin: Floats, weight: float) -> Array:
    score: Array = weight * margin.astype(np.float64) - (1 - weight) * distance.astype(np.float64)
    return np.round(score, 9)


def _fit(distance: Floats, margin: Floats, right: Bools, weights: Array, weight: float) -> Calibrated:
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped,unused-ignore]

    score = _score(distance, margin, weight)
    fitted = IsotonicRegression().fit(
        np.r_[score.min(), score, score.max()], np.r_[1.0, right, 0.0], np.r_[1.0, weights, 1.0]
    )
    return Calibrated(weight, fitted.X_thresholds_, np.round(fitted.y_thresholds_, 9))


def _bin(probability: Array, right: Bools, weights: Array) -> dict[str, Any]:
    observed = float(np.average(right, weights=weights))
    effective = round(weights.sum() ** 2 / (weights**2).sum())
    low, high = wilson(round(observed * effective), effective) or (None, None)
    return {
        "predicted": float(np.average(probability, weights=weights)),
        "observed": observed,
        "low": low,
        "high": high,
        "n": len(right),
    }


def _are(count: int) -> str:
    return f"{'is' if count == 1 else 'are'} {count}"
