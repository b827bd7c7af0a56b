"""The SoftTriple loss with its regulariser."""

from typing import Any

from simpipe.learning.distances import root, unit
from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot


def soft_triple(
    embeddings: Any,
    labels: Any,
    proxies: Any,
    *,
    margin: float = 0.01,
    scale: float = 20.0,
    centres: int = 10,
    gamma: float = 0.1,
    tau: float = 0.2,
) -> Any:
    """SoftTriple (Qian et al., arXiv:1909.05235), with cosines s_k to the K centres of a class:

    mean over embeddings of −log softmax(λ (S_c − δ [c = y]))_y,  S_c = Σ_k softmax(s_k/γ)_k s_k
    + τ/(C K (K − 1)) Σ_c Σ_{k < l} |w_ck − w_cl|

    The proxies w have shape (C · K, d), the centres of a class one after the other; λ is `scale`, δ is
    `margin`. The regulariser draws centres together, so that a class has only as many as it needs.
    """
    from keras import ops

    own = one_hot(labels, proxies.shape[0] // centres)
    each = ops.reshape(cosines(embeddings, proxies), (-1, own.shape[1], centres))
    shares = ops.exp(each / gamma - ops.logsumexp(each / gamma, axis=2, keepdims=True))
    relaxed = ops.sum(shares * each, axis=2)
    logits = scale * ops.where(own, relaxed - margin, relaxed)
    return cross_entropy(logits, own) + tau * _spread(proxies, centres)


def _spread(proxies: Any, centres: int) -> Any:
    """Half the mean distance between two centres of a class."""
    from keras import ops

    of_classes = ops.reshape(unit(ops.convert_to_tensor(proxies)), (-1, centres, proxies.shape[1]))
    squared = 2.0 - 2.0 * ops.matmul(of_classes, ops.swapaxes(of_classes, 1, 2))
    both_ways = proxies.shape[0] * max(centres - 1, 1)
    return 0.5 * ops.sum(root(squared)) / both_ways
