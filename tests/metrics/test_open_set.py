"""Open-set metrics against loops over all pairs, scikit-learn, and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from simpipe.metrics import open_set
from simpipe.metrics.open_set import (
    NAMES,
    aupr,
    auroc,
    fpr95,
    gap,
    open_set_estimates,
    open_set_values,
    oscr,
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 25), st.booleans())
def test_equal_to_loops(seed, n, m, ties):
    rng = np.random.default_rng(seed)
    known, unknown = rng.random(n), rng.random(m) + 0.2
    if ties:
        known, unknown = np.round(known * 4) / 4, np.round(unknown * 4) / 4
    known[rng.random(n) < 0.1] = np.inf
    correct = rng.random(n) < 0.7
    sides = np.r_[np.ones(n), np.zeros(m)]
    scores = -np.nan_to_num(np.r_[known, unknown], posinf=9.0)
    assert np.isclose(auroc(known, unknown), roc_auc_score(sides, scores))
    reach = next(t for t in sorted(known) if 100 * np.sum(known <= t) >= 95 * n)
    assert np.isclose(fpr95(known, unknown), np.mean(unknown <= reach))
    area = np.mean([np.mean(correct & (known < u)) for u in unknown])
    assert np.isclose(oscr(known, correct, unknown), area)
    by_known, by_unknown = aupr(known, unknown)
    assert np.isclose(by_known, average_precision_score(sides, scores))
    assert np.isclose(by_unknown, average_precision_score(1 - sides, -scores))
    everyone = np.r_[known, unknown]
    relevant = np.r_[correct, np.zeros(m, bool)]
    hits = [np.mean(relevant[everyone <= t]) for t in everyone[relevant]]  # P(i), ties at the end of the tie
    assert np.isclose(gap(known, correct, unknown), sum(hits) / n)


def test_gap_is_the_accuracy_where_all_that_is_right_comes_first():
    known, right = np.array([0.1, 0.2, 0.6, 0.7]), np.array([True, True, False, False])
    assert gap(known, right, np.array([0.3, 0.4])) == 0.5
    # an unknown before them costs: (1/2 + 2/3) / 4
    assert np.isclose(gap(known, right, np.array([0.05])), (1 / 2 + 2 / 3) / 4)


def test_a_model_that_cannot_tell_scores_the_share_of_each_side():
    same = np.zeros(30)
    assert aupr(same, same[:10]) == (0.75, 0.25)
    assert np.isclose(gap(same, np.arange(30) < 12, same[:10]), 12 / 40 * 12 / 30)


def test_oscr_is_the_area_under_the_step_curve():
    known, correct = np.array([0.1, 0.2, 0.3, 0.6]), np.array([True, True, False, True])
    unknown = np.array([0.25, 0.5])
    # CCR is 2/4 until the first unknown is accepted, and still 2/4 until the second
    assert oscr(known, correct, unknown) == 0.5 * 0.5 + 0.5 * 0.5


def test_a_collapsed_model_is_at_chance_or_below():
    same, right = np.zeros(50), np.ones(50, bool)
    assert (auroc(same, same), fpr95(same, same), oscr(same, right, same)) == (0.5, 1.0, 0.0)


def test_whole_weights_are_repetitions():
    rng = np.random.default_rng(0)
    known, unknown, correct = rng.random(12), rng.random(9), rng.random(12) < 0.5
    times, times_unknown = rng.integers(0, 4, (3, 12)), rng.integers(0, 4, (3, 9))
    values = open_set_values(known, correct, unknown, times.astype(float), times_unknown.astype(float))
    for row in range(3):
        a, b = (np.repeat(np.arange(len(t)), t) for t in (times[row], times_unknown[row]))
        np.testing.assert_allclose(values[row], open_set_values(known[a], correct[a], unknown[b])[0])


def draw(rng, classes=6):
    labels, unknown_labels = np.arange(120) % 6, np.arange(100) % classes
    return rng.normal(0, 1, 120), rng.random(120) < 0.8, labels, rng.normal(1.5, 1, 100), unknown_labels


def test_intervals_cover_the_truth_and_say_what_they_mean():
    rng = np.random.default_rng(0)
    # precisions depend on how many known there are to one unknown
    big = rng.normal(0, 1, 48_000), rng.random(48_000) < 0.8, rng.normal(1.5, 1, 40_000)
    truth = dict(zip(NAMES, open_set_values(*big)[0], strict=True))
    inside = dict.fromkeys(NAMES, 0)
    for trial in range(150):
        known, correct, labels, unknown, unknown_labels = draw(rng)
        found = open_set_estimates(
            *(known, correct, labels, np.arange(120)),
            *(unknown, unknown_labels, np.arange(100)),
            *(200, trial),
        )
        for name in NAMES:
            inside[name] += found[name].low <= truth[name] <= found[name].high
    assert found["auroc"].n == 220 and "6 unknown classes" in found["auroc"].reason
    assert all(0.9 <= count / 150 <= 0.995 for count in inside.values()), inside


def test_from_twenty_unknown_classes_on_classes_are_resampled():
    rng = np.random.default_rng(0)
    known, correct, labels, _, unknown_labels = draw(rng, classes=25)
    unknown = rng.normal(1.5, 1, 25)[unknown_labels]  # images of a class are alike
    sides = (known, correct, labels, np.arange(120), unknown)
    by_class = open_set_estimates(*sides, unknown_labels, np.arange(100), 300, 0)["auroc"]
    by_image = open_set_estimates(*sides, unknown_labels % 5, np.arange(100), 300, 0)["auroc"]
    assert by_class.reason is None and by_class.value == by_image.value
    assert by_class.high - by_class.low > 1.2 * (by_image.high - by_image.low)


def test_an_empty_side_gives_a_reason():
    some, none = np.ones(3), np.zeros(0)
    codes, no_codes = np.arange(3), np.zeros(0, int)
    found = open_set_estimates(some, some > 0, codes, codes, none, no_codes, no_codes, 10, 0)
    assert {each.value for each in found.values()} == {None} and "unknown" in found["oscr"].reason


def test_a_perfect_model_has_no_interval_around_its_precisions():
    near, far, codes = np.zeros(20), np.ones(30), np.arange(30)
    found = open_set_estimates(
        *(near, near < 1, codes[:20] % 4, codes[:20], far, codes % 5, codes), resamples=50, seed=0
    )
    for name in ("aupr_known", "aupr_unknown", "gap"):
        assert found[name][:3] == (1.0, 1.0, 1.0)


def test_a_known_query_that_stands_for_three_counts_like_three():
    """Where known queries are a sample: AUPR and GAP depend on how many there are for each unknown one."""
    rng = np.random.default_rng(0)
    known, unknown = (np.round(rng.random(size), 2).astype(np.float32) for size in (60, 40))
    right = rng.random(60) < 0.7
    whole = open_set.Curve.of(*(np.repeat(each, 3) for each in (known, right)), unknown)
    sampled = open_set.Sides(np.arange(60), np.arange(60), np.arange(40), np.arange(40), 3.0)
    found = open_set.Curve.of(known, right, unknown).values(*sampled.once())
    np.testing.assert_allclose(found, whole.values(np.ones((1, 180)), np.ones((1, 40))))
    for near, far in sampled.weights(20, 0):
        assert near.mean() == pytest.approx(3.0) and far.mean() == pytest.approx(1.0)
