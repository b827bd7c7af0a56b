"""Accuracy, confusion and per-class values against scikit-learn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from simpipe.metrics.classification import (
    class_rows,
    confusion_matrix,
    correctness,
    macro_accuracy,
    per_class,
)
from simpipe.metrics.intervals import wilson


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5))
def test_equal_to_scikit_learn(seed, n, classes):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, n), rng.integers(0, classes, n)
    everything = np.arange(classes)
    assert np.array_equal(
        confusion_matrix(labels, predicted, classes),
        sk.confusion_matrix(labels, predicted, labels=everything),
    )
    ours = per_class(labels, predicted, classes)
    theirs = sk.precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=np.nan)
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference)
    present = np.unique(labels)
    recalls = sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert np.isclose(macro_accuracy(correctness(predicted, labels), labels), recalls)


def test_a_query_without_a_prediction_is_wrong_and_in_no_cell():
    labels, predicted = np.array([0, 1, 1]), np.array([0, -1, 1])
    assert correctness(predicted, labels).tolist() == [True, False, True]
    assert confusion_matrix(labels, predicted, 2).tolist() == [[1, 0], [0, 1]]
    assert per_class(labels, predicted, 2).recall.tolist() == [1.0, 0.5]
    assert np.isnan(macro_accuracy(np.zeros(0, bool), np.zeros(0, int)))


def rows_by_loop(labels, predicted, map_at_r):
    for label in sorted({*labels, *predicted} - {-1}):
        own = [i for i, each in enumerate(labels) if each == label]
        hits = sum(predicted[i] == label for i in own)
        claimed = sum(p == label for p in predicted)
        wrong = Counter(p for i in own if (p := predicted[i]) not in (label, -1))
        maps = [map_at_r[i] for i in own if not np.isnan(map_at_r[i])]
        yield (
            *(label, len(own), hits / claimed if claimed else None, hits / len(own) if own else None),
            *(wilson(hits, len(own)) or (None, None)),
            2 * hits / (claimed + len(own)),
            np.mean(maps) if maps else None,
            tuple(sorted(wrong.items(), key=lambda each: (-each[1], each[0]))[:3]),
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 7))
def test_class_rows_equal_the_loop(seed, n, classes):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, n), rng.integers(-1, classes, n)
    map_at_r = np.where(rng.random(n) < 0.3, np.nan, rng.random(n))
    rows = class_rows(labels, predicted, map_at_r)
    expected = list(rows_by_loop(labels.tolist(), predicted.tolist(), map_at_r))
    assert [row._replace(map_at_r=None) for row in rows] == [(*e[:7], None, e[8]) for e in expected]
    assert [row.map_at_r for row in rows] == pytest.approx([each[7] for each in expected])


def test_class_rows_have_the_precision_and_recall_of_the_matrix():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    rows, table = class_rows(labels, predicted, np.ones(200)), per_class(labels, predicted, 5)
    assert [row.precision for row in rows] == table.precision.tolist()
    assert [row.recall for row in rows] == table.recall.tolist()
    assert [row.f1 for row in rows] == table.f1.tolist()
    assert all(row.recall_low < row.recall < row.recall_high for row in rows)
