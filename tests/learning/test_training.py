"""The head learns what can be learned, the same way each time."""

import numpy as np
import pytest

from simpipe.learning import load_framework
from simpipe.learning.head import HeadShape, build_head, embedder, standardise_on
from simpipe.learning.samplers import BatchPlan
from simpipe.learning.trainer import Examples, Schedule, train_head
from simpipe.progress import Silent


@pytest.fixture(scope="module")
def blobs():
    """Four classes that differ in two weak directions among sixteen strong, meaningless ones."""
    load_framework()
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30).astype(np.int32)
    features = generator.normal(size=(120, 18)).astype(np.float32) * 5
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    features[:, :2] = corners[labels] + generator.normal(size=(120, 2)) * 0.2
    order = generator.permutation(120)
    fit, val = order[:80], order[80:]
    groups = np.arange(120)
    return tuple(Examples(features[rows], labels[rows], groups[rows]) for rows in (fit, val))


def trained(blobs, loss="supcon", parameters=None, seed=0):
    schedule = Schedule(loss, parameters or {}, 5e-3, 1e-4, 0.05, 15, 15, seed)
    plan = BatchPlan(4, 8, "sqrt", 1.0, 10, 10, seed)
    return train_head(*blobs, HeadShape(8, 0, 0.0), plan, schedule, Silent())


@pytest.mark.parametrize("loss", ["supcon", "multisimilarity", "triplet"])
def test_training_finds_the_directions_that_matter(blobs, loss):
    result = trained(blobs, loss)
    assert result.map_at_r is not None
    assert result.map_at_r > 0.6, "the raw features reach 0.13"
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert max(record["val_map@r"] for record in result.history) == pytest.approx(result.map_at_r)


def test_the_same_seed_gives_the_same_weights(blobs):
    first, again = (trained(blobs).head.get_weights() for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_embeddings_do_not_depend_on_their_neighbours_and_have_length_one():
    load_framework()
    features = np.random.default_rng(1).normal(2, 3, (1500, 10)).astype(np.float32)
    head = build_head(10, HeadShape(6, 12, 0.5), seed=3)
    standardise_on(head, features)
    embed, out, alone = embedder(head), np.empty((1500, 6), np.float32), np.empty((1, 6), np.float32)
    embed(features, out)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    embed(features[1200:1201], alone)
    np.testing.assert_array_equal(alone[0], out[1200])
    layer = head.get_layer("standardise")
    np.testing.assert_allclose(np.ravel(layer.mean), features.mean(0), atol=1e-4)
    np.testing.assert_allclose(np.ravel(layer.variance), features.var(0), rtol=1e-3)
