"""EfficientNet B0–B7 (arXiv:1905.11946) and V2 (arXiv:2104.00298), and ResNet50 (arXiv:1512.03385), as
`keras.applications` has them.
"""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simpipe.errors import UsageError
from simpipe.files import sha256_file
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.cut import last_layers
from simpipe.learning.backbones.weights import load_weights_file, randomise


class _Network(NamedTuple):
    """A function in `keras.applications`, the side its network was trained at, and its weights' file."""

    function: str
    size: int
    file: str


_NETWORKS = {
    **{
        f"efficientnet_b{number}": _Network(f"EfficientNetB{number}", size, f"efficientnetb{number}_notop.h5")
        for number, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"efficientnet_v2_{kind}": _Network(
            f"EfficientNetV2{kind.upper()}", size, f"efficientnetv2-{kind}_notop.h5"
        )
        for kind, size in {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "s": 384, "m": 480, "l": 480}.items()
    },
    "resnet50": _Network("ResNet50", 224, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
}

_MEAN_BGR = (103.939, 116.779, 123.68)
"""Of ImageNet, in the order and to the digits of Caffe's ResNet50, whose weights Keras has."""

_DEVIATION = np.array([0.229, 0.224, 0.225])
"""Standard deviations of ImageNet's channels, values in [0, 1]."""


def build(name: str, weights: str, input_size: int | None, seed: int) -> Backbone:
    """A network with its own preprocessing inside: values 0…255 in. See `backbones.build`."""
    size = input_size or _NETWORKS[name].size
    if weights == "imagenet":
        model = _with_imagenet(name, size)
        weights_id = f"sha256:{sha256_file(_downloaded(name))}"
    else:
        model = _network(name, size, None)
        if weights == "none":
            weights_id = randomise(model, seed)
        else:
            weights_id = load_weights_file(model, weights)
            _mend_normalisation(model)
    _seed_stochastic_depth(model, seed)
    prefix = "conv{}_block" if name == "resnet50" else "block{}"
    groups = last_layers(model, [prefix.format(number) for number in range(1, 8)])
    return Backbone(name, model, size, weights_id, weights != "none", groups)


def _network(name: str, size: int, weights: str | None) -> Any:
    import keras

    function = getattr(keras.applications, _NETWORKS[name].function)
    if name != "resnet50":
        return function(include_top=False, weights=weights, input_shape=(size, size, 3))
    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Normalization(mean=_MEAN_BGR, variance=(1.0, 1.0, 1.0))(images[..., ::-1])
    network = function(include_top=False, weights=weights, input_tensor=x)
    return keras.Model(images, network.output, name=name)


def _mend_normalisation(model: Any) -> None:
    """Give ImageNet weights of B0–B7 the preprocessing that they were trained with.

    Their files hold the deviations where the layer wants variances (tensorflow/tensorflow#49930). Keras
    divides once more for `weights="imagenet"`, but not where the same weights come from a user's file.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            variance = np.asarray(layer.adapt_variance)
            if np.allclose(variance, _DEVIATION, rtol=1e-3):
                layer.adapt_variance.assign(variance**2)
                layer.finalize_state()


def _seed_stochastic_depth(model: Any, seed: int) -> None:
    """Keras seeds the dropout of whole blocks from a global generator."""
    for number, layer in enumerate(model.layers):
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([(seed + number) % 2**32, 0])


def _with_imagenet(name: str, size: int) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # Keras tells there of its download
            return _network(name, size, "imagenet")
    except Exception as error:
        raise UsageError(
            f"train.weights: the ImageNet weights of {name} are not on this machine and could not be fetched",
            hint=f"four ways out: run once with a connection; copy {_NETWORKS[name].file} to "
            f"{os.environ.get('KERAS_HOME', '~/.keras')}/models; set train.weights to a .weights.h5 file; "
            "or use train.backbone: efficientnet_lite0, whose weights are installed",
        ) from error


def _downloaded(name: str) -> Path:
    """Where Keras has put the file, which is there."""
    import keras

    return Path(keras.utils.get_file(_NETWORKS[name].file, origin="", cache_subdir="models"))
