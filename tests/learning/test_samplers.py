"""The batch plan: what it promises, for any class sizes."""

import dataclasses
import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.errors import UsageError
from simpipe.learning import samplers
from simpipe.learning.samplers import (
    DRAWS,
    BatchPlan,
    describe_epoch,
    groups_per_class,
    plan_epoch,
    select,
    view_of,
)
from simpipe.learning.samplers.groups import whole_groups

SIZES = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 60)), min_size=2, max_size=15)
MODES = ["multi_shot", "coverage"]
LONG_TAIL = np.round(500 * (5 / 500) ** (np.arange(100) / 99)).astype(int)  # 500 … 5, ratio 100 : 1


def balanced(classes: int, images: int, balance: str = "sqrt", seed: int = 0, **more) -> BatchPlan:
    return BatchPlan(classes, images, balance, coverage=1.0, min_batches=1, max_repeat=10, seed=seed, **more)


@st.composite
def plans(draw, modes=MODES):
    sizes = draw(SIZES)
    plan = BatchPlan(
        classes_per_batch=draw(st.integers(2, len(sizes) + 1)),
        examples_per_class_per_batch=draw(st.integers(1, 6)),
        balance=draw(st.sampled_from(["none", "sqrt", "class", "effective"])),
        coverage=draw(st.sampled_from([0.1, 1.0, 3.0])),
        min_batches=draw(st.sampled_from([1, 7])),
        max_repeat=draw(st.sampled_from([1, 3, 10])),
        seed=draw(st.integers(0, 5)),
        mode=draw(st.sampled_from(modes)),
        effective_beta=draw(st.sampled_from([None, 0.0, 0.9, 0.9999])),
        hard_share=draw(st.sampled_from([0.0, 0.5, 1.0])),
        warmup_epochs=draw(st.sampled_from([0, 1])),
        single_image=draw(st.sampled_from(["augment", "keep"])),
    )
    labels = np.random.default_rng(draw(st.integers(0, 5))).permutation(
        np.repeat(np.arange(len(sizes)), sizes)
    )
    confusion = np.random.default_rng(0).poisson(draw(st.sampled_from([0, 0.3, 3])), (len(sizes),) * 2)
    return 10 * labels - 30, plan, confusion.astype(float)


def draws_of(batches, labels):
    """How often each image is drawn."""
    return np.bincount(np.concatenate([batch.rows for batch in batches]), minlength=len(labels))


def as_lists(batches):
    return [(batch.rows.tolist(), batch.draws.tolist()) for batch in batches]


@given(plans())
@settings(max_examples=100, deadline=None)
def test_what_a_batch_of_classes_is(case):
    labels, plan, confusion = case
    names, counts = np.unique(labels, return_counts=True)
    twice = plan.single_image == "augment" and plan.warmup_epochs == 0
    batches = plan_epoch(labels, plan, 0, confusion)
    for batch in batches:
        assert batch.rows.dtype == batch.draws.dtype == np.int64
        assert len(set(zip(*as_lists([batch])[0], strict=True))) == len(batch.rows), (
            "no view of an image twice"
        )
        changes = np.flatnonzero(np.diff(labels[batch.rows])) + 1
        blocks = np.split(batch.rows, changes)
        assert 2 <= len(blocks) <= max(3, plan.classes_per_batch)
        assert len({labels[block[0]] for block in blocks}) == len(blocks), "a class has one block"
        for block in blocks:
            count = counts[names == labels[block[0]]].item()
            images = min(count, plan.examples_per_class_per_batch)
            assert len(set(block.tolist())) == images, "K different images of each class, or all it has"
            again = 2 if count == 1 and twice and plan.examples_per_class_per_batch > 1 else 1
            assert len(block) == images * again
        if plan.warmup_epochs:
            assert not batch.draws.any()
        assert batch.draws.min() >= 0
        assert batch.draws.max() < DRAWS
    held = [len(np.unique(labels[batch.rows])) for batch in batches]
    assert max(held) - min(held) <= 1
    if plan.classes_per_batch == 2:
        assert sum(number > 2 for number in held) <= 1


@given(plans())
@settings(max_examples=100, deadline=None)
def test_how_often_images_are_drawn(case):
    labels, plan, confusion = case
    batches = plan_epoch(labels, plan, 0, confusion)
    draws = draws_of(batches, labels)
    largest = np.bincount(np.searchsorted(np.unique(labels), labels)).max()
    for label in np.unique(labels):
        of_class = draws[labels == label]
        size = len(of_class)
        assert of_class.max() - of_class.min() <= 1, "a queue gives every image before any again"
        if plan.mode == "coverage":
            assert of_class.min() >= 1
        group = max(min(size, plan.examples_per_class_per_batch), 2 if plan.single_image == "augment" else 1)
        most = max(plan.max_repeat * size, group)
        # in a coverage of one huge class, the others must come again, else it had a batch for itself
        pressed = plan.mode == "coverage" and largest > (len(labels) - largest)
        assert pressed or of_class.sum() <= max(most, group * -(-size // group) * (plan.mode == "coverage"))


@given(plans(modes=["multi_shot", "coverage", "single_shot"]), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_pure_function_of_plan_epoch_and_confusion(case, epoch):
    labels, plan, confusion = case
    first = plan_epoch(labels, plan, epoch, confusion)
    assert as_lists(first) == as_lists(plan_epoch(labels, plan, epoch, confusion))
    assert len(first) == len(plan_epoch(labels, plan, epoch + 7)), "every epoch has equally many batches"
    again = BatchPlan(**json.loads(json.dumps(plan.to_json())))
    assert as_lists(first) == as_lists(plan_epoch(labels, again, epoch, confusion))


@pytest.mark.parametrize("mode", ["multi_shot", "coverage", "single_shot"])
def test_epochs_and_seeds_differ(mode):
    labels = np.repeat(np.arange(8), 20)
    orders = [(0, 0), (0, 1), (1, 0)]
    plans = [plan_epoch(labels, balanced(4, 4, seed=seed, mode=mode), epoch) for seed, epoch in orders]
    assert len({str(as_lists(batches)) for batches in plans}) == 3


@given(plans())
@settings(max_examples=100, deadline=None)
def test_hard_batches_change_no_budget(case):
    labels, plan, confusion = case
    plain = plan_epoch(labels, dataclasses.replace(plan, hard_share=0.0), 1, confusion)
    hard = plan_epoch(labels, dataclasses.replace(plan, hard_share=0.7), 1, confusion)
    assert len(plain) == len(hard)
    np.testing.assert_array_equal(draws_of(plain, labels), draws_of(hard, labels))
    off = plan_epoch(labels, dataclasses.replace(plan, hard_share=0.7), 1, None)
    assert as_lists(plain) == as_lists(off), "without a confusion no batch is hard"


def test_confused_classes_meet_in_hard_batches():
    """Forty classes, each confused with its twin only: by chance twins are 1 in 39 pairs of a batch."""
    labels = np.repeat(np.arange(40), 30)
    confusion = np.diag(np.full(40, 9.0)) + np.kron(np.eye(20), [[0, 1.0], [0, 0]])

    def twins(share):
        pairs = []
        for batch in plan_epoch(labels, balanced(4, 4, hard_share=share), 0, confusion):
            chosen = set(np.unique(labels[batch.rows]).tolist())
            pairs.append(sum(c % 2 == 0 and c + 1 in chosen for c in chosen))
        return np.array(pairs)

    batches = len(twins(0))
    assert twins(0).mean() < 0.4  # 6 / 39 expected
    assert (twins(1) >= 1).mean() > 0.8
    assert 0.4 < (twins(0.5) >= 1).mean() < 0.75
    assert len(twins(1)) == batches


def test_the_most_confused_come_first():
    labels = np.repeat(np.arange(30), 40)
    confusion = np.ones((30, 30))
    confusion[:6, :6] = 1000
    plan = balanced(6, 2, hard_share=0.1)
    batches = [set(labels[b.rows].tolist()) for b in plan_epoch(labels, plan, 0, confusion)]
    assert sum(batch == set(range(6)) for batch in batches) >= 0.07 * len(batches)


@pytest.mark.parametrize("wrong", [np.ones((3, 3)), np.full((4, 4), -1.0), np.full((4, 4), np.nan)])
def test_a_wrong_confusion_is_refused(wrong):
    with pytest.raises(ValueError, match="confusion"):
        plan_epoch(np.repeat(np.arange(4), 3), balanced(2, 2, hard_share=0.5), 0, wrong)


@given(st.integers(2, 90), st.integers(2, 5), st.integers(2, 6), st.integers(0, 2), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_single_shot_gives_each_image_once_in_two_views(images, classes, size, epoch, views):
    labels = np.zeros(images, int)
    batches = plan_epoch(labels, balanced(classes, size, mode="single_shot", warmup_epochs=1), epoch)
    assert sorted(np.concatenate([b.rows for b in batches]).tolist()) == sorted(2 * list(range(images)))
    held = []
    for batch in batches:
        one, two = np.split(batch.rows, 2)
        np.testing.assert_array_equal(one, two)
        first, second = np.split(view_of(batch.draws, views), 2)
        assert (first != second).all(), "two views, however many there are"
        assert batch.draws.min() >= 0
        assert batch.draws.max() < DRAWS
        held.append(len(one))
    assert min(held) >= 2
    assert max(held) <= max(3, classes * size // 2)
    assert max(held) - min(held) <= 1


@given(st.integers(1, 255), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_single_image_gets_a_positive(views, epoch):
    labels = np.repeat(np.arange(8), [1, 1, 1, 9, 9, 9, 9, 2])
    for batch in plan_epoch(labels, balanced(4, 4, single_image="augment"), epoch):
        shown = view_of(batch.draws, views)
        for row in set(batch.rows[np.isin(labels[batch.rows], [0, 1, 2])].tolist()):
            seen = shown[batch.rows == row]
            assert len(seen) == len(set(seen.tolist())) == 2


def test_views_are_drawn_equally_often():
    labels = np.repeat(np.arange(10), 300)
    draws = np.concatenate([b.draws for b in plan_epoch(labels, balanced(10, 4), 0)])
    np.testing.assert_allclose(np.bincount(view_of(draws, 4)) / len(draws), 0.2, atol=0.04)
    assert not view_of(draws, 0).any()
    of_each = view_of(draws, np.arange(len(draws)) % 3)
    assert of_each[::3].max() == 0
    assert of_each[1::3].max() == 1
    assert of_each[2::3].max() == 2


@pytest.mark.parametrize(
    ("balance", "mode", "tail", "seen"),
    [("sqrt", "multi_shot", 6.0, 0.75), ("none", "multi_shot", 1.5, 0.75), ("sqrt", "coverage", 2.0, 1.0)],
)
def test_a_long_tail_is_not_drawn_to_death(balance, mode, tail, seen):
    labels = np.repeat(np.arange(100), LONG_TAIL)
    draws = draws_of(plan_epoch(labels, balanced(16, 4, balance, mode=mode), 0), labels)
    assert draws[labels == 99].mean() <= tail
    assert (draws > 0).mean() >= seen
    assert abs(draws.sum() / len(labels) - 1) < 0.1


def test_large_classes_meet_small_ones_as_often_as_they_come():
    labels = np.repeat(np.arange(100), LONG_TAIL)
    groups, beside = np.zeros(100), np.zeros(100)
    for epoch in range(3):
        for batch in plan_epoch(labels, balanced(16, 4), epoch):
            chosen = np.unique(labels[batch.rows])
            groups[chosen] += 1
            beside[chosen] += (chosen < 10).sum()  # how many of the ten largest are in the batch
    assert beside[50:].sum() / beside[:50].sum() == pytest.approx(
        groups[50:].sum() / groups[:50].sum(), rel=0.2
    )


@pytest.mark.parametrize(
    ("balance", "beta", "ratio"),
    [
        ("none", None, 4.0),
        ("sqrt", None, 2.0),
        ("class", None, 1.0),
        # n / E_n with E_n = (1 - b^n) / (1 - b): at b = 0.99, E_100 = 63.40 and E_400 = 98.20
        ("effective", 0.99, (400 / 98.2047) / (100 / 63.3968)),
        # b = 1 - 1 / median = 0.996: E_100 = 82.55, E_400 = 199.68
        ("effective", None, (400 / 199.6843) / (100 / 82.5468)),
        ("effective", 0.0, 4.0),
    ],
)
def test_mass_follows_the_balance(balance, beta, ratio):
    many = np.array([100] * 10 + [400] * 10)
    groups = groups_per_class(many, balanced(4, 4, balance, effective_beta=beta))
    assert groups[10:].mean() / groups[:10].mean() == pytest.approx(ratio, rel=1e-4)
    assert groups.sum() == pytest.approx(4 * np.ceil(5000 / 16))
    # with as many classes as a batch holds each is in every batch; the shares only show with fewer
    two = groups_per_class(np.array([100, 400]), balanced(2, 4, balance, effective_beta=beta))
    assert two.tolist() == [63, 63]


def test_what_caps_take_goes_to_the_others():
    counts = np.array([2, 400, 400, 400])
    plan = BatchPlan(2, 4, "class", coverage=1.0, min_batches=1, max_repeat=3, seed=0)
    groups = groups_per_class(counts, plan)
    assert groups[0] == 3  # 6 draws in groups of 2
    assert groups.sum() == 2 * np.ceil(1202 / 8)
    assert groups[1] == groups[2] == groups[3]


def test_shares_of_a_group_come_out_right_over_the_epochs():
    labels = np.repeat(np.arange(30), np.arange(1, 31) * 3)
    plan = balanced(4, 8, single_image="augment")
    expected = groups_per_class(np.bincount(labels), plan)
    assert (expected % 1 > 0.01).any()
    drawn = np.zeros(30)
    for epoch in range(200):
        for batch in plan_epoch(labels, plan, epoch):
            drawn[np.unique(labels[batch.rows])] += 1 / 200
    np.testing.assert_allclose(drawn, expected, atol=0.12)


def test_rounding_is_right_in_the_mean_and_keeps_the_sum():
    groups = np.array([3.0, 1.2, 0.5, 7.3, 2.0])
    drawn = np.array([whole_groups(groups, np.random.default_rng(seed)) for seed in range(2000)])
    assert (drawn.sum(axis=1) == 14).all()
    assert (np.abs(drawn - groups) < 1).all()
    np.testing.assert_allclose(drawn.mean(axis=0), groups, atol=0.04)
    assert whole_groups(np.array([2.0, 1.0]), np.random.default_rng(0)).tolist() == [2, 1]


@pytest.mark.parametrize("mode", ["multi_shot", "coverage", "single_shot"])
def test_the_description_counts_what_the_plan_does(mode):
    labels = np.repeat(np.arange(7), [1, 2, 4, 8, 16, 32, 64])
    plan = balanced(3, 4, mode=mode, single_image="augment", warmup_epochs=1)
    described = describe_epoch(labels, plan)
    batches = plan_epoch(labels, plan, 1)
    draws = draws_of(batches, labels)
    assert described["batches"] == len(batches)
    assert described["draws"] == draws.sum()
    assert described["largest_repeat"] == draws.max()
    assert described["images_seen_share"] == pytest.approx((draws > 0).mean())
    assert described["identical_pairs_share"] == 0
    assert described["augmented_share"] == np.mean(np.concatenate([b.draws for b in batches]) > 0)
    assert described["classes_per_batch"] == np.mean([len(np.unique(labels[b.rows])) for b in batches])
    assert sum(third["images"] for third in described["by_class_size"].values()) == len(labels)
    assert describe_epoch(labels, plan, 0)["augmented_share"] == (mode == "single_shot")
    json.dumps(described)


def test_the_description_shows_identical_pairs():
    """With no augmented view, the two draws of a single image are one picture."""
    labels = np.array([0, 1, 2, 2, 2])
    plan = balanced(3, 3, single_image="augment")
    described = describe_epoch(labels, plan, views=0)
    [batch] = {tuple(sorted(batch.rows.tolist())) for batch in plan_epoch(labels, plan, 0)}
    assert batch == (0, 0, 1, 1, 2, 3, 4)
    assert described["identical_pairs_share"] == pytest.approx(2 / 5)  # and three pairs of the class 2
    assert described["augmented_share"] == 0
    assert describe_epoch(labels, plan, views=1)["identical_pairs_share"] == 0
    single = balanced(2, 2, mode="single_shot")
    assert describe_epoch(labels, single, views=0)["identical_pairs_share"] == 1
    assert describe_epoch(labels, single, views=1)["identical_pairs_share"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "tripel"},
        {"balance": "root"},
        {"single_image": "drop"},
        {"classes_per_batch": 1},
        {"examples_per_class_per_batch": 0},
        {"coverage": 0},
        {"max_repeat": 0.5},
        {"effective_beta": 1.0},
        {"hard_share": 1.1},
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))) as refused:
        dataclasses.replace(balanced(4, 4), **wrong)
    assert refused.value.hint


NAMES = [f"label {i % 5}" for i in range(100)]
IDS = [f"{i:04x}" for i in range(100)]


@given(st.permutations(range(100)), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_subset_is_of_different_images_and_stable(order, most, seed):
    names, ids = [NAMES[i] for i in order], [IDS[i] for i in order]
    kept = select(names, ids, None, most, seed)
    chosen = {ids[row] for row in kept}
    assert kept.dtype == np.int64
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert all([names[row] for row in kept].count(name) == most for name in set(names))
    in_order = select(NAMES, IDS, None, most, seed)
    assert chosen == {IDS[row] for row in in_order}, "the order of the images is no matter"
    assert chosen < {ids[row] for row in select(names, ids, None, most + 1, seed)}
    one = select(names, ids, ["label 3"], most, seed)
    assert {ids[row] for row in one} == {ids[row] for row in kept if names[row] == "label 3"}


def test_a_subset_depends_on_the_seed_and_takes_each_image_once():
    chosen = {tuple(select(NAMES, IDS, None, 4, seed).tolist()) for seed in range(20)}
    assert len(chosen) == 20
    often = np.bincount([row for rows in chosen for row in rows], minlength=100)
    assert often.max() < 14  # 4 expected of each, ± 1.8
    assert select(["a"] * 6, ["x", "x", "y", "x", "y", "z"], None, 5, 0).tolist() == [0, 2, 5]
    assert select(["a"] * 6, ["x", "x", "y", "x", "y", "z"], None, None, 0).tolist() == list(range(6))
    assert select(["a", "b", "a"], ["1", "2", "3"], ["a"], None, 0).tolist() == [0, 2]
    assert select(["a", "b"], ["1", "2"], [], 3, 0).tolist() == []


def test_an_unknown_class_is_refused_with_close_names():
    with pytest.raises(UsageError, match="labell 3") as refused:
        select(NAMES, IDS, ["labell 3", "label 1"], None, 0)
    assert "label 3" in refused.value.hint
    with pytest.raises(UsageError) as refused:
        select(NAMES, IDS, ["zebra"], None, 0)
    assert "label 0" in refused.value.hint


def test_the_example_holds():
    assert doctest.testmod(samplers) == (0, 4)


def test_a_large_plan_is_whole():
    """A hundred thousand images of equal classes, in one epoch: full batches, each image once."""
    labels = np.arange(100_000) % 500
    batches = plan_epoch(labels, balanced(20, 4), 0)
    assert {len(batch.rows) for batch in batches} == {80}
    assert draws_of(batches, labels).max() == 1
