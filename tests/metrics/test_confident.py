"""Confident learning against the definition in a plain loop, and on planted label errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpipe.metrics import confident
from simpipe.metrics.confident import confident_labels
from simpipe.similarity import nearest


def by_hand(ids, labels, classes, least):
    """Northcutt 2021, equation 1, with the shares of the neighbours as probabilities."""
    probability = np.zeros((len(ids), classes))
    for i, row in enumerate(ids):
        near = [labels[j] for j in row if j >= 0]
        for label in near:
            probability[i, label] += 1 / len(near)
    measured = [i for i in range(len(ids)) if (ids[i] >= 0).any()]
    thresholds = np.full(classes, np.nan)
    for c in range(classes):
        members = [i for i in measured if labels[i] == c]
        if len(members) >= least:
            thresholds[c] = np.mean([probability[i, c] for i in members])
    counted = []
    for i, row in enumerate(ids):
        first = [labels[j] for j in row if j >= 0]
        able = [c for c in first if probability[i, c] >= thresholds[c] - 1e-9]
        counted.append(max(able, key=lambda c: (round(probability[i, c], 9), -first.index(c)), default=-1))
    return np.array(counted), thresholds


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.integers(1, 6))
def test_it_is_the_definition(seed, n, k, classes, least):
    rng = np.random.default_rng(seed)
    ids, labels = rng.integers(-1, n, (n, k)), rng.integers(0, classes, n)
    ids.sort(axis=1)
    found = confident_labels(ids[:, ::-1], labels, classes, least)
    counted, thresholds = by_hand(ids[:, ::-1], labels, classes, least)
    np.testing.assert_allclose(found.thresholds, thresholds)
    np.testing.assert_array_equal(found.label, counted)
    assert ((found.share > 0) == (found.label >= 0)).all() and found.share.max() <= 1


def test_blocks_do_not_matter_and_nothing_gives_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, 50, (50, 5)), rng.integers(0, 3, 50)
    whole = confident_labels(ids, labels, 3, 5)
    monkeypatch.setattr(confident, "BLOCK_ROWS", 7)
    for one, other in zip(whole, confident_labels(ids, labels, 3, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    empty = confident_labels(ids[:0], labels[:0], 3)
    assert len(empty.label) == 0 and np.isnan(empty.thresholds).all()
    assert (confident_labels(ids[:, :0], labels, 3, 5).label == -1).all()


@pytest.mark.parametrize("rare", [20, 60])
def test_flipped_labels_are_counted_for_the_label_they_had_even_of_a_rare_class(rare):
    rng = np.random.default_rng(rare)
    labels = np.repeat([0, 1, 2, 3], [120, 120, 120, rare])
    vectors = rng.normal(size=(4, 32))[labels] + 0.5 * rng.normal(size=(len(labels), 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(len(labels))
    ids = nearest(vectors, vectors, 20, rows, rows).ids
    flipped = rng.random(len(labels)) < 0.1
    given_labels = np.where(flipped, (labels + rng.integers(1, 4, len(labels))) % 4, labels)
    found = confident_labels(ids, given_labels, 4, 15)
    off = (found.label >= 0) & (found.label != given_labels)
    assert flipped[off].mean() >= 0.95 and off[flipped].mean() >= 0.6
    assert (found.label[off & flipped] == labels[off & flipped]).all()
