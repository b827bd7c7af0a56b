"""Losses on a batch of embeddings. One table, one file each.

A loss takes `(embeddings, labels, **parameters)`: embeddings of shape (n, d), L2-normalised; labels of
shape (n,), integers. It returns a scalar, the mean over the valid anchors; an anchor without a positive
or without a negative contributes nothing, and a batch without a valid anchor costs 0. Written with
`keras.ops`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

Loss = Callable[..., Any]

LOSSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "multisimilarity": ("simpipe.learning.losses.multisimilarity:multisimilarity", ()),
    "supcon": ("simpipe.learning.losses.supcon:supcon", ("temperature",)),
    "triplet": ("simpipe.learning.losses.triplet:triplet", ("margin",)),
}
"""Name → where the function is, and which of its parameters the configuration sets."""


def get(name: str) -> Loss:
    """The loss function called `name`, a key of `LOSSES`."""
    module, attribute = LOSSES[name][0].split(":")
    loss: Loss = getattr(import_module(module), attribute)
    return loss
