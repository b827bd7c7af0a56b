"""Collapse: the trivial solutions, where an image hardly matters to its projection."""

from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import StageError
from simpipe.learning.statistics import effective_rank

COLLAPSED = 0.2
"""Below this `spread` all projections have one direction: 20 % of what even vectors have."""

ONE_LINE = 2.0
"""Below this effective rank all projections lie on one line, or in two points."""

TOO_SHORT = 0.1
"""Below this mean standard deviation of a dimension all projections are nearly one point. VICReg's goal is
1, and with its default weights two views that have nothing in common leave 1/4; networks start near 1,
and the other objectives do not see the length."""


def spread(vectors: npt.NDArray[np.floating[Any]]) -> float:
    """How far the directions of `vectors` (n, d) go apart, in [0, 1].

    The standard deviation of each dimension over the rows scaled to length 1, as the mean over
    dimensions, times √d (Chen & He, arXiv:2011.10566, §4.1, where healthy is 1/√d): 1 where the rows lie
    evenly on the sphere, 0 where all have one direction.
    """
    return float(_unit(vectors).std(axis=0).mean() * np.sqrt(vectors.shape[1]))


def refuse_collapse(projections: npt.NDArray[np.floating[Any]], epoch: int) -> None:
    """Stop training without labels that found a trivial solution.

    `projections` (n, d) are those of some hundred images as they leave the projector. Embeddings will
    not do: the projector can collapse behind an encoder that merely learns nothing.

    Raises:
        StageError: after `epoch` the projections are one point, have one direction, or lie on one line.
    """
    directions, rank = spread(projections), effective_rank(_unit(projections))
    length = float(np.std(projections, axis=0, dtype=np.float64).mean())
    if length < TOO_SHORT:
        what = f"shrank to one point (standard deviation {length:.3f}, below {TOO_SHORT})"
    elif directions < COLLAPSED:
        what = f"point in one direction (spread {directions:.2f} of 1, below {COLLAPSED})"
    elif rank < ONE_LINE:
        what = f"lie on one line (effective rank {rank:.2f}, below {ONE_LINE:.0f})"
    else:
        return
    raise StageError(
        f"training without labels collapsed in epoch {epoch}: the projections of all images {what}",
        hint="lower train.lr, use larger batches, or take another method: barlow, and vicreg with its "
        "default weights, are made against collapse; whitening trains nothing and cannot",
    )


def _unit(vectors: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    rows: npt.NDArray[np.float64] = np.asarray(vectors, np.float64)
    lengths: npt.NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, 1e-12)
