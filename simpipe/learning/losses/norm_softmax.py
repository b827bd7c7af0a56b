"""The normalised softmax loss."""

from typing import Any

from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot


def norm_softmax(embeddings: Any, labels: Any, proxies: Any, *, temperature: float = 0.05) -> Any:
    """Normalised softmax (Zhai and Wu, arXiv:1811.12649), with cosines s and proxies (classes, d):

    mean over embeddings of −log( exp(s_y/T) / Σ_c exp(s_c/T) )
    """
    logits = cosines(embeddings, proxies) / temperature
    return cross_entropy(logits, one_hot(labels, proxies.shape[0]))
