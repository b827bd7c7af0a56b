"""EfficientNet B0–B7 (arXiv:1905.11946) and V2 (arXiv:2104.00298) as `keras.applications` has them."""

from pathlib import Path
from typing import Any

from simpipe.errors import UsageError
from simpipe.files import sha256_file
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.weights import load_weights_file, randomise

_SIZES = {
    **{f"efficientnet_b{i}": size for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    **{f"efficientnet_v2_b{i}": size for i, size in enumerate((224, 240, 260, 300))},
    **{"efficientnet_v2_s": 384, "efficientnet_v2_m": 480, "efficientnet_v2_l": 480},
}


def build(name: str, weights: str, input_size: int | None, seed: int) -> Backbone:
    """An EfficientNet with its own preprocessing inside: values 0…255 in. See `backbones.build`."""
    size = input_size or _SIZES[name]
    if weights == "imagenet":
        model = _with_imagenet(name, size)
        weights_id = f"sha256:{sha256_file(_downloaded(name))}"
    else:
        model = _network(name, size, None)
        weights_id = randomise(model, seed) if weights == "none" else load_weights_file(model, weights)
    return Backbone(name, model, size, weights_id, pretrained=weights != "none")


def _network(name: str, size: int, weights: str | None) -> Any:
    import keras

    class_name = name.replace("efficientnet", "EfficientNet").replace("_b", "B").replace("_v2", "V2")
    class_name = class_name.replace("V2_", "V2")
    class_name = class_name[:-1] + class_name[-1].upper()
    return getattr(keras.applications, class_name)(
        include_top=False, weights=weights, input_shape=(size, size, 3), name=name
    )


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

    stem = name.replace("_v2_", "v2-").replace("efficientnet_b", "efficientnetb")
    return Path(keras.config.keras_home()) / "models" / f"{stem}_notop.h5"
