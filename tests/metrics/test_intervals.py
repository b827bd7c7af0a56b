"""Intervals: exact values where there are some, and coverage by simulation."""

import math

import numpy as np
import pytest

from simpipe.metrics.intervals import (
    MIN_CLASSES,
    bootstrap_classes,
    bootstrap_groups,
    pool_units,
    sign_test,
    unit_weights,
    wilson,
)


def weights_by_loop(values, classes, groups, resamples, seed):
    """Micro and macro means of each resample, drawing groups within classes one at a time."""
    rng = np.random.default_rng(seed)
    units = {c: [np.flatnonzero((classes == c) & (groups == g)) for g in np.unique(groups[classes == c])]
             for c in np.unique(classes)}  # fmt: skip
    micro, macro = [], []
    for _ in range(resamples):
        total = weight = 0.0
        means = []
        for members in units.values():
            draws = max(len(members) - 1, 1)
            picked = [members[rng.integers(len(members))] for _ in range(draws)]
            scale = len(members) / draws
            top, bottom = sum(values[m].sum() for m in picked), sum(len(m) for m in picked)
            total, weight = total + scale * top, weight + scale * bottom
            means.append(top / bottom)
        micro.append(total / weight)
        macro.append(np.mean(means))
    return np.percentile(micro, [2.5, 97.5]), np.percentile(macro, [2.5, 97.5])


def test_groups_within_classes_as_by_loop():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 120)
    groups = classes * 100 + rng.integers(0, 15, 120)
    values = (rng.random((120, 1)) < 0.3 + 0.15 * classes[:, None]).astype(float)
    (micro,), (macro,) = (bootstrap_groups(values, classes, groups, 4000, 1, macro=m) for m in (False, True))
    expected = weights_by_loop(values[:, 0], classes, groups, 2000, 2)
    assert micro.value == pytest.approx(values.mean()) and micro.n == 120
    assert macro.value == pytest.approx(np.mean([values[classes == c].mean() for c in range(4)]))
    for ours, theirs in zip((micro, macro), expected, strict=True):
        np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.015)


def test_nan_are_left_out_and_columns_do_not_mix():
    rng = np.random.default_rng(0)
    values = rng.random((50, 3))
    values[:10, 1] = np.nan
    values[:, 2] = np.nan
    classes, groups = np.arange(50) % 5, np.arange(50)
    full, part, none = bootstrap_groups(values, classes, groups, 200, 0)
    assert (part.value, part.n) == (pytest.approx(values[10:, 1].mean()), 40) and full.n == 50
    assert none.value is None and none.low is None and none.n == 0 and none.reason
    alone = bootstrap_groups(values[:, :1], classes, groups, 200, 0)[0]
    assert full[:4] == pytest.approx(alone[:4])
    empty = bootstrap_groups(np.zeros((0, 1)), classes[:0], groups[:0], 10, 0)[0]
    assert empty.value is None and empty.n == 0


def test_duplicates_widen_the_interval():
    rng = np.random.default_rng(0)
    classes, values = np.repeat(np.arange(4), 50), np.repeat(rng.random(40) < 0.5, 5)[:, None].astype(float)
    apart, alike = (bootstrap_groups(values, classes, np.arange(200) // size, 1000, 0)[0] for size in (1, 5))
    assert (alike.high - alike.low) > 1.8 * (apart.high - apart.low)


def test_every_stratum_keeps_its_weight_and_single_units_vary_together():
    classes, groups = np.array([0, 0, 0, 1, 2, 3, 3]), np.array([0, 1, 1, 2, 3, 4, 5])
    units = pool_units(classes, groups)
    assert units.total == 6 and sorted(units.sizes.tolist()) == [2, 2, 2]
    blocks = list(unit_weights(units, 50, 3, width=units.total))
    weights = np.concatenate(blocks)[:, units.unit]
    np.testing.assert_allclose(weights[:, 0] + weights[:, 1], 2)
    np.testing.assert_allclose(weights[:, 3] + weights[:, 4], 2)
    assert np.ptp(weights[:, 3]) > 0 and np.array_equal(weights[:, 1], weights[:, 2])
    in_other_blocks = np.concatenate(list(unit_weights(units, 50, 3, width=1 << 19)))[:, units.unit]
    assert np.array_equal(weights, in_other_blocks)


@pytest.mark.parametrize("per_class", [1, 4, 20])
def test_coverage_over_groups(per_class):
    """The true mean is inside about 95 of 100 intervals, also where classes are tiny."""
    rng = np.random.default_rng(per_class)
    classes = np.repeat(np.arange(80 // per_class), per_class)
    chance = np.clip(0.5 + 0.1 * (classes % 5 - 2), 0, 1)
    inside = 0
    for trial in range(300):
        values = (rng.random(80) < chance)[:, None].astype(float)
        estimate = bootstrap_groups(values, classes, np.arange(80), 300, trial)[0]
        inside += estimate.low <= chance.mean() <= estimate.high
    assert 0.90 <= inside / 300 <= 0.99


def test_coverage_over_classes():
    """With 30 classes a percentile interval covers about 93 of 100; that of single images far fewer."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(30), 20)
    inside, naive = 0, 0
    for trial in range(400):
        level = rng.beta(3, 2, 30)
        values = (rng.random(600) < level[classes])[:, None].astype(float)
        estimate = bootstrap_classes(values, classes, 400, trial)[0]
        inside += estimate.low <= 0.6 <= estimate.high
        low, high = wilson(int(values.sum()), 600)
        naive += low <= 0.6 <= high
    assert 0.90 <= inside / 400 <= 0.99 and naive / 400 < 0.80


def test_too_few_classes_have_no_interval_but_a_reason():
    values = np.arange(19.0)[:, None] / 19
    estimate = bootstrap_classes(values, np.arange(19), 100, 0)[0]
    assert estimate.value == pytest.approx(values.mean()) and estimate.low is None and estimate.high is None
    assert str(MIN_CLASSES) in estimate.reason and "19" in estimate.reason
    enough = bootstrap_classes(np.ones((20, 1)), np.arange(20), 100, 0)[0]
    assert (enough.low, enough.high, enough.reason) == (1.0, 1.0, None)


def test_paired_differences_use_the_same_draws():
    rng = np.random.default_rng(0)
    before = rng.random((200, 1))
    classes, groups = np.arange(200) % 8, np.arange(200)
    estimate = bootstrap_groups(before + 0.1 - before, classes, groups, 500, 0)[0]
    assert estimate.low == pytest.approx(0.1) and estimate.high == pytest.approx(0.1)


def test_wilson():
    assert wilson(0, 0) is None
    np.testing.assert_allclose(wilson(8, 10), (0.4901625, 0.9433178), atol=1e-6)
    for successes, n in ((0, 5), (5, 5), (1, 3)):
        low, high = wilson(successes, n)
        assert 0 <= low <= successes / n <= high <= 1


def test_sign_test_is_the_exact_binomial():
    for fixed, broken in ((0, 0), (3, 3), (0, 6), (1, 9), (30, 12)):
        n, tail = fixed + broken, min(fixed, broken)
        expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(tail + 1)) / 2**n)
        assert sign_test(fixed, broken) == pytest.approx(expected)
        assert sign_test(fixed, broken) == sign_test(broken, fixed)
    assert sign_test(60_000, 40_000) < 1e-100
