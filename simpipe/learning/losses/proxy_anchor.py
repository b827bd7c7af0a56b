"""The proxy-anchor loss."""

from typing import Any

from simpipe.learning.losses.pairs import log_sum_exp, mean_over
from simpipe.learning.losses.proxies import cosines, one_hot


def proxy_anchor(
    embeddings: Any, labels: Any, proxies: Any, *, margin: float = 0.1, alpha: float = 32.0
) -> Any:
    """Proxy-anchor (Kim et al., arXiv:2003.13911, eq. 4), with cosines s and proxies (classes, d):

    mean over p ∈ P⁺ of log(1 + Σ_{x of p} exp(−α (s_xp − δ)))
    + mean over all p of log(1 + Σ_{x of others} exp(α (s_xp + δ)))

    P⁺ are the proxies whose class is in the batch; δ is `margin`.
    """
    from keras import ops

    cosine = cosines(proxies, embeddings)
    own = ops.transpose(one_hot(labels, proxies.shape[0]))
    pull = log_sum_exp(-alpha * (cosine - margin), own, with_one=True)
    push = log_sum_exp(alpha * (cosine + margin), ops.logical_not(own), with_one=True)
    return mean_over(pull, ops.any(own, axis=1, keepdims=True)) + ops.mean(push)
