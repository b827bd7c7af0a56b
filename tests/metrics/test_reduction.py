"""Neighbours by way of fewer dimensions are nearly the exact ones, and their distances are exact."""

import numpy as np
import pytest

from simpipe.metrics import reduction
from simpipe.metrics.reduction import nearest_by_reduction, reduce_for_neighbours
from simpipe.similarity import nearest


def features(seed, n=1200, dims=256):
    """Like pretrained features: far from the origin, the variance of direction `i` falls with its number."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    vectors = 0.1 + (rng.normal(size=(n, dims)) / np.arange(1, dims + 1)) @ turn
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(found, exact):
    return np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)])


@pytest.mark.parametrize("seed", range(2))
def test_nearly_all_neighbours_are_found_in_order_at_their_distance(seed, monkeypatch):
    monkeypatch.setattr(reduction, "RERANKED_VALUES", 1 << 20)
    monkeypatch.setattr(reduction, "BLOCK_ROWS", 500)
    vectors, groups = features(seed), np.arange(1200) // 2
    exact = nearest(vectors, vectors, 20, groups, groups)
    found = nearest_by_reduction(vectors, 20, groups, dims=48)
    assert recall(found.ids, exact.ids) >= 0.99
    assert (groups[found.ids] != groups[:, None]).all()
    assert found.ids.dtype == exact.ids.dtype and found.distances.dtype == exact.distances.dtype
    true = 1 - np.einsum("nd,nkd->nk", vectors.astype(float), vectors[found.ids].astype(float))
    np.testing.assert_allclose(found.distances, true, atol=2e-6)
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_all_dimensions_give_the_exact_neighbours_and_too_few_images_are_padded():
    vectors, groups = features(0, n=90, dims=32), np.arange(90)
    exact = nearest(vectors, vectors, 10, groups, groups)
    found = nearest_by_reduction(vectors, 10, groups)
    np.testing.assert_array_equal(found.ids, exact.ids)
    np.testing.assert_allclose(found.distances, exact.distances, atol=2e-6)
    few = nearest_by_reduction(vectors[:4], 10, np.array([0, 0, 1, 2]))
    assert (few.ids[:, 3:] == -1).all() and np.isinf(few.distances[:, 3:]).all()
    assert (few.ids[:2] >= 0).sum() == 4 and (few.ids[2:] >= 0).sum() == 6


def test_copies_come_in_the_order_of_their_rows():
    vectors = np.repeat(features(0, n=30, dims=32), 10, axis=0)
    rows = np.arange(300)
    found = nearest_by_reduction(vectors, 5, rows, dims=16)
    exact = nearest(vectors, vectors, 5, rows, rows)
    assert (found.ids // 10 == rows[:, None] // 10).all() and (exact.distances < 1e-6).all()
    assert (found.distances < 2e-6).all() and (np.diff(found.ids, axis=1) > 0).all()


def test_a_seeded_sample_of_rows_finds_nearly_the_same_directions(monkeypatch):
    vectors = features(0)
    whole = reduce_for_neighbours(vectors, 48)
    monkeypatch.setattr(reduction, "SAMPLED", 400)
    part, again, other = (reduce_for_neighbours(vectors, 48, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(part, again)
    assert not np.array_equal(part, other)
    for reduced in (whole, part):
        assert reduced.shape == (1200, 48) and reduced.dtype == np.float32
        np.testing.assert_allclose(reduced @ reduced.T, vectors @ vectors.T, atol=0.015)
        assert (np.linalg.norm(reduced, axis=1) <= 1.00001).all()
