"""Novelty scores against plain formulas; their comparison against scikit-learn and simulation."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from simpipe.metrics.novelty import (
    by_class_size,
    compare_scores,
    fit_gaussians,
    kth_distance,
    neighbour_rank,
    relative_mahalanobis,
)
from simpipe.metrics.open_set import Sides, open_set_estimates


def test_the_rank_of_the_neighbour_follows_the_smallest_class():
    assert neighbour_rank(np.repeat([0, 1], [100, 1])) == 1
    assert neighbour_rank(np.repeat([0, 1], [100, 30])) == 5
    assert neighbour_rank(np.repeat([0, 1], [900, 400])) == 10
    assert neighbour_rank(np.repeat([0, 1], [900, 400]), 7) == 7


def test_where_fewer_neighbours_are_seen_the_farthest_counts():
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, np.inf], [np.inf] * 3], np.float32)
    np.testing.assert_array_equal(kth_distance(distances, 3), np.float32([0.3, 0.2, np.inf]))
    np.testing.assert_array_equal(kth_distance(distances, 1), np.float32([0.1, 0.1, np.inf]))


@pytest.mark.parametrize("per_class", [2, 40])
def test_relative_mahalanobis_equal_to_the_formula(per_class):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), per_class)
    train = rng.normal(size=(5, 12))[labels] + rng.normal(size=(len(labels), 12)) * np.linspace(0.2, 1, 12)
    queries = rng.normal(size=(7, 12))
    means = [train[labels == c].mean(axis=0) for c in range(5)]
    residuals = train - np.array(means)[labels]
    within = LedoitWolf(assume_centered=True).fit(residuals).covariance_ * len(train) / (len(train) - 5)
    overall = LedoitWolf().fit(train).covariance_
    expected = [
        min(mahalanobis(q, m, np.linalg.inv(within)) ** 2 for m in means)
        - mahalanobis(q, train.mean(axis=0), np.linalg.inv(overall)) ** 2
        for q in queries
    ]
    np.testing.assert_allclose(relative_mahalanobis(fit_gaussians(train, labels), queries), expected)


def test_gaussians_need_a_class_of_two_and_some_variation():
    rng = np.random.default_rng(0)
    assert "two train images" in fit_gaussians(rng.normal(size=(6, 4)), np.arange(6))
    assert "same embedding" in fit_gaussians(np.repeat(np.eye(3), 4, 0), np.repeat(np.arange(3), 4))
    few = rng.normal(size=(4, 64))  # far fewer than dimensions
    model = fit_gaussians(few, np.array([0, 0, 1, 2]))
    assert np.isfinite(relative_mahalanobis(model, rng.normal(size=(9, 64)))).all()


def sides_of(n, m, classes=6, unknown_classes=25):
    return Sides(np.arange(n) % classes, np.arange(n), np.arange(m) % unknown_classes, np.arange(m))


def test_scores_are_compared_on_the_same_draws():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0, 1, 200), rng.normal(1, 1, 150)
    sides = sides_of(200, 150)
    found = compare_scores(
        {"first": (known, unknown), "twice": (2 * known, 2 * unknown), "worse": (known, unknown - 0.8)},
        *(sides, 300, 0),
    )
    alone = open_set_estimates(known, known < 9, *sides[:2], unknown, *sides[2:4], 300, 0)
    assert found["first"].auroc == pytest.approx(alone["auroc"]) and found["first"].gain is None
    assert found["first"].fpr95 == pytest.approx(alone["fpr95"])
    assert found["twice"].gain[:3] == (0.0, 0.0, 0.0)
    assert found["worse"].gain.high < 0 and found["worse"].gain.value == pytest.approx(
        found["worse"].auroc.value - found["first"].auroc.value
    )
    # a shift of both moves them together, so that the difference is surer than either
    gain, auroc = found["worse"].gain, found["worse"].auroc
    assert gain.high - gain.low < auroc.high - auroc.low


def test_the_interval_of_a_gain_covers_the_truth():
    def draw(rng, n, m):
        known, unknown = rng.normal(0, 1, n), rng.normal(1, 1, m)
        noise = rng.normal(0, 1, n), rng.normal(0, 1, m)
        return {"a": (known, unknown), "b": (known + noise[0], unknown + noise[1])}

    truth = {
        name: roc_auc_score(np.r_[np.zeros(100_000), np.ones(100_000)], np.r_[known, unknown])
        for name, (known, unknown) in draw(np.random.default_rng(1), 100_000, 100_000).items()
    }
    inside = 0
    for trial in range(200):
        found = compare_scores(
            draw(np.random.default_rng((2, trial)), 90, 100), sides_of(90, 100), 200, trial
        )
        inside += found["b"].gain.low <= truth["b"] - truth["a"] <= found["b"].gain.high
    assert 0.91 <= inside / 200 <= 0.985


def test_rare_classes_that_look_novel_are_seen():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(9), 40)
    sizes = np.array([4, 5, 6, 50, 60, 70, 300, 400, 500])[classes]
    known = rng.normal(0, 1, 360) + 1.5 * (sizes < 10)
    unknown, of_match = rng.normal(2, 1, 100), rng.choice([5, 60, 400], 100)
    sides = Sides(classes, np.arange(360), np.arange(100) % 25, np.arange(100))
    bands = by_class_size(known, sizes, unknown, of_match, sides, 200, 0)
    assert [(band.name, band.images, band.classes) for band in bands] == [
        ("small", (4, 6), 3),
        ("medium", (50, 70), 3),
        ("large", (300, 500), 3),
    ]
    threshold = np.sort(known)[341]  # the smallest that accepts 95 % of 360
    for band, (low, high) in zip(bands, ((4, 6), (50, 70), (300, 500)), strict=True):
        mine = (sizes >= low) & (sizes <= high)
        theirs = (of_match >= low) & (of_match <= high)
        assert band.accepted.value == pytest.approx(np.mean(known[mine] <= threshold))
        assert band.fpr.value == pytest.approx(np.mean(unknown[theirs] <= threshold))
        expected = roc_auc_score(np.r_[np.zeros(mine.sum()), np.ones(100)], np.r_[known[mine], unknown])
        assert band.auroc.value == pytest.approx(expected)
        assert (band.accepted.n, band.fpr.n, band.auroc.n) == (mine.sum(), theirs.sum(), mine.sum() + 100)
    small, _, large = bands
    assert small.accepted.high < large.accepted.low and small.auroc.high < large.auroc.low


def test_classes_of_one_size_have_no_terciles():
    sizes = np.full(60, 20)
    found = by_class_size(np.arange(60.0), sizes, np.ones(30), np.full(30, 20), sides_of(60, 30), 10, 0)
    assert "equally many" in found
    two = np.where(np.arange(60) % 6 < 1, 5, 20)  # one small class, five alike
    found = by_class_size(np.arange(60.0), two, np.ones(30), np.full(30, 20), sides_of(60, 30), 10, 0)
    assert [band.classes for band in found] == [1, 5]
    assert found[0].fpr.value is None and found[0].fpr.n == 0  # no unknown query is nearest to it
