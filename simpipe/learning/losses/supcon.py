"""The supervised contrastive loss."""

from typing import Any

from simpipe.learning.losses.pairs import masked_logsumexp, mean_over, pair_masks, valid_anchors


def supcon(embeddings: Any, labels: Any, *, temperature: float = 0.1) -> Any:
    """SupCon, L_out (Khosla et al., arXiv:2004.11362, eq. 2), with s the cosine similarity:

    mean over anchors i of  −1/|P_i| Σ_{p ∈ P_i} log( exp(s_ip/T) / Σ_{a ≠ i} exp(s_ia/T) )
    """
    from keras import ops

    positives, negatives = pair_masks(labels)
    logits = ops.matmul(embeddings, ops.transpose(embeddings)) / temperature
    log_total = masked_logsumexp(logits, positives + negatives)
    count = ops.maximum(ops.sum(positives, axis=1), 1.0)
    per_anchor = log_total - ops.sum(positives * logits, axis=1) / count
    return mean_over(per_anchor, valid_anchors(positives, negatives))
