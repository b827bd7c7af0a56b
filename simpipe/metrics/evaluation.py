"""One evaluation of one embedding: the values of each query, and their summary with intervals."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.classification import correctness
from simpipe.metrics.intervals import RESAMPLES, Estimate, bootstrap_classes, bootstrap_groups, sign_test
from simpipe.metrics.retrieval import retrieval_values, tie_sensitive
from simpipe.similarity import Neighbours, empty_neighbours, neighbour_vote, search

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Unit = Literal["groups", "classes"]

ACCURACY_AT = (1, 5)
REPORTED = {
    "groups": (
        *("accuracy@1", "accuracy@5", "recall@1", "recall@5", "recall@10"),
        *("precision@5", "r_precision", "map@r", "mrr"),
    ),
    "classes": ("recall@1", "recall@5", "recall@10", "precision@5", "r_precision", "map@r", "mrr"),
}
SLAB_PAIRS = 1 << 23  # positives whose ranks are held at a time: 64 MiB


class Evaluation(NamedTuple):
    """What one embedding does on one set of queries.

    `values` has float64 [nq] for each metric, NaN where it does not apply to a query; `predicted`
    int32 [nq] is the label of the nearest, -1 without any; `counts` are whole numbers for people.
    """

    values: dict[str, Array]
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
    parts: list[dict[str, Array]] = []
    tied = 0
    for start, stop in _slabs(query_labels, gallery_labels):
        neighbours, ranks = search(
            *(queries[start:stop], gallery, k, query_labels[start:stop], gallery_labels),
            *(query_exclude[start:stop], gallery_exclude),
        )
        found.ids[start:stop], found.distances[start:stop] = neighbours
        parts.append(retrieval_values(ranks))
        tied += int(tie_sensitive(ranks).sum())
    predictions = {at: neighbour_vote(*found, gallery_labels, at)[0] for at in ACCURACY_AT}
    values = {
        f"accuracy@{at}": correctness(p, query_labels).astype(np.float64) for at, p in predictions.items()
    }
    values |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    counts = {
        "queries": len(queries),
        "gallery": len(gallery),
        "classes": len(np.unique(query_labels)),
        "lone": int(np.isnan(values["map@r"]).sum()),
        "tie_sensitive": tied,
    }
    kept = Neighbours(found.ids[:, :neighbours_k], found.distances[:, :neighbours_k])
    return Evaluation(values, predictions[1], kept, counts)


def summarise(
    evaluation: Evaluation,
    classes: Ints,
    groups: Ints,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: Unit = "groups",
) -> dict[str, Any]:
    """`{"counts": ..., "metrics": {NAME: {"value", "low", "high", "n"}}}`, ready for JSON: None, never NaN.

    `unit` "groups" resamples duplicate groups [nq] within their classes [nq], for queries of classes
    that the training has seen, and adds `macro_accuracy@1`; "classes" resamples classes, for those it
    has not seen, and has retrieval metrics only. A `reason` stands where a number is missing.
    """
    names = REPORTED[unit]
    table = _table(evaluation, names)
    if unit == "classes":
        metrics = dict(zip(names, bootstrap_classes(table, classes, resamples, seed), strict=True))
    else:
        metrics = dict(zip(names, bootstrap_groups(table, classes, groups, resamples, seed), strict=True))
        macro = bootstrap_groups(table[:, :1], classes, groups, resamples, seed, macro=True)
        metrics["macro_accuracy@1"] = macro[0]
    return {"counts": evaluation.counts, "metrics": {name: as_dict(each) for name, each in metrics.items()}}


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
    change = (after.values[metric] - before.values[metric])[:, None]
    draw = (
        bootstrap_classes(change, classes, resamples, seed)
        if unit == "classes"
        else bootstrap_groups(change, classes, groups, resamples, seed)
    )
    fixed, broken = int((change > 0).sum()), int((change < 0).sum())
    counts = {"fixed": fixed, "broken": broken, "p": sign_test(fixed, broken)}
    return {"metric": metric} | as_dict(draw[0]) | counts


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


def _table(evaluation: Evaluation, names: Sequence[str]) -> Array:
    return np.stack([evaluation.values[name] for name in names], axis=1)


def _slabs(query_labels: Ints, gallery_labels: Ints) -> list[tuple[int, int]]:
    """Ranges of queries that have about `SLAB_PAIRS` positives together; at least one, also when empty."""
    ordered = np.sort(gallery_labels)
    positives = np.searchsorted(ordered, query_labels, "right") - np.searchsorted(ordered, query_labels)
    slab = np.cumsum(positives) // SLAB_PAIRS
    edges = [0, *(np.flatnonzero(np.diff(slab)) + 1).tolist(), len(query_labels)]
    return list(pairwise(edges))
