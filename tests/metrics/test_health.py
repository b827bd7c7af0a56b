"""Healthy, collapsed and hubby embeddings, and what is measured of them, against loops over all pairs."""

import numpy as np
import pytest
from scipy.stats import skew

from simpipe.metrics import health
from simpipe.metrics.health import collapse, hubs, measure_health
from simpipe.similarity import nearest


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def neighbours(vectors, k=20):
    rows = np.arange(len(vectors))
    return nearest(vectors, vectors, k, rows, rows).ids


@pytest.mark.parametrize("tight", [1.0, 0.1, 1e-3, 0.0])
def test_the_spread_is_that_of_two_images_drawn_by_lot(tight, monkeypatch):
    monkeypatch.setattr(health, "BLOCK_ROWS", 17)
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=8) + tight * rng.normal(size=(60, 8)))
    found = measure_health(vectors, neighbours(vectors))
    pairs = [float(a.astype(float) @ b.astype(float)) for a in vectors for b in vectors]
    assert found.similarity_mean == pytest.approx(np.mean(pairs), abs=1e-9)
    assert found.similarity_std == pytest.approx(np.std(pairs), rel=1e-6, abs=1e-9)
    assert found.collapsed == (tight <= 1e-3)


def test_the_effective_rank_is_the_number_of_equal_directions():
    corners = np.repeat(np.concatenate([np.eye(6), -np.eye(6)]), 5, axis=0).astype(np.float32)
    ids = neighbours(corners)
    assert measure_health(corners, ids).effective_rank == pytest.approx(6)
    assert measure_health(corners[:1].repeat(9, 0), ids[:9]).effective_rank == 0
    assert np.isnan(measure_health(corners[:1], ids[:0]).similarity_std)
    assert collapse(measure_health(corners[:1], ids[:0])) == []


def test_a_part_of_many_rows_is_enough():
    vectors = unit(np.random.default_rng(0).normal(size=(3000, 16)) + 0.5)
    ids = neighbours(vectors, 5)
    whole, part = measure_health(vectors, ids), measure_health(vectors, ids, most=600)
    assert part.similarity_std == pytest.approx(whole.similarity_std, rel=0.05) and part != whole


def test_a_collapsed_embedding_is_a_finding_and_a_healthy_one_is_none():
    rng = np.random.default_rng(0)
    healthy, tight = unit(rng.normal(size=(300, 128))), unit(1 + 0.03 * rng.normal(size=(300, 128)))
    assert collapse(measure_health(healthy, neighbours(healthy))) == []
    (found,) = collapse(measure_health(tight, neighbours(tight)))
    assert (found.kind, found.severity, found.row) == ("collapse", "high", None)
    assert 0.5 < found.score <= 1 and "similarity of 0.99" in found.detail and found.suggestion


@pytest.mark.parametrize("dims", [128, 256])
def test_a_planted_hub_is_found_and_random_directions_have_none(dims):
    rng = np.random.default_rng(dims)
    labels = np.arange(1500) % 5
    vectors = rng.normal(size=(1500, dims))
    clean = neighbours(unit(vectors))
    assert hubs(clean) == [] and hubs(clean, labels) == []
    assert abs(measure_health(unit(vectors), clean).hub_skewness) < 0.6
    centred = np.concatenate([unit(vectors), np.full((1500, 1), 0.5)], axis=1)
    centred[7, :-1] *= 0.05  # a picture of nothing lies in the middle
    ids = neighbours(unit(centred))
    (found,) = hubs(ids, labels)
    assert (found.row, found.severity, found.exclude) == (7, "medium", False)
    near = sum(7 in row[:10] for row in ids)
    assert f"of {near} images" in found.detail and found.score == pytest.approx(1 - 50 / near)
    assert measure_health(unit(centred), ids).hub_skewness > 5
    (same,) = hubs(ids, np.zeros(1500, int))
    assert same.severity == "low" and "0 of them carry another label" in same.detail
    assert hubs(ids)[0].severity == "medium"


def test_skewness_is_the_third_moment_and_0_without_neighbours():
    rng = np.random.default_rng(0)
    vectors, ids = unit(rng.normal(size=(80, 4))), rng.integers(-1, 80, (80, 12))
    counts = [sum(row in near[:10] for near in ids.tolist()) for row in range(80)]
    unique = np.array([len({*row[:10].tolist()} - {-1}) for row in ids])
    assert unique.min() > 4
    counts = np.bincount(ids[:, :10][ids[:, :10] >= 0], minlength=80)
    assert measure_health(vectors, ids).hub_skewness == pytest.approx(skew(counts))
    assert measure_health(vectors, ids[:, :0]).hub_skewness == 0
    assert hubs(ids[:, :0]) == [] and hubs(ids[:0]) == []
