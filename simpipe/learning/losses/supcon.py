"""The supervised contrastive loss."""

from typing import Any

from simpipe.learning.distances import to_similarity
from simpipe.learning.losses.pairs import log_sum_exp, valid_anchors


def supcon(distance: Any, positives: Any, negatives: Any, *, temperature: float = 0.1) -> Any:
    """SupCon, L_out (Khosla et al., arXiv:2004.11362, eq. 2): for each anchor i, with similarities s,

    −1/|P_i| Σ_{p ∈ P_i} log( exp(s_ip/T) / Σ_{a ≠ i} exp(s_ia/T) )

    With two views of each image, and the image's number as its label, it is NT-Xent (Chen et al., SimCLR,
    arXiv:2002.05709, eq. 1).
    """
    from keras import ops

    logits = to_similarity(distance) / temperature
    everyone = log_sum_exp(logits, ops.logical_or(positives, negatives))[:, 0]
    count = ops.maximum(ops.sum(ops.cast(positives, "float32"), axis=1), 1.0)
    pull = ops.sum(ops.where(positives, logits, 0.0), axis=1) / count
    return everyone - pull, valid_anchors(positives, negatives)
