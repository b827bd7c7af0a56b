"""The triplet loss with batch-hard mining."""

from typing import Any

from simpipe.learning.losses.pairs import mean_over, pair_masks, valid_anchors


def triplet(embeddings: Any, labels: Any, *, margin: float | None = 0.1) -> Any:
    """Batch-hard triplet (Hermans et al., arXiv:1703.07737, eq. 5), with d the cosine distance:

    mean over anchors of  max(0, max_p d_p − min_n d_n + margin),  or softplus without a margin
    """
    from keras import ops

    positives, negatives = pair_masks(labels)
    distance = 1.0 - ops.matmul(embeddings, ops.transpose(embeddings))
    farthest_positive = ops.max(ops.where(positives > 0, distance, -1.0), axis=1)
    nearest_negative = ops.min(ops.where(negatives > 0, distance, 3.0), axis=1)
    gap = farthest_positive - nearest_negative
    per_anchor = ops.softplus(gap) if margin is None else ops.relu(gap + margin)
    return mean_over(per_anchor, valid_anchors(positives, negatives))
