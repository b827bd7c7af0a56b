"""A map of very many images: a sample is laid out, and the others are placed beside their neighbours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import nearest

BLOCK_ROWS = 1 << 16
LEAST_WEIGHT = 1e-6

Ids = NDArray[np.integer[Any]]
Distances = NDArray[np.floating[Any]]


def chosen(n: int, limit: int, seed: int, label_id: Ids | None = None) -> NDArray[np.int64]:
    """`limit` of `n` rows, ascending, drawn by `seed`; of every label at least one, if there are so many."""
    order = np.random.default_rng(seed).permutation(n)
    if label_id is not None:
        first = np.unique(np.asarray(label_id)[order], return_index=True)[1]
        order = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    return np.sort(order[:limit])


def among(ids: Ids, distances: Distances, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], Distances]:
    """The stored neighbours of `rows` that are of them too, as positions there; gaps (-1) are at the end."""
    position = np.full(len(ids), -1, np.int32)
    position[rows] = np.arange(len(rows))
    near = np.where(ids[rows] >= 0, position[ids[rows]], np.int32(-1))
    order = np.argsort(near < 0, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(distances[rows], order, axis=1)


def placed(
    xy: NDArray[np.float32],
    rows: NDArray[np.int64],
    sample: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    ids: Ids,
    distances: Distances,
) -> NDArray[np.float32]:
    """Coordinates of all images, where those of a sample are known.

    Each other image comes to the mean of its stored neighbours that are in the sample, weighted by their
    similarity; to the place of the nearest of the sample where none is.

    Args:
        xy: of shape `(s, 2)`, the coordinates of `rows`.
        rows: int `(s,)`, ascending.
        sample: `(s, d)`, the embeddings of `rows`.
        embeddings, ids, distances: of all n images.
    """
    known = np.zeros(len(ids), bool)
    known[rows] = True
    full = np.zeros((len(ids), 2), np.float32)
    full[rows] = xy
    others = np.flatnonzero(~known)
    lost = []
    for begin in range(0, len(others), BLOCK_ROWS):
        part = others[begin : begin + BLOCK_ROWS]
        near = ids[part]
        weight = np.maximum(1 - distances[part], LEAST_WEIGHT) * (known[near] & (near >= 0))
        total = weight.sum(axis=1, keepdims=True)
        where = np.einsum("nk,nkc->nc", weight, full[near]) / np.maximum(total, LEAST_WEIGHT)
        full[part] = where
        lost.append(part[total[:, 0] == 0])
    alone = np.concatenate([*lost, np.zeros(0, np.int64)])
    if len(alone):
        full[alone] = xy[nearest(embeddings[alone], sample, 1).ids[:, 0]]
    return full
