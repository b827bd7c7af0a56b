"""One evaluation of one embedding: the values of each query, and their summary with intervals."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.classification import correctness
from simpipe.metrics.intervals import (
    RESAMPLES,
    Estimate,
    bootstrap_classes,
    bootstrap_groups,
    pool_units,
    sign_test,
    wilson,
)
from simpipe.metrics.retrieval import compat_values, formula_id, retrieval_values, tie_sensitive
from simpipe.similarity import Neighbours, empty_neighbours, neighbour_vote, search

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Unit = Literal["groups", "classes"]

ACCURACY_AT = (1, 5)
RETRIEVAL = (
    *("recall@1", "recall@5", "recall@10", "true_recall@5", "true_recall@10"),
    *("precision@5", "precision@10", "r_precision", "map@r", "mrr", "ap"),
)
REPORTED = {"groups": ("accuracy@1", "accuracy@5", *RETRIEVAL), "classes": RETRIEVAL}
MACRO = {"groups": ("accuracy@1", "recall@1", "map@r"), "classes": ("recall@1", "map@r")}
"""Also reported as the mean over classes, `macro_NAME`."""
TIES_MATTER = 1e-4  # from this difference on, the optimistic mean is given too
SLAB_PAIRS = 1 << 22  # positives whose ranks are held at a time: 32 MiB


class Evaluation(NamedTuple):
    """What one embedding does on one set of queries.

    `values` has float64 [nq] for each metric, NaN where it does not apply to a query; `optimistic` the
    same where ties are in the query's favour, for the metrics of ranks; `compat` what other libraries
    would say. `predicted` int32 [nq] is the label of the nearest, -1 without any; `counts` are whole
    numbers for people.
    """

    values: dict[str, Array]
    optimistic: dict[str, Array]
    compat: dict[str, Array]
    predicted: NDArray[np.int32]
    neighbours: Neighbours
    counts: dict[str, int]


def evaluate_queries(
    queries: Floats,
    gallery: Floats,
    query_labels: Ints,
    gallery_labels: Ints,
    query_exclude: Ints,
    gallery_exclude: Ints,
    neighbours_k: int = 10,
) -> Evaluation:
    """Search the gallery [ng, d] for each query [nq, d] and value what is found.

    - `accuracy@k`: the similarity-weighted vote of the k nearest is right; a query whose label is not in
      the gallery is wrong. Nearest items at one distance stand in gallery order.
    - the retrieval metrics of `retrieval.FORMULAS`, over the queries that have a positive.

    A gallery item with the query's exclusion code is invisible. Counts: `queries`, `gallery`, `classes`
    (of the queries), `lone` (queries without a positive) and `tie_sensitive`.
    """
    k = max(neighbours_k, *ACCURACY_AT)
    found = empty_neighbours(len(queries), k)
    parts: list[tuple[dict[str, Array], ...]] = []
    tied = 0
    for start, stop in _slabs(query_labels, gallery_labels):
        neighbours, ranks = search(
            *(queries[start:stop], gallery, k, query_labels[start:stop], gallery_labels),
            *(query_exclude[start:stop], gallery_exclude),
        )
        found.ids[start:stop], found.distances[start:stop] = neighbours
        values = retrieval_values(ranks)
        sensitive = int(tie_sensitive(ranks).sum())
        optimistic = retrieval_values(ranks, side="optimistic") if sensitive else values
        parts.append((values, optimistic, compat_values(ranks)))
        tied += sensitive
    predictions = {at: neighbour_vote(*found, gallery_labels, at)[0] for at in ACCURACY_AT}
    values, optimistic, compat = (
        {name: np.concatenate([part[name] for part in column]) for name in column[0]}
        for column in zip(*parts, strict=True)
    )
    values |= {
        f"accuracy@{at}": correctness(p, query_labels).astype(np.float64) for at, p in predictions.items()
    }
    counts = {
        "queries": len(queries),
        "gallery": len(gallery),
        "classes": len(np.unique(query_labels)),
        "lone": int(np.isnan(values["map@r"]).sum()),
        "tie_sensitive": tied,
    }
    kept = Neighbours(found.ids[:, :neighbours_k], found.distances[:, :neighbours_k])
    return Evaluation(values, optimistic, compat, predictions[1], kept, counts)


def summarise(
    evaluation: Evaluation,
    classes: Ints,
    groups: Ints,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: Unit = "groups",
) -> dict[str, Any]:
    """`{"counts": ..., "metrics": {NAME: {"value", "low", "high", "n", "formula"}}, "compat": {...}}`.

    Ready for JSON: None, never NaN. `unit` "groups" resamples duplicate groups [nq] within their classes
    [nq], for queries of classes that the training has seen; "classes" resamples classes, for those it
    has not seen, and has retrieval metrics only. `macro_NAME` is the mean over classes. A `reason`
    stands where a number is missing, and `optimistic` where ties make a better mean. `compat` has means
    without intervals.
    """
    names, macro_names = REPORTED[unit], MACRO[unit]
    estimates = bootstrap(evaluation.values, names, classes, groups, resamples, seed, unit)
    estimates |= {
        f"macro_{name}": each
        for name, each in bootstrap(
            evaluation.values, macro_names, classes, groups, resamples, seed, unit, macro=True
        ).items()
    }
    independent = len(np.unique(classes)) if unit == "classes" else pool_units(classes, groups).total
    metrics = {
        name: as_dict(_never_certain(each, independent)) | {"formula": formula_id(name)}
        for name, each in estimates.items()
    }
    for name, values in evaluation.optimistic.items():
        lucky = mean_of(values)
        if lucky is not None and name in metrics and lucky - metrics[name]["value"] > TIES_MATTER:
            metrics[name]["optimistic"] = lucky
    compat = {
        name: {
            "value": mean_of(values),
            "n": int(np.isfinite(values).sum()),
            "formula": formula_id(name),
        }
        for name, values in evaluation.compat.items()
    }
    return {"counts": evaluation.counts, "metrics": metrics, "compat": compat}


def _never_certain(estimate: Estimate, independent: int) -> Estimate:
    """Where all values are 0, or all 1, resamples know no doubt: then Wilson's interval of so many trials."""
    if estimate.value not in (0.0, 1.0) or estimate.low is None:
        return estimate
    low, high = wilson(estimate.value * independent, independent) or (None, None)
    return estimate._replace(low=low, high=high)


def bootstrap(
    values: Mapping[str, Array],
    names: Sequence[str],
    classes: Ints,
    groups: Ints,
    resamples: int,
    seed: int,
    unit: Unit,
    macro: bool = False,
) -> dict[str, Estimate]:
    """An estimate of the mean of each metric in `names`, resampling what `unit` says.

    With `macro` it is the mean over classes of their means; where classes are resampled, a class is
    then one value.
    """
    table = np.stack([values[name] for name in names], axis=1)
    if unit == "groups":
        found = bootstrap_groups(table, classes, groups, resamples, seed, macro=macro)
    elif not macro:
        found = bootstrap_classes(table, classes, resamples, seed)
    else:
        means = class_means(table, classes)
        counted = np.isfinite(table).sum(axis=0).tolist()
        found = [
            each._replace(n=n)
            for each, n in zip(
                bootstrap_classes(means, np.arange(len(means)), resamples, seed), counted, strict=True
            )
        ]
    return dict(zip(names, found, strict=True))


def paired_gain(
    before: Evaluation,
    after: Evaluation,
    metric: str,
    classes: Ints,
    groups: Ints,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: Unit = "groups",
) -> dict[str, Any]:
    """What `after` gains over `before` in `metric`, on the same queries, with an interval of the difference.

    `fixed` and `broken` count the queries whose value rose and fell; `p` is the exact two-sided sign
    test of the two, which takes queries as independent.
    """
    change = after.values[metric] - before.values[metric]
    draw = bootstrap({metric: change}, (metric,), classes, groups, resamples, seed, unit)
    fixed, broken = int((change > 0).sum()), int((change < 0).sum())
    counts = {"fixed": fixed, "broken": broken, "p": sign_test(fixed, broken)}
    return {"metric": metric} | as_dict(draw[metric]) | counts


def as_dict(estimate: Estimate) -> dict[str, Any]:
    """An estimate for JSON; `reason` only where there is one.

    Rounded to 12 digits: a bound that is 0 but for the order of a sum must not read as better than 0.
    """
    fields = {
        name: round(value, 12) if isinstance(value, float) else value
        for name, value in estimate._asdict().items()
    }
    if not estimate.reason:
        del fields["reason"]
    return fields


def class_means(table: Array, classes: Ints) -> Array:
    """The mean of each column of `table` [nq, m] in each class present: float64 [C, m], NaN without any."""
    _, inverse = np.unique(classes, return_inverse=True)
    present = np.isfinite(table)
    sums, counts = (
        np.stack([np.bincount(inverse, weights=column) for column in each.T], axis=1)
        for each in (np.where(present, table, 0.0), present)
    )
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def mean_of(values: Array) -> float | None:
    """The mean of the numbers among `values`, rounded as `as_dict` rounds; None where there is none."""
    counted = values[np.isfinite(values)]
    return round(float(counted.mean()), 12) if len(counted) else None


def _slabs(query_labels: Ints, gallery_labels: Ints) -> list[tuple[int, int]]:
    """Ranges of queries that have about `SLAB_PAIRS` positives together; at least one, also when empty."""
    ordered = np.sort(gallery_labels)
    positives = np.searchsorted(ordered, query_labels, "right") - np.searchsorted(ordered, query_labels)
    slab = np.cumsum(positives) // SLAB_PAIRS
    edges = [0, *(np.flatnonzero(np.diff(slab)) + 1).tolist(), len(query_labels)]
    return list(pairwise(edges))
