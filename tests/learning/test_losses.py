"""Every loss against a plain loop over anchors, in float64."""

import numpy as np
import pytest

from simpipe.config.models import Loss as LossName
from simpipe.learning import load_framework, losses


def _pairs(labels, i):
    others = [j for j in range(len(labels)) if j != i]
    return [j for j in others if labels[j] == labels[i]], [j for j in others if labels[j] != labels[i]]


def _mean_over_valid(embeddings, labels, anchor_loss):
    s = embeddings @ embeddings.T
    values = []
    for i in range(len(labels)):
        positives, negatives = _pairs(labels, i)
        if positives and negatives:
            values.append(anchor_loss(s[i], positives, negatives))
    return np.mean(values) if values else 0.0


def supcon_reference(embeddings, labels, temperature=0.1):
    def anchor(s, positives, negatives):
        total = np.log(sum(np.exp(s[j] / temperature) for j in positives + negatives))
        return -np.mean([s[p] / temperature - total for p in positives])

    return _mean_over_valid(embeddings, labels, anchor)


def multisimilarity_reference(embeddings, labels, a=2.0, b=40.0, base=0.5, eps=0.1):
    def anchor(s, positives, negatives):
        pull = [s[p] for p in positives if s[p] < max(s[n] for n in negatives) + eps]
        push = [s[n] for n in negatives if s[n] > min(s[p] for p in positives) - eps]
        near = np.log(1 + sum(np.exp(-a * (x - base)) for x in pull)) / a
        return near + np.log(1 + sum(np.exp(b * (x - base)) for x in push)) / b

    return _mean_over_valid(embeddings, labels, anchor)


def triplet_reference(embeddings, labels, margin=0.1):
    def anchor(s, positives, negatives):
        gap = max(1 - s[p] for p in positives) - min(1 - s[n] for n in negatives)
        return np.log1p(np.exp(gap)) if margin is None else max(0.0, gap + margin)

    return _mean_over_valid(embeddings, labels, anchor)


CASES = [
    ("supcon", {"temperature": 0.1}, supcon_reference),
    ("supcon", {"temperature": 0.5}, supcon_reference),
    ("multisimilarity", {}, multisimilarity_reference),
    ("triplet", {"margin": 0.1}, triplet_reference),
    ("triplet", {"margin": None}, triplet_reference),
]


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def _batch(seed, labels):
    embeddings = np.random.default_rng(seed).normal(size=(len(labels), 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32)


def _value(name, embeddings, labels, parameters):
    return float(losses.get(name)(embeddings, np.array(labels, np.int32), **parameters))


@pytest.mark.parametrize(("name", "parameters", "reference"), CASES)
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop(name, parameters, reference, seed):
    labels = np.random.default_rng(seed).integers(0, 7, 24)  # small classes: some singletons
    embeddings = _batch(seed, labels)
    embeddings[1], labels[1] = embeddings[0], labels[0]  # a duplicate
    expected = reference(embeddings.astype(np.float64), labels.tolist(), **parameters)
    assert _value(name, embeddings, labels, parameters) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    order = np.random.default_rng(seed).permutation(24)
    assert _value(name, embeddings[order], labels[order], parameters) == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize(("name", "parameters", "reference"), CASES)
@pytest.mark.parametrize("labels", [[0] * 6, list(range(6)), [0, 0, 0, 0, 0, 1]])
def test_anchors_without_a_positive_or_a_negative_contribute_nothing(name, parameters, reference, labels):
    import tensorflow as tf

    embeddings = tf.Variable(_batch(0, labels))
    with tf.GradientTape() as tape:
        value = losses.get(name)(embeddings, tf.constant(labels, tf.int32), **parameters)
    expected = reference(embeddings.numpy().astype(np.float64), labels, **parameters)
    assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    gradient = tape.gradient(value, embeddings)
    gradient = np.zeros(1) if gradient is None else tf.convert_to_tensor(gradient).numpy()
    assert np.isfinite(gradient).all()
    if expected == 0.0:
        assert not gradient.any()


@pytest.mark.parametrize(("name", "parameters", "reference"), CASES)
def test_gradients_are_those_of_the_loop(name, parameters, reference):
    import tensorflow as tf

    labels = [0, 0, 1, 1, 2, 2, 3]
    embeddings = _batch(3, labels)
    variable = tf.Variable(embeddings)
    with tf.GradientTape() as tape:
        value = losses.get(name)(variable, tf.constant(labels, tf.int32), **parameters)
    gradient = tf.convert_to_tensor(tape.gradient(value, variable)).numpy()
    numeric = np.zeros(embeddings.shape)
    for index in np.ndindex(*embeddings.shape):
        moved = [embeddings.astype(np.float64) for _ in range(2)]
        moved[0][index] += 1e-6
        moved[1][index] -= 1e-6
        numeric[index] = (
            reference(moved[0], labels, **parameters) - reference(moved[1], labels, **parameters)
        ) / 2e-6
    np.testing.assert_allclose(gradient, numeric, atol=2e-3)


@pytest.mark.parametrize(("name", "parameters", "reference"), CASES)
def test_finite_for_equal_and_for_opposite_vectors(name, parameters, reference):
    import tensorflow as tf

    for embeddings in (np.ones((6, 4)) / 2, np.array([[1, 0], [-1, 0]] * 3)):
        variable = tf.Variable(embeddings.astype(np.float32))
        with tf.GradientTape() as tape:
            value = losses.get(name)(variable, tf.constant([0, 0, 1, 1, 2, 2]), **parameters)
        assert np.isfinite(float(value))
        assert np.isfinite(tf.convert_to_tensor(tape.gradient(value, variable)).numpy()).all()


def test_the_triplet_losses_of_a_perfect_and_of_a_wrong_batch():
    labels = np.repeat(np.arange(16), 2)
    perfect = np.eye(16, dtype=np.float32)[labels]
    assert _value("triplet", perfect, labels, {"margin": None}) == pytest.approx(0.31326, abs=1e-5)
    assert _value("triplet", perfect, labels, {"margin": 1.1}) == pytest.approx(0.1, abs=1e-5)


def test_the_configuration_knows_exactly_the_registered_losses():
    assert set(LossName.__args__) == set(losses.LOSSES)
