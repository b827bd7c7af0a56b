"""VICReg: views alike, every dimension varying, no two dimensions correlated."""

from typing import Any

from simpipe.learning.unlabelled import View
from simpipe.learning.unlabelled.arrays import off_diagonal

EPSILON = 1e-4
"""Added to a variance under the root, as in the paper: a finite gradient where nothing varies."""


def vicreg(
    first: View, second: View, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Any:
    """VICReg (Bardes et al., arXiv:2105.04906, eqs. 1–6, scaled as in the authors' code):

    λ · mean of (z1 − z2)²  +  μ · (v(z1) + v(z2)) / 2  +  ν · (c(z1) + c(z2))

    with v(z) the mean over dimensions of max(0, 1 − sqrt(variance + 1e-4)), c(z) = 1/d Σ_{i ≠ j} Cov_ij²,
    both with n − 1 in the denominator (so n ≥ 2), and λ `invariance`, μ `variance`, ν `covariance`. The
    paper's eqs. 5–6 sum the first over dimensions and the second over views; the authors' code, whose
    25, 25, 1 everyone uses, takes means of both.
    """
    from keras import ops

    alike = ops.mean((first.projection - second.projection) ** 2)
    variance_a, covariance_a = _spread_terms(first.projection)
    variance_b, covariance_b = _spread_terms(second.projection)
    return (
        invariance * alike
        + variance * (variance_a + variance_b) / 2
        + covariance * (covariance_a + covariance_b)
    )


def _spread_terms(values: Any) -> tuple[Any, Any]:
    """v(z) and c(z) of one view."""
    from keras import ops

    n, d = (ops.cast(size, values.dtype) for size in ops.shape(values))
    centred = values - ops.mean(values, axis=0)
    covariance = ops.matmul(ops.transpose(centred), centred) / (n - 1)
    deviation = ops.sqrt(ops.diagonal(covariance) + EPSILON)
    return ops.mean(ops.relu(1.0 - deviation)), ops.sum(off_diagonal(covariance) ** 2) / d
