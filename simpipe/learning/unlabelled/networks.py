"""The small networks behind the encoder, and BYOL's moving target. Thrown away once training is done."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from simpipe.learning.unlabelled import METHODS


class Shape(NamedTuple):
    """Sizes of a perceptron.

    Attributes:
        hidden: units of each hidden layer: dense, BatchNorm, ReLU.
        out: units of the output; 0: those of the input.
        norm: BatchNorm on the output too, without scale and offset.
    """

    hidden: tuple[int, ...]
    out: int
    norm: bool = False


PROJECTORS: dict[str, Shape] = {
    "simclr": Shape((512,), 128, norm=True),
    "simsiam": Shape((512, 512), 512, norm=True),
    "byol": Shape((512,), 256),
    "barlow": Shape((512, 512), 1024),
    "vicreg": Shape((512, 512), 1024),
}
"""The layers of the papers, and widths that a CPU bears. The papers' widths are, in this order: 2048 and
128, 2048 and 2048, 4096 and 256, 8192 and 8192, 8192 and 8192."""

PREDICTORS: dict[str, Shape] = {"simsiam": Shape((128,), 0), "byol": Shape((512,), 0)}
"""SimSiam's is a bottleneck of a quarter of its input, BYOL's is built as its projector."""


def build_projector(dim: int, method: str, seed: int) -> Any:
    """A Keras model from embeddings (n, dim) to projections (n, out) for a key of `METHODS`."""
    return _perceptron(dim, PROJECTORS[method], seed, "projector")


def build_predictor(dim: int, method: str, seed: int) -> Any:
    """A Keras model from projections (n, dim) to predictions (n, dim); None where the method has none."""
    if not METHODS[method].predictor:
        return None
    return _perceptron(dim, PREDICTORS[method], seed, "predictor")


def target_momentum(step: Any, total_steps: int, base: float = 0.99) -> Any:
    """How much of the target network is kept at `step`, of 0…total_steps: from `base` along a cosine to 1.

    1 − (1 − base) (cos(π step / total_steps) + 1) / 2 (Grill et al., arXiv:2006.07733, §3.2). The paper's
    base is 0.99 for 300 epochs and 0.996 for 1000. `step` may be a tensor; the result is a scalar tensor.
    """
    from keras import ops

    share = ops.cast(step, "float32") / max(1, total_steps)
    return 1.0 - (1.0 - base) * (ops.cos(math.pi * ops.minimum(share, 1.0)) + 1.0) / 2.0


def update_target(target_variables: Iterable[Any], online_variables: Iterable[Any], momentum: Any) -> None:
    """Move each target variable: momentum · target + (1 − momentum) · online (same paper, eq. 1).

    For the trainable variables of two networks of one structure, which should start with equal weights.
    """
    for target, online in zip(target_variables, online_variables, strict=True):
        target.assign(momentum * target + (1.0 - momentum) * online)


def _perceptron(dim: int, shape: Shape, seed: int, name: str) -> Any:
    import keras
    from keras import layers

    def dense(units: int, number: int, use_bias: bool) -> Any:
        # the two networks of a method get different weights from the one seed
        own = (seed * 16 + number + (8 if name == "predictor" else 0)) % 2**31
        initializer = keras.initializers.HeUniform(own)
        return layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer)

    def norm(affine: bool) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, scale=affine, center=affine)

    stack = [keras.Input((dim,))]
    for number, units in enumerate(shape.hidden):
        stack += [dense(units, number, False), norm(affine=True), layers.ReLU()]
    stack.append(dense(shape.out or dim, len(shape.hidden), not shape.norm))
    if shape.norm:
        stack.append(norm(affine=False))
    return keras.Sequential(stack, name=name)
