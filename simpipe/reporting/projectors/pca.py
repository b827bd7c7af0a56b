"""The first two principal components: fast, and faithful to what is far apart, not to what is near."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 8192


def pca(
    embeddings: NDArray[np.floating[Any]], ids: Any = None, distances: Any = None, seed: int = 0
) -> NDArray[np.float32]:
    """The first two principal components, float32 of shape `(n, 2)`; a missing component is 0.

    Args:
        embeddings: float of shape `(n, d)`, read in blocks.
        ids, distances, seed: as every projector gets them; not looked at.
    """
    n, d = embeddings.shape
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, n, BLOCK_ROWS)]
    mean = np.mean(embeddings, axis=0, dtype=np.float64)
    scatter = np.zeros((d, d))
    for rows in blocks:
        centred = embeddings[rows] - mean
        scatter += centred.T @ centred
    axes = np.linalg.eigh(scatter)[1][:, ::-1][:, :2]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    xy = np.zeros((n, 2), np.float32)
    for rows in blocks:
        xy[rows, : axes.shape[1]] = (embeddings[rows] - mean) @ axes
    return xy
