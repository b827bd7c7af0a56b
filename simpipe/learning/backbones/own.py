"""A user's own backbone: a `.keras` file, or a SavedModel's folder. Both are programs and need trust.

It takes RGB images (n, height, width, 3) with values 0…255 and has its preprocessing inside. It gives
activations (n, h, w, channels), which are pooled later, or vectors (n, channels), which are not; the
scores of a classifier are vectors, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from simpipe.errors import UsageError
from simpipe.files import content_id
from simpipe.learning.backbones import Backbone

_ENDPOINT = "serving_default"


class _Network(NamedTuple):
    """What to call, and the shape (None: unknown rank) and dtype of each input that is declared."""

    call: Callable[[Any], Any]
    inputs: list[tuple[tuple[int | None, ...] | None, str]]


def require_network(name: str, weights: str, trust: bool) -> Path:
    """The `.keras` file or the SavedModel at the path `name`, not looked into.

    Raises:
        UsageError: there is no such network, it is not trusted, or weights are asked for that it has itself.
    """
    path = Path(name)
    if not path.exists():
        raise UsageError(
            f"train.backbone: no such file or folder: {name}",
            hint="give a name, or the path of a .keras file or a SavedModel folder",
        )
    if not _is_keras_file(path) and not (path / "saved_model.pb").is_file():
        raise UsageError(
            f"train.backbone: {name} is neither a .keras file nor a SavedModel folder",
            hint="save one with model.save('mine.keras') or model.export('mine')",
        )
    if not trust:
        raise UsageError(
            f"train.backbone: {name} is not loaded: loading a .keras file or a SavedModel can run any code "
            "that its maker put there",
            hint="if you trust where it comes from, set train.trust: true",
        )
    if weights != "imagenet":
        raise UsageError(
            f"train.weights: {name} brings its own weights",
            hint="leave train.weights out with such a backbone",
        )
    return path


def build(name: str, weights: str, input_size: int | None, trust: bool) -> Backbone:
    """The network at the path `name`; see `backbones.build`.

    Its `weights_id` is the hash of the file, or of all the folder's files with their names.

    Raises:
        UsageError: there is no such network, it is not trusted, or it does not take and give what it must.
    """
    path = require_network(name, weights, trust)
    network = _load(path)
    size = _input_size(name, network, input_size)
    return Backbone(
        name,
        _wrapped(name, network, size),
        size,
        content_id(path),
        pretrained=True,
        trainable=_is_keras_file(path),
    )


def _is_keras_file(path: Path) -> bool:
    return path.is_file() and path.suffix == ".keras"


def _load(path: Path) -> _Network:
    try:
        return _keras_file(path) if _is_keras_file(path) else _saved_model(path)
    except Exception as error:
        raise UsageError(f"train.backbone: {path} cannot be loaded: {error}") from error


def _keras_file(path: Path) -> _Network:
    import keras

    model = keras.models.load_model(path, compile=False, safe_mode=False)
    inputs = getattr(model, "inputs", None) or []
    return _Network(model, [(tuple(each.shape), each.dtype) for each in inputs])


def _saved_model(path: Path) -> _Network:
    import keras

    layer = keras.layers.TFSMLayer(str(path), call_endpoint=_ENDPOINT, trainable=False)
    _, specs = layer.call_endpoint_fn.structured_input_signature
    inputs = [
        (None if each.shape.rank is None else tuple(each.shape), each.dtype.name) for each in specs.values()
    ]
    return _Network(layer, inputs)


def _input_size(name: str, network: _Network, wanted: int | None) -> int:
    """The side of the input: the network's own if that is fixed, else the `wanted` one."""
    if len(network.inputs) != 1:
        raise _unfit(name, f"it must declare one input, not {len(network.inputs)}")
    shape, _ = network.inputs[0]
    if shape is None or len(shape) != 4 or shape[3] != 3:
        raise _unfit(name, f"its input must be RGB images (n, height, width, 3), not {_readable(shape)}")
    count, height, width, _ = shape
    if count is not None:
        raise _unfit(name, f"its input must leave the number of images open, not fix it to {count}")
    if None not in (height, width) and height != width:
        raise _unfit(name, f"its input must be square, not {height} × {width}")
    fixed = height or width
    if fixed is None and wanted is None:
        raise UsageError(
            f"train.input_size: {name} takes images of any size",
            hint="set train.input_size to the size it was trained at",
        )
    if fixed is not None and wanted not in (None, fixed):
        raise UsageError(
            f"train.input_size: {name} takes images of {fixed} pixels only, not {wanted}",
            hint=f"leave train.input_size out, or set it to {fixed}",
        )
    return int(fixed or wanted or 0)


def _wrapped(name: str, network: _Network, size: int) -> Any:
    """A Keras model in float32 from images of `size` to the network's one output."""
    import keras

    images = keras.Input((size, size, 3), name="images")
    try:
        found = network.call(keras.ops.cast(images, network.inputs[0][1]))
    except Exception as error:
        raise _unfit(name, f"it does not run on images of {size} pixels: {error}") from error
    outputs = keras.tree.flatten(found)
    if len(outputs) != 1:
        raise _unfit(name, f"it must have one output, not {len(outputs)}")
    shape = outputs[0].shape
    if len(shape) not in (2, 4) or shape[-1] is None:
        raise _unfit(
            name,
            "its output must be activations (n, height, width, channels) or vectors (n, channels), "
            f"not {_readable(shape)}",
        )
    return keras.Model(images, keras.ops.cast(outputs[0], "float32"), name="own_backbone")


def _unfit(name: str, reason: str) -> UsageError:
    return UsageError(f"train.backbone: {name} cannot serve as a backbone: {reason}")


def _readable(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "an unknown shape"
    return "(" + ", ".join("any" if each is None else str(each) for each in shape) + ")"
