"""PCA-whitening of features: the floor that every training without labels has to beat."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.errors import DataError

EMPTY = 1e-10
"""A direction with less than this share of the largest variance is rounding, not data."""


class Whitening(NamedTuple):
    """`x -> normalise((x − mean) @ projection)`: mean float64 (d,), projection float64 (d, size)."""

    mean: npt.NDArray[np.float64]
    projection: npt.NDArray[np.float64]


def fit_whitening(
    features: npt.NDArray[np.floating[Any]], size: int, block: int = 1024, *, shrinkage: float = 0.1
) -> Whitening:
    """PCA-whitening (Jégou & Chum, ECCV 2012) of `features` (n, d), which may be memory-mapped.

    Reads `block` rows at a time, twice: memory is of the order of d² + block · d, whatever n is. Each
    direction is divided by √(variance + shrinkage · mean kept variance), which keeps the noise of weak
    directions down; with shrinkage 0 every direction ends with variance 1. The sign of a direction is
    such that its largest entry is positive.

    The result has fewer than `size` columns where the features have fewer directions: at most n − 1 and
    d, and none of those that are empty. Look at `projection.shape[1]`.

    Raises:
        DataError: the features do not vary.
    """
    n, d = features.shape
    mean = np.zeros(d)
    for rows in _blocks(features, block):
        mean += rows.sum(axis=0)
    mean /= n
    covariance = np.zeros((d, d))
    for rows in _blocks(features, block):
        rows -= mean
        covariance += rows.T @ rows
    variance, directions = np.linalg.eigh(covariance / max(1, n - 1))
    kept = np.argsort(-variance, kind="stable")[: min(size, n - 1)]
    kept = kept[variance[kept] > EMPTY * max(variance[-1], EMPTY)]
    if len(kept) == 0:
        raise DataError(
            "features cannot be whitened: they are the same for all images",
            hint="look whether the images of train are all alike, or the backbone has no weights",
        )
    variance, directions = variance[kept], directions[:, kept]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    scale = np.sign(largest) / np.sqrt(variance + shrinkage * variance.mean())
    return Whitening(mean, directions * scale)


def _blocks(features: npt.NDArray[np.floating[Any]], block: int) -> Iterator[npt.NDArray[np.float64]]:
    """Copies of `block` rows each, in float64."""
    for start in range(0, len(features), block):
        yield np.array(features[start : start + block], np.float64)
