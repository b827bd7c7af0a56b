"""The batch plan: what it promises, for any class sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.learning.samplers import BatchPlan, describe_epoch, groups_per_class, plan_epoch

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=15)


@st.composite
def plans(draw):
    sizes = draw(SIZES)
    plan = BatchPlan(
        classes_per_batch=draw(st.integers(2, len(sizes))),
        examples_per_class_per_batch=draw(st.integers(2, 6)),
        balance=draw(st.sampled_from(["none", "sqrt", "class"])),
        coverage=draw(st.sampled_from([0.5, 1.0, 3.0])),
        min_batches=draw(st.sampled_from([1, 7])),
        max_repeat=draw(st.sampled_from([1, 3, 10])),
        seed=draw(st.integers(0, 5)),
    )
    return np.repeat(np.arange(len(sizes)), sizes), plan


@given(plans())
@settings(max_examples=150, deadline=None)
def test_promises(case):
    labels, plan = case
    batches = plan_epoch(labels, plan, 0)
    assert batches
    for rows in batches:
        assert len(np.unique(rows)) == len(rows), "no image twice in one batch"
        _, counts = np.unique(labels[rows], return_counts=True)
        assert 2 <= len(counts) <= plan.classes_per_batch
        sizes = np.bincount(labels)[np.unique(labels[rows])]
        expected = np.minimum(sizes, plan.examples_per_class_per_batch)
        np.testing.assert_array_equal(counts, expected, "K images of each class, or all it has")
    draws = np.bincount(np.concatenate(batches), minlength=len(labels))
    for label in np.unique(labels):
        of_class = draws[labels == label]
        assert of_class.max() - of_class.min() <= 1, "a queue draws every image before any again"
        assert of_class.max() <= max(1, np.ceil(plan.max_repeat))


@given(plans(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_pure_function_of_seed_and_epoch(case, epoch):
    labels, plan = case
    again = [rows.tolist() for rows in plan_epoch(labels, plan, epoch)]
    assert again == [rows.tolist() for rows in plan_epoch(labels, plan, epoch)]


def test_epochs_and_seeds_differ():
    labels = np.repeat(np.arange(8), 20)
    plan = BatchPlan(4, 4, "sqrt", 1.0, 1, 10, seed=0)
    orders = [np.concatenate(plan_epoch(labels, plan, epoch)).tolist() for epoch in (0, 1)]
    orders.append(np.concatenate(plan_epoch(labels, BatchPlan(4, 4, "sqrt", 1.0, 1, 10, seed=1), 0)).tolist())
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize(("balance", "tail", "seen"), [("sqrt", 6.0, 0.75), ("none", 1.5, 0.75)])
def test_a_long_tail_is_not_drawn_to_death(balance, tail, seen):
    sizes = np.round(500 * (5 / 500) ** (np.arange(100) / 99)).astype(int)  # 500 … 5, ratio 100 : 1
    labels = np.repeat(np.arange(100), sizes)
    plan = BatchPlan(16, 4, balance, 1.0, 1, 10, seed=0)
    draws = np.bincount(np.concatenate(plan_epoch(labels, plan, 0)), minlength=len(labels))
    assert draws[labels == 99].mean() <= tail
    assert (draws > 0).mean() >= seen


def test_mass_follows_the_balance():
    counts = np.array([100, 400])
    plan = BatchPlan(2, 4, "sqrt", 1.0, 1, 10, seed=0)
    # with as many classes as a batch holds each is in every batch; the shares only show with fewer
    assert groups_per_class(counts, plan).tolist() == [63, 63]
    many = np.array([100] * 10 + [400] * 10)
    groups = {b: groups_per_class(many, BatchPlan(4, 4, b, 1.0, 1, 10, 0)) for b in ("none", "sqrt", "class")}
    ratio = {balance: g[10:].mean() / g[:10].mean() for balance, g in groups.items()}
    assert ratio == pytest.approx({"none": 4.0, "sqrt": 2.0, "class": 1.0}, rel=0.05)


def test_the_description_counts_what_the_plan_does():
    labels = np.repeat(np.arange(6), [2, 4, 8, 16, 32, 64])
    plan = BatchPlan(3, 4, "sqrt", 1.0, 1, 10, seed=0)
    described = describe_epoch(labels, plan)
    draws = np.bincount(np.concatenate(plan_epoch(labels, plan, 0)), minlength=len(labels))
    assert described["draws"] == draws.sum()
    assert described["largest_repeat"] == draws.max()
    assert described["images_seen_share"] == pytest.approx((draws > 0).mean())
