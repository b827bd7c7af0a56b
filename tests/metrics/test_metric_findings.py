"""Findings on sets whose faults are known."""

import numpy as np
import pytest

from simpipe.metrics.findings import (
    SUGGESTIONS,
    Finding,
    duplicate_findings,
    outliers,
    similar_pairs,
    small_classes,
    unreadable,
)
from simpipe.similarity import nearest


def neighbours(vectors, k=10):
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return nearest(vectors, vectors, k, np.arange(len(vectors)), np.arange(len(vectors)))


def test_duplicates_conflicts_and_leaks():
    labels = np.array([0, 0, 0, 1, 0, 0])
    splits = ["train", "train", "test", "test", "val", "train"]
    pairs = [(0, 1, "exact"), (2, 0, "exact"), (0, 3, "near"), (2, 3, "exact"), (4, 5, "similar")]
    found = [
        (f.kind, f.severity, f.row, f.other_row, f.exclude) for f in duplicate_findings(pairs, labels, splits)
    ]
    assert found == [
        ("duplicate", "low", 1, 0, True),
        ("leak", "high", 0, 2, True),
        ("duplicate_conflict", "medium", 0, 3, False),
        ("leak", "medium", 0, 3, False),
        ("duplicate_conflict", "high", 3, 2, False),
        ("leak", "medium", 5, 4, False),
    ]
    scores = [f.score for f in duplicate_findings(pairs, labels, splits)]
    assert scores[0] == 1.0 and 0 < min(scores) == scores[-1]


@pytest.mark.parametrize(
    ("kind", "what", "grade"),
    [
        ("exact", "the same bytes", "high"),
        ("pixels", "the same pixels", "high"),
        ("near", "nearly the same image", "medium"),
        ("similar", "much the same image", "medium"),
    ],
)
def test_a_pair_is_called_what_it_is(kind, what, grade):
    def found(labels, splits):
        return [
            (f.kind, f.severity, f.detail, f.exclude)
            for f in duplicate_findings([(0, 1, kind)], np.array(labels), splits)
        ]

    equal = grade == "high"
    assert found([0, 1], ["train", "train"]) == [
        ("duplicate_conflict", grade, f"{what} under two labels", False)
    ]
    assert found([0, 0], ["train", "test"]) == [("leak", grade, f"{what} in train and test", equal)]
    assert found([0, 0], ["val", "val"]) == [("duplicate", "low", f"{what} twice", equal)]
    (score,) = {f.score for f in duplicate_findings([(0, 1, kind)], np.array([0, 1]), ["train", "test"])}
    assert (score == 1.0) == equal and score > 0.5


def test_similar_pairs_are_mutual_and_very_close():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 32))
    vectors[10] = vectors[30] + 0.01 * rng.normal(size=32)
    vectors[11] = vectors[31] + 0.5 * rng.normal(size=32)
    found = neighbours(vectors)
    assert similar_pairs(found.ids, found.distances) == [(10, 30, "similar")]
    assert similar_pairs(found.ids[:, :0], found.distances[:, :0]) == []


@pytest.mark.parametrize("classes", [1, 6])
def test_outliers_are_the_planted_ones(classes):
    rng = np.random.default_rng(classes)
    labels = np.arange(600) % classes
    vectors = rng.normal(size=(classes, 24))[labels] * 2 + 0.7 * rng.normal(size=(600, 24))
    clean = neighbours(vectors)
    assert len(outliers(clean.distances, labels)) <= 3
    planted = [17, 300, 555]
    vectors[planted] = 3 * rng.normal(size=(3, 24))
    found = outliers(neighbours(vectors).distances, labels)
    assert {f.row for f in found} >= set(planted) and len(found) <= 6
    assert all(0.5 <= f.score <= 1 for f in found)


def test_nothing_is_an_outlier_where_nothing_was_measured():
    assert outliers(np.full((4, 3), np.inf), np.zeros(4, int)) == []
    assert outliers(np.zeros((0, 3)), np.zeros(0, int)) == []
    assert outliers(np.zeros((5, 3)), np.zeros(5, int)) == []


def test_small_classes_and_unreadable_files():
    found = small_classes(np.repeat([0, 1, 3], [5, 4, 1]), ["a", "b", "c", "d"])
    assert [(f.label, f.score) for f in found] == [("b", pytest.approx(0.2)), ("d", pytest.approx(0.8))]
    assert "4 images;" in found[0].detail and "1 image;" in found[1].detail
    (file,) = unreadable([("a/b.jpg", "truncated")])
    assert (file.path, file.detail, file.exclude, file.row) == ("a/b.jpg", "truncated", False, None)


@pytest.mark.parametrize("kind", SUGGESTIONS)
def test_every_kind_says_what_to_do(kind):
    told = Finding(kind, "low", 0.5, "", label="{enough}", other_label="plum").suggestion
    assert told and "{" not in told and ("plum" in told) == (kind == "label_error")
