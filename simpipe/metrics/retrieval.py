"""Retrieval metrics of each query, all from the ranks of its positives.

Notation: a query has R visible positives, at ranks `r_1 < ... < r_R` among all gallery items it sees.
Queries with R = 0 are "lone" and have NaN; a mean over the others is the reported value.

The ranks taken are the pessimistic ones: a positive stands after the negatives it ties with, so that a
model that maps everything to one point scores nothing instead of what the order of the files gives it.
`tie_sensitive` counts the queries for which that choice matters.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import Ranks

Array = NDArray[np.float64]

FORMULAS = {
    "recall@k": "1 if r_1 <= k, else 0 (hit@k, CMC@k, the recall@k of the metric-learning papers)",
    "precision@k": "#{j: r_j <= k} / k, also where R < k",
    "r_precision": "#{j: r_j <= R} / R",
    "map@r": "(1/R) sum over {j: r_j <= R} of j / r_j (Musgrave et al. 2020, arXiv:2003.08505, eq. 2)",
    "mrr": "1 / r_1",
    "ap": "(1/R) sum over all j of j / r_j",
}
TIE_DEPTH = 10  # the deepest fixed k among the reported metrics


def retrieval_values(
    ranks: Ranks,
    recall_at: tuple[int, ...] = (1, 5, 10),
    precision_at: tuple[int, ...] = (5,),
) -> dict[str, Array]:
    """Each metric of `FORMULAS` for each query: float64 [nq] in [0, 1], NaN where a query has no positive."""
    positives = np.diff(ranks.offsets)
    query = np.repeat(np.arange(len(positives)), positives)
    rank = ranks.pessimistic.astype(np.float64)
    place = 1 + np.arange(len(rank)) - ranks.offsets[query]
    within_r = rank <= positives[query]

    def total(values: NDArray[Any]) -> Array:
        return np.bincount(query, weights=values, minlength=len(positives)).astype(np.float64)

    def share(values: Array, of: NDArray[np.int64] | int) -> Array:
        return np.where(positives > 0, values / np.maximum(of, 1), np.nan)

    hits = {k: total(rank <= k) for k in {*recall_at, *precision_at}}
    return {
        **{f"recall@{k}": share(np.minimum(hits[k], 1.0), 1) for k in recall_at},
        **{f"precision@{k}": share(hits[k], k) for k in precision_at},
        "r_precision": share(total(within_r), positives),
        "map@r": share(total(within_r * place / rank), positives),
        "mrr": share(total((place == 1) / rank), 1),
        "ap": share(total(place / rank), positives),
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
