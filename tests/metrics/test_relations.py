"""Class relations against loops over all pairs."""

import numpy as np

from simpipe.metrics import relations
from simpipe.metrics.relations import class_similarity, confused_pairs, neighbour_shares


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
