"""The trained network: what of it learns, how fast, in which numbers, and that its parts make the whole."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from simpipe.errors import UsageError
from simpipe.learning import augmentation, load_framework, losses
from simpipe.learning.backbones.cut import split
from simpipe.learning.features import in_batches
from simpipe.learning.head import Embed, HeadShape, standardise_on
from simpipe.learning.inputs import Pictures, Stored
from simpipe.learning.network import (
    Tuning,
    body_extractor,
    build_network,
    chained,
    head_only,
    precision_of,
    set_precision,
    trunk_and_feature_extractor,
    trunk_extractor,
)
from simpipe.learning.pooling import pool
from simpipe.learning.samplers import BatchPlan, plan_epoch
from simpipe.learning.scoring import Examples
from simpipe.learning.trainer import Schedule, train_network
from simpipe.progress import Silent

IMAGES, LABELS = tiny.pictures(40)
FIT, VAL = np.arange(28), np.arange(28, 40)
SHAPE = HeadShape(8, 0, 0.0)
PLAN = BatchPlan(4, 4, "sqrt", 1.0, 3, 10, 0)


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def network_of(trainable, weights="imagenet", **tuning):
    return build_network(tiny.build(weights=weights), Tuning(trainable, **tuning), SHAPE, seed=0)


def inputs_of(network, rows):
    if network.trunk is None:
        ids = [f"id{row}" for row in rows]
        return Pictures(tiny.reader(IMAGES[rows]), ids, augmentation.of("light"), 0)
    return Stored.plain_only(np.asarray(network.trunk(IMAGES[rows].astype("f4"), training=False)))


def examples(network):
    return [Examples.of(inputs_of(network, rows), LABELS[rows]) for rows in (FIT, VAL)]


def train(network, plan=PLAN, **settings):
    schedule = Schedule(**{"lr": 3e-3, "backbone_lr": 3e-3, "epochs": 3, "warmup": 0.0, **settings})
    fit, val = examples(network)
    body = network.body(fit.inputs.plain(np.arange(len(FIT))).astype("f4"), training=False)
    standardise_on(network.head, np.asarray(body))
    return train_network(network, fit, val, plan, schedule, Silent())


def moved(before, model):
    return {path for path, after in tiny.weights_of(model).items() if not np.array_equal(before[path], after)}


# The parts and the whole


@pytest.mark.parametrize("unfreeze", [1, 2])
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_the_parts_of_a_partial_network_make_the_whole(unfreeze, pooling):
    tuning = Tuning("partial", unfreeze, pooling, 4.0)
    network = build_network(tiny.build(), tuning, SHAPE, seed=0)
    images = IMAGES.astype("f4")
    activations = network.trunk(images)
    features = pool(tiny.build().model(images), pooling, 4.0)
    np.testing.assert_allclose(network.body(activations), features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(network.model(activations), network.head(features), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(network.model(activations), axis=1), 1, atol=1e-5)


def test_a_full_network_takes_images_and_has_no_trunk():
    network = network_of("full")
    assert network.trunk is None
    assert network.model.input_shape == (None, tiny.SIZE, tiny.SIZE, 3)
    features = pool(tiny.build().model(IMAGES.astype("f4")), "avg")
    np.testing.assert_allclose(network.body(IMAGES.astype("f4")), features, rtol=1e-5, atol=1e-5)


def test_a_frozen_network_is_its_head():
    network = network_of("frozen")
    assert network.body is None and network.trunk is None and network.model is network.head
    assert network.model.input_shape == (None, 16)
    for mine, same in zip(network.head.get_weights(), head_only(16, SHAPE).head.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, same)


def test_what_cannot_be_trained_is_refused():
    backbone = replace(tiny.build(), trainable=False)
    for trainable in ("partial", "full"):
        with pytest.raises(UsageError, match="cannot be trained further"):
            build_network(backbone, Tuning(trainable), SHAPE, 0)
    build_network(backbone, Tuning("frozen"), SHAPE, 0)
    with pytest.raises(UsageError, match="unfreeze"):
        build_network(tiny.build(), Tuning("partial", 3), SHAPE, 0)


def test_extractors_give_what_the_parts_give():
    backbone, tuning = tiny.build(), Tuning("partial", 1, "gem", 2.0)
    trunk, _ = split(backbone, 1)
    activations, features = in_batches(trunk_and_feature_extractor(trunk, backbone, tuning), IMAGES)
    np.testing.assert_allclose(activations, trunk(IMAGES.astype("f4")), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        features, pool(backbone.model(IMAGES.astype("f4")), "gem", 2.0), rtol=1e-4, atol=1e-4
    )
    (alone,) = in_batches(trunk_extractor(trunk), IMAGES)
    np.testing.assert_array_equal(alone, activations)

    network = build_network(tiny.build(), tuning, SHAPE, 0)
    body = body_extractor(network)
    (both,) = in_batches(chained(trunk_extractor(network.trunk), body), IMAGES)
    (kept,) = in_batches(body, activations.astype(np.float16))
    np.testing.assert_array_equal(both, kept, "cached activations and pixels give the same bits")
    np.testing.assert_allclose(both, features, rtol=2e-3, atol=2e-3)


# What is trained


@pytest.fixture(scope="module")
def partial():
    """A trained network, and the weights of the whole and of the trunk before."""
    network = network_of("partial", unfreeze=2, pooling="gem")
    before = tiny.weights_of(network.model), tiny.weights_of(network.trunk)
    train(network)
    return network, *before


@pytest.fixture(scope="module")
def full():
    """A trained network that learns the exponent of gem, its weights before, and its history."""
    network = network_of("full", pooling="gem", gem_learn=True)
    before = tiny.weights_of(network.model)
    return network, before, train(network, epochs=6).history


def test_partial_trains_the_tail_and_the_head_only(partial):
    network, whole, trunk = partial
    assert moved(trunk, network.trunk) == set()
    changed = {path for path in moved(whole, network.model) if "standardise" not in path}
    convolutions = {path for path in whole if path.endswith("_conv/kernel")}
    assert convolutions == {"group2_conv/kernel", "group3_conv/kernel"} <= changed
    assert not any("_bn" in path for path in changed), "batch normalisation stays as it was learnt"
    assert any("dense" in path for path in changed)


def test_full_trains_all(full):
    network, before, _ = full
    changed = moved(before, network.model)
    assert {f"{group}_conv/kernel" for group in tiny.GROUPS} <= changed
    assert not any("_bn" in path for path in changed)


def test_batch_normalisation_learns_where_weights_are_random():
    network = network_of("partial", weights="none", unfreeze=1)
    before = tiny.weights_of(network.model)
    trunk = tiny.weights_of(network.trunk)
    train(network)
    changed = moved(before, network.model)
    assert {f"group3_bn/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")} <= changed
    assert moved(trunk, network.trunk) == set(), "that of the trunk does not"


def test_the_exponent_of_gem_moves_only_if_it_is_learnt(partial, full):
    fixed, learnt = (float(network.body.get_layer("pooling").p) for network in (partial[0], full[0]))
    assert fixed == 3.0 and abs(learnt - 3.0) > 1e-4 and learnt >= 1


def test_an_exponent_is_kept_at_one_or_above():
    network = network_of("partial", pooling="gem", gem_p=1.0, gem_learn=True)
    train(network, backbone_lr=0.5, lr=0.0)
    assert float(network.body.get_layer("pooling").p) >= 1


def test_the_body_has_a_rate_of_its_own():
    distances = []
    for rate in (1e-7, 1e-3):
        network = network_of("partial")
        before = tiny.weights_of(network.model)
        train(network, backbone_lr=rate, weight_decay=0.0)
        after = tiny.weights_of(network.model)
        body = max(
            np.abs(after[path] - before[path]).max() for path in after if path.endswith("_conv/kernel")
        )
        head = max(np.abs(after[path] - before[path]).max() for path in after if "dense" in path)
        assert head > 1e-3
        distances.append(body)
    steps = 3 * len(plan_epoch(LABELS[FIT], PLAN, 0))
    assert distances[0] <= 1.5 * steps * 1e-7, "Adam's step is about the rate"
    assert distances[1] > 1e-3


def test_gradients_are_clipped_over_all_variables():
    """AdamW's first moment after the first step is (1 − β₁) times the gradient that it was given."""
    import keras
    import tensorflow as tf

    moments = {}
    original = keras.optimizers.Adam.build

    def build(self, variables):
        original(self, variables)
        moments.setdefault(limit, []).append(self)

    plan = replace(PLAN, coverage=0.1, min_batches=1)
    (first,) = plan_epoch(LABELS[FIT], plan, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.optimizers.Adam, "build", build)
        for limit in (None, 0.01, 1e6):
            network = network_of("partial")
            train(network, plan, epochs=1, clip_norm=limit)
    network = network_of("partial")
    fit, _ = examples(network)
    inputs = fit.inputs.plain(first.rows).astype("f4")
    standardise_on(network.head, np.asarray(network.body(fit.inputs.plain(np.arange(len(FIT))))))
    loss = losses.build("supcon")
    trained = network.head.trainable_variables + network.body.trainable_variables
    with tf.GradientTape() as tape:
        value = loss(network.model(inputs, training=True), LABELS[FIT][first.rows])
    expected = np.concatenate([np.ravel(each) for each in tape.gradient(value, trained)])
    norm = np.linalg.norm(expected)
    assert 0.1 < norm < 1e5 and len(moments) == 3
    for limit, optimizers in moments.items():
        found = np.concatenate(
            [np.ravel(each) for optimizer in optimizers for each in optimizer._momentums]
        ) / (1 - 0.9)
        scale = min(1.0, (limit or np.inf) / norm)
        np.testing.assert_allclose(found, expected * scale, rtol=1e-3, atol=1e-5 * norm * scale)


# Numbers


def test_half_precision_trains_float32_weights_and_leaves_no_trace(full):
    network = network_of("full", pooling="gem", gem_learn=True)
    set_precision(network, "bfloat16")
    backbone = next(layer for layer in network.body.layers if layer.name == "tiny")
    assert backbone(IMAGES[:2].astype("f4")).dtype == "bfloat16", "the body computes with half the bits"
    assert network.body(IMAGES[:2].astype("f4")).dtype == "float32"
    history, reference = train(network, epochs=6).history, full[2]
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[0]["loss"] == pytest.approx(reference[0]["loss"], rel=0.1)
    assert {variable.dtype for variable in network.model.trainable_variables} == {"float32"}
    set_precision(network, "float32")
    found = Embed(network.model, 32)(IMAGES[:32])
    assert found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    fresh = network_of("full", pooling="gem", gem_learn=True)
    fresh.model.set_weights(network.model.get_weights())
    fresh.head.get_layer("standardise").finalize_state()
    np.testing.assert_allclose(found, Embed(fresh.model, 32)(IMAGES[:32]), atol=1e-6)


def test_the_head_is_never_computed_in_half_precision():
    network = network_of("frozen")
    set_precision(network, "bfloat16")
    assert network.model(np.ones((1, 16), "f4")).dtype == "float32"
    network = network_of("partial")
    set_precision(network, "bfloat16")
    assert {layer.compute_dtype for layer in network.head.layers} == {"float32"}


def test_a_gpu_multiplies_float32_as_float32():
    import tensorflow as tf

    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_precision_is_by_wish_or_by_machine():
    import tensorflow as tf

    assert [precision_of(wish) for wish in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    if not tf.config.list_physical_devices("GPU"):
        assert precision_of("auto") == "float32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0)], "bfloat16"), ([(9, 0), (7, 5)], "float32"), ([None], "float32"), ([], "float32")],
)
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch, capabilities, expected):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(capabilities))))
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capabilities[gpu]}
    )
    assert precision_of("auto") == expected
