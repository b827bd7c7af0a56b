from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simpipe.data.splits import SPLITS, SplitBy, assign_splits, complete_predefined
from simpipe.errors import DataError

Data = tuple[NDArray[np.int64], NDArray[np.int64], list[str], list[str]]
SHARES = {"val": 0.1, "test": 0.2, "unseen": 0.2}


def simple(counts: list[int], start: int = 0) -> Data:
    """Every image its own group, keyed by label and number."""
    label = np.repeat(np.arange(len(counts)), counts)
    keys = [f"{name}/{start + k}" for name, count in enumerate(counts) for k in range(count)]
    return label, np.arange(len(label)), keys, [f"label {n}" for n in range(len(counts))]


def assign(data: Data, seed: int = 0, by: SplitBy = "sample", **changes: float) -> NDArray[np.str_]:
    shares: dict[str, Any] = {**SHARES, **changes}
    return assign_splits(*data, split_seed=seed, by=by, **shares)


@st.composite
def datasets(draw: st.DrawFn) -> Data:
    labels = draw(st.integers(2, 14))
    n = draw(st.integers(labels, 120))
    label = np.array([*range(labels), *draw(st.lists(st.integers(0, labels - 1), min_size=n, max_size=n))])
    spread = draw(st.sampled_from((1, 3, 1_000)))  # few large groups, or nearly all on their own
    group = np.array(draw(st.lists(st.integers(0, n * spread), min_size=len(label), max_size=len(label))))
    group = np.unique(group, return_inverse=True)[1]
    return label, group, [f"key {g}" for g in group], [f"name {k}" for k in range(labels)]


@settings(max_examples=120, deadline=None)
@given(
    data=datasets(), seed=st.integers(0, 5), val=st.sampled_from((0.0, 0.1)), test=st.sampled_from((0.0, 0.3))
)
def test_rules(data: Data, seed: int, val: float, test: float) -> None:
    label, group, _, names = data
    split = assign(data, seed, val=val, test=test)
    assert split.shape == label.shape and set(split) <= set(SPLITS)
    for g in np.unique(group):
        assert len(set(split[group == g])) == 1, "a group is never parted"

    unseen = np.char.startswith(split, "unseen")
    assert not set(label[unseen]) & set(label[~unseen]), "a held-out label is held out whole"
    assert not set(label[split == "unseen_calib"]) & set(label[split == "unseen_test"])
    assert not unseen.any() or len(names) >= 10
    if val == 0:
        assert "val" not in split
    if test == 0:
        assert "test" not in split

    owner = {g: Counter(label[group == g].tolist()) for g in np.unique(group).tolist()}
    majority = {g: min(count, key=lambda k: (-count[k], k)) for g, count in owner.items()}
    for k in set(label[~unseen].tolist()):
        groups = [g for g in majority if majority[g] == k]
        got = {str(split[group == g][0]) for g in groups}
        if len(groups) == 1:
            assert got == {"train"}
        if len(groups) == 2:
            assert got == {"train"} | ({"test"} if test else {"val"} if val else set())
        if len(groups) >= 3:
            assert got == {"train"} | ({"val"} if val else set()) | ({"test"} if test else set())


@settings(max_examples=60, deadline=None)
@given(data=datasets(), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(data: Data, order: Any) -> None:
    label, group, keys, names = data
    shuffled = list(range(len(label)))
    order.shuffle(shuffled)
    moved = assign((label[shuffled], group[shuffled], [keys[k] for k in shuffled], names))
    assert moved.tolist() == assign(data)[shuffled].tolist()


@pytest.mark.parametrize("n", [3, 4, 5, 7, 10, 50, 333, 1000])
def test_quotas_of_single_images(n: int) -> None:
    split = assign(simple([n, n]))
    for label in (0, 1):
        count = Counter(split[label * n : (label + 1) * n].tolist())
        assert abs(count["test"] - 0.2 * n) <= max(0.5, 1 - 0.2 * n) + 1e-9
        assert abs(count["val"] - 0.1 * n) <= max(0.5, 1 - 0.1 * n) + 1e-9


def test_quotas_are_counted_in_images_and_large_groups_stay_in_train() -> None:
    group = np.array([0] * 60 + list(range(1, 41)))
    data = (np.zeros(100, np.int64), group, [f"k{g}" for g in group], ["a"])
    for seed in range(20):
        split = assign(data, seed)
        assert set(split[:60]) == {"train"}
        assert Counter(split.tolist()) == {"train": 70, "val": 10, "test": 20}


def test_small_labels() -> None:
    split = assign(simple([1, 2, 3]))
    assert split[0] == "train"
    assert sorted(split[1:3]) == ["test", "train"]
    assert sorted(split[3:]) == ["test", "train", "val"]
    pair = (np.zeros(5, np.int64), np.array([0, 1, 1, 1, 1]), ["x", "y", "y", "y", "y"], ["a"])
    assert assign(pair).tolist() == ["test"] + ["train"] * 4


def test_an_image_mostly_keeps_its_split_as_data_grow() -> None:
    before = simple([200] * 5)
    label, _, keys, _ = before
    more_label, _, more_keys, _ = simple([10] * 5, start=200)
    all_label = np.r_[label, more_label]
    grown = (all_label, np.arange(len(all_label)), keys + more_keys, before[3])
    old, new = assign(before), assign(grown)[: len(label)]
    assert (old != new).mean() < 0.03
    assert (assign(before, 1) != old).mean() > 0.3, "another seed is another split"
    fewer = np.arange(len(label)) % 20 != 0
    shrunk = (
        label[fewer],
        np.arange(fewer.sum()),
        [k for k, keep in zip(keys, fewer, strict=True) if keep],
        before[3],
    )
    assert (assign(shrunk) != old[fewer]).mean() < 0.03


@pytest.mark.parametrize(
    ("labels", "unseen", "calib", "test"),
    [(9, 0.2, 0, 0), (10, 0.2, 1, 1), (10, 0.0, 0, 0), (10, 0.01, 1, 1), (12, 0.25, 1, 2), (81, 0.2, 8, 8)],
)
def test_how_many_labels_are_held_out(labels: int, unseen: float, calib: int, test: int) -> None:
    data = simple([4] * labels)
    split = assign(data, unseen=unseen)
    assert len(set(data[0][split == "unseen_calib"])) == calib
    assert len(set(data[0][split == "unseen_test"])) == test


def test_held_out_labels_go_by_name_not_by_number() -> None:
    data = simple([4] * 20)
    names = data[3]

    def held_out(split: NDArray[np.str_], order: list[int]) -> set[tuple[str, str]]:
        return {
            (names[order[k]], str(s)) for k, s in zip(data[0], split, strict=True) if s.startswith("unseen")
        }

    reverse = list(range(19, -1, -1))
    again = assign((*data[:3], [names[k] for k in reverse]))
    assert held_out(assign(data), list(range(20))) == held_out(again, reverse)


def test_a_label_that_shares_a_group_is_not_held_out() -> None:
    label, group, keys, names = simple([4] * 10)
    held = sorted(set(label[np.char.startswith(assign((label, group, keys, names)), "unseen")].tolist()))
    shared = group.copy()
    shared[np.flatnonzero(label == held[0])[0]] = group[np.flatnonzero(label != held[0])[0]]
    keys = [f"k{g}" for g in shared]
    split = assign((label, shared, keys, names))
    assert not set(split[label == held[0]]) & {"unseen_calib", "unseen_test"}
    every = group.copy()
    every[label > 0] = np.where(np.arange(36) % 4 == 0, 0, every[label > 0])
    assert "unseen_test" not in assign((label, every, [f"k{g}" for g in every], names))


def held_out_labels(data: Data, split: NDArray[np.str_], name: str) -> set[int]:
    return set(data[0][split == name].tolist())


@pytest.mark.parametrize(
    ("labels", "val", "test", "calib", "held_test"),
    [
        (4, 0.1, 0.2, 1, 1),
        (10, 0.1, 0.2, 1, 2),
        (10, 0.3, 0.5, 3, 5),
        (30, 0.1, 0.2, 3, 6),
        (5, 0.4, 0.5, 1, 2),
    ],
)
def test_a_split_by_label_holds_the_shares_of_the_labels_out(
    labels: int, val: float, test: float, calib: int, held_test: int
) -> None:
    data = simple([10] * labels)
    for seed in range(5):
        split = assign(data, seed, "label", val=val, test=test)
        assert len(held_out_labels(data, split, "unseen_calib")) == calib
        assert len(held_out_labels(data, split, "unseen_test")) == held_test
        for label in held_out_labels(data, split, "train"):
            assert set(split[data[0] == label]) == {"train", "val", "test"}
    assert (
        held_out_labels(data, split, "unseen_test")
        != held_out_labels(data, assign(data, 99, "label", val=val, test=test), "unseen_test")
        or labels < 10
    )


@settings(max_examples=120, deadline=None)
@given(
    data=datasets(), seed=st.integers(0, 5), val=st.sampled_from((0.1, 0.4)), test=st.sampled_from((0.2, 0.5))
)
def test_rules_by_label(data: Data, seed: int, val: float, test: float) -> None:
    label, group, _, names = data
    shared = {
        k for g in np.unique(group) if len(set(label[group == g])) > 1 for k in label[group == g].tolist()
    }
    free = len(names) - len(shared)
    if len(names) < 4 or free < 2:
        with pytest.raises(DataError, match="split by label"):
            assign(data, seed, "label", val=val, test=test)
        return
    split = assign(data, seed, "label", val=val, test=test)
    calib, held_test = (held_out_labels(data, split, name) for name in ("unseen_calib", "unseen_test"))
    assert calib and held_test and not calib & held_test and not (calib | held_test) & shared
    wanted = max(1, round(val * len(names))) + max(1, round(test * len(names)))
    assert len(calib | held_test) == min(wanted, free, len(names) - 2)
    assert not (calib | held_test) & set(label[~np.char.startswith(split, "unseen")].tolist())
    for g in np.unique(group):
        assert len(set(split[group == g])) == 1
    rest = ~np.isin(label, list(calib | held_test))
    by_sample = assign_splits(
        label, group, data[2], names, val=val, test=test, unseen=0.0, split_seed=seed, by="sample"
    )
    assert split[rest].tolist() == by_sample[rest].tolist()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_split_by_label_needs_four_labels(count: int) -> None:
    with pytest.raises(DataError, match=rf"at least 4 labels .* {count}") as error:
        assign(simple([10] * count), by="label")
    assert error.value.hint


def predefined(
    split: list[str], label: list[int], group: list[int] | None = None, val: float = 0.1
) -> list[str]:
    groups = np.array(group if group is not None else range(len(split)))
    keys = [f"k{g}" for g in groups]
    found = complete_predefined(np.array(split), np.array(label), groups, keys, val=val, split_seed=0)
    return [str(name) for name in found]


def test_predefined_splits_stay() -> None:
    split = ["train", "val", "test"] * 4
    assert predefined(split, [0] * 12, group=[0] * 12) == split


def test_missing_val_is_carved_from_train_by_group() -> None:
    split = ["train"] * 40 + ["test"] * 10
    label = [0] * 20 + [1] * 20 + [0, 1] * 5
    group = [k // 2 for k in range(40)] + list(range(20, 30))
    group[40] = 0  # leaks into test: must not be carved
    found = predefined(split, label, group)
    assert found[40:] == ["test"] * 10 and found[:2] == ["train"] * 2
    assert Counter(found[:20]) == Counter(found[20:40]) == {"train": 18, "val": 2}
    assert all(found[k] == found[k + 1] for k in range(0, 40, 2))
    assert predefined(["train"] * 4 + ["test"] * 2, [0, 0, 1, 1, 0, 1]) == ["train"] * 4 + ["test"] * 2


def test_carving_takes_no_label_out_of_train() -> None:
    label = [0] * 30 + [1] + [1]
    group = [*range(30), 29, 99]  # the one train image of label 1 is a duplicate of a label 0 image
    split = ["train"] * 31 + ["test"]
    for seed in range(20):
        keys = [f"{seed} {g}" for g in group]
        found = complete_predefined(
            np.array(split), np.array(label), np.array(group), keys, val=0.5, split_seed=seed
        )
        assert "val" in found and found[30] == "train" and found[31] == "test"


def test_missing_test_makes_val_the_test() -> None:
    found = predefined(["train"] * 20 + ["val"] * 5, [0] * 25)
    assert found[20:] == ["test"] * 5
    assert Counter(found[:20]) == {"train": 18, "val": 2}


def test_labels_that_train_does_not_have() -> None:
    split = ["train", "train", "val", "val", "test", "test"]
    assert predefined(split, [0, 1, 0, 2, 1, 3]) == [
        "train",
        "train",
        "val",
        "unseen_calib",
        "test",
        "unseen_test",
    ]


@settings(max_examples=80, deadline=None)
@given(data=datasets(), given_splits=st.data(), val=st.sampled_from((0.0, 0.1, 0.4)))
def test_predefined_rules(data: Data, given_splits: st.DataObject, val: float) -> None:
    label, group, keys, _ = data
    choice = given_splits.draw(
        st.sampled_from((("train", "test"), ("train", "val"), ("train", "val", "test")))
    )
    n = len(label)
    split = np.array(given_splits.draw(st.lists(st.sampled_from(choice), min_size=n, max_size=n)))
    found = complete_predefined(split, label, group, keys, val=val, split_seed=0)
    train = set(label[split == "train"].tolist())
    as_test = "test" if (split == "test").any() else "val"
    for before, after, k in zip(split, found, label.tolist(), strict=True):
        if before == "train":
            assert after in {"train", "val"}
        elif before == as_test:
            assert after == ("test" if k in train else "unseen_test")
        else:
            assert after == ("val" if k in train else "unseen_calib")
    assert set(label[found == "train"].tolist()) == train, "carving empties no label"
