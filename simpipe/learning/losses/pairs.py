"""What the pair losses share: who is whose positive and negative, and means over valid anchors."""

from typing import Any

MASKED = -1e9
"""Stands for minus infinity under an exponential: finite, so that its gradient is 0 and not NaN."""


def pair_masks(labels: Any) -> tuple[Any, Any]:
    """Float masks (n, n) of positives, without the anchor itself, and of negatives."""
    from keras import ops

    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), "float32")
    return same - ops.eye(ops.shape(labels)[0]), 1.0 - same


def valid_anchors(positives: Any, negatives: Any) -> Any:
    """Float mask (n,) of the anchors with at least one positive and one negative."""
    from keras import ops

    return ops.max(positives, axis=1) * ops.max(negatives, axis=1)


def masked_logsumexp(values: Any, mask: Any, with_zero: bool = False) -> Any:
    """Row-wise log Σ mask · exp(values), stable; `with_zero` adds exp(0) to each sum."""
    from keras import ops

    values = ops.where(mask > 0, values, MASKED)
    if with_zero:
        values = ops.concatenate([values, ops.zeros_like(values[:, :1])], axis=1)
    return ops.logsumexp(values, axis=1)


def mean_over(values: Any, mask: Any) -> Any:
    """The mean of `values` where `mask` is 1; 0 where it is nowhere 1."""
    from keras import ops

    return ops.sum(ops.where(mask > 0, values, 0.0)) / ops.maximum(ops.sum(mask), 1.0)
