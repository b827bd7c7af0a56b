"""The soft nearest neighbour loss."""

from typing import Any

from simpipe.learning.losses.pairs import log_sum_exp, valid_anchors


def soft_nearest_neighbour(distance: Any, positives: Any, negatives: Any, *, temperature: float = 0.1) -> Any:
    """Soft nearest neighbour (Frosst et al., arXiv:1902.01889, eq. 1): for each anchor

    −log( Σ_p exp(−d_p/T) / Σ_{p, n} exp(−d/T) )

    The paper has squared Euclidean distances, which on embeddings of length 1 are twice the cosine's.
    """
    from keras import ops

    logits = -distance / temperature
    everyone = log_sum_exp(logits, ops.logical_or(positives, negatives))
    return (everyone - log_sum_exp(logits, positives))[:, 0], valid_anchors(positives, negatives)
