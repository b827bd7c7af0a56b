"""What the losses over pairs share: who is whose positive and negative, and the mean."""

from typing import Any

from simpipe.learning import distances
from simpipe.learning.losses.memory import Memory

FAR = 1e9
"""Stands for infinity, and −FAR for minus infinity: finite, so that a gradient is 0 and not NaN."""


def mean_loss(function: Any, distance: str, embeddings: Any, labels: Any, memory: Memory | None) -> Any:
    """The mean of a loss `function(distance, positives, negatives)` over a batch (n, d) with labels (n,).

    With a memory, its entries are further columns of the gallery, and the batch is remembered at the end.
    """
    from keras import ops

    gallery = embeddings
    positives, negatives = pair_masks(labels)
    if memory is not None:
        stored, same, other = memory.recall(labels)
        gallery = ops.concatenate([embeddings, stored])
        positives = ops.concatenate([positives, same], axis=1)
        negatives = ops.concatenate([negatives, other], axis=1)
    between = distances.between(distance, embeddings, gallery)
    result = mean_over(*function(between, positives, negatives))
    if memory is not None:
        memory.remember(embeddings, labels)
    return result


def pair_masks(labels: Any) -> tuple[Any, Any]:
    """Boolean masks (n, n) of positives, without the anchor itself, and of negatives."""
    from keras import ops

    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.eye(ops.shape(labels)[0], dtype="bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def valid_anchors(positives: Any, negatives: Any) -> Any:
    """Boolean mask (n,) of the anchors with at least one positive and one negative."""
    from keras import ops

    return ops.logical_and(ops.any(positives, axis=1), ops.any(negatives, axis=1))


def valid_pairs(positives: Any, negatives: Any) -> Any:
    """Boolean mask (n, m) of the positive pairs whose anchor has a negative."""
    from keras import ops

    return ops.logical_and(positives, ops.any(negatives, axis=1, keepdims=True))


def smallest(values: Any, mask: Any) -> Any:
    """Row-wise minimum of `values` where `mask`, shape (n, 1); `FAR` where it is nowhere."""
    from keras import ops

    return ops.min(ops.where(mask, values, FAR), axis=1, keepdims=True)


def largest(values: Any, mask: Any) -> Any:
    """Row-wise maximum of `values` where `mask`, shape (n, 1); `-FAR` where it is nowhere."""
    from keras import ops

    return ops.max(ops.where(mask, values, -FAR), axis=1, keepdims=True)


def log_sum_exp(values: Any, mask: Any, with_one: bool = False) -> Any:
    """Row-wise log Σ exp(values) where `mask`, stable, shape (n, 1); `with_one` adds 1 to each sum."""
    from keras import ops

    values = ops.where(mask, values, -FAR)
    if with_one:
        values = ops.concatenate([values, ops.zeros_like(values[:, :1])], axis=1)
    return ops.logsumexp(values, axis=1, keepdims=True)


def mean_over(values: Any, mask: Any) -> Any:
    """The mean of `values` where `mask`; 0 where it is nowhere."""
    from keras import ops

    count = ops.maximum(ops.sum(ops.cast(mask, "float32")), 1.0)
    return ops.sum(ops.where(mask, values, 0.0)) / count
