from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.data.manifest import Samples
from simpipe.data.moves import moves, moves_sentence

Image = tuple[str, str, str]  # label, split, group


def samples(images: dict[str, Image]) -> Samples:
    names = sorted({label for label, _, _ in images.values()})
    ids = sorted(images, key=lambda each: (images[each][0], each))
    label, split, group = (np.array([images[each][k] for each in ids], np.str_) for k in range(3))
    label_id = np.array([names.index(images[each][0]) for each in ids], np.int32)
    return Samples(np.array(ids, np.str_), np.array(ids, np.str_), label, label_id, split, group)


BEFORE: dict[str, Image] = {f"{k}": ("cat" if k < 5 else "dog", "train", f"{k}") for k in range(10)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"1": ("cat", "val", "1")}, {"quota": 1}),
        ({"1": ("dog", "val", "1")}, {"label": 1}),
        ({"1": ("cat", "unseen_test", "1"), "2": ("cat", "unseen_calib", "2")}, {"held_out": 2}),
        ({"1": ("cat", "val", "1"), "2": ("cat", "val", "1")}, {"group": 2}),
        ({"1": ("cat", "val", "1"), "2": ("cat", "train", "1")}, {"group": 1}),
        ({"1": ("cat", "train", "1"), "2": ("cat", "train", "1")}, {}),
        ({"1": ("cow", "unseen_test", "2")}, {"label": 1}),
        ({"new": ("cat", "val", "new"), "3": ("cat", "test", "3")}, {"new": 1, "quota": 1}),
        ({"new": ("cat", "val", "3"), "3": ("cat", "val", "3")}, {"new": 1, "group": 1}),
    ],
)
def test_reasons(changes: dict[str, Image], expected: dict[str, int]) -> None:
    after = {**BEFORE, **changes}
    moved = sum(count for why, count in expected.items() if why != "new")
    assert moves(samples(BEFORE), samples(after)) == Counter(expected) + Counter(stayed=10 - moved)


def test_a_label_that_is_no_longer_held_out_and_images_that_are_gone() -> None:
    before = {**BEFORE, "a": ("cow", "unseen_test", "a"), "b": ("cow", "unseen_test", "b")}
    after = {**BEFORE, "a": ("cow", "train", "a")}
    found = moves(samples(before), samples(after))
    assert found == {"held_out": 1, "gone": 1, "stayed": 10}
    assert moves_sentence(found) == (
        "1 gone; 1 of 11 others in another split: 1 for labels held out as unknown, or no longer"
    )


def test_sentences() -> None:
    same = moves(samples(BEFORE), samples(BEFORE))
    assert moves_sentence(same) == "" and same == {"stayed": 10}
    grown = moves(
        samples(BEFORE), samples({**BEFORE, **{f"n{k}": ("cat", "val", f"n{k}") for k in range(2000)}})
    )
    assert moves_sentence(grown) == "2,000 new images; all others in the split they were in"
    assert moves(samples({}), samples({})) == {} and moves(samples({}), samples(BEFORE)) == {"new": 10}


def images() -> st.SearchStrategy[dict[str, Image]]:
    label, split = st.sampled_from(("cat", "dog")), st.sampled_from(("train", "val", "unseen_test"))
    return st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(label, split, st.sampled_from("ab")), max_size=6
    )


@settings(max_examples=150, deadline=None)
@given(before=images(), after=images())
def test_against_plain_loops(before: dict[str, Image], after: dict[str, Image]) -> None:
    def group_of(all_images: dict[str, Image], each: str) -> set[str]:
        return {other for other, image in all_images.items() if image[2] == all_images[each][2]}

    expected: Counter[Any] = Counter()
    for each in before.keys() | after.keys():
        if each not in before:
            expected["new"] += 1
        elif each not in after:
            expected["gone"] += 1
        elif before[each][1] == after[each][1]:
            expected["stayed"] += 1
        elif before[each][0] != after[each][0]:
            expected["label"] += 1
        elif "unseen_test" in (before[each][1], after[each][1]):
            expected["held_out"] += 1
        elif group_of(before, each) != group_of(after, each):
            expected["group"] += 1
        else:
            expected["quota"] += 1
    assert moves(samples(before), samples(after)) == expected
