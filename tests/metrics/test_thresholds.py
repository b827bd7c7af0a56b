"""Thresholds against a search over every cut, and their guarantee by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.metrics.calibration import choose_thresholds, familiar, held, operating_point, parse_target
from simpipe.search.matching import MatchRule, find_matches

TARGETS = [
    *("optimal", "precision_0.95", "precision_0.5", "recall_0.90", "recall_0.5", "recall_0.29"),
    *("unknown_accept_0.10", "unknown_accept_0.5"),
]


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
    if name.startswith("recall"):
        met = [cut for cut, tp, _, _ in points if tp and tp >= level * known.sum() - 1e-9]
        return min(met) if met else None
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
            assert threshold.distance is None and threshold.reason and not threshold.caution
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
    reason = found["unknown_accept_0.10"].reason
    assert "9 images of unknown" in reason and "here are 8" in reason
    assert found["unknown_accept_0.2"].distance == pytest.approx(0.15)


@pytest.mark.parametrize(
    "name", ["best", "precision", "precision_1.5", "recall_0", "recall", "unknown_accept_x", ""]
)
def test_names_that_are_no_targets(name):
    with pytest.raises(ValueError, match="no target"):
        parse_target(name)


def test_what_cannot_be_met_is_said_with_what_would_mend_it():
    none = np.zeros(0, bool)
    empty = choose_thresholds(np.zeros(0, np.float32), none, none, TARGETS)
    assert all("no image of a known label is in the split val" in empty[name].reason for name in TARGETS[:6])
    assert "held out as unknown from 10 on" in empty["unknown_accept_0.10"].reason
    distance, known = np.float32([0.1, 0.2, 0.3, 0.4]), np.array([True, True, True, True])
    wrong = choose_thresholds(distance, ~known, known, TARGETS)
    assert all("of 4 known images none" in wrong[name].reason for name in TARGETS[:6])
    half = choose_thresholds(distance, np.array([False, True, True, False]), known, TARGETS)
    assert "the best is 0.667" in half["precision_0.95"].reason
    assert "of 4 known images 2 match their own label (50.0%)" in half["recall_0.90"].reason
    near = choose_thresholds(np.float32([0.5, 0.1, 0.2]), known[:3], np.array([True, False, False]), TARGETS)
    assert "does not tell them apart" in near["unknown_accept_0.5"].reason


def test_a_precision_on_few_images_comes_with_a_caution():
    for count, doubtful in ((18, True), (19, False)):
        distance, yes = np.linspace(0.1, 0.5, count).astype(np.float32), np.ones(count, bool)
        found = choose_thresholds(distance, yes, yes, ["precision_0.95", "optimal"])
        assert bool(found["precision_0.95"].caution) == doubtful and found["optimal"].caution is None
        assert not doubtful or "chosen on 18 accepted images" in found["precision_0.95"].caution


def test_whether_a_target_held():
    point = {"precision_high": 0.96, "recall_high": 0.85, "accepted_high": 0.95, "unknown_accept_low": 0.12}
    point["n_unknown_classes"] = 20
    answers = {"precision_0.95": True, "precision_0.97": False, "recall_0.85": True, "recall_0.90": False}
    answers |= {"unknown_accept_0.12": True, "unknown_accept_0.10": False, "familiar_0.95": True}
    assert {name: held(name, point) for name in answers} == answers
    nothing = dict.fromkeys(point)
    assert [held(name, nothing) for name in answers] == [None] * len(answers)
    assert held("optimal", point) is None
    assert held("unknown_accept_0.10", point | {"n_unknown_classes": 19}) is None


def alone(queries):
    """A class and a duplicate group for each query: all of one class, and each a group of its own."""
    return np.zeros(len(queries[0]), int), np.arange(len(queries[0]))


def test_copies_count_as_one_image_in_an_interval():
    distance, correct, known = np.float32([0.1] * 40), np.arange(40) % 10 > 0, np.ones(40, bool)
    copied = [np.repeat(each, 5) for each in (distance, correct, known)]
    groups = np.repeat(np.arange(40), 5)
    once = operating_point(distance, correct, known, 0.5, np.zeros(40, int), np.arange(40))
    assert operating_point(*copied, 0.5, np.zeros(200, int), groups) == pytest.approx(
        once | {"n_known": 200}, nan_ok=True
    )


def test_a_target_that_is_met_rarely_fails_however_alike_the_images_of_a_group_are():
    rng, verdicts = np.random.default_rng(0), []
    for _ in range(300):
        correct = np.repeat(rng.random(100) < 0.9, 4)
        point = operating_point(
            np.zeros(400, np.float32), correct, correct | True, 0.5, np.zeros(400, int), np.arange(400) // 4
        )
        verdicts.append(held("precision_0.90", point))
    assert np.mean(np.array(verdicts) == False) < 0.05  # noqa: E712


def irreducible(seed, n, distance=None):
    """Known queries whose match is right with probability 0.995 - 0.7 d, d uniform; nothing does better."""
    rng = np.random.default_rng(seed)
    distance = rng.random(n).astype(np.float32)
    return distance, rng.random(n) < 0.995 - 0.7 * distance, np.ones(n, bool)


def test_the_precision_target_holds_on_fresh_data():
    """The true precision of a threshold is on average what was asked, and fresh queries say that it held.

    A calibration is as noisy as the test, so that their difference leaves the test's interval more often
    than 2.5 % on that side: where both have as many queries, at 1.96 / sqrt(2) deviations, in 8.3 %.
    """
    target, precisions, verdicts = "precision_0.90", [], []
    for seed in range(300):
        chosen = choose_thresholds(*irreducible((seed, 0), 800), [target])[target].distance
        point = operating_point(*(fresh := irreducible((seed, 1), 800)), chosen, *alone(fresh))
        precisions.append(0.995 - 0.35 * chosen)
        verdicts.append(held(target, point))
    assert np.mean(precisions) == pytest.approx(0.9, abs=0.01)
    assert np.mean(np.array(verdicts) == False) < 0.15  # noqa: E712
    wrong = choose_thresholds(*irreducible(0, 800), ["precision_0.70"])["precision_0.70"].distance
    fresh = irreducible(1, 800)
    assert held(target, operating_point(*fresh, wrong, *alone(fresh))) is False


@pytest.mark.parametrize("rule", MatchRule.__args__)
def test_the_matcher_does_not_accept_everything_where_errors_cannot_be_avoided(rule):
    """A third of the images are junk with a label at random: right at best by luck, however one matches."""
    rng = np.random.default_rng(1)

    def draw(n):
        labels, junk = rng.integers(0, 10, n).astype(np.int32), rng.random(n) < 1 / 3
        vectors = 8 * np.eye(32)[labels] * ~junk[:, None] + rng.normal(size=(n, 32))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels, junk

    gallery, gallery_labels, _ = draw(1500)

    def answers(n):
        queries, labels, junk = draw(n)
        matched, _ = find_matches(queries, gallery, gallery_labels, rule, 5)
        return junk, (matched.distances, matched.labels == labels, np.ones(n, bool))

    targets = ["optimal", "precision_0.95", "recall_0.60"]
    chosen = choose_thresholds(*answers(1500)[1], targets)
    junk, fresh = answers(800)
    for name in targets:
        accepted = fresh[0] <= np.float32(chosen[name].distance)
        point = operating_point(*fresh, chosen[name].distance, *alone(fresh))
        assert point["accepted"] < 0.8 and accepted[junk].mean() < 0.5 * accepted[~junk].mean()
        assert point["precision"] > np.mean(fresh[1]) + 0.05
    precise, complete = (
        operating_point(*fresh, chosen[name].distance, *alone(fresh)) for name in targets[1:]
    )
    assert precise["precision"] > 0.92 and complete["recall"] == pytest.approx(0.6, abs=0.05)


def test_operating_point():
    distance = np.float32([0.1, 0.2, 0.3, 0.9, 0.2, 0.8])
    known = np.array([True] * 4 + [False] * 2)
    correct = np.array([True, False, True, True, False, False])
    point = operating_point(distance, correct, known, 0.3, np.zeros(6, int), np.arange(6))
    assert (point["precision"], point["recall"], point["accepted"]) == (2 / 3, 0.5, 0.75)
    assert point["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert (point["unknown_accept"], point["n_known"], point["n_unknown"]) == (0.5, 4, 2)
    assert 0 < point["recall_low"] < 0.5 < point["recall_high"] < 1
    nothing = operating_point(distance[:4], correct[:4], known[:4], 0.0, np.zeros(4, int), np.arange(4))
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
