"""Matches and their margins against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.config.models import Match
from simpipe.search import matching
from simpipe.search.matching import MatchRule, find_matches, match
from simpipe.similarity import Neighbours, nearest


def world(seed, n, m, labels, groups):
    """Queries and gallery on a coarse grid of directions, so that ties and copies are many."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (n + m, 3)).astype(np.float32) + np.float32([0.5, 0.25, 0])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (
        *(vectors[:n], vectors[n:], rng.integers(0, labels, m).astype(np.int32)),
        *(rng.integers(0, groups, n), rng.integers(0, groups, m)),
    )


def balanced_vote(ids, distances, gallery_labels):
    """The label of one query by the formula of the docstring; ties to the nearest."""
    found, votes = [gallery_labels[each] for each in ids if each >= 0], {}
    for label, distance in zip(found, distances, strict=False):
        votes[label] = votes.get(label, 0.0) + np.exp(-float(distance) / 0.1)
    share = {label: votes[label] / min(len(ids), np.sum(gallery_labels == label)) for label in votes}
    return next((label for label in found if share[label] >= max(share.values()) - 1e-12), -1)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 12), st.integers(1, 30), st.integers(1, 5), st.integers(1, 9))
def test_balanced_votes_equal_a_loop(seed, n, m, labels, k):
    queries, gallery, gallery_labels, *_ = world(seed, n, m, labels, 3)
    found = nearest(queries, gallery, k)
    expected = [balanced_vote(i, d, gallery_labels) for i, d in zip(found.ids, found.distances, strict=True)]
    matched = match(found, gallery_labels, "balanced", k)
    assert matched.labels.tolist() == expected
    for row, label in enumerate(expected):
        carried = found.distances[row][(found.ids[row] >= 0) & (gallery_labels[found.ids[row]] == label)]
        assert matched.distances[row] == min(carried)


def test_a_small_label_can_outvote_a_large_one():
    labels = np.array([0] * 20 + [1], np.int32)
    found = Neighbours(np.array([[20, 0, 1, 2, 3]]), np.array([[0.1, 0.15, 0.2, 0.2, 0.2]], np.float32))
    assert match(found, labels, "majority", 5).labels.tolist() == [0]
    assert match(found, labels, "weighted", 5).labels.tolist() == [0]
    assert match(found, labels, "balanced", 5).labels.tolist() == [1]


def test_where_every_label_has_k_images_balanced_is_a_vote_by_distance():
    labels = np.repeat(np.arange(3, dtype=np.int32), 5)
    found = Neighbours(np.array([[0, 5, 6, 7, 10]]), np.array([[0.1, 0.12, 0.13, 0.14, 0.5]], np.float32))
    assert match(found, labels, "balanced", 5).labels.tolist() == [1]


def test_balanced_labels_a_query_without_neighbours_minus_one():
    found = Neighbours(np.full((2, 3), -1, np.int32), np.full((2, 3), np.inf, np.float32))
    matched = match(found, np.array([4, 5], np.int32), "balanced", 3)
    assert matched.labels.tolist() == [-1, -1] and np.isinf(matched.distances).all()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 9999),
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from(MatchRule.__args__),
    st.booleans(),
    st.sampled_from([1, 5, 1 << 22]),
)
def test_the_margin_equals_a_loop(seed, n, m, labels, groups, rule, grouped, block):
    queries, gallery, gallery_labels, query_groups, gallery_groups = world(seed, n, m, labels, groups)
    given_groups = (query_groups, gallery_groups) if grouped else (None, None)
    whole, matching.BLOCK_VALUES = matching.BLOCK_VALUES, block
    try:
        matched, margin = find_matches(queries, gallery, gallery_labels, rule, 3, *given_groups)
    finally:
        matching.BLOCK_VALUES = whole
    assert margin.dtype == np.float32
    for row in range(n):
        seen = (gallery_groups != query_groups[row]) if grouped else np.ones(m, bool)
        away = 1 - gallery.astype(float) @ queries[row].astype(float)
        if matched.labels[row] < 0:
            assert not seen.any() and margin[row] == 0
            continue
        carries = gallery_labels == matched.labels[row]
        own, other = away[seen & carries], away[seen & ~carries]
        assert matched.distances[row] == pytest.approx(own.min(), abs=2e-6)
        assert margin[row] == pytest.approx(other.min(initial=2.0) - own.min(), abs=4e-6)


def test_of_the_nearest_the_margin_is_never_negative_and_of_a_vote_it_may_be():
    gallery = np.float32([[1, 0], [0.8, 0.6], [0.8, 0.6]])
    labels, query = np.array([0, 1, 1], np.int32), np.float32([[1, 0]])
    assert find_matches(query, gallery, labels, "nearest", 1)[1][0] == pytest.approx(0.2, abs=1e-6)
    assert find_matches(query, gallery, labels, "majority", 3)[1][0] == pytest.approx(-0.2, abs=1e-6)


def test_the_configuration_knows_exactly_the_rules():
    assert set(Match.__args__) == set(MatchRule.__args__)
