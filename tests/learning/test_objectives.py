"""What a training step minimises, against the same thing put together by hand."""

import numpy as np
import pytest
import tiny

from simpipe.learning import load_framework, losses, objectives, unlabelled
from simpipe.learning.head import HeadShape
from simpipe.learning.network import Tuning, build_network, head_only
from simpipe.learning.unlabelled import View, networks

METHODS = sorted(unlabelled.METHODS)
INPUTS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2])


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def small(seed=0, dropout=0.0):
    return head_only(5, HeadShape(4, 0, dropout), seed)


def labelled(network, loss="supcon", parameters=None, memory=0, margin_warmup=0.2, seed=0):
    return objectives.labelled(
        network, loss, parameters or {}, classes=3, memory=memory, margin_warmup=margin_warmup, seed=seed
    )


def values(found):
    return [np.asarray(each) for each in found]


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_a_labelled_objective_is_the_loss_of_the_embeddings(loss):
    network = small()
    objective = labelled(network, loss, {"margin": None, "temperature": None}, seed=3)
    found, embeddings, labels = values(objective.compute(INPUTS, LABELS, 1.0))
    expected = network.model(INPUTS)
    np.testing.assert_allclose(embeddings, expected, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS)
    built = losses.build(loss, classes=3, dim=4, seed=3)
    assert found == pytest.approx(float(built(expected, LABELS)), rel=1e-5)
    assert len(objective.proxies) == (losses.LOSSES[loss].kind == "proxies")
    assert (objective.trained_with_head, objective.kept, objective.projected) == ([], [], None)


def test_dropout_is_at_work_in_training():
    network = small(dropout=0.5)
    _, first, _ = values(labelled(network).compute(INPUTS, LABELS, 1.0))
    _, second, _ = values(labelled(network).compute(INPUTS, LABELS, 1.0))
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("warmup", "share", "part"), [(0.5, 0, 0), (0.5, 0.2, 0.4), (0.5, 0.9, 1), (0, 0, 1)]
)
@pytest.mark.parametrize("loss", ["arcface", "cosface", "subcenter_arcface"])
def test_an_angular_margin_rises_with_the_steps(loss, warmup, share, part):
    network = small()
    objective = labelled(network, loss, {"margin": 0.3}, margin_warmup=warmup)
    found, _, _ = values(objective.compute(INPUTS, LABELS, share))
    built = losses.build(loss, classes=3, dim=4, margin=0.3 * part)
    assert found == pytest.approx(float(built(network.model(INPUTS), LABELS)), rel=1e-5)


def test_a_memory_is_kept_and_looked_at():
    network = small()
    objective = labelled(network, memory=20)
    assert [tuple(each.shape) for each in objective.kept] == [(20, 4), (20,), ()]
    first, embeddings, _ = values(objective.compute(INPUTS, LABELS, 1.0))
    np.testing.assert_array_equal(objective.kept[0].numpy()[:12], embeddings)
    second, _, _ = values(objective.compute(INPUTS[:6] + 1, LABELS[:6], 1.0))
    built = losses.build("supcon", dim=4, memory=20)
    assert first == pytest.approx(float(built(network.model(INPUTS), LABELS)), rel=1e-5)
    assert second == pytest.approx(float(built(network.model(INPUTS[:6] + 1), LABELS[:6])), rel=1e-5)
    alone = labelled(network).compute(INPUTS[:6] + 1, LABELS[:6], 1.0)[0]
    assert second != pytest.approx(float(alone), rel=1e-3)


# Without labels


@pytest.fixture
def parts(monkeypatch):
    """The small networks that objectives build."""
    built = {}
    for name in ("projector", "predictor"):
        build = getattr(networks, f"build_{name}")

        def keep(*arguments, name=name, build=build):
            built[name] = build(*arguments)
            return built[name]

        monkeypatch.setattr(objectives, f"build_{name}", keep)
    return built


def self_supervised(network, method, **parameters):
    return objectives.self_supervised(network, method, parameters, total_steps=100, seed=1)


def by_hand(network, method, parts, inputs, **parameters):
    """The objective with each view by itself; the target network is the online one."""
    halves = np.split(inputs, 2)
    projections = [parts["projector"](network.model(half), training=True) for half in halves]
    if parts["predictor"] is None:
        return float(unlabelled.get(method)(*map(View, projections), **parameters))
    found = [View(each, parts["predictor"](each, training=True), each) for each in projections]
    return float(unlabelled.get(method)(*found, **parameters))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_compares_the_two_halves_of_a_batch(method, parts):
    network = small()
    objective = self_supervised(network, method, temperature=None)
    loss, embeddings, _ = values(objective.compute(INPUTS, np.arange(12) % 6, 0.0))
    np.testing.assert_allclose(embeddings, network.model(INPUTS), rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(by_hand(network, method, parts, INPUTS), rel=1e-4)
    assert (objective.proxies, len(objective.trained_with_head)) == (
        [],
        sum(len(part.trainable_variables) for part in parts.values() if part is not None),
    )


def test_the_temperature_arrives(parts):
    network = small()
    loss = float(self_supervised(network, "simclr", temperature=0.7).compute(INPUTS, None, 0.0)[0])
    assert loss == pytest.approx(by_hand(network, "simclr", parts, INPUTS, temperature=0.7), rel=1e-4)
    assert loss != pytest.approx(by_hand(network, "simclr", parts, INPUTS), rel=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_looked_at_for_a_collapse_is_projected_as_in_inference(method, parts):
    network = small()
    objective = self_supervised(network, method)
    objective.compute(INPUTS, None, 0.0)  # running statistics move
    embeddings = network.model(INPUTS)
    before = tiny.weights_of(parts["projector"])
    found = objective.projected(embeddings)
    np.testing.assert_allclose(found, parts["projector"](embeddings, training=False), rtol=1e-5, atol=1e-6)
    for path, value in tiny.weights_of(parts["projector"]).items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_all_that_is_trained_and_no_target(method, parts):
    import tensorflow as tf

    network = small()
    objective = self_supervised(network, method)
    trained = [*network.model.trainable_variables, *objective.trained_with_head]
    kept = [variable.value for variable in objective.kept]
    with tf.GradientTape() as tape:
        tape.watch(kept)
        loss = objective.compute(INPUTS, None, 0.0)[0]
    found, fixed = tape.gradient(loss, [[variable.value for variable in trained], kept])
    assert all(gradient is not None for gradient in found)
    assert all(gradient is None for gradient in fixed)


def test_byol_predicts_a_network_that_follows_slowly(parts):
    network = build_network(tiny.build(weights="none"), Tuning("full"), HeadShape(4, 0, 0.0), 0)
    images = tiny.pictures(8)[0].astype("f4")
    objective = self_supervised(network, "byol")
    online = [*network.model.trainable_variables, *parts["projector"].trainable_variables]
    target = objective.kept[-len(online) :]
    started = [np.asarray(variable).copy() for variable in online]
    for one, other in zip(target, started, strict=True):
        np.testing.assert_array_equal(one, other)
    for variable in online:
        variable.assign_add(np.full(variable.shape, 0.01, "f4"))
    objective.after(0.25)
    keep = float(networks.target_momentum(25, 100))
    for one, old, new in zip(target, started, online, strict=True):
        np.testing.assert_allclose(one, keep * old + (1 - keep) * np.asarray(new), rtol=1e-5, atol=1e-7)

    def aims():
        """What the target network makes of the views: through a twin that has its weights."""
        twin = build_network(tiny.build(weights="none"), Tuning("full"), HeadShape(4, 0, 0.0), 0).model
        split = len(twin.trainable_variables)
        for variable, value in zip(twin.trainable_variables, target[:split], strict=True):
            variable.assign(value)
        projector = networks.build_projector(4, "byol", 1)
        for variable, value in zip(projector.trainable_variables, target[split:], strict=True):
            variable.assign(value)
        # both views pass the network in one batch, and the projector each by itself
        found = np.split(np.asarray(twin(images, training=True)), 2)
        return [projector(half, training=True) for half in found]

    embeddings = np.split(np.asarray(network.model(images, training=True)), 2)
    projections = [parts["projector"](each, training=True) for each in embeddings]
    predictions = [parts["predictor"](each, training=True) for each in projections]
    expected = unlabelled.get("byol")(*map(View, projections, predictions, aims()))
    assert float(objective.compute(images, None, 0.25)[0]) == pytest.approx(float(expected), rel=1e-4)


def test_the_target_of_a_method_without_one_is_kept_nowhere(parts):
    network = small()
    objective = self_supervised(network, "simsiam")
    statistics = sum(len(part.non_trainable_variables) for part in parts.values())
    assert len(objective.kept) == statistics
    objective.after(0.5)
