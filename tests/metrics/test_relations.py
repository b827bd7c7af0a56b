"""Class relations against loops over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from simpipe.metrics import relations
from simpipe.metrics.relations import (
    class_similarity,
    confused_pairs,
    neighbour_shares,
    pairs_that_matter,
    separability,
)


def test_class_similarity_is_the_mean_over_pairs(monkeypatch):
    monkeypatch.setattr(relations, "BLOCK_ROWS", 7)
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 40)
    labels[5] = 4
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    found = class_similarity(vectors, labels, 5)
    for a in range(5):
        for b in range(5):
            pairs = [
                float(vectors[i].astype(float) @ vectors[j].astype(float))
                for i in np.flatnonzero(labels == a)
                for j in np.flatnonzero(labels == b)
                if i != j
            ]
            if pairs:
                assert np.isclose(found[a, b], np.mean(pairs))
            else:
                assert np.isnan(found[a, b])


def test_neighbour_shares():
    ids = np.array([[1, 2, -1], [0, 2, 3], [-1, -1, -1], [2, -1, -1]])
    labels = np.array([0, 0, 1, 2])
    shares = neighbour_shares(ids, labels, labels, 3)
    np.testing.assert_allclose(shares[0], [(1 / 2 + 1 / 3) / 2, (1 / 2 + 1 / 3) / 2, 1 / 6])
    assert np.isnan(shares[1]).all() and shares[2].tolist() == [0, 1, 0]


def test_confused_pairs_are_sorted_and_leave_out_the_diagonal():
    confusion = np.array([[8, 2, 0], [4, 6, 0], [2, 0, 0]])
    pairs = [(p.label, p.predicted, p.count, p.share) for p in confused_pairs(confusion, top=2)]
    assert pairs == [(1, 0, 4, 0.4), (2, 0, 2, 1.0)]
    assert confused_pairs(np.diag([3, 4])) == []


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors, labels, groups, queries, gallery, a, b, threshold):
    """AUC and overlap of one pair of classes by a loop over pairs of images, and scikit-learn."""
    met = {a: [], b: []}
    for i in queries:
        for j in gallery:
            if labels[i] == a and labels[j] in met and groups[i] != groups[j]:
                distance = 1 - vectors[i].astype(float) @ vectors[j].astype(float)
                met[labels[j]].append(np.rint(distance * 2**20) / 2**20)
    own, other = met[a], met[b]
    auc = np.nan
    if own and other:
        auc = roc_auc_score([1] * len(own) + [0] * len(other), [-d for d in own + other])
    overlap = np.mean([d <= threshold for d in other]) if other and threshold is not None else np.nan
    return auc, overlap


@given(
    st.integers(0, 10_000),
    st.integers(1, 24),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.25, 1.0]),
)
def test_separability_is_that_of_all_pairs_of_images(seed, n, classes, collapsed, threshold):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, classes, n), rng.integers(0, n, n)
    vectors = unit(np.ones((n, 3)) if collapsed else rng.integers(-1, 2, (n, 3)) + 0.001)
    queries, gallery = np.flatnonzero(rng.random(n) < 0.7), np.flatnonzero(rng.random(n) < 0.7)
    pairs = np.array([(a, b) for a in range(classes) for b in range(classes) if a != b]).reshape(-1, 2)
    rng.shuffle(pairs)
    found = separability(vectors, labels, groups, classes, queries, gallery, pairs, threshold, 0)
    for (a, b), auc, overlap in zip(pairs, found.auc, found.overlap, strict=True):
        expected = by_hand(vectors, labels, groups, queries, gallery, a, b, threshold)
        np.testing.assert_allclose((auc, overlap), expected, atol=1e-12)
    assert found.asked.tolist() == [np.sum(labels[queries] == c) for c in range(classes)]
    assert not found.sampled.any()


def test_of_large_classes_a_seeded_sample_is_near_the_truth():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [900, 700, 60])
    vectors = unit(rng.normal(size=(3, 16))[labels] + 1.5 * rng.normal(size=(len(labels), 16)))
    rows, groups = np.arange(len(labels)), np.arange(len(labels))
    pairs = pairs_that_matter(class_similarity(vectors, labels, 3))

    def measure(seed, most):
        return separability(vectors, labels, groups, 3, rows, rows, pairs, 0.4, seed, most)

    exact, part, again, other = measure(0, 10_000), measure(0, 128), measure(0, 128), measure(1, 128)
    np.testing.assert_array_equal(part.auc, again.auc)
    assert not np.array_equal(part.auc, other.auc)
    assert np.abs(part.auc - exact.auc).max() < 0.05 and np.abs(part.overlap - exact.overlap).max() < 0.05
    assert part.sampled.tolist() == [True, True, False] and part.asked.tolist() == [128, 128, 60]
    assert not exact.sampled.any() and exact.asked.tolist() == [900, 700, 60]


def test_separability_tells_apart_from_alike():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 3], 40)
    means = rng.normal(size=(3, 24))[[0, 1, 2, 2]]  # the last two are one
    vectors, rows = unit(means[labels] + 0.5 * rng.normal(size=(160, 24))), np.arange(160)
    found = separability(vectors, labels, rows, 4, rows, rows, np.array([[0, 1], [3, 2], [2, 3]]), 0.3, 0)
    assert found.auc[0] > 0.99 and found.overlap[0] < 0.01
    assert found.auc[1:] == pytest.approx(0.5, abs=0.05) and found.overlap[1:].min() > 0.3


def test_the_pairs_that_matter():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 5)[:-4]  # the last class has one image
    labels[labels == 3] = 2
    similarity = class_similarity(unit(rng.normal(size=(31, 6))), labels, 8)
    present = [0, 1, 2, 4, 5, 6]
    everyone = [[a, b] for a in present for b in present if a != b]
    assert pairs_that_matter(similarity).tolist() == everyone
    some = pairs_that_matter(similarity, all_pairs=5, most=2)
    for a in present:
        others = sorted((b for b in present if b != a), key=lambda b: -similarity[a, b])[:2]
        assert some[some[:, 0] == a, 1].tolist() == sorted(others)
    assert len(some) == 12 and similarity[0, 0] == similarity[0, 0]
    assert pairs_that_matter(np.zeros((0, 0))).shape == (0, 2)
    assert pairs_that_matter(np.ones((1, 1))).shape == (0, 2)
