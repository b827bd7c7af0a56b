"""Pooling against float64 arithmetic in NumPy, and the gradient of the learned power."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpipe.learning import load_framework
from simpipe.learning.pooling import build_pooling, pool


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def expected(activations, kind, p=3.0):
    activations = np.asarray(activations, np.float64)
    if kind == "avg":
        return activations.mean((1, 2))
    if kind == "max":
        return activations.max((1, 2))
    return (np.maximum(activations, 1e-6) ** p).mean((1, 2)) ** (1 / p)


@st.composite
def tensors(draw):
    n, h, w, c = (draw(st.integers(1, 4)) for _ in range(4))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (scale * generator.normal(size=(n, h, w, c))).astype(np.float32)


@given(tensors(), st.sampled_from(["avg", "max", "gem"]), st.sampled_from([1.0, 2.0, 3.0, 4.5]))
def test_pooling_is_what_its_formula_says(activations, kind, p):
    wanted = expected(activations, kind, p)
    for found in (pool(activations, kind, p), build_pooling(kind, p)(activations)):
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=2e-4, atol=2e-6)


@given(tensors())
def test_the_generalised_mean_runs_from_the_mean_to_the_maximum(activations):
    means = [np.asarray(build_pooling("gem", p)(activations)) for p in (1.0, 2.0, 8.0, 64.0, 1000.0)]
    clipped = np.maximum(activations, 1e-6)
    np.testing.assert_allclose(means[0], expected(clipped, "avg"), rtol=1e-4)
    np.testing.assert_allclose(means[-1], expected(clipped, "max"), rtol=5e-3)
    for lower, higher in pairwise(means):
        assert (higher >= lower * (1 - 1e-5)).all()


@pytest.mark.parametrize("kind", ["avg", "max", "gem"])
def test_vectors_stay_as_they_are(kind):
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(pool(vectors, kind)), vectors)
    layer = build_pooling(kind, learn_p=True)
    np.testing.assert_array_equal(np.asarray(layer(vectors)), vectors)
    assert layer.weights == []


def gradients(layer, activations, weights):
    import tensorflow as tf

    tensor = tf.constant(activations)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = tf.reduce_sum(layer(tensor) * weights)
    found = tape.gradient(value, [tensor, *(each.value for each in layer.trainable_variables)])
    return [np.asarray(each) for each in found]


def test_the_power_is_learned_with_the_true_gradient():
    generator = np.random.default_rng(0)
    activations = generator.gamma(1.0, 2.0, (2, 3, 3, 4)).astype(np.float32)
    weights = generator.normal(size=(2, 4)).astype(np.float32)
    layer = build_pooling("gem", 2.5, learn_p=True)
    layer(activations)
    (power,) = layer.trainable_variables
    assert (power.shape, power.dtype, float(power)) == ((), "float32", 2.5)

    def value(activations, p):
        return float((expected(activations, "gem", p) * weights).sum())

    of_activations, of_power = gradients(layer, activations, weights)
    assert of_power == pytest.approx(
        (value(activations, 2.5001) - value(activations, 2.4999)) / 2e-4, rel=1e-3
    )
    for place in [(0, 0, 0, 0), (1, 2, 1, 3), (0, 1, 1, 2)]:
        step = np.zeros_like(activations, dtype=np.float64)
        step[place] = 1e-5
        slope = (value(activations + step, 2.5) - value(activations - step, 2.5)) / 2e-5
        assert of_activations[place] == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("p", [1.0, 3.0, 10.0, 50.0])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e6])
def test_no_power_and_no_scale_gives_an_infinite_or_undefined_gradient(p, scale):
    activations = np.random.default_rng(0).gamma(1.0, scale or 1.0, (2, 3, 3, 4)).astype(np.float32)
    activations[0] = 0
    activations = activations if scale else np.zeros_like(activations)
    layer = build_pooling("gem", p, learn_p=True)
    layer(activations)
    assert np.isfinite(np.asarray(layer(activations))).all()
    assert all(np.isfinite(each).all() for each in gradients(layer, activations, np.ones((2, 4), np.float32)))


def test_a_learned_power_stays_at_one_or_above():
    import keras

    layer = build_pooling("gem", 1.5, learn_p=True)
    layer(np.ones((1, 2, 2, 3), np.float32))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.apply([np.float32(10.0)], layer.trainable_variables)
    assert float(layer.p) == 1.0


def test_powers_are_taken_in_float32_whatever_comes_in():
    activations = np.full((1, 2, 2, 3), 100, np.float16)
    for found in (pool(activations, "gem"), build_pooling("gem")(activations)):
        assert found.dtype == "float32"
        np.testing.assert_allclose(np.asarray(found), 100, rtol=1e-5)
