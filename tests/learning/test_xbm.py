"""The cross-batch memory: what it adds to a loss, and that it can be compiled, kept and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from simpipe.errors import UsageError
from simpipe.learning import load_framework, losses

GOLDEN = json.loads((Path(__file__).parent / "golden_losses.json").read_text())["values"]
ABLE = [name for name, m in losses.LOSSES.items() if m.kind == "pairs" and not m.square]
UNABLE = [name for name in losses.LOSSES if name not in ABLE]


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def directions(seed, count, dim=3):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def batches(sizes):
    for seed, size in enumerate(sizes):
        yield directions(seed, size), np.random.default_rng(seed).integers(0, 4, size).astype(np.int32)


def supcon_loop(embeddings, labels, stored, stored_labels, temperature=0.1):
    """Anchors of the batch against the batch and what is stored, oldest or newest first alike."""
    gallery = np.concatenate([embeddings, stored.reshape(-1, embeddings.shape[1])]).astype(np.float64)
    codes = [*labels, *stored_labels]
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    s = gallery @ gallery.T / temperature
    terms = []
    for i in range(len(labels)):
        others = [j for j in range(len(codes)) if j != i]
        positives = [j for j in others if codes[j] == codes[i]]
        if positives and len(positives) < len(others):
            total = np.log(sum(np.exp(s[i, j]) for j in others))
            terms.append(-np.mean([s[i, p] - total for p in positives]))
    return np.mean(terms) if terms else 0.0


def test_equals_the_loop_over_the_batch_and_the_newest_of_earlier_batches():
    import tensorflow as tf

    size = 10
    loss = losses.build("supcon", memory=size, dim=3)
    stored, stored_labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int32)
    for embeddings, labels in batches([4, 4, 5, 3, 12, 2, 1]):
        variable = tf.Variable(embeddings)
        with tf.GradientTape() as tape:
            value = loss(variable, labels)
        expected = supcon_loop(embeddings, labels, stored, stored_labels)
        assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        gradient = tf.convert_to_tensor(tape.gradient(value, variable)).numpy()
        for index in np.ndindex(*embeddings.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = embeddings.astype(np.float64)
                moved[index] += step
                sides.append(supcon_loop(moved, labels, stored, stored_labels))
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-3, abs=2e-3)
        stored = np.concatenate([embeddings, stored])[:size]
        stored_labels = np.concatenate([labels, stored_labels])[:size]
        assert int(loss.variables[2].numpy()) == len(stored)


def golden_rows(start, count, dim=4):
    """Fixed directions, as in the recipe."""
    rows = np.sin(np.arange(start, start + count * dim, dtype=np.float64) ** 2).reshape(count, dim)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["supcon", "circle"])
def test_equals_the_memory_of_pytorch_metric_learning(name):
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 0])
    loss = losses.build(name, memory=12, dim=4)
    values = [float(loss(golden_rows(start, 12), np.roll(labels, start))) for start in (1, 101, 201, 301)]
    assert values == pytest.approx(GOLDEN[f"memory {name}"], rel=1e-5)


@pytest.mark.parametrize("name", ABLE)
def test_an_empty_memory_changes_nothing(name):
    ((embeddings, labels),) = batches([9])
    expected = float(losses.build(name)(embeddings, labels))
    assert float(losses.build(name, memory=30, dim=3)(embeddings, labels)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    ("name", "parameters"), [*((name, {}) for name in ABLE), ("triplet", {"mining": "semi_hard"})]
)
def test_one_trace_serves_a_filling_memory_and_remembers_what_eager_does(name, parameters):
    import tensorflow as tf

    eager, inside = (losses.build(name, memory=12, dim=3, **parameters) for _ in range(2))
    traced = tf.function(inside, input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None,), tf.int32)])
    for embeddings, labels in batches([5, 5, 7, 20, 3]):
        expected = float(eager(embeddings, labels))
        assert float(traced(embeddings, labels)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert traced.experimental_get_tracing_count() == 1
    for one, other in zip(eager.variables, inside.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_its_variables_are_all_that_a_checkpoint_must_keep():
    first, second, third = batches([6, 6, 6])
    loss, restored = (losses.build("triplet", memory=10, dim=3) for _ in range(2))
    loss(*first)
    loss(*second)
    for variable, kept in zip(restored.variables, [each.numpy() for each in loss.variables], strict=True):
        variable.assign(kept)
    assert float(restored(*third)) == float(loss(*third))
    assert loss.trainable_variables == []


def test_no_gradient_goes_into_it():
    import tensorflow as tf

    first, second = batches([6, 6])
    loss = losses.build("supcon", memory=10, dim=3)
    loss(*first)
    stored = loss.variables[0].value
    with tf.GradientTape() as tape:
        tape.watch(stored)
        value = loss(*second)
    assert tape.gradient(value, stored) is None


@pytest.mark.parametrize("name", UNABLE)
def test_refuses_losses_that_cannot_use_it(name):
    with pytest.raises(UsageError, match="cannot use a memory"):
        losses.build(name, classes=3, dim=3, memory=10)


def test_refuses_a_memory_of_no_length():
    with pytest.raises(UsageError, match="needs their length"):
        losses.build("supcon", memory=10)
    with pytest.raises(UsageError, match="cannot hold -1"):
        losses.build("supcon", memory=-1, dim=3)
