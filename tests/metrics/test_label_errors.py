"""Planted label errors are found, hard classes raise no alarm, like classes are paired, others left alone."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from simpipe.metrics.label_errors import (
    hard,
    label_error_scores,
    label_errors,
    label_evidence,
    merges,
    splits,
)
from simpipe.metrics.relations import class_similarity, pairs_that_matter, separability
from simpipe.similarity import nearest


def blobs(seed, classes, per_class, noise, families=1, dims=32):
    """Gaussian classes; with `families` > 1 that many classes share most of their mean."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    means = rng.normal(size=(classes, dims))
    if families > 1:
        means = 0.4 * means + 0.9 * rng.normal(size=(classes, dims))[np.arange(classes) // families]
    vectors = means[labels] + noise * rng.normal(size=(len(labels), dims))
    return unit(vectors), labels


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def neighbours(vectors, k=20):
    rows = np.arange(len(vectors))
    return nearest(vectors, vectors, k, rows, rows).ids


def flip(labels, share, seed, far=1):
    """Give `share` of the images another label, at least `far` classes away."""
    rng = np.random.default_rng(seed)
    classes = labels.max() + 1
    flipped = rng.choice(len(labels), round(share * len(labels)), replace=False)
    given = labels.copy()
    given[flipped] = (labels[flipped] + rng.integers(far, classes - far + 1, len(flipped))) % classes
    return given, np.isin(np.arange(len(labels)), flipped)


@pytest.mark.parametrize("classes", [4, 10])
@pytest.mark.parametrize("k", [10, 20])
def test_a_tenth_of_flipped_labels_in_a_separable_set(classes, k):
    vectors, labels = blobs(0, classes, 40, 0.5)
    given, flipped = flip(labels, 0.1, 1)
    score, suggested = label_error_scores(neighbours(vectors, k), given, classes)
    worst = np.argsort(-score, kind="stable")[: flipped.sum()]
    assert flipped[worst].mean() >= 0.8
    assert roc_auc_score(flipped, score) >= 0.95
    reported = score >= 0.5
    assert flipped[reported].mean() >= 0.95 and reported[flipped].mean() >= 0.6
    assert np.mean(suggested[flipped & reported] == labels[flipped & reported]) >= 0.9


HARD = [(15, 1.6, 1), (15, 2.0, 1), (5, 2.4, 1), (15, 1.2, 3), (30, 1.0, 3)]


@pytest.mark.parametrize(("classes", "noise", "families"), HARD)
@pytest.mark.parametrize("k", [10, 20])
def test_hard_classes_raise_at_most_two_alarms_in_300_images(classes, noise, families, k):
    alarms, accuracies = [], []
    for seed in range(4):
        vectors, labels = blobs(seed, classes, 300 // classes, noise, families)
        ids = neighbours(vectors, k)
        accuracies.append(np.mean(labels[ids[:, 0]] == labels))
        alarms.append(len(label_errors(ids, labels, [str(c) for c in range(classes)])))
    assert np.mean(accuracies) < 0.8 and np.mean(alarms) <= 1 and max(alarms) <= 2


def test_errors_across_families_are_found_where_the_classes_of_a_family_are_hard():
    """Nearest neighbours of one family are mixed; a label of another family still stands out."""
    found = planted = alarms = 0
    for seed in range(4):
        vectors, labels = blobs(seed, 30, 10, 0.75, families=3)
        ids = neighbours(vectors)
        assert np.mean(labels[ids[:, 0]] == labels) < 0.85
        given, flipped = flip(labels, 0.03, seed, far=3)
        reported = label_error_scores(ids, given, 30)[0] >= 0.5
        found, planted = found + np.sum(reported & flipped), planted + flipped.sum()
        alarms += np.sum(reported & ~flipped)
    assert found / planted >= 0.85 and alarms <= 4


def test_agreement_of_the_trained_embedding_only_ever_raises_the_score():
    vectors, labels = blobs(0, 10, 30, 1.6)
    given, flipped = flip(labels, 0.05, 0)
    ids = neighbours(vectors)
    clearer = neighbours(blobs(0, 10, 30, 0.4)[0])
    memorised = neighbours(np.eye(10, dtype=np.float32)[given])
    alone, same, kept = (label_error_scores(ids, given, 10, t)[0] for t in (None, clearer, memorised))
    assert (same >= alone).all() and (same[flipped] > alone[flipped]).mean() > 0.3
    np.testing.assert_array_equal(kept, alone)


def test_evidence_is_the_ratio_of_the_habits():
    """Two classes of six, every image with two neighbours; by hand with the habits of the docstring."""
    labels = np.repeat([0, 1], 6)
    ids = np.array(
        [[1, 2], [0, 2], [0, 1], [0, 6], [0, 1], [6, 7]]
        + [[6 + (i + 1) % 6, 6 + (i + 2) % 6] for i in range(6)]
    )
    habits = np.array([[(0.9 * 5 + 0.5) / 6, 1 / 6], [0.5 / 7, 6.5 / 7]])
    habits[0] = [(1 + 1 + 1 + 0.5 + 1 + 0.5) / 6, (0.5 + 0.5) / 6]
    evidence = label_evidence(ids, labels, 2)
    expected = np.log(habits[1, 1] / habits[0, 1]) * 2 / np.sqrt(2)
    assert evidence.strength[5] == pytest.approx(expected) and evidence.suggested[5] == 1
    assert evidence.own_share[[0, 3, 5]].tolist() == [1.0, 0.5, 0.0]
    assert evidence.strength[0] == -np.inf and evidence.suggested[0] == 0


def test_small_classes_and_lone_images_are_never_reported():
    vectors, labels = blobs(0, 6, 30, 0.4)
    labels[[0, 40, 80]] = 6  # a class of three, scattered
    ids = neighbours(vectors)
    ids[5] = -1
    names = [str(c) for c in range(7)]
    assert all(f.label != "6" and labels[f.row] != 6 and f.row != 5 for f in label_errors(ids, labels, names))
    assert label_errors(ids[:0], labels[:0], names) == []


def test_findings_name_the_suggestion():
    vectors, labels = blobs(0, 5, 40, 0.4)
    labels[3] = 4
    (finding,) = label_errors(neighbours(vectors), labels, list("abcde"))
    assert (finding.kind, finding.row, finding.other_label, finding.severity) == (
        "label_error",
        3,
        "a",
        "high",
    )
    assert finding.exclude and 0.5 < finding.score <= 1 and "not of e" in finding.detail
    assert ": 20 of 20 are a, 0 e" in finding.detail and finding.detail.endswith("confident learning agrees")
    assert "shows a" in finding.suggestion and "training" not in finding.detail
    ids = neighbours(vectors)
    (lasting,) = label_errors(ids, labels, list("abcde"), ids)
    assert "; so it is after training" in lasting.detail


def test_without_confident_learning_an_error_is_not_high():
    """The neighbours say another label, but spread over two: none has the share that is usual for it."""
    vectors, labels = blobs(0, 6, 40, 0.3)
    labels[0] = 5
    ids = neighbours(vectors)
    (sure,) = label_errors(ids, labels, list("abcdef"))
    ids[0] = np.concatenate([np.flatnonzero(labels == c)[:10] for c in (1, 2)])
    (finding,) = label_errors(ids, labels, list("abcdef"))
    assert (sure.severity, sure.exclude) == ("high", True)
    assert (finding.row, finding.severity, finding.exclude) == (0, "medium", False)
    assert finding.score >= 0.9 and "confident" not in finding.detail
    small, labels = blobs(0, 6, 10, 0.3)  # too few images for confident learning to speak
    labels[0] = 5
    (finding,) = label_errors(neighbours(small, 8), labels, list("abcdef"))
    assert finding.severity == "high" and "confident" not in finding.detail


def test_hard_is_what_training_was_told_and_did_not_learn():
    clear, labels = blobs(0, 6, 40, 0.3)
    names, rows = list("abcdef"), np.arange(len(labels))
    assert hard(neighbours(clear), labels, names, rows >= 0) == []
    stuck = [5, 50, 130]
    clear[stuck] = clear[[200, 90, 10]] + 0.01  # of classes f, c and a
    ids = neighbours(unit(clear))
    taught, known = rows != 50, rows == 130
    assert [each.row for each in hard(ids, labels, names, rows >= 0)] == stuck
    assert [each.row for each in hard(ids, labels, names, taught)] == [5, 130]
    (finding,) = hard(ids, labels, names, taught, known)
    assert (finding.kind, finding.row, finding.other_label, finding.exclude) == ("hard", 5, "f", False)
    assert 0.5 <= finding.score <= 1 and "told a" in finding.detail and "20 of 20 are f" in finding.detail
    assert hard(ids[:0], labels[:0], names, taught[:0]) == []
    labels[:36] = 5  # four images are left of the class: too few to judge
    assert all(labels[each.row] != 0 for each in hard(ids, labels, names, rows >= 0))


@pytest.mark.parametrize("noise", [0.5, 1.6])
def test_only_a_class_cut_by_lot_is_to_be_merged(noise):
    vectors, labels = blobs(0, 8, 60, noise)
    names = [str(c) for c in range(9)]
    ids = neighbours(vectors)
    assert merges(ids, labels, names) == []
    cut = labels.copy()
    cut[(labels == 2) & (np.random.default_rng(0).random(480) < 0.4)] = 8
    found = [(f.label, f.other_label) for f in merges(ids, cut, names)]
    assert found == ([("2", "8")] if noise == 0.5 else found) and set(found) <= {("2", "8")}


def test_a_class_of_two_far_parts_is_to_be_split():
    vectors, labels = blobs(0, 8, 40, 0.5)
    names = [str(c) for c in range(8)]
    ids = neighbours(vectors, 10)
    assert splits(ids, labels, names) == []
    joined = np.where(labels == 7, 0, labels)
    (finding,) = splits(ids, joined, names)
    assert finding.label == "0" and "40 and 40" in finding.detail


def test_classes_that_are_separable_are_not_to_be_merged():
    """Neighbours may mix where the images of two classes are yet apart on the whole."""
    vectors, labels = blobs(0, 8, 60, 0.5)
    cut = labels.copy()
    cut[(labels == 2) & (np.random.default_rng(0).random(480) < 0.4)] = 8
    names, ids, rows = [str(c) for c in range(9)], neighbours(vectors), np.arange(480)

    def measured(of):
        pairs = pairs_that_matter(class_similarity(of, cut, 9))
        return separability(of, cut, rows, 9, rows, rows, pairs, None, 0)

    (alone,), (finding,) = merges(ids, cut, names), merges(ids, cut, names, measured(vectors))
    assert (finding.label, finding.other_label, finding.score) == ("2", "8", alone.score)
    assert "50% is by lot" in finding.detail and "50% is by lot" not in alone.detail
    assert merges(ids, cut, names, measured(np.eye(9, dtype=np.float32)[cut])) == []
