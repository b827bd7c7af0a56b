"""EfficientNet B0–B7 (arXiv:1905.11946) and V2 (arXiv:2104.00298) as `keras.applications` has them."""

from pathlib import Path
from typing import Any

from simpipe.errors import UsageError
from simpipe.files import sha256_file
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.weights import load_weights_file, randomise

_NETWORKS = {
    "efficientnet_b0": ("EfficientNetB0", 224),
    "efficientnet_b1": ("EfficientNetB1", 240),
    "efficientnet_b2": ("EfficientNetB2", 260),
    "efficientnet_b3": ("EfficientNetB3", 300),
    "efficientnet_b4": ("EfficientNetB4", 380),
    "efficientnet_b5": ("EfficientNetB5", 456),
    "efficientnet_b6": ("EfficientNetB6", 528),
    "efficientnet_b7": ("EfficientNetB7", 600),
    "efficientnet_v2_b0": ("EfficientNetV2B0", 224),
    "efficientnet_v2_b1": ("EfficientNetV2B1", 240),
    "efficientnet_v2_b2": ("EfficientNetV2B2", 260),
    "efficientnet_v2_b3": ("EfficientNetV2B3", 300),
    "efficientnet_v2_s": ("EfficientNetV2S", 384),
    "efficientnet_v2_m": ("EfficientNetV2M", 480),
    "efficientnet_v2_l": ("EfficientNetV2L", 480),
}
"""Name → the function in `keras.applications`, and the side of the input it was trained at."""


def build(name: str, weights: str, input_size: int | None, seed: int) -> Backbone:
    """An EfficientNet with its own preprocessing inside: values 0…255 in. See `backbones.build`."""
    size = input_size or _NETWORKS[name][1]
    if weights == "imagenet":
        model = _with_imagenet(name, size)
        weights_id = f"sha256:{sha256_file(_downloaded(name))}"
    else:
        model = _network(name, size, None)
        weights_id = randomise(model, seed) if weights == "none" else load_weights_file(model, weights)
    return Backbone(name, model, size, weights_id, pretrained=weights != "none")


def _network(name: str, size: int, weights: str | None) -> Any:
    import keras

    function = getattr(keras.applications, _NETWORKS[name][0])
    return function(include_top=False, weights=weights, input_shape=(size, size, 3))


def _with_imagenet(name: str, size: int) -> Any:
    try:
        return _network(name, size, "imagenet")
    except Exception as error:
        raise UsageError(
            f"train.weights: the ImageNet weights of {name} are not on this machine and could not be fetched",
            hint="three ways out: run once with a connection; set train.weights to a .weights.h5 file; "
            "or use train.backbone: efficientnet_lite0, whose weights are installed",
        ) from error


def _downloaded(name: str) -> Path:
    import keras

    stem = name.replace("_v2_", "v2-").replace("_", "")
    return Path(keras.config.keras_home()) / "models" / f"{stem}_notop.h5"
