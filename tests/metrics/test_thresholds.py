"""Thresholds against a search over every cut, and their guarantee by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.metrics.calibration import choose_thresholds, familiar, operating_point, parse_target

TARGETS = ["optimal", "precision_0.95", "precision_0.5", "unknown_accept_0.10", "unknown_accept_0.5"]


def queries(seed, n, ties):
    rng = np.random.default_rng(seed)
    known = rng.random(n) < 0.7
    distance = rng.random(n) + 0.3 * ~known
    if ties:
        distance = np.round(distance * 5) / 5
    distance[rng.random(n) < 0.1] = np.inf
    correct = known & np.isfinite(distance) & (rng.random(n) < 1.1 - distance)
    return distance.astype(np.float32), correct, known


def counts_at(distance, correct, known, cut):
    accept = distance <= cut
    return np.sum(accept & correct & known), np.sum(accept & known), np.sum(accept & ~known)


def expected_cut(name, distance, correct, known):
    """The largest accepted distance of the best cut, by trying each; None where none will do."""
    cuts = sorted(set(distance[np.isfinite(distance)].tolist()))
    points = [(cut, *counts_at(distance, correct, known, cut)) for cut in cuts]
    if name == "optimal":
        f1 = [2 * tp / (claimed + known.sum()) if known.any() else 0 for _, tp, claimed, _ in points]
        return cuts[int(np.argmax(f1))] if points and max(f1) > 0 else None
    level = float(name.rpartition("_")[2])
    if name.startswith("precision"):
        met = [
            (claimed, -cut, cut) for cut, tp, claimed, _ in points if claimed and tp >= level * claimed - 1e-9
        ]
        return max(met)[2] if met else None
    unknown = np.sort(distance[~known])
    j = int((len(unknown) + 1) * level + 1e-9)
    below = [cut for cut in cuts if j and cut < unknown[j - 1]]
    return below[-1] if len(unknown) and below else None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.booleans())
def test_thresholds_equal_the_search(seed, n, ties):
    distance, correct, known = queries(seed, n, ties)
    chosen = choose_thresholds(distance, correct, known, TARGETS)
    for name, threshold in chosen.items():
        cut = expected_cut(name, distance, correct, known)
        if cut is None:
            assert threshold.distance is None and threshold.reason
            continue
        assert threshold.reason is None
        assert np.array_equal(distance <= np.float32(threshold.distance), distance <= np.float32(cut))
        following = distance[np.isfinite(distance) & (distance > np.float32(cut))]
        middle = (cut + following.min()) / 2 if len(following) else cut
        assert threshold.distance == pytest.approx(middle)


def test_neighbouring_floats_leave_no_room_for_a_middle():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    distance, yes = np.array([low, high]), np.array([True, True])
    chosen = choose_thresholds(distance, np.array([True, False]), yes, ["optimal"])["optimal"]
    assert (distance <= np.float32(chosen.distance)).tolist() == [True, False]


@pytest.mark.parametrize("alpha", ["0.05", "0.10", "0.29"])
@pytest.mark.parametrize("m", [19, 30, 100])
def test_an_exchangeable_unknown_is_accepted_at_most_as_often_as_promised(alpha, m):
    """Over 1,000 calibrations of m unknowns, P(accept) is at most alpha, and not far below."""
    rng = np.random.default_rng(m)
    accepted = []
    for _ in range(1000):
        unknown, known = rng.random(m).astype(np.float32), rng.random(300).astype(np.float32)
        distance, is_known = np.r_[unknown, known], np.r_[np.zeros(m, bool), np.ones(300, bool)]
        name = f"unknown_accept_{alpha}"
        threshold = choose_thresholds(distance, is_known, is_known, [name])[name].distance
        accepted.append(threshold or 0.0)  # of a uniform unknown, the chance to be accepted
    share, noise = np.mean(accepted), 3 * np.std(accepted) / np.sqrt(1000)
    assert float(alpha) - 1 / (m + 1) - noise - 0.005 <= share <= float(alpha) + noise


def test_too_few_unknowns_for_the_level():
    distance, known = np.linspace(0.1, 0.9, 9, dtype=np.float32), np.array([True] + [False] * 8)
    found = choose_thresholds(distance, known, known, ["unknown_accept_0.10", "unknown_accept_0.2"])
    assert found["unknown_accept_0.10"].distance is None
    assert (
        "9 unknown" in found["unknown_accept_0.10"].reason and "are 8" in found["unknown_accept_0.10"].reason
    )
    assert found["unknown_accept_0.2"].distance == pytest.approx(0.15)


@pytest.mark.parametrize("name", ["best", "precision", "precision_1.5", "recall_0.9", "unknown_accept_x", ""])
def test_names_that_are_no_targets(name):
    with pytest.raises(ValueError, match="no target"):
        parse_target(name)


def test_operating_point():
    distance = np.float32([0.1, 0.2, 0.3, 0.9, 0.2, 0.8])
    known = np.array([True] * 4 + [False] * 2)
    correct = np.array([True, False, True, True, False, False])
    point = operating_point(distance, correct, known, 0.3)
    assert (point["precision"], point["recall"], point["accepted"]) == (2 / 3, 0.5, 0.75)
    assert point["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert (point["unknown_accept"], point["n_known"], point["n_unknown"]) == (0.5, 4, 2)
    assert 0 < point["recall_low"] < 0.5 < point["recall_high"] < 1
    nothing = operating_point(distance[:4], correct[:4], known[:4], 0.0)
    assert nothing["precision"] is None and nothing["precision_low"] is None
    assert (nothing["recall"], nothing["unknown_accept"], nothing["f1"]) == (0.0, None, 0.0)


@pytest.mark.parametrize(("level", "fewest"), [("0.95", 19), ("0.9", 9), ("0.5", 1)])
def test_familiar_needs_so_many_queries_and_then_takes_the_largest(level, fewest):
    distance = np.linspace(0.1, 0.5, fewest).astype(np.float32)
    chosen = familiar(distance, level)
    assert chosen.target == f"familiar_{level}" and chosen.distance == pytest.approx(distance[-1])
    missed = familiar(distance[1:], level)
    assert missed.distance is None and f"needs {fewest} queries" in missed.reason


@given(st.lists(st.floats(0, 2, width=32), min_size=19, max_size=90))
def test_familiar_is_the_smallest_distance_that_enough_queries_are_within(values):
    distance = np.array(values, np.float32)
    chosen = familiar(distance, "0.95").distance
    needed = 0.95 * (len(values) + 1) - 1e-9
    assert np.sum(distance <= np.float32(chosen)) >= needed
    nearer = distance[distance < np.float32(chosen)]
    assert len(nearer) < needed


def test_familiar_holds_for_another_image_of_the_same_kind():
    rng = np.random.default_rng(0)
    draws = rng.gamma(2.0, size=(4000, 60)).astype(np.float32)
    within = [row[-1] <= np.float32(familiar(row[:-1], "0.95").distance) for row in draws]
    assert 0.94 < np.mean(within) < 0.97  # j / (m + 1) = 57 / 60


def test_familiar_says_why_where_images_have_no_neighbour():
    distance = np.r_[np.full(10, np.inf), np.full(30, 0.2)].astype(np.float32)
    chosen = familiar(distance, "0.95")
    assert chosen.distance is None and chosen.reason == "more than 5% of the queries have no neighbour"
