"""Barlow Twins: each dimension the same in both views, and different from every other dimension."""

from typing import Any

from simpipe.learning.unlabelled import View
from simpipe.learning.unlabelled.arrays import off_diagonal

EPSILON = 1e-5
"""Added to a variance: a dimension that does not vary correlates with nothing, at a finite gradient."""


def barlow(first: View, second: View, *, redundancy: float = 5e-3) -> Any:
    """Barlow Twins (Zbontar et al., arXiv:2103.03230, eqs. 1–2):

    Σ_i (1 − C_ii)² + λ Σ_{i ≠ j} C_ij²

    with λ the `redundancy` and C the correlation, over the batch, of dimension i in the one view with
    dimension j in the other. A sum over dimensions: d where all is collapsed. The paper's λ for d = 8192.
    """
    from keras import ops

    a, b = _standardised(first.projection), _standardised(second.projection)
    correlation = ops.matmul(ops.transpose(a), b) / ops.cast(ops.shape(a)[0], a.dtype)
    alike = ops.sum((1.0 - ops.diagonal(correlation)) ** 2)
    return alike + redundancy * ops.sum(off_diagonal(correlation) ** 2)


def _standardised(values: Any) -> Any:
    from keras import ops

    centred = values - ops.mean(values, axis=0)
    return centred / ops.sqrt(ops.mean(centred**2, axis=0) + EPSILON)
