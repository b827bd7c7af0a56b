"""The multiple negatives ranking loss."""

from typing import Any

from simpipe.learning.distances import to_similarity
from simpipe.learning.losses.pairs import log_sum_exp, valid_pairs


def multi_negatives_rank(distance: Any, positives: Any, negatives: Any, *, scale: float = 20.0) -> Any:
    """Multiple negatives ranking (Henderson et al., arXiv:1705.00652): for each positive pair

    −log( exp(γ s_p) / (exp(γ s_p) + Σ_n exp(γ s_n)) ),  with similarities s; γ is `scale`

    The paper has one positive for each anchor and takes all others as negatives; here images of the
    anchor's own class are none. The mean is over the positive pairs.
    """
    from keras import ops

    logits = scale * to_similarity(distance)
    return ops.softplus(log_sum_exp(logits, negatives) - logits), valid_pairs(positives, negatives)
