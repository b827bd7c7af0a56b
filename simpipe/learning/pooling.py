"""From activations to one vector: mean, maximum, or the generalised mean between them.

Generalised-mean pooling is equation 3 of arXiv:1711.02512: the p-th root of the mean of p-th powers, over
activations clipped at `LEAST`. With p = 1 it is the mean; the larger p, the nearer the maximum.
"""

from typing import Any

LEAST = 1e-6


def pool(activations: Any, kind: str, p: float = 3.0) -> Any:
    """Pool activations (n, h, w, c) to float32 vectors (n, c); vectors (n, c) stay as they are.

    Args:
        activations: a tensor.
        kind: `avg`, `max` or `gem`.
        p: of `gem`, at least 1.
    """
    from keras import ops

    activations = ops.cast(activations, "float32")
    if len(activations.shape) == 2:
        return activations
    if kind == "avg":
        return ops.mean(activations, axis=(1, 2))
    if kind == "max":
        return ops.max(activations, axis=(1, 2))
    return ops.mean(ops.maximum(activations, LEAST) ** p, axis=(1, 2)) ** (1 / p)


def build_pooling(kind: str, p: float = 3.0, learn_p: bool = False) -> Any:
    """A Keras layer that does what `pool` does, and has a finite gradient wherever its input is finite.

    Args:
        kind: `avg`, `max` or `gem`.
        p: of `gem`, at least 1; where training begins if it is learned.
        learn_p: `gem` only: p is a trainable scalar, kept at 1 or above.
    """
    import keras
    from keras import ops

    class Pooling(keras.layers.Layer):  # type: ignore[misc, name-defined, unused-ignore]
        """In float32 whatever the policy: powers leave the range of float16."""

        def __init__(self) -> None:
            super().__init__(dtype="float32", name="pooling")
            self.p = p

        def build(self, shape: Any) -> None:
            if learn_p and kind == "gem" and len(shape) == 4:
                self.p = self.add_weight(
                    shape=(),
                    initializer=keras.initializers.Constant(p),
                    constraint=lambda value: ops.maximum(value, 1.0),
                    name="p",
                )

        def call(self, activations: Any) -> Any:
            if kind == "gem" and len(activations.shape) == 4:
                return _stable_gem(activations, self.p)
            return pool(activations, kind)

    return Pooling()


def _stable_gem(activations: Any, p: Any) -> Any:
    """`gem` of activations divided by their maximum: no power vanishes or overflows, whatever p.

    The generalised mean is homogeneous, so the maximum counts as a constant in the gradient.
    """
    from keras import ops

    clipped = ops.maximum(activations, LEAST)
    largest = ops.stop_gradient(ops.max(clipped, axis=(1, 2), keepdims=True))
    mean = ops.mean((clipped / largest) ** p, axis=(1, 2))
    return largest[:, 0, 0] * mean ** (1 / p)
