"""The trainable head: standardised features → embedding on the unit sphere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Embedder = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], None]

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
        x = layers.Dropout(shape.dropout, seed=seed % 2**31)(x)
        x = dense(shape.hidden, 0, "relu")(x)
    x = layers.Dropout(shape.dropout, seed=(seed + 1) % 2**31)(x)
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


def embedder(head: Any) -> Embedder:
    """A function `(features, out)` that writes embeddings of features (n, d) to `out` (n, embedding_size).

    It goes block by block, so that both may be memory-mapped.
    """
    import tensorflow as tf

    dim = head.input_shape[1]

    @tf.function(input_signature=[tf.TensorSpec((BLOCK, dim), tf.float32)])  # type: ignore[untyped-decorator]
    def forward(block: Any) -> Any:
        return head(block, training=False)

    padded = np.zeros((BLOCK, dim), np.float32)

    def embed(features: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK]
            padded[: len(block)] = block
            out[start : start + len(block)] = forward(padded).numpy()[: len(block)]

    return embed


def normalise(features: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Write `features` (n, d), scaled to length 1, into `out`; a zero vector stays zero."""
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK]
        length = np.linalg.norm(block, axis=1, keepdims=True)
        out[start : start + len(block)] = block / np.maximum(length, 1e-12)
