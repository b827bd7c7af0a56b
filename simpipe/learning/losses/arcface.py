"""The ArcFace loss."""

from typing import Any

from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot, widen_angle


def arcface(embeddings: Any, labels: Any, proxies: Any, *, margin: float = 0.5, scale: float = 64.0) -> Any:
    """ArcFace (Deng et al., arXiv:1801.07698, eq. 3), with angles θ to the proxies (classes, d):

    mean over embeddings of −log( exp(γ cos(θ_y + m)) / (exp(γ cos(θ_y + m)) + Σ_{c ≠ y} exp(γ cos θ_c)) )

    m is `margin`, in radians, and γ is `scale`.
    """
    own = one_hot(labels, proxies.shape[0])
    return cross_entropy(scale * widen_angle(cosines(embeddings, proxies), own, margin), own)
