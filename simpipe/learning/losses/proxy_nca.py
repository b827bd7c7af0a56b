"""The ProxyNCA++ loss."""

from typing import Any

from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot


def proxy_nca(embeddings: Any, labels: Any, proxies: Any, *, temperature: float = 1 / 9) -> Any:
    """ProxyNCA++ (Teh et al., arXiv:2004.01113), with proxies (classes, d) scaled to length 1:

    mean over embeddings x of −log( exp(−|x − p_y|²/T) / Σ_p exp(−|x − p|²/T) )

    Unlike in ProxyNCA the sum contains the embedding's own proxy p_y.
    """
    squared = 2.0 - 2.0 * cosines(embeddings, proxies)
    return cross_entropy(-squared / temperature, one_hot(labels, proxies.shape[0]))
