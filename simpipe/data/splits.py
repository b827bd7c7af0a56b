"""Which image is for training and which is for questions: by duplicate group, seeded, stable as data grows.

The same rules everywhere:

- a group is never parted. It belongs to the label most of its images have (ties: the smallest label id);
- within a label, groups are ranked by sha256("seed:key") and fill the quotas, counted in images, in that
  order, so that an image mostly keeps its split when others come or go;
- a label of one group is all train; of two, train (the larger) and test (val where test has no quota); of
  three and more, at least one group each for train and for every quota above 0.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.errors import DataError

SPLITS = ("train", "val", "unseen_calib", "test", "unseen_test")
FEWEST_LABELS_FOR_UNSEEN = 10
FEWEST_LABELS_TO_PART = 4

SplitBy = Literal["sample", "label"]
Ints = NDArray[np.integer[Any]]
Names = NDArray[np.str_]


class _Groups(NamedTuple):
    """The g duplicate groups, and the group of each of n images."""

    of_image: Ints  # (n,)
    key: list[str]  # g of them
    size: Ints  # (g,), images
    label: Ints  # (g,), the label it belongs to
    mixed: NDArray[np.bool_]  # (g,), whether it has images of several labels


def assign_splits(
    label_id: Ints,
    group: Ints,
    group_key: Sequence[str],
    label_names: Sequence[str],
    *,
    val: float,
    test: float,
    unseen: float,
    split_seed: int,
    by: SplitBy = "sample",
) -> Names:
    """The split of each of n images: str of shape (n,), one of `SPLITS`.

    From 10 labels on, round(`unseen` x labels), at least 2, are held out whole: half of them (rounded down)
    for `unseen_calib`, the others for `unseen_test`, ranked by the seeded hash of their names. A label that
    shares a duplicate group with another label is never held out: wherever the group went, a held-out label
    would be trained on or a trained picture would count as unseen. If too few labels are left, fewer
    are held out, and fewer than 2 means none.

    By label, round(`val` x labels) are held out for `unseen_calib` and round(`test` x labels) for
    `unseen_test`, at least one each, from 4 labels on. The images of the other labels are split as ever.

    Args:
        label_id: int of shape (n,), indices of `label_names`.
        group: int of shape (n,), equal for images of one duplicate group.
        group_key: n keys, equal within a group, that depend on content and not on names or order.
        label_names: the text of each label.
        val, test: shares of each label's images, and by label also of the labels.
        unseen: share of the labels; not used by label.
        split_seed: another seed is another, equally good split.
        by: what is split: the images of each label, or the labels too.

    Raises:
        DataError: a split by label of fewer than 4 labels, or of labels that share duplicates so that fewer
            than 2 can be held out.
    """
    groups = _groups(label_id, group, group_key)
    count = len(label_names)
    calib, held_test = 0, 0
    if by == "label":
        if count < FEWEST_LABELS_TO_PART:
            raise DataError(
                f"a split by label needs at least {FEWEST_LABELS_TO_PART} labels with usable images, here "
                f"{'is' if count == 1 else 'are'} {count}",
                hint="Split by sample, or add labels.",
            )
        calib, held_test = max(1, round(val * count)), max(1, round(test * count))
    elif unseen > 0 and count >= FEWEST_LABELS_FOR_UNSEEN:
        wanted = max(2, round(unseen * count))
        calib, held_test = wanted // 2, wanted - wanted // 2
    held_out = _held_out(groups, label_id, label_names, calib, held_test, split_seed)
    if by == "label" and not held_out:
        raise DataError(
            f"a split by label holds out at least 2 labels, but of these {count} nearly all share duplicates "
            "or groups with one another",
            hint="Split by sample, or look at the duplicates under several labels.",
        )

    split = np.full(len(groups.key), "train", "U12")
    for label, members in _by_label(groups, np.arange(len(groups.key))):
        if label in held_out:
            split[members] = held_out[label]
        else:
            for name, chosen in _fill(groups, members, {"test": test, "val": val}, split_seed).items():
                split[chosen] = name
    return split[groups.of_image]


def complete_predefined(
    split_in: Names, label_id: Ints, group: Ints, group_key: Sequence[str], *, val: float, split_seed: int
) -> Names:
    """The splits of a data set that came with train, val or test folders: str of shape (n,).

    Missing val is carved from train, the share `val` of each label's images; missing test: val becomes test,
    and val is carved. Only groups of one label that lie in train whole are carved, so that no other label
    leaves train with them, and a label needs three of them.
    Images of labels that train does not have are `unseen_test` (in test) or `unseen_calib` (in val). Nothing
    else moves: duplicates across the given splits are a finding, not ours to mend.

    Args:
        split_in: str of shape (n,): train, val or test.
        label_id, group, group_key, split_seed: as in `assign_splits`.
        val: share of a label's train images that are carved where val is missing.
    """
    split = np.array(split_in, "U12")
    if not (split == "test").any():
        split[split == "val"] = "test"
    if not (split == "val").any():
        groups = _groups(label_id, group, group_key)
        outside = np.bincount(groups.of_image[split != "train"], minlength=len(groups.key)) > 0
        carved = np.zeros(len(groups.key), bool)
        for _, members in _by_label(groups, np.flatnonzero(~groups.mixed & ~outside)):
            if len(members) >= 3:
                carved[_fill(groups, members, {"val": val}, split_seed)["val"]] = True
        split[carved[groups.of_image]] = "val"
    foreign = ~np.isin(label_id, label_id[split == "train"])
    split[foreign & (split == "test")] = "unseen_test"
    split[foreign & (split == "val")] = "unseen_calib"
    return split


def seeded_hash(seed: int, key: str) -> str:
    """A rank that depends on `seed` and `key` alone."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _groups(label_id: Ints, group: Ints, group_key: Sequence[str]) -> _Groups:
    _, first, of_image, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    labels = int(label_id.max(initial=0)) + 1
    pair, count = np.unique(of_image * labels + label_id, return_counts=True)  # (group, label) as one number
    pair = pair[np.lexsort((pair, -count, pair // labels))]  # the commonest label of each group comes first
    _, at, kinds = np.unique(pair // labels, return_index=True, return_counts=True)
    return _Groups(of_image, [group_key[row] for row in first.tolist()], size, pair[at] % labels, kinds > 1)


def _by_label(groups: _Groups, chosen: Ints) -> list[tuple[int, Ints]]:
    """The `chosen` groups of each label that has any."""
    order = chosen[np.argsort(groups.label[chosen], kind="stable")]
    labels, starts = np.unique(groups.label[order], return_index=True)
    return list(zip(labels.tolist(), np.split(order, starts[1:]), strict=False))


def _held_out(
    groups: _Groups, label_id: Ints, names: Sequence[str], calib: int, test: int, seed: int
) -> dict[int, str]:
    """The held-out labels and their split: `calib` and `test` of them, or fewer in about that proportion."""
    shared = set(label_id[groups.mixed[groups.of_image]].tolist())
    free = sorted(set(range(len(names))) - shared, key=lambda label: seeded_hash(seed, names[label]))
    chosen = free[: min(calib + test, len(names) - 2)]
    if len(chosen) < 2:
        return {}
    first = math.ceil(len(chosen) * calib / (calib + test) - 0.5)  # a half is rounded down
    first = min(max(first, 1), len(chosen) - 1)
    return {label: "unseen_calib" if rank < first else "unseen_test" for rank, label in enumerate(chosen)}


def _fill(groups: _Groups, members: Ints, quotas: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Part one label's groups: `train` and the names of `quotas`, of which the first is served first."""
    size = dict(zip(members.tolist(), groups.size[members].tolist(), strict=True))
    ranked = sorted(size, key=lambda member: seeded_hash(seed, groups.key[member]))
    parts: dict[str, list[int]] = {"train": [], **{name: [] for name in quotas}}
    served = [name for name, share in quotas.items() if share > 0]
    if len(ranked) < 3:
        by_size = sorted(ranked, key=lambda member: -size[member])
        for member, name in zip(by_size, ["train", *served, "train"], strict=False):
            parts[name].append(member)
        return parts

    total = sum(size.values())
    filled = dict.fromkeys(served, 0)
    for member in ranked:
        fits = (name for name in served if filled[name] + size[member] / 2 <= quotas[name] * total)
        name = next(fits, "train")
        parts[name].append(member)
        if name != "train":
            filled[name] += size[member]
    for name in ("train", *served):
        if not parts[name]:
            donor = max(parts, key=lambda other: len(parts[other]))
            smallest = min(parts[donor], key=lambda member: size[member])
            parts[donor].remove(smallest)
            parts[name].append(smallest)
    return parts
