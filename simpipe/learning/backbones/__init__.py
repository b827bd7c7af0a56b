"""Backbones: networks that turn images into feature maps. One table, one file for each family.

A builder takes `(name, weights, input_size, seed)` and returns a `Backbone`. It is named here as text,
so that listing the names loads no framework. A path instead of a name is a user's own network, see `own`.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from simpipe.errors import UsageError

_KERAS = "simpipe.learning.backbones.keras_applications:build"
_LITE = "simpipe.learning.backbones.lite:build"

BACKBONES: dict[str, str] = {
    **{f"efficientnet_lite{i}": _LITE for i in range(3)},
    **{f"efficientnet_b{i}": _KERAS for i in range(8)},
    **{f"efficientnet_v2_{size}": _KERAS for size in ("b0", "b1", "b2", "b3", "s", "m", "l")},
    "resnet50": _KERAS,
}

SMALLEST = 32
"""Side in pixels of the smallest input that may be asked for: five halvings leave one pixel."""


@dataclass(frozen=True)
class Backbone:
    """A network with its preprocessing inside.

    Attributes:
        name: its key in `BACKBONES`, or the path of a user's own network.
        model: Keras model, float32 RGB images of shape (n, input_size, input_size, 3) with values 0…255 in;
            float32 activations of shape (n, height, width, channels) out, or vectors (n, channels) where a
            user's own network pools by itself.
        input_size: side of its input in pixels.
        weights_id: where the weights come from, as a hash: part of every cache key.
        pretrained: whether the weights were learned on other data.
        groups: names of the layers whose outputs end the groups of blocks, from the first to the last;
            the stem belongs to the first, and what follows the last to the last. Empty for a user's own
            network. See `cut.split`.
        trainable: whether its weights can be trained further; a SavedModel's cannot.
    """

    name: str
    model: Any
    input_size: int
    weights_id: str
    pretrained: bool
    groups: tuple[str, ...] = ()
    trainable: bool = True


def is_path(name: str) -> bool:
    """Whether `name` means a user's own network: no name of ours, and a path, a `.keras` file or a folder."""
    separators = {"/", os.sep, os.altsep or os.sep}
    return name not in BACKBONES and (
        any(each in name for each in separators) or name.endswith(".keras") or Path(name).is_dir()
    )


def build(
    name: str,
    *,
    weights: str = "imagenet",
    input_size: int | None = None,
    seed: int = 0,
    trust: bool = False,
) -> Backbone:
    """Build a backbone.

    Args:
        name: a key of `BACKBONES`, or the path of a `.keras` file or of a SavedModel's folder.
        weights: "imagenet", "none" (random, from `seed`), or the path of a `.weights.h5` file. A user's own
            network brings its weights: leave "imagenet".
        input_size: side in pixels, at least `SMALLEST`; None takes the size the network was trained at.
        seed: of the random weights, and of the stochastic depth while training.
        trust: whether a user's own network may be loaded, which can run code.

    Raises:
        UsageError: the name is unknown, the weights are not to be had, or the user's own network cannot be
            used or is not trusted.
    """
    if input_size is not None and input_size < SMALLEST:
        raise UsageError(f"train.input_size: {input_size} is too small; at least {SMALLEST} pixels")
    if is_path(name):
        from simpipe.learning.backbones.own import build as build_own

        return build_own(name, weights, input_size, trust)
    if name not in BACKBONES:
        raise UsageError(
            f"train.backbone: there is no backbone {name!r}",
            hint=f"one of {', '.join(BACKBONES)}; or the path of a .keras file or a SavedModel folder",
        )
    module, attribute = BACKBONES[name].split(":")
    backbone: Backbone = getattr(import_module(module), attribute)(name, weights, input_size, seed)
    return backbone
