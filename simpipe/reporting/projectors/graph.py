"""UMAP's graph: how strongly each image belongs with each of its neighbours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import nearest

HALVINGS = 64
LEAST_WIDTH = 1e-3
"""The least width of a neighbourhood, as a share of the mean distance in it."""


def with_self(
    ids: NDArray[np.integer[Any]],
    distances: NDArray[np.floating[Any]],
    embeddings: NDArray[np.float32],
    neighbours: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The neighbours in UMAP's form: self in column 0, no gaps, at most `neighbours` columns.

    Rows with gaps, such as images whose duplicate group is most of the data, get their nearest by the
    embeddings, the group included.
    """
    n = len(ids)
    width = min(neighbours - 1, ids.shape[1], n - 1)
    ids, distances = ids[:, :width].astype(np.int32), distances[:, :width].astype(np.float32)
    own, nothing = np.arange(n, dtype=np.int32), np.zeros(n, np.float32)
    gaps = np.flatnonzero((ids < 0).any(axis=1))
    if len(gaps):
        ids[gaps], distances[gaps] = nearest(embeddings[gaps], embeddings, width, gaps, own)
    return np.column_stack([own, ids]), np.column_stack([nothing, np.maximum(distances, 0)])


def fuzzy_graph(ids: NDArray[np.int32], distances: NDArray[np.float32]) -> Any:
    """The weights of the edges (McInnes, Healy and Melville 2018, algorithms 2 and 3).

    UMAP's own functions say the same, but take seconds of each process to be compiled.

    Args:
        ids: int of shape `(n, k)`, k at least 2: the neighbours in UMAP's form, see `with_self`.
        distances: of shape `(n, k)`, at least 0 and ascending.

    Returns:
        a symmetric sparse float32 matrix of shape `(n, n)`, weights in (0, 1].
    """
    from scipy.sparse import csr_matrix

    n, k = ids.shape
    beyond, width = _neighbourhoods(distances.astype(np.float64))
    weights = np.exp(-beyond / width[:, None]).astype(np.float32)
    rows = np.repeat(np.arange(n, dtype=np.int32), k - 1)
    directed = csr_matrix((weights.ravel(), (rows, ids[:, 1:].ravel())), shape=(n, n))
    other = directed.T.tocsr()
    return (directed + other - directed.multiply(other)).tocsr()


def _neighbourhoods(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances beyond the nearest neighbour that is no copy `(n, k - 1)`, and the width of each image's
    neighbourhood `(n,)`: the one at which the weights of its k - 1 neighbours add up to log2(k)."""
    n, k = distances.shape
    apart = np.where(distances > 0, distances, np.inf).min(axis=1)
    first = np.where(np.isfinite(apart), apart, 0.0)
    beyond = np.maximum(distances[:, 1:] - first[:, None], 0.0)
    width, low, high = np.ones(n), np.zeros(n), np.full(n, np.inf)
    for _ in range(HALVINGS):
        wide = np.exp(-beyond / width[:, None]).sum(axis=1) > np.log2(k)
        low, high = np.where(wide, low, width), np.where(wide, width, high)
        width = np.where(np.isinf(high), 2 * width, (low + high) / 2)
    mean = np.where(first > 0, distances.mean(axis=1), distances.mean())
    return beyond, np.maximum(width, LEAST_WIDTH * mean)


def pruned(graph: Any, epochs: int) -> Any:
    """The graph without the edges too weak to be drawn once in so many epochs."""
    graph = graph.copy()
    graph.data[graph.data < graph.data.max() / epochs] = 0
    graph.eliminate_zeros()
    return graph


def components(graph: Any) -> int:
    """The number of connected components of a graph."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(graph, directed=False, return_labels=False))
