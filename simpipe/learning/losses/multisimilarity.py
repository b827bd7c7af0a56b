"""The multi-similarity loss with its pair mining."""

from typing import Any

from simpipe.learning.losses.pairs import masked_logsumexp, mean_over, pair_masks, valid_anchors


def multisimilarity(
    embeddings: Any,
    labels: Any,
    *,
    alpha: float = 2.0,
    beta: float = 40.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Any:
    """Multi-similarity (Wang et al., arXiv:1904.06627, eqs. 11–15), with s the cosine similarity:

    mean over anchors of  1/α log(1 + Σ_p exp(−α (s_p − λ))) + 1/β log(1 + Σ_n exp(β (s_n − λ)))

    over the positives with s_p < max_n s_n + ε and the negatives with s_n > min_p s_p − ε.
    """
    from keras import ops

    positives, negatives = pair_masks(labels)
    similarity = ops.matmul(embeddings, ops.transpose(embeddings))
    hardest_positive = ops.min(ops.where(positives > 0, similarity, 2.0), axis=1, keepdims=True)
    hardest_negative = ops.max(ops.where(negatives > 0, similarity, -2.0), axis=1, keepdims=True)
    mined_positives = positives * ops.cast(similarity < hardest_negative + epsilon, "float32")
    mined_negatives = negatives * ops.cast(similarity > hardest_positive - epsilon, "float32")
    pull = masked_logsumexp(-alpha * (similarity - base), mined_positives, with_zero=True) / alpha
    push = masked_logsumexp(beta * (similarity - base), mined_negatives, with_zero=True) / beta
    return mean_over(pull + push, valid_anchors(positives, negatives))
