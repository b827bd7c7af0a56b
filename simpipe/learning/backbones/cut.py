"""Cut a backbone in two: a trunk that stays as it is, and a tail that is trained on its activations."""

from collections.abc import Iterable, Iterator
from typing import Any

from simpipe.errors import UsageError
from simpipe.learning.backbones import Backbone


def split(backbone: Backbone, unfreeze: int) -> tuple[Any, Any]:
    """The two parts of `backbone`, Keras models `(trunk, tail)` that share its layers and weights.

    The trunk turns images into the activations that the group before the last `unfreeze` groups gives; one
    tensor carries everything there. The tail turns those into the backbone's activations; what follows the
    last group belongs to it. Run the trunk with `training=False`.

    Args:
        backbone: one with `groups`.
        unfreeze: how many groups of blocks go to the tail, 1 … number of groups − 1.

    Raises:
        UsageError: it has no groups, or not that many.
    """
    import keras

    most = len(backbone.groups) - 1
    if most < 1:
        raise UsageError(
            f"train.trainable: the groups of blocks of {backbone.name} are not known, so none can be trained "
            "alone",
            hint="use train.trainable: frozen, or one of simpipe's own backbones",
        )
    if not 1 <= unfreeze <= most:
        raise UsageError(
            f"train.unfreeze: {unfreeze} is out of range for {backbone.name}: 1 … {most}",
            hint="train.trainable: full trains the whole network",
        )
    model = backbone.model
    activations = model.get_layer(backbone.groups[most - unfreeze]).output
    trunk = keras.Model(model.input, activations, name=f"{model.name}_trunk")
    return trunk, keras.Model(activations, model.output, name=f"{model.name}_tail")


def freeze_batch_norms(model: Any) -> None:
    """Let every batch normalisation in `model`, nested models too, always run in inference mode.

    Their scale and offset then do not train either, and their moving mean and variance stay as they are,
    even under `training=True`. For pretrained weights, whose statistics small batches would spoil.
    """
    import keras

    for layer in _leaves(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def hasten_batch_norms(model: Any, momentum: float = 0.9) -> None:
    """Let the running statistics of every batch normalisation follow faster than usual (0.99)."""
    import keras

    for layer in _leaves(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def _leaves(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer.layers)
        else:
            yield layer


def last_layers(model: Any, prefixes: Iterable[str]) -> tuple[str, ...]:
    """For each of `prefixes` the last layer of `model` whose name starts so; without one it is left out."""
    names = [layer.name for layer in model.layers]
    found = [[name for name in names if name.startswith(prefix)] for prefix in prefixes]
    return tuple(each[-1] for each in found if each)
