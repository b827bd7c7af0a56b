"""The network that is trained: a part of the backbone, or nothing of it, a pooling, and the head.

    images → trunk (frozen) → inputs → body (backbone's rest, pooling) → features → head → embeddings

`frozen` has no body: its inputs are the pooled features. `partial` cuts the backbone in two. `full` has no
trunk: its inputs are the images.
"""

from dataclasses import dataclass
from typing import Any

from simpipe.errors import UsageError
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.cut import freeze_batch_norms, hasten_batch_norms, split
from simpipe.learning.features import Extractor, compiled, within_float16
from simpipe.learning.head import HeadShape, build_head
from simpipe.learning.pooling import build_pooling, pool


@dataclass(frozen=True)
class Tuning:
    """What of a backbone is trained, and how its activations become one vector.

    Attributes:
        trainable: frozen, partial or full.
        unfreeze: block groups that are trained; partial only.
        pooling: avg, max or gem.
        gem_p: exponent of gem, ≥ 1.
        gem_learn: whether it is learned; partial and full only.
    """

    trainable: str = "frozen"
    unfreeze: int = 2
    pooling: str = "avg"
    gem_p: float = 3.0
    gem_learn: bool = False


@dataclass(frozen=True)
class Network:
    """Keras models; each is part of `model`, and shares its weights.

    Attributes:
        model: inputs (n, …) → embeddings (n, d), L2-normalised.
        head: features (n, c) → embeddings.
        body: inputs → features; None where the inputs are the features.
        trunk: images → inputs; None where the inputs are the images, or the backbone's pooled features.
    """

    model: Any
    head: Any
    body: Any = None
    trunk: Any = None


def build_network(backbone: Backbone, tuning: Tuning, shape: HeadShape, seed: int) -> Network:
    """The network for `backbone`, which it takes over: its weights are trained, its BatchNorm is frozen.

    BatchNorm runs in inference mode where the weights are pretrained. Where they are random its running
    statistics follow within some ten steps, for training may be short.

    Raises:
        UsageError: that part of the backbone cannot be trained.
    """
    import keras

    channels = int(backbone.model.output_shape[-1])
    if tuning.trainable == "frozen":
        return head_only(channels, shape, seed)
    if not backbone.trainable:
        raise UsageError(
            f"train.trainable: {backbone.name} cannot be trained further", hint="use train.trainable: frozen"
        )
    trunk, tail = (None, backbone.model) if tuning.trainable == "full" else split(backbone, tuning.unfreeze)
    if backbone.pretrained:
        freeze_batch_norms(tail)
    else:
        hasten_batch_norms(tail)
    inputs = keras.Input(tail.input_shape[1:], name="inputs")
    pooling = build_pooling(tuning.pooling, tuning.gem_p, tuning.gem_learn)
    body = keras.Model(inputs, pooling(tail(inputs)), name="body")
    head = build_head(channels, shape, seed)
    return Network(keras.Model(inputs, head(body(inputs)), name="network"), head, body, trunk)


def head_only(feature_dim: int, shape: HeadShape, seed: int = 0) -> Network:
    """The network on the pooled features (n, feature_dim) of a frozen backbone."""
    head = build_head(feature_dim, shape, seed)
    return Network(head, head)


def set_precision(network: Network, precision: str) -> None:
    """Compute the body in `precision`, float32 or bfloat16; weights, pooling and head stay float32."""
    import keras

    if network.body is None:
        return
    policy = keras.DTypePolicy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    for layer in network.body._flatten_layers(include_self=False):
        if not isinstance(layer, keras.Model) and layer.name != "pooling":
            layer.dtype_policy = policy


def precision_of(wanted: str) -> str:
    """`wanted`, or for auto what the machine's GPU is good at: bfloat16 from compute capability 8.0 on."""
    import tensorflow as tf

    if wanted != "auto":
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    return "bfloat16" if gpus and all(each and each >= (8, 0) for each in capabilities) else "float32"


def trunk_extractor(trunk: Any) -> Extractor:
    """A function from images to the inputs of a partial network."""
    return compiled(lambda images: trunk(images, training=False), trunk.input_shape[1:])


def trunk_and_feature_extractor(trunk: Any, backbone: Backbone, tuning: Tuning) -> Extractor:
    """A function from images to those inputs, and to the backbone's features as they are now, in one pass."""
    import keras

    both = keras.Model(backbone.model.input, [trunk.output, backbone.model.output])

    def forward(images: Any) -> Any:
        activations, final = both(images, training=False)
        return activations, pool(final, tuning.pooling, tuning.gem_p)

    return compiled(forward, trunk.input_shape[1:])


def body_extractor(network: Network) -> Extractor:
    """A function from the inputs of a network to its features, with the weights as they are now."""
    return compiled(lambda inputs: network.body(inputs, training=False), network.body.input_shape[1:])


def chained(trunk: Extractor, body: Extractor) -> Extractor:
    """From images to features through both, with the rounding to float16 that cached inputs have."""

    def extract(images: Any) -> Any:
        return body(within_float16(trunk(images)[0]))

    return extract
