"""Backbones: networks that turn images into feature maps. One table, one file for each family.

A builder takes `(name, weights, input_size, seed)` and returns a `Backbone`. It is named here as text,
so that listing the names loads no framework.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

_KERAS = "simpipe.learning.backbones.keras_applications:build"

BACKBONES: dict[str, str] = {
    "efficientnet_lite0": "simpipe.learning.backbones.lite:build",
    **{f"efficientnet_b{i}": _KERAS for i in range(8)},
    **{f"efficientnet_v2_{size}": _KERAS for size in ("b0", "b1", "b2", "b3", "s", "m", "l")},
}


@dataclass(frozen=True)
class Backbone:
    """A network with its preprocessing inside.

    Attributes:
        name: its key in `BACKBONES`.
        model: Keras model, images of shape (n, input_size, input_size, 3) with values 0…255 in, activations
            of shape (n, height, width, channels) out.
        input_size: side of its input in pixels.
        weights_id: where the weights come from, as a hash: part of every cache key.
        pretrained: whether the weights were learned on other data.
    """

    name: str
    model: Any
    input_size: int
    weights_id: str
    pretrained: bool


def build(name: str, *, weights: str = "imagenet", input_size: int | None = None, seed: int = 0) -> Backbone:
    """Build a backbone by name.

    Args:
        name: a key of `BACKBONES`.
        weights: "imagenet", "none" (random, from `seed`), or the path of a `.weights.h5` file.
        input_size: side in pixels; None takes the size the network was trained at.
        seed: of the random weights.

    Raises:
        UsageError: the weights are not to be had.
    """
    module, attribute = BACKBONES[name].split(":")
    backbone: Backbone = getattr(import_module(module), attribute)(name, weights, input_size, seed)
    return backbone
