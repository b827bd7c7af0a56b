"""Accuracy, confusion and per-class values against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from simpipe.metrics.classification import confusion_matrix, correctness, macro_accuracy, per_class


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
