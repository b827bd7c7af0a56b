"""The trainable head: standardised features → embedding on the unit sphere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.learning.dropout import build_dropout

BLOCK = 1024
"""Rows in a pass through the head. Fixed and padded: an embedding does not depend on its neighbours."""


@dataclass(frozen=True)
class HeadShape:
    """The head's sizes: units of the embedding and of the hidden layer (0: none), dropout in [0, 1)."""

    embedding_size: int
    hidden: int
    dropout: float


def build_head(feature_dim: int, shape: HeadShape, seed: int) -> Any:
    """A Keras model from pooled features (n, feature_dim) to L2-normalised embeddings (n, embedding_size)."""
    import keras
    from keras import layers

    def dense(units: int, number: int, activation: str | None) -> Any:
        return layers.Dense(
            units,
            activation,
            kernel_initializer=keras.initializers.GlorotUniform((seed * 2 + number) % 2**31),
        )

    features = keras.Input((feature_dim,), name="features")
    x = layers.Normalization(name="standardise")(features)
    if shape.hidden:
        x = build_dropout(shape.dropout, seed % 2**31)(x)
        x = dense(shape.hidden, 0, "relu")(x)
    x = build_dropout(shape.dropout, (seed + 1) % 2**31)(x)
    x = dense(shape.embedding_size, 1, None)(x)
    return keras.Model(features, layers.UnitNormalization()(x), name="head")


def standardise_on(head: Any, features: npt.NDArray[np.float32]) -> None:
    """Set the head's input mean and variance to those of `features` (n, d), read in blocks."""
    total = np.zeros(features.shape[1])
    squares = np.zeros(features.shape[1])
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK].astype(np.float64)
        total += block.sum(axis=0)
        squares += (block**2).sum(axis=0)
    mean = total / len(features)
    variance = np.maximum(squares / len(features) - mean**2, 1e-6)
    layer = head.get_layer("standardise")
    layer.set_weights([mean.astype("f4"), variance.astype("f4"), np.array(len(features))])
    layer.finalize_state()


def set_linear(head: Any, mean: npt.NDArray[Any], projection: npt.NDArray[Any]) -> None:
    """Make a head without hidden layer compute normalise((x − mean) @ projection), (d,) and (d, size)."""
    layer = head.get_layer("standardise")
    layer.set_weights([mean.astype("f4"), np.ones(len(mean), "f4"), np.array(1)])
    layer.finalize_state()
    head.layers[-2].set_weights([projection.astype("f4"), np.zeros(projection.shape[1], "f4")])


class Embed:
    """A network's forward pass, in padded blocks of one size: an embedding depends on nothing beside it.

    Attributes:
        block: most rows in a call.
    """

    def __init__(self, model: Any, block: int = BLOCK) -> None:
        import tensorflow as tf

        shape = model.input_shape[1:]

        def forward(inputs: Any) -> Any:
            return model(inputs, training=False)

        signature = [tf.TensorSpec((block, *shape), tf.float32)]
        self.block = block
        self._forward = tf.function(forward, input_signature=signature, autograph=False)
        self._padded = np.zeros((block, *shape), np.float32)

    def __call__(self, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of inputs (n, …), n ≤ `block`."""
        self._padded[: len(inputs)] = inputs
        found: npt.NDArray[np.float32] = self._forward(self._padded).numpy()[: len(inputs)]
        return found


def embed_all(embed: Embed, features: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Write the embeddings of `features` (n, c) to `out` (n, d), in blocks: both may be memory-mapped."""
    for start in range(0, len(features), embed.block):
        part = features[start : start + embed.block]
        out[start : start + len(part)] = embed(part)


def normalise(features: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Write `features` (n, d), scaled to length 1, into `out`; a zero vector stays zero."""
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK]
        length = np.linalg.norm(block, axis=1, keepdims=True)
        out[start : start + len(block)] = block / np.maximum(length, 1e-12)
