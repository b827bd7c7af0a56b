"""The multi-similarity loss with its pair mining."""

from typing import Any

from simpipe.learning.distances import to_similarity
from simpipe.learning.losses.pairs import largest, log_sum_exp, smallest, valid_anchors


def multisimilarity(
    distance: Any,
    positives: Any,
    negatives: Any,
    *,
    alpha: float = 2.0,
    beta: float = 40.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Any:
    """Multi-similarity (Wang et al., arXiv:1904.06627, eqs. 11–15): for each anchor, with similarities s,

    1/α log(1 + Σ_p exp(−α (s_p − λ))) + 1/β log(1 + Σ_n exp(β (s_n − λ)))

    over the positives with s_p < max_n s_n + ε and the negatives with s_n > min_p s_p − ε; λ is `base`.
    β = 40 is the authors' code; the paper says 50.
    """
    from keras import ops

    similarity = to_similarity(distance)
    near = similarity > smallest(similarity, positives) - epsilon
    far = similarity < largest(similarity, negatives) + epsilon
    pull = log_sum_exp(-alpha * (similarity - base), ops.logical_and(positives, far), with_one=True)
    push = log_sum_exp(beta * (similarity - base), ops.logical_and(negatives, near), with_one=True)
    return (pull / alpha + push / beta)[:, 0], valid_anchors(positives, negatives)
