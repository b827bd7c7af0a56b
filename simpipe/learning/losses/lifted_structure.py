"""The lifted structured loss."""

from typing import Any

from simpipe.learning.losses.pairs import log_sum_exp, valid_pairs


def lifted_structure(distance: Any, positives: Any, negatives: Any, *, margin: float = 1.0) -> Any:
    """Lifted structure (Song et al., arXiv:1511.06452, eq. 4): for each positive pair (i, j)

    ½ max(0, log( Σ_{n of i} exp(margin − d_in) + Σ_{n of j} exp(margin − d_jn) ) + d_ij)²

    The mean is over the positive pairs. The gallery is the anchors: m = n.
    """
    from keras import ops

    push = log_sum_exp(margin - distance, negatives)
    cost = ops.relu(ops.logaddexp(push, ops.transpose(push)) + distance)
    return 0.5 * ops.square(cost), valid_pairs(positives, negatives)
