"""The blocked pass against a plain loop over float64 similarities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe import similarity
from simpipe.similarity import RESOLUTION, nearest, neighbour_vote, search


def exact_vectors(rng, count):
    """Rows of length 1 whose dot products are exact in float32, with many ties and duplicates."""
    return (rng.choice([-1, 1], (count, 4)) / 2).astype(np.float32)


def unit_vectors(rng, count, dims=16):
    vectors = rng.normal(size=(count, dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(queries, gallery, k, query_labels, gallery_labels, query_exclude, gallery_exclude):
    ids, distances, optimistic, pessimistic = [], [], [], []
    for q in range(len(queries)):
        seen = [g for g in range(len(gallery)) if gallery_exclude[g] != query_exclude[q]]
        s = {g: float(queries[q].astype(np.float64) @ gallery[g].astype(np.float64)) for g in seen}
        ranking = sorted(seen, key=lambda g: (-round(s[g] / RESOLUTION), g))[:k]
        ids.append(ranking + [-1] * (k - len(ranking)))
        distances.append([1 - s[g] for g in ranking] + [np.inf] * (k - len(ranking)))
        positives = sorted((s[g] for g in seen if gallery_labels[g] == query_labels[q]), reverse=True)
        negatives = [s[g] for g in seen if gallery_labels[g] != query_labels[q]]
        optimistic.append(
            [j + sum(n > p + RESOLUTION for n in negatives) for j, p in enumerate(positives, 1)]
        )
        pessimistic.append(
            [j + sum(n >= p - RESOLUTION for n in negatives) for j, p in enumerate(positives, 1)]
        )
    return ids, distances, optimistic, pessimistic


def compare(queries, gallery, k, *codes):
    ids, distances, optimistic, pessimistic = brute_force(queries, gallery, k, *codes)
    found, ranks = search(queries, gallery, k, *codes)
    assert found.ids.dtype == np.int32 and found.distances.dtype == np.float32
    assert found.ids.tolist() == ids
    np.testing.assert_allclose(found.distances, distances, atol=2 * RESOLUTION)
    split = np.split(np.arange(len(ranks.optimistic)), ranks.offsets[1:-1])
    assert [ranks.optimistic[rows].tolist() for rows in split] == optimistic
    assert [ranks.pessimistic[rows].tolist() for rows in split] == pessimistic
    alone = nearest(queries, gallery, k, codes[2], codes[3])
    assert np.array_equal(alone.ids, found.ids) and np.array_equal(alone.distances, found.distances)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_ties_duplicates_groups_and_lone_queries(seed, nq, ng, k, spread):
    rng = np.random.default_rng(seed)
    make = unit_vectors if spread else exact_vectors
    codes = [rng.integers(0, high, count) for high, count in ((4, nq), (3, ng), (5, nq), (5, ng))]
    compare(make(rng, nq), make(rng, ng), k, *codes)


@pytest.mark.parametrize("classes", [1, 7])
def test_many_blocks_tiles_and_the_folded_top(monkeypatch, classes):
    monkeypatch.setattr(similarity, "TILE", 64)
    monkeypatch.setattr(similarity, "STRIP_VALUES", 5 * 400)
    rng = np.random.default_rng(classes)
    gallery = np.concatenate([unit_vectors(rng, 380), np.tile(unit_vectors(rng, 1), (20, 1))])
    labels = rng.integers(0, classes, 400)
    rows = np.arange(400)
    compare(gallery[360:], gallery, 4, labels[360:], labels, rows[360:], rows)


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_few_rivals_are_picked_and_many_are_sorted_to_the_same_end(monkeypatch, few, k):
    monkeypatch.setattr(similarity, "FEW", few)
    rng = np.random.default_rng(k)
    gallery = np.concatenate([unit_vectors(rng, 300), np.tile(unit_vectors(rng, 1), (40, 1))])
    labels = np.where(np.arange(340) < 320, rng.integers(0, 12, 340), 50 + np.arange(340))  # 20 singletons
    groups = np.arange(340) // 3
    compare(gallery[::7], gallery, k, labels[::7], labels, groups[::7], groups)


def test_collapsed_embeddings_tie_everywhere():
    rng = np.random.default_rng(0)
    vectors = np.tile(unit_vectors(rng, 1, 257), (3000, 1))
    labels, rows = np.arange(3000) // 100, np.arange(3000)
    found, ranks = search(vectors[:200], vectors, 3, labels[:200], labels, rows[:200], rows)
    assert found.ids[5].tolist() == [0, 1, 2] and found.ids[0].tolist() == [1, 2, 3]
    assert np.array_equal(ranks.optimistic[:99], np.arange(1, 100))
    assert np.array_equal(ranks.pessimistic[:99], np.arange(1, 100) + 2900)


def test_memory_mapped_half_precision_gallery(tmp_path):
    rng = np.random.default_rng(1)
    gallery = (unit_vectors(rng, 50, 8) * 0.999).astype(np.float16)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    expected = np.argsort(-(gallery[:3].astype(np.float64) @ gallery.T.astype(np.float64)), axis=1)[:, :5]
    assert np.array_equal(nearest(mapped[:3], mapped, 5).ids, expected)


def test_an_empty_side_gives_padding():
    vectors = unit_vectors(np.random.default_rng(0), 3)
    found, ranks = search(vectors, vectors[:0], 2, np.zeros(3, int), np.zeros(0, int))
    assert (found.ids == -1).all() and np.isinf(found.distances).all() and ranks.offsets.tolist() == [0] * 4
    found, ranks = search(vectors[:0], vectors, 2, np.zeros(0, int), np.zeros(3, int))
    assert found.ids.shape == (0, 2) and ranks.offsets.tolist() == [0] and not len(ranks.optimistic)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0])
def test_rows_that_are_no_directions_are_refused(value):
    vectors = unit_vectors(np.random.default_rng(0), 5)
    broken = vectors.copy()
    broken[3, 0] = value
    with pytest.raises(ValueError, match=r"gallery must be .* row 3"):
        nearest(vectors, broken, 1)


def vote_by_loop(ids, distances, labels, k, rule):
    result = []
    for row_ids, row_distances in zip(ids, distances, strict=True):
        votes = {}
        for g, d in zip(row_ids[:k], row_distances[:k], strict=True):
            if g >= 0:
                weight = 1.0 if rule == "majority" else max(0.0, 1.0 - float(d))
                votes[labels[g]] = votes.get(labels[g], 0.0) + weight
        if not votes:
            result.append((-1, 0.0))
            continue
        # a dict keeps the order of arrival, so that max takes the label of the closest among equals
        winner = next(iter(votes)) if rule == "nearest" else max(votes, key=votes.__getitem__)
        mass = sum(votes.values())
        result.append((winner, votes[winner] / mass if mass else 0.0))
    return result


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.sampled_from(["nearest", "majority", "weighted"]))
def test_votes(seed, k, rule):
    rng = np.random.default_rng(seed)
    distances = np.sort(rng.integers(0, 9, (6, 7)) / 8, axis=1).astype(np.float32)
    ids = rng.integers(0, 10, (6, 7)).astype(np.int32)
    for row, count in enumerate(rng.integers(0, 8, 6)):
        ids[row, count:], distances[row, count:] = -1, np.inf
    labels = rng.integers(0, 3, 10)
    predicted, confidence = neighbour_vote(ids, distances, labels, k, rule)
    expected = vote_by_loop(ids, distances, labels, k, rule)
    assert predicted.tolist() == [label for label, _ in expected]
    np.testing.assert_allclose(confidence, [share for _, share in expected], rtol=1e-6)
