"""The circle loss."""

from typing import Any

from simpipe.learning.distances import to_similarity
from simpipe.learning.losses.pairs import log_sum_exp, valid_anchors


def circle(distance: Any, positives: Any, negatives: Any, *, margin: float = 0.4, scale: float = 80.0) -> Any:
    """Circle (Sun et al., arXiv:2002.10857, eqs. 5–6): for each anchor, with similarities s,

    log(1 + Σ_n exp(γ α_n (s_n − m)) · Σ_p exp(−γ α_p (s_p − 1 + m)))

    with the weights α_p = max(0, 1 + m − s_p) and α_n = max(0, s_n + m), through which no gradient goes;
    m is `margin` and γ is `scale`. The paper has 0.4 and 80 for fine-grained retrieval.
    """
    from keras import ops

    similarity = to_similarity(distance)
    fixed = ops.stop_gradient(similarity)
    pull = -scale * ops.relu(1.0 + margin - fixed) * (similarity - 1.0 + margin)
    push = scale * ops.relu(fixed + margin) * (similarity - margin)
    both = log_sum_exp(pull, positives) + log_sum_exp(push, negatives)
    return ops.softplus(both)[:, 0], valid_anchors(positives, negatives)
