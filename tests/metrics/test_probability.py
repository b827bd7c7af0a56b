"""The probability of an answer against plain loops, scikit-learn and simulations."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from simpipe.metrics.probability import (
    MARGIN_WEIGHTS,
    Calibrated,
    brier,
    ece,
    fit_probability,
    mass_bins,
    query_weights,
    verify_probability,
)


def truth(distance, margin):
    return np.clip(0.97 - 0.8 * distance + 0.5 * margin, 0.02, 0.98)


def queries(seed, n, ties=False, unknown=0.3, truth=truth):
    """Known queries that are right by `truth`, and unknown ones, which are farther away."""
    rng = np.random.default_rng(seed)
    known = rng.random(n) >= unknown
    distance, margin = rng.random(n) * 0.8 + 0.3 * ~known, rng.random(n) * 0.4 - 0.1
    if ties:
        distance, margin = np.round(distance * 8) / 8, np.round(margin * 8) / 8
    correct = known & (rng.random(n) < truth(distance, margin))
    return distance.astype(np.float32), margin.astype(np.float32), correct, known


def isotonic(score, correct, weights):
    """The isotonic fit at each score by the max-min formula, with the two made-up answers at the ends."""
    score, correct = np.r_[score.min(), score, score.max()], np.r_[1.0, correct, 0.0]
    levels, code = np.unique(score, return_inverse=True)
    mass, right = (
        np.bincount(code, w) for w in (np.r_[1.0, weights, 1.0], np.r_[1.0, weights, 1.0] * correct)
    )
    fit = []
    for at in range(len(levels)):
        means = np.cumsum(right)[None, at:] - (np.cumsum(right) - right)[: at + 1, None]
        means /= np.cumsum(mass)[None, at:] - (np.cumsum(mass) - mass)[: at + 1, None]
        fit.append(means.min(axis=1).max())
    return np.array(fit)[code[1:-1]]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.0, 0.1, 0.6]))
def test_the_fit_equals_a_brute_force_and_its_weight_is_the_best(seed, ties, share):
    distance, margin, correct, known = queries(seed, 60, ties)
    weights = query_weights(known, share)
    used = weights > 0
    fitted = fit_probability(distance, margin, correct, known, share)
    if isinstance(fitted, str):
        assert used.sum() < 50
        return

    def reference(weight):
        score = np.round(weight * margin.astype(float) - (1 - weight) * distance.astype(float), 9)
        return isotonic(score[used], correct[used], weights[used])

    np.testing.assert_allclose(
        fitted.of(distance, margin)[used], reference(fitted.margin_weight), rtol=0, atol=1e-8
    )
    errors = [np.average((reference(w) - correct[used]) ** 2, weights=weights[used]) for w in MARGIN_WEIGHTS]
    assert errors[MARGIN_WEIGHTS.index(fitted.margin_weight)] == pytest.approx(min(errors), abs=1e-8)


@given(st.integers(0, 10_000), st.integers(60, 300), st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_falls_with_the_distance_rises_with_the_margin_and_is_never_sure(seed, n, ties):
    fitted = fit_probability(*queries(seed, n, ties), 0.1)
    grid = np.linspace(-0.5, 2, 26).astype(np.float32)
    table = fitted.of(np.repeat(grid, 26), np.tile(grid, 26)).reshape(26, 26)
    assert (np.diff(table, axis=0) <= 1e-12).all() and (np.diff(table, axis=1) >= -1e-12).all()
    assert table.min() > 0 and table.max() < 1
    assert (np.diff(fitted.scores) >= 0).all() and (np.diff(fitted.probabilities) >= 0).all()


def test_over_n_right_answers_it_is_at_most_what_the_rule_of_succession_gives():
    distance = np.r_[np.full(80, 0.1), np.full(20, 0.9)].astype(np.float32)
    correct, known = distance < 0.5, np.ones(100, bool)
    near, far = fit_probability(distance, 0 * distance, correct, known).of(
        np.float32([0.1, 0.9]), np.zeros(2)
    )
    assert (near, far) == (pytest.approx(80 / 81), pytest.approx(1 / 21))


def loop_ece(probability, correct, weights, bins):
    """Fill bins one distinct probability after another."""
    parts, part, left, full = [], [], sum(weights), sum(weights) / bins - 1e-9
    for level in sorted(set(probability)):
        rows = [row for row, each in enumerate(probability) if each == level]
        if part and sum(weights[row] for row in part) >= full and left >= full:
            parts, part = [*parts, part], []
        part, left = part + rows, left - sum(weights[row] for row in rows)
    error = 0.0
    for rows in [*parts, part]:
        mass = sum(weights[row] for row in rows)
        said = sum(weights[row] * probability[row] for row in rows) / mass
        seen = sum(weights[row] * correct[row] for row in rows) / mass
        error += mass / sum(weights) * abs(seen - said)
    return error


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 15), st.booleans(), st.booleans())
def test_ece_and_brier_equal_a_loop(seed, n, bins, ties, weighted):
    rng = np.random.default_rng(seed)
    probability, correct = rng.random(n), rng.random(n) < 0.6
    probability = np.round(probability * 6) / 6 if ties else probability
    weights = rng.choice([0.25, 1.0], n) if weighted else np.ones(n)
    assert ece(probability, correct, weights, bins) == pytest.approx(
        loop_ece(probability.tolist(), correct.tolist(), weights.tolist(), bins)
    )
    expected = sum(w * (p - y) ** 2 for w, p, y in zip(weights, probability, correct, strict=True))
    assert brier(probability, correct, weights) == pytest.approx(expected / sum(weights))
    if 0 < correct.sum() < n:
        assert brier(probability, correct, weights) == pytest.approx(
            brier_score_loss(correct, probability, sample_weight=weights)
        )
    shuffled = rng.permutation(n)
    assert np.array_equal(
        mass_bins(probability, weights, bins)[shuffled],
        mass_bins(probability[shuffled], weights[shuffled], bins),
    )


@pytest.mark.parametrize("n", [1, 30, 45, 400, 1000])
def test_what_is_told_of_fresh_queries_is_what_the_functions_say(n):
    distance, margin, correct, known = queries(n, n)
    probability = truth(distance, margin)
    rows = np.arange(n)
    told = verify_probability(probability, correct, known, rows % 3, rows, 0.2, 200)
    weights = query_weights(known, 0.2)
    bins = min(max(n // 20, 1), 15)
    assert told["ece"]["value"] == pytest.approx(ece(probability, correct, weights, bins))
    assert told["brier"]["value"] == pytest.approx(brier(probability, correct, weights))
    share = np.average(correct, weights=weights)
    assert told["brier"]["constant"] == pytest.approx(np.average((share - correct) ** 2, weights=weights))
    assert sum(each["n"] for each in told["reliability"]) == told["ece"]["n"] == n
    assert len(told["reliability"]) <= bins
    predicted = [each["predicted"] for each in told["reliability"]]
    assert predicted == sorted(predicted)
    for name in ("ece", "brier"):
        assert 0 <= told[name]["low"] <= told[name]["value"] <= told[name]["high"]
    assert told == verify_probability(probability, correct, known, rows % 3, rows, 0.2, 200)
    json.dumps(told, allow_nan=False)


@cache
def verdicts(fault, n, per_group, trials):
    """How often the intervals of ECE and Brier cover the truth, and that of ECE reaches down to 0; and the
    mean ratio of ECE to what it is by chance.
    """
    rng = np.random.default_rng(n)
    rows, groups = np.arange(n), np.arange(n) // per_group
    found = []
    for _ in range(trials):
        probability = rng.beta(4, 1, n)[groups] * 0.98 + 0.01
        likely = np.clip(probability - fault, 0, 1)
        correct = rng.random(n)[groups] < likely
        told = verify_probability(probability, correct, rows >= 0, 0 * rows, groups, resamples=200)
        number = mass_bins(probability, np.ones(n), int(np.clip(n // 20, 1, 15)))
        error = np.abs(np.bincount(number, likely - probability)).sum() / n
        squares = np.mean(likely * (1 - probability) ** 2 + (1 - likely) * probability**2)
        of_ece, of_brier = told["ece"], told["brier"]
        covers = of_ece["low"] <= error <= of_ece["high"], of_brier["low"] <= squares <= of_brier["high"]
        found.append([*covers, of_ece["low"] == 0, of_ece["value"] / of_ece["by_chance"]])
    return np.mean(found, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "n", "per_group"), [(0, 300, 1), (0.05, 300, 1), (0.1, 600, 1), (0, 600, 2), (0.1, 600, 2)]
)
def test_intervals_cover_the_truth(fault, n, per_group):
    of_ece, of_brier, _, _ = verdicts(fault, n, per_group, 150)
    assert of_ece > 0.90 and 0.91 < of_brier < 0.985


@pytest.mark.parametrize("per_group", [1, 2])
def test_an_ece_that_chance_explains_reaches_down_to_zero_and_no_other(per_group):
    _, _, explained, over_chance = verdicts(0, 300 * per_group, per_group, 60)
    assert explained > 0.9 and over_chance == pytest.approx(1, abs=0.1)
    assert verdicts(0.15, 500 * per_group, per_group, 20)[2] == 0


@pytest.mark.parametrize("among_calibration", [0.05, 0.5])
def test_it_holds_on_fresh_queries_with_the_share_of_unknowns_that_was_given(among_calibration):
    fitted = fit_probability(*queries(0, 6000, unknown=among_calibration), 0.2)
    distance, margin, correct, _ = queries(1, 6000, unknown=0.2)
    probability = fitted.of(distance, margin)
    assert probability.mean() == pytest.approx(correct.mean(), abs=0.02)
    assert ece(probability, correct, np.ones(6000)) < 0.04
    told = verify_probability(
        fitted.of(*(test := queries(2, 6000, unknown=0.6))[:2]),
        *(*test[2:], np.arange(6000) % 9, np.arange(6000), 0.2, 200),
    )
    assert told["ece"]["value"] < 0.04 and told["brier"]["value"] < 0.9 * told["brier"]["constant"]


def test_the_margin_counts_where_it_tells_more_and_not_where_it_tells_nothing():
    by_margin = fit_probability(*queries(0, 3000, truth=lambda _, m: 0.2 + 0.6 * (m > 0.1)), 0)
    by_distance = fit_probability(*queries(0, 3000, truth=lambda d, _: 0.2 + 0.6 * (d < 0.4)), 0)
    assert by_margin.margin_weight > 0.8 and by_distance.margin_weight < 0.2


def test_too_few_queries_give_a_reason():
    distance, margin, correct, known = queries(0, 200, unknown=0)
    assert fit_probability(distance[:49], margin[:49], correct[:49], known[:49]).endswith("here are 49")
    assert not isinstance(fit_probability(distance[:50], margin[:50], correct[:50], known[:50]), str)
    assert fit_probability(distance, margin, known, known).endswith("here are 200 and 0")
    assert fit_probability(distance, margin, ~known, known).endswith("here are 0 and 200")
    assert "needs 50" in fit_probability(np.full(200, np.inf, np.float32), margin, correct, known)
    nobody = np.zeros(200, bool)
    assert "needs 50" in fit_probability(distance, margin, nobody, nobody)
    assert fit_probability(distance[:0], margin[:0], nobody[:0], nobody[:0]).endswith("here are 0")


def test_a_query_without_a_match_has_no_probability_and_is_not_verified():
    fitted = fit_probability(*queries(0, 200))
    distance, margin = np.float32([0.2, np.inf]), np.float32([0.1, 0])
    probability = fitted.of(distance, margin)
    assert np.isfinite(probability).tolist() == [True, False]
    by_margin = Calibrated(1.0, np.array([0.0, 1.0]), np.array([0.25, 0.75]))
    assert by_margin.of(distance, margin)[0] == pytest.approx(0.3) and np.isnan(
        by_margin.of(distance, margin)[1]
    )
    yes, rows = np.ones(2, bool), np.arange(2)
    assert verify_probability(probability, yes, yes, rows, rows)["brier"]["n"] == 1
    assert verify_probability(probability[1:], yes[1:], yes[1:], rows[1:], rows[1:]) is None


def test_collapsed_embeddings_give_one_probability():
    _, _, correct, known = queries(0, 200, unknown=0)
    zero = np.zeros(200, np.float32)
    found = fit_probability(zero, zero, correct, known).of(zero, zero)
    assert found == pytest.approx((correct.sum() + 1) / 202)


def test_to_apply_it_takes_nothing_but_numpy():
    code = """if True:
        import sys, numpy as np
        from simpipe.metrics.probability import Calibrated
        fitted = Calibrated(0.25, np.array([-0.5, 0.0]), np.array([0.2, 0.9]))
        print(fitted.of(np.float32([0.4, 3]), np.float32([0.2, 0])).round(6), 'sklearn' in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[0.55", "0.2", "]", "False"]


def test_a_step_is_level_beyond_its_ends():
    fitted = Calibrated(1.0, np.array([0.0, 1.0]), np.array([0.25, 0.75]))
    assert fitted.of(np.zeros(3), np.array([-9.0, 0.5, 9.0])).tolist() == [0.25, 0.5, 0.75]
