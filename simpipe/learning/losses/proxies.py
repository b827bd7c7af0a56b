"""What the losses over proxies share: cosines, the margin on an angle, and the cross-entropy."""

from typing import Any

import numpy as np

from simpipe.learning.distances import unit

NEARLY_ONE = 1.0 - 1e-7
"""Largest cosine of which an angle is taken: at 1 the gradient of the angle is infinite."""


def random_proxies(count: int, dim: int, seed: int) -> Any:
    """A trainable variable (count, dim) of random directions, rows of length 1."""
    import keras

    rows = np.random.default_rng(seed).normal(size=(count, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return keras.Variable(rows.astype(np.float32), name="proxies")


def cosines(embeddings: Any, proxies: Any) -> Any:
    """Cosines (n, p) of the angles between n embeddings and p proxies of any length."""
    from keras import ops

    return ops.matmul(unit(embeddings), ops.transpose(unit(ops.convert_to_tensor(proxies))))


def one_hot(labels: Any, classes: int) -> Any:
    """Boolean mask (n, classes) of each embedding's own class."""
    from keras import ops

    return ops.equal(labels[:, None], ops.arange(classes, dtype="int64")[None, :])


def widen_angle(cosine: Any, own: Any, margin: Any) -> Any:
    """`cosine` (n, classes), and cos(θ + margin) in the place of an embedding's `own` class.

    Where θ + margin is beyond π, cos θ − margin · sin(margin) goes on falling in its place, as in the
    authors' code. With the identity of cos(θ + m), so that no arc cosine is taken.
    """
    from keras import ops

    safe = ops.clip(cosine, -NEARLY_ONE, NEARLY_ONE)
    sine = ops.sqrt((1.0 - safe) * (1.0 + safe))
    cos_margin, sin_margin = ops.cos(margin), ops.sin(margin)
    widened = safe * cos_margin - sine * sin_margin
    beyond = safe - margin * sin_margin
    return ops.where(own, ops.where(safe > -cos_margin, widened, beyond), cosine)


def cross_entropy(logits: Any, own: Any) -> Any:
    """Mean over the batch of −log softmax(logits) at the `own` class; logits and mask (n, classes)."""
    from keras import ops

    return ops.mean(ops.logsumexp(logits, axis=1) - ops.sum(ops.where(own, logits, 0.0), axis=1))
