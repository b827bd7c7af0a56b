"""What training costs: steps of the head, partial against full training, memory against the number of images.

    python -m tests.benchmarks.learning

Partial and full are timed in turns on the same images, so that a busy machine slows both. Memory is the
largest resident size of a process of its own, once with a tenth of the images; pages of mapped feature files
are left out, for the system takes them back when it needs them.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

HEAD_STEPS, BATCH, FEATURES = 600, 128, 1280
ROUNDS, DEEP_BATCH, DEEP_STEPS = 5, 64, 3


def head_steps_per_second() -> float:
    """Steps of 128 on cached features, with the default head and loss, scoring left out."""
    from simpipe.learning.head import HeadShape, standardise_on
    from simpipe.learning.inputs import Stored
    from simpipe.learning.network import head_only
    from simpipe.learning.samplers import BatchPlan
    from simpipe.learning.scoring import Examples
    from simpipe.learning.trainer import Schedule, train_network

    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 150)
    features = generator.normal(size=(len(labels), FEATURES)).astype(np.float32)
    fit = Examples.of(Stored.plain_only(features), labels)
    nothing = Examples.of(Stored.plain_only(features[:0]), labels[:0])
    fit = Examples(fit.inputs, fit.labels, fit.groups, np.arange(200))
    epochs = 6
    plan = BatchPlan(16, 8, "sqrt", HEAD_STEPS * BATCH / len(labels) / epochs, 1, 100, 0)
    network = head_only(FEATURES, HeadShape(128, 256, 0.3))
    standardise_on(network.head, features)
    trained = train_network(network, fit, nothing, plan, Schedule(epochs=epochs))
    # the first epoch also compiles
    seconds = sum(float(epoch["seconds"] or 0) for epoch in trained.history[1:])
    return HEAD_STEPS * (epochs - 1) / epochs / seconds


def images_per_second() -> dict[str, float]:
    """Training steps of Lite0 at 224 pixels: on cached activations, and through the whole network."""
    from simpipe.learning import backbones, objectives, trainer
    from simpipe.learning.features import in_batches
    from simpipe.learning.head import HeadShape
    from simpipe.learning.network import Tuning, build_network, trunk_extractor

    labels = np.repeat(np.arange(8), DEEP_BATCH // 8)
    images = np.random.default_rng(0).integers(0, 256, (DEEP_BATCH, 224, 224, 3)).astype(np.uint8)
    steps = {}
    for kind in ("partial", "full"):
        network = build_network(
            backbones.build("efficientnet_lite0"), Tuning(kind), HeadShape(128, 256, 0.3), 0
        )
        schedule = trainer.Schedule(clip_norm=1.0)
        objective = objectives.labelled(network, "supcon", {}, classes=8, memory=0, margin_warmup=0.0, seed=0)
        optimizers = trainer._optimizers(network, objective, schedule, 1000)
        step = trainer._training_step(network, objective, optimizers, schedule, 1000, None)
        inputs = images
        if network.trunk is not None:
            inputs = in_batches(trunk_extractor(network.trunk), images)[0].astype(np.float16)
        step(inputs[None], labels[None])
        steps[kind] = (step, inputs[None])
    rates: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(ROUNDS):
        for kind, (step, inputs) in steps.items():
            started = time.perf_counter()
            for _ in range(DEEP_STEPS):
                step(inputs, labels[None])
            rates[kind].append(DEEP_STEPS * DEEP_BATCH / (time.perf_counter() - started))
    return {kind: statistics.median(each) for kind, each in rates.items()}


def peak_gigabytes(kind: str, images: int) -> float:
    """The largest resident size of a training of `kind` on so many images, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.learning", kind, str(images), folder]
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return float(done.stdout.split()[-1])


def train_on(kind: str, count: int, folder: Path) -> None:
    """Train two short epochs on made-up images, whose features or activations lie on disk."""
    from simpipe.learning import backbones
    from simpipe.learning.augmentation import PRESETS
    from simpipe.learning.features import FeatureCache
    from simpipe.learning.head import HeadShape
    from simpipe.learning.inputs import CachedRows, Pictures, Stored
    from simpipe.learning.network import Tuning, build_network, head_only
    from simpipe.learning.samplers import BatchPlan
    from simpipe.learning.scoring import MOST, Examples, sample
    from simpipe.learning.trainer import Schedule, train_network

    generator = np.random.default_rng(0)
    labels = np.arange(count) % 10
    ids = [f"{number:064d}" for number in range(count)]
    shape = HeadShape(128, 256, 0.3)
    if kind == "frozen":
        network = head_only(FEATURES, shape)
        features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (count, FEATURES))
        for start in range(0, count, 1000):
            features[start : start + 1000] = generator.normal(size=features[start : start + 1000].shape)
        inputs: object = Stored.plain_only(features)
    else:
        backbone = backbones.build("efficientnet_lite0", weights="none", input_size=64)
        network = build_network(backbone, Tuning(kind), shape, 0)
        if kind == "partial":
            cache = FeatureCache(folder, {}, "<f2")
            size = network.model.input_shape[1:]
            for start in range(0, count, 1000):
                part = ids[start : start + 1000]
                cache.add(part, generator.normal(size=(len(part), *size)).astype(np.float32))
            inputs = Stored(CachedRows(cache, ids, size), np.zeros(count, np.int64))
        else:

            def pixels(rows: np.ndarray):  # type: ignore[no-untyped-def,type-arg]
                return (np.full((64, 64, 3), row % 256, np.uint8) for row in rows)

            inputs = Pictures(pixels, ids, PRESETS["light"], 0)
    scored = sample(count, MOST[kind == "frozen"][0], 0)
    fit = Examples(inputs, labels, np.arange(count), scored)  # type: ignore[arg-type]
    nothing = Examples(inputs, labels[:0], np.arange(0), np.arange(0))  # type: ignore[arg-type]
    plan = BatchPlan(10, 8, "sqrt", 2000 / count, 1, 100, 0)
    with largest_anonymous() as found:
        train_network(network, fit, nothing, plan, Schedule(epochs=2))
    print(found[0] / 1e6)


@contextmanager
def largest_anonymous() -> Iterator[list[int]]:
    """Watch the resident memory of this process that no file stands behind: the largest yet, in KiB."""
    largest, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            status = Path("/proc/self/status").read_text().splitlines()
            found = dict(line.split(":", 1) for line in status)["RssAnon"]
            largest[0] = max(largest[0], int(found.split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield largest
    finally:
        done.set()
        watcher.join()


def main() -> None:
    from simpipe.learning import load_framework

    load_framework()
    if len(sys.argv) > 1:
        train_on(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
        return
    print(f"{'head, steps of 128':28} {head_steps_per_second():8.0f} a second")
    rates = images_per_second()
    for kind, rate in rates.items():
        print(f"{kind + ' training, Lite0 at 224':28} {rate:8.0f} images a second")
    print(f"{'partial : full':28} {rates['partial'] / rates['full']:8.1f}")
    for kind in ("frozen", "partial", "full"):
        few, many = (peak_gigabytes(kind, count) for count in (3000, 30_000))
        print(f"{kind + ', 3,000 and 30,000 images':28} {few:8.2f} and {many:.2f} GB")


if __name__ == "__main__":
    main()
