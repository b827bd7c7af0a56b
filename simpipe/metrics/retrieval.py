"""Retrieval metrics of each query, all from the ranks of its positives.

Notation: a query has R visible positives, at ranks `r_1 < ... < r_R` among all gallery items it sees.
Queries with R = 0 are "lone" and have NaN; a mean over the others is the reported value.

The ranks taken are the pessimistic ones: a positive stands after the negatives it ties with, so that a
model that maps everything to one point scores nothing instead of what the order of the files gives it.
`tie_sensitive` counts the queries for which that choice matters.
"""

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import Ranks

Array = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Side = Literal["pessimistic", "optimistic"]

FORMULAS = {
    "accuracy@k": "1 if the similarity-weighted vote of the k nearest is the label, else 0; 0 where R = 0",
    "recall@k": "1 if r_1 <= k, else 0 (hit@k, CMC@k, the recall@k of the metric-learning papers)",
    "true_recall@k": "#{j: r_j <= k} / R, also where k < R",
    "precision@k": "#{j: r_j <= k} / k, also where R < k",
    "r_precision": "#{j: r_j <= R} / R",
    "map@r": "(1/R) sum over {j: r_j <= R} of j / r_j (Musgrave et al. 2020, arXiv:2003.08505, eq. 2)",
    "mrr": "1 / r_1",
    "ap": "(1/R) sum over all j of j / r_j",
    # as open-metric-learning 4.0 and pytorch-metric-learning 2.9 have them, to line up with their tables
    "oml_cmc@k": "1 if r_1 <= k, else 0; 0 where R = 0",
    "oml_precision@k": "#{j: r_j <= k} / min(k, R)",
    "oml_map@k": "the mean of j / r_j over {j: r_j <= k}; 0 where there is none or R = 0",
    "pml_mean_average_precision@k": "(1/R) sum over {j: r_j <= k} of j / r_j, also where k < R",
    "pml_mean_reciprocal_rank@k": "1 / r_1 if r_1 <= k, else 0",
}
"""What a value is, by the id that it carries. A reported value is the mean over the queries that have one;
`macro_NAME` is the mean over the queries' classes of that mean in each class."""

TIE_DEPTH = 10  # the deepest fixed k among the reported metrics


def formula_id(metric: str) -> str:
    """The key into `FORMULAS` of a reported metric: `recall@k` of `recall@10` and of `macro_recall@1`."""
    return re.sub(r"@\d+$", "@k", metric.removeprefix("macro_"))


def retrieval_values(
    ranks: Ranks,
    recall_at: tuple[int, ...] = (1, 5, 10),
    precision_at: tuple[int, ...] = (5, 10),
    true_recall_at: tuple[int, ...] = (5, 10),
    side: Side = "pessimistic",
) -> dict[str, Array]:
    """Each metric of `FORMULAS` for each query: float64 [nq] in [0, 1], NaN where a query has no positive.

    `side` says which of the two ranks of a tied positive counts.
    """
    query, positives, place, rank = _flat(ranks, side)

    def total(values: NDArray[Any]) -> Array:
        return np.bincount(query, weights=values, minlength=len(positives)).astype(np.float64)

    def share(values: Array, of: Ints | int) -> Array:
        return np.where(positives > 0, values / np.maximum(of, 1), np.nan)

    hits = {k: total(rank <= k) for k in {*recall_at, *precision_at, *true_recall_at}}
    within_r, precision = rank <= positives[query], place / rank
    return {
        **{f"recall@{k}": share(np.minimum(hits[k], 1.0), 1) for k in recall_at},
        **{f"true_recall@{k}": share(hits[k], positives) for k in true_recall_at},
        **{f"precision@{k}": share(hits[k], k) for k in precision_at},
        "r_precision": share(total(within_r), positives),
        "map@r": share(total(within_r * precision), positives),
        "mrr": share(total((place == 1) / rank), 1),
        "ap": share(total(precision), positives),
    }


def compat_values(ranks: Ranks, k: int = 5) -> dict[str, Array]:
    """The values of open-metric-learning and pytorch-metric-learning: float64 [nq], by the ids of `FORMULAS`.

    Only those that differ from ours; their `precision_at_1` is `recall@1`, `r_precision` and
    `mean_average_precision_at_r` are `r_precision` and `map@r`, and without a `k` their
    `mean_average_precision` and `mean_reciprocal_rank` are `ap` and `mrr`. A query without a positive
    counts as 0 in `oml_cmc` and `oml_map`, and is left out (NaN) elsewhere.
    """
    query, positives, place, rank = _flat(ranks, "pessimistic")
    within = rank <= k

    def total(values: NDArray[Any]) -> Array:
        return np.bincount(query, weights=values, minlength=len(positives)).astype(np.float64)

    hits, precision = total(within), total(within * place / rank)
    own = np.maximum(positives, 1)
    values = {
        f"oml_cmc@{k}": np.minimum(hits, 1.0),
        f"oml_map@{k}": precision / np.maximum(hits, 1.0),
        f"oml_precision@{k}": hits / np.minimum(own, k),
        f"pml_mean_average_precision@{k}": precision / own,
        f"pml_mean_reciprocal_rank@{k}": total(within * (place == 1) / rank),
    }
    counts_lone = (f"oml_cmc@{k}", f"oml_map@{k}")
    return {
        name: value if name in counts_lone else np.where(positives > 0, value, np.nan)
        for name, value in values.items()
    }


def tie_sensitive(ranks: Ranks) -> NDArray[np.bool_]:
    """bool [nq]: a positive ties with a negative at a rank that a reported metric looks at.

    These are the ranks up to R, and up to `TIE_DEPTH`.
    """
    positives = np.diff(ranks.offsets)
    query = np.repeat(np.arange(len(positives)), positives)
    near = ranks.optimistic <= np.maximum(positives[query], TIE_DEPTH)
    tied = near & (ranks.optimistic != ranks.pessimistic)
    return np.bincount(query, weights=tied, minlength=len(positives)) > 0


def _flat(ranks: Ranks, side: Side) -> tuple[Ints, Ints, Array, Array]:
    """Query of each positive, number of positives [nq], and place `j` and rank `r_j` of each positive."""
    positives = np.diff(ranks.offsets)
    query = np.repeat(np.arange(len(positives)), positives)
    place = np.arange(1.0, len(query) + 1) - ranks.offsets[query]
    rank = ranks.pessimistic if side == "pessimistic" else ranks.optimistic
    return query, positives, place, rank.astype(np.float64)
