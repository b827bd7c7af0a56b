"""Two replicas train what one does: a loss over pairs sees the whole batch, however it is divided.

Run as a script, in a process whose CPU is two devices to TensorFlow, this file does both trainings.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CASES = {
    "pairs": {},
    "proxies": {"loss": "proxy_anchor"},
    "proxies, clipped": {"loss": "subcenter_arcface", "clip_norm": 0.5},
}
BATCH, STEPS = 9, 3


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(params=CASES)
def found(request, trainings):
    """What one and two replicas have made of a case."""
    return [read(trainings, request.param, replicas) for replicas in (1, 2)]


def read(folder, case, replicas):
    stem = folder / f"{list(CASES).index(case)}-{replicas}"
    with np.load(f"{stem}.npz") as arrays:
        return json.loads(stem.with_suffix(".json").read_text()), dict(arrays)


def test_losses_and_distances_are_those_of_one_device(found):
    (one, _), (two, _) = found
    assert one["batches"] == two["batches"] == [BATCH] * STEPS, "two replicas get unequal parts"
    for first, second in zip(one["history"], two["history"], strict=True):
        for name in ("loss", "positive_min", "positive_mean", "negative_mean", "negative_max", "gap"):
            assert second[name] == pytest.approx(first[name], abs=1e-5), name
    assert one["history"][0]["loss"] != pytest.approx(one["history"][2]["loss"], abs=1e-3)


def test_weights_are_those_of_one_device(found):
    (_, one), (_, two) = found
    assert set(one) == set(two)
    moved = 0.0
    for name in one:
        if name.startswith("weight "):
            np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
            moved = max(moved, np.abs(one[name] - one[f"before {name}"]).max())
    assert moved > 1e-3


def test_gradients_have_the_size_of_those_of_one_device(found):
    """Adam forgives a wrong size, its moments do not."""
    (_, one), (_, two) = found
    moments = [name for name in one if name.startswith("moment ")]
    assert len(moments) >= 3
    for name in moments:
        np.testing.assert_allclose(
            two[name], one[name], rtol=1e-3, atol=1e-5 * np.abs(one[name]).max() + 1e-9, err_msg=name
        )


def test_clipping_does_something(trainings):
    """A moment is a running mean that begins at 0: after three gradients of norm c, at most c (1 − 0.9³)."""
    _, found = read(trainings, "proxies, clipped", 2)
    length = np.sqrt(sum((value**2).sum() for name, value in found.items() if name.startswith("moment ")))
    most = CASES["proxies, clipped"]["clip_norm"] * (1 - 0.9**STEPS)
    assert 0.5 * most < length < 1.001 * most


@pytest.mark.parametrize(
    ("gpus", "settings", "several"),
    [
        (2, {}, True),
        (1, {}, False),
        (0, {}, False),
        (2, {"loss": "arcface", "clip_norm": 1.0}, True),
        (2, {"memory": 64}, False),
        (2, {"method": "byol"}, False),
        (2, {"method": "simclr"}, False),
    ],
)
def test_several_gpus_are_used_where_they_can_be(monkeypatch, gpus, settings, several):
    import tensorflow as tf

    from simpipe.learning import trainer

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] * gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", object)
    trainer._mirrored.cache_clear()
    found, again = (trainer.strategy_for(trainer.Schedule(**settings)) for _ in range(2))
    trainer._mirrored.cache_clear()
    assert (found is not None) == several
    assert found is again, "two in a process would share the keys of their collective operations"


def main(folder):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # two strategies in a process would share the keys of their collective operations
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for number, settings in enumerate(CASES.values()):
        for replicas in (1, 2):
            record, arrays = train(settings, strategy if replicas == 2 else None)
            stem = folder / f"{number}-{replicas}"
            stem.with_suffix(".json").write_text(json.dumps(record))
            np.savez(f"{stem}.npz", **arrays)


def train(settings, strategy):
    import keras
    import tiny

    from simpipe.learning import load_framework, trainer
    from simpipe.learning.head import HeadShape, standardise_on
    from simpipe.learning.inputs import Stored
    from simpipe.learning.network import Tuning, build_network
    from simpipe.learning.samplers import BatchPlan, plan_epoch
    from simpipe.learning.scoring import Examples
    from simpipe.progress import Silent

    load_framework()
    with trainer.scope_of(strategy):
        network = build_network(tiny.build(), Tuning("partial", 1), HeadShape(6, 0, 0.0), 0)
        images, labels = tiny.pictures(30, classes=3)
        inputs = np.asarray(network.trunk(images.astype("f4")))
        standardise_on(network.head, np.asarray(network.body(inputs)))
    fit, val = (
        Examples.of(Stored.plain_only(inputs[part]), labels[part])
        for part in (np.arange(24), np.arange(24, 30))
    )
    plan = BatchPlan(3, 3, "sqrt", 0.1, 1, 10, 0)
    before = network.model.get_weights()
    optimizers = []
    build = keras.optimizers.Adam.build
    keras.optimizers.Adam.build = lambda self, variables: optimizers.append(self) or build(self, variables)
    schedule = trainer.Schedule(
        **{
            "lr": 3e-3,
            "backbone_lr": 1e-3,
            "proxy_lr": 1e-2,
            "warmup": 0.0,
            "margin_warmup": 0.5,
            **settings,
        },
        epochs=STEPS,
        patience=STEPS,
    )
    try:
        result = trainer.train_network(network, fit, val, plan, schedule, Silent(), strategy=strategy)
    finally:
        keras.optimizers.Adam.build = build
    arrays = {f"before weight {number}": value for number, value in enumerate(before)}
    arrays |= {f"weight {number}": value for number, value in enumerate(result.network.model.get_weights())}
    for number, optimizer in enumerate(optimizers):
        for place, moment in enumerate(optimizer._momentums):
            arrays[f"moment {number} {place}"] = np.asarray(moment)
    sizes = [len(rows) for epoch in range(STEPS) for rows, _ in plan_epoch(labels[:24], plan, epoch)]
    return {"history": result.history, "batches": sizes}, arrays


if __name__ == "__main__":
    main(Path(sys.argv[1]))
