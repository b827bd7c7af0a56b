"""Losses over proxies: against plain loops in float64, and against another library's stored numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from simpipe.errors import UsageError
from simpipe.learning import load_framework, losses
from simpipe.learning.losses.proxies import widen_angle

GOLDEN = json.loads((Path(__file__).parent / "golden_losses.json").read_text())["values"]
PROXIES = [name for name, member in losses.LOSSES.items() if member.kind == "proxies"]
WARMED = ["arcface", "cosface", "subcenter_arcface"]
CLASSES, DIM = 4, 3


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


# The loops: the loss of a batch, from cosines `s` [image, proxy].


def softmax_loss(logits, label):
    return -np.log(np.exp(logits[label]) / sum(np.exp(x) for x in logits))


def mean_softmax_loss(rows, labels):
    return np.mean([softmax_loss(row, label) for row, label in zip(rows, labels, strict=True)])


def proxy_anchor(s, labels, proxies, margin=0.1, alpha=32.0):
    present = sorted(set(labels))
    pull = [
        np.log(1 + sum(np.exp(-alpha * (s[i, p] - margin)) for i in range(len(s)) if labels[i] == p))
        for p in present
    ]
    push = [
        np.log(1 + sum(np.exp(alpha * (s[i, p] + margin)) for i in range(len(s)) if labels[i] != p))
        for p in range(len(proxies))
    ]
    return np.mean(pull) + np.mean(push)


def proxy_nca(s, labels, proxies, temperature=1 / 9):
    return mean_softmax_loss([[-(2 - 2 * x) / temperature for x in row] for row in s], labels)


def norm_softmax(s, labels, proxies, temperature=0.05):
    return mean_softmax_loss(s / temperature, labels)


def arcface(s, labels, proxies, margin=0.5, scale=64.0):
    logits = scale * s
    for i, label in enumerate(labels):
        angle = np.arccos(s[i, label])
        beyond = s[i, label] - margin * np.sin(margin)
        logits[i, label] = scale * (np.cos(angle + margin) if angle + margin < np.pi else beyond)
    return mean_softmax_loss(logits, labels)


def cosface(s, labels, proxies, margin=0.35, scale=64.0):
    logits = scale * s
    for i, label in enumerate(labels):
        logits[i, label] -= scale * margin
    return mean_softmax_loss(logits, labels)


def subcenter_arcface(s, labels, proxies, margin=0.5, scale=64.0, centres=3):
    nearest = [[max(row[c : c + centres]) for c in range(0, len(row), centres)] for row in s]
    return arcface(np.array(nearest), labels, proxies, margin, scale)


def soft_triple(s, labels, proxies, margin=0.01, scale=20.0, centres=10, gamma=0.1, tau=0.2):
    logits = np.zeros((len(s), len(proxies) // centres))
    for i, c in np.ndindex(logits.shape):
        own = s[i, c * centres : (c + 1) * centres]
        logits[i, c] = scale * (
            np.exp(own / gamma) @ own / np.exp(own / gamma).sum() - margin * (c == labels[i])
        )
    unit = proxies / np.linalg.norm(proxies, axis=1, keepdims=True)
    spread = 0.0
    for c in range(logits.shape[1]):
        of_class = unit[c * centres : (c + 1) * centres]
        spread += sum(np.linalg.norm(of_class[k] - of_class[j]) for k in range(centres) for j in range(k))
    return mean_softmax_loss(logits, labels) + tau * spread / (
        logits.shape[1] * centres * max(centres - 1, 1)
    )


def reference(name, embeddings, labels, proxies, **parameters):
    s = embeddings @ proxies.T / np.linalg.norm(embeddings, axis=1)[:, None] / np.linalg.norm(proxies, axis=1)
    return globals()[name](s, labels, proxies, **parameters)


def numeric_gradient(function, at):
    gradient, step = np.zeros(at.shape), 1e-6
    for index in np.ndindex(*at.shape):
        there, back = at.copy(), at.copy()
        there[index] += step
        back[index] -= step
        gradient[index] = (function(there) - function(back)) / (2 * step)
    return gradient


def directions(seed, count, dim=DIM):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def value_and_gradients(loss, embeddings, labels):
    import tensorflow as tf

    variable = tf.Variable(embeddings)
    (proxies,) = loss.trainable_variables
    with tf.GradientTape() as tape:
        value = loss(variable, tf.constant(labels, tf.int32))
    return float(value), *(each.numpy() for each in tape.gradient(value, [variable, proxies.value]))


CASES = [
    ("proxy_anchor", {}),
    ("proxy_anchor", {"margin": 0.3, "alpha": 5.0}),
    ("proxy_nca", {}),
    ("proxy_nca", {"temperature": 1.0}),
    ("norm_softmax", {}),
    ("norm_softmax", {"temperature": 0.5}),
    ("arcface", {}),
    ("arcface", {"margin": 1.2, "scale": 4.0}),
    ("cosface", {}),
    ("cosface", {"margin": 0.1, "scale": 4.0}),
    ("subcenter_arcface", {}),
    ("subcenter_arcface", {"centres": 2, "scale": 4.0}),
    ("soft_triple", {"centres": 3}),
    ("soft_triple", {"centres": 2, "tau": 3.0, "gamma": 0.5, "margin": 0.3}),
    ("soft_triple", {"centres": 1}),
]
each_case = pytest.mark.parametrize(("name", "parameters"), CASES)


@each_case
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 3, 3], [2], [1, 1, 1, 1], [3, 2, 1, 0, 0]])
def test_equals_the_loop_in_value_and_gradients(name, parameters, labels):
    loss = losses.build(name, classes=CLASSES, dim=DIM, seed=1, **parameters)
    (proxies,) = loss.trainable_variables
    proxies.assign(proxies.numpy() * np.linspace(0.5, 2, proxies.shape[0])[:, None])  # any length is fine
    embeddings = directions(len(labels), len(labels))
    embeddings[-1] = embeddings[0]
    exact, there = embeddings.astype(np.float64), proxies.numpy().astype(np.float64)
    value, to_embeddings, to_proxies = value_and_gradients(loss, embeddings, labels)
    assert value == pytest.approx(reference(name, exact, labels, there, **parameters), rel=1e-4)
    for gradient, expected in (
        (to_embeddings, numeric_gradient(lambda x: reference(name, x, labels, there, **parameters), exact)),
        (to_proxies, numeric_gradient(lambda x: reference(name, exact, labels, x, **parameters), there)),
    ):
        assert np.abs(gradient - expected).max() <= 1e-3 * max(1.0, np.abs(expected).max())
    order = np.random.default_rng(0).permutation(len(labels))
    assert float(loss(embeddings[order], np.array(labels)[order])) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", PROXIES)
def test_finite_at_distance_0_and_2_from_a_proxy(name):
    import tensorflow as tf

    loss = losses.build(name, classes=3, dim=2)
    (proxies,) = loss.trainable_variables
    proxies.assign(np.resize([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], proxies.shape))
    for embeddings in ([[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0]] * 2, [[-1.0, 0.0]] * 2):
        value, *gradients = value_and_gradients(loss, np.array(embeddings, np.float32), [0, 0])
        assert np.isfinite(value)
        assert all(np.isfinite(each).all() for each in gradients)
    proxies.assign(np.ones(proxies.shape))  # all centres of a class at one place
    value, *gradients = value_and_gradients(loss, np.array([[1.0, 0.0]], np.float32), [2])
    assert all(np.isfinite(each).all() for each in [tf.constant(value), *gradients])


def test_the_widened_angle_has_a_gradient_at_0_and_at_180_degrees():
    import tensorflow as tf

    cosine = tf.Variable([[1.0], [-1.0], [1.0000001], [-1.0000001]])
    with tf.GradientTape() as tape:
        widened = widen_angle(cosine, tf.fill((4, 1), True), 0.5)
    expected = [np.cos(0.5), -1 - 0.5 * np.sin(0.5)]
    np.testing.assert_allclose(widened[:, 0], [*expected, *expected], atol=5e-4)
    assert np.isfinite(tape.gradient(widened, cosine)).all()


@pytest.mark.parametrize("name", PROXIES)
def test_half_precision_is_computed_in_single(name):
    loss = losses.build(name, classes=CLASSES, dim=DIM)
    half, labels = directions(5, 6).astype(np.float16), [0, 1, 2, 3, 0, 1]
    value, gradient, _ = value_and_gradients(loss, half, labels)
    assert value == float(loss(half.astype(np.float32), labels))
    assert np.isfinite(gradient).all()


def golden_rows(start, count, dim=4):
    """Fixed directions, as in the recipe."""
    rows = np.sin(np.arange(start, start + count * dim, dtype=np.float64) ** 2).reshape(count, dim)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("key", "name", "parameters"),
    [
        ("proxy_anchor", "proxy_anchor", {}),
        ("proxy_nca", "proxy_nca", {}),
        ("norm_softmax", "norm_softmax", {}),
        ("arcface", "arcface", {}),
        ("cosface", "cosface", {}),
        ("subcenter_arcface", "subcenter_arcface", {}),
        ("soft_triple without regulariser", "soft_triple", {"centres": 3, "tau": 0.0}),
    ],
)
def test_equals_pytorch_metric_learning(key, name, parameters):
    loss = losses.build(name, classes=4, dim=4, **parameters)
    (proxies,) = loss.trainable_variables
    proxies.assign(golden_rows(1000, proxies.shape[0]))
    assert float(loss(golden_rows(1, 12), np.repeat(np.arange(4), 3))) == pytest.approx(GOLDEN[key], rel=1e-5)


@pytest.mark.parametrize("name", PROXIES)
def test_the_margin_share_scales_the_margins_that_warm_up_and_no_other(name):
    import tensorflow as tf

    embeddings, labels = directions(1, 6), np.array([0, 1, 2, 3, 0, 1], np.int32)
    margin = losses.LOSSES[name].parameters[0] == "margin"
    loss = losses.build(name, classes=CLASSES, dim=DIM, **({"margin": 0.4} if margin else {}))
    traced = tf.function(loss)
    for share in (0.0, 0.5, 1.0):
        now = {"margin": 0.4 * share} if name in WARMED else loss.parameters
        expected = losses.build(name, classes=CLASSES, dim=DIM, **now)(embeddings, labels)
        assert float(loss(embeddings, labels, share)) == pytest.approx(float(expected), rel=1e-6)
        inside = traced(tf.constant(embeddings), tf.constant(labels), tf.constant(share))
        assert float(inside) == pytest.approx(float(expected), rel=1e-5)
    assert traced.experimental_get_tracing_count() == 1


def test_a_wider_margin_costs_more_at_every_angle():
    angles = np.linspace(0.01, np.pi - 0.01, 14)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    loss = losses.build("arcface", classes=2, dim=2, scale=4.0)
    loss.trainable_variables[0].assign([[1.0, 0.0], [0.0, -1.0]])
    for angle in embeddings:
        costs = [float(loss(angle[None], [0], share)) for share in (0.0, 0.5, 1.0)]
        assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_are_seeded_directions_that_training_moves(name):
    import keras
    import tensorflow as tf

    first, again, other = (losses.build(name, classes=CLASSES, dim=DIM, seed=seed) for seed in (3, 3, 4))
    assert first.variables == first.trainable_variables
    (proxies,) = first.trainable_variables
    assert proxies.shape == (CLASSES * first.parameters.get("centres", 1), DIM)
    np.testing.assert_allclose(np.linalg.norm(proxies.numpy(), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(proxies.numpy(), again.variables[0].numpy())
    assert not np.array_equal(proxies.numpy(), other.variables[0].numpy())
    embeddings, labels = np.eye(CLASSES, DIM, dtype=np.float32) + 0.1, np.arange(CLASSES)
    before = float(first(embeddings, labels))
    optimizer = keras.optimizers.Adam(0.05)
    for _ in range(10):
        with tf.GradientTape() as tape:
            value = first(embeddings, labels)
        optimizer.apply(tape.gradient(value, first.trainable_variables), first.trainable_variables)
    assert float(first(embeddings, labels)) < 0.8 * before


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("arguments", [{}, {"classes": 3}, {"dim": 3}, {"classes": 1, "dim": 3}])
def test_refuses_to_build_without_classes_and_dim(name, arguments):
    with pytest.raises(UsageError, match="two classes and the length of an embedding"):
        losses.build(name, **arguments)


def test_all_proxy_losses_are_tested_here():
    assert {name for name, _ in CASES} == set(PROXIES)
    assert {name for name in PROXIES if losses.LOSSES[name].warm_margin} == set(WARMED)
