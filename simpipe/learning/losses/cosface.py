"""The CosFace loss."""

from typing import Any

from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot


def cosface(embeddings: Any, labels: Any, proxies: Any, *, margin: float = 0.35, scale: float = 64.0) -> Any:
    """CosFace (Wang et al., arXiv:1801.09414, eq. 4), with cosines s to the proxies (classes, d):

    mean over embeddings of −log( exp(γ (s_y − m)) / (exp(γ (s_y − m)) + Σ_{c ≠ y} exp(γ s_c)) )

    m is `margin` and γ is `scale`.
    """
    from keras import ops

    own = one_hot(labels, proxies.shape[0])
    cosine = cosines(embeddings, proxies)
    return cross_entropy(scale * ops.where(own, cosine - margin, cosine), own)
