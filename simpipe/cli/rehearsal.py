"""The work of a run in small, for `doctor`. Loads the heavy libraries, so it wants a process of its own."""

from simpipe.cli.checkup import Finding


def gpu() -> Finding:
    """The devices that TensorFlow sees. Loads TensorFlow."""
    from simpipe.learning import load_framework

    load_framework()
    import tensorflow as tf

    devices = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return Finding("OK", ", ".join(devices) or "none that TensorFlow sees; the processor does the work")


def training() -> Finding:
    """Two steps on four random images, through the default backbone. Loads TensorFlow."""
    import numpy as np

    from simpipe.learning import backbones, load_framework
    from simpipe.learning.features import extractor
    from simpipe.learning.head import HeadShape
    from simpipe.learning.inputs import Stored
    from simpipe.learning.network import head_only
    from simpipe.learning.samplers import BatchPlan
    from simpipe.learning.scoring import Examples
    from simpipe.learning.trainer import Schedule, train_network
    from simpipe.progress import Silent

    load_framework()
    backbone = backbones.build("efficientnet_lite0")
    shape = (4, backbone.input_size, backbone.input_size, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (features,) = extractor(backbone, "avg")(pictures)
    labels = np.array([0, 0, 1, 1], np.int32)
    fit, nothing = (Examples.of(Stored.plain_only(features[:n]), labels[:n]) for n in (4, 0))
    network = head_only(features.shape[1], HeadShape(16, 0, 0.0))
    plan = BatchPlan(2, 2, "sqrt", coverage=1.0, min_batches=1, max_repeat=1, seed=0)
    schedule = Schedule(warmup=0, epochs=2)
    trained = train_network(network, fit, nothing, plan, schedule, Silent())
    first, last = (epoch["loss"] for epoch in trained.history)
    return Finding("OK", f"two steps through {backbone.name}, loss {first:.3f} → {last:.3f}")


def search() -> Finding:
    """Build the approximate index of a few vectors; each must find itself. Loads nmslib."""
    import numpy as np

    from simpipe.search import build

    vectors = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = build("nmslib", vectors, {"m": 16, "ef_construction": 100, "ef_search": 100})
    found = int((index.search(vectors, 1).ids[:, 0] == np.arange(100)).sum())
    if found < 100:
        return Finding(
            "FAIL", f"{found} of 100 vectors found themselves", "pip install --force-reinstall nmslib"
        )
    return Finding("OK", "100 vectors indexed, each finds itself")
