"""Which image is for training and which is for questions: by duplicate group, seeded, stable as data grows.

The same rules everywhere:

- a group is never parted. It belongs to the label most of its images have (ties: the smallest label id);
- within a label, groups are ranked by sha256("seed:key") and fill the quotas, counted in images, in that
  order, so that an image mostly keeps its split when others come or go;
- a label of one group is all train; of two, train (the larger) and test (val where test has no quota); of
  three and more, at least one group each for train and for every quota above 0.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "unseen_calib", "test", "unseen_test")
FEWEST_LABELS_FOR_UNSEEN = 10

Ints = NDArray[np.integer[Any]]
Names = NDArray[np.str_]


@dataclass(frozen=True)
class _Group:
    """A duplicate group: its rows, the label it belongs to, and all the labels it spans."""

    key: str
    rows: Ints
    label: int
    labels: frozenset[int]


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
) -> Names:
    """The split of each of n images: str of shape (n,), one of `SPLITS`.

    From 10 labels on, round(`unseen` x labels), at least 2, are held out whole: half of them (rounded down)
    for `unseen_calib`, the others for `unseen_test`, ranked by the seeded hash of their names. A label that
    shares a duplicate group with another label is never held out: wherever the group went, a held-out label
    would be trained on or a trained picture would count as unseen. If too few labels are left, fewer
    are held out, and fewer than 2 means none.

    Args:
        label_id: int of shape (n,), indices of `label_names`.
        group: int of shape (n,), equal for images of one duplicate group.
        group_key: n keys, equal within a group, that depend on content and not on names or order.
        label_names: the text of each label.
        val, test: shares of each label's images.
        unseen: share of the labels.
        split_seed: another seed is another, equally good split.
    """
    groups = _groups(label_id, group, group_key)
    held_out = _held_out(groups, label_names, unseen, split_seed)
    split = np.full(len(label_id), "train", "U12")
    for label, members in _by_label(groups).items():
        if label in held_out:
            for member in members:
                split[member.rows] = held_out[label]
        else:
            for name, chosen in _fill(members, {"test": test, "val": val}, split_seed).items():
                for member in chosen:
                    split[member.rows] = name
    return split


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
        whole = [g for g in groups if len(g.labels) == 1 and (split[g.rows] == "train").all()]
        for members in _by_label(whole).values():
            if len(members) >= 3:
                for member in _fill(members, {"val": val}, split_seed)["val"]:
                    split[member.rows] = "val"
    foreign = ~np.isin(label_id, label_id[split == "train"])
    split[foreign & (split == "test")] = "unseen_test"
    split[foreign & (split == "val")] = "unseen_calib"
    return split


def seeded_hash(seed: int, key: str) -> str:
    """A rank that depends on `seed` and `key` alone."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _groups(label_id: Ints, group: Ints, group_key: Sequence[str]) -> list[_Group]:
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1)) if len(order) else order
    result = []
    for rows in np.split(order, starts[1:]):
        labels = label_id[rows].tolist()
        majority = min(set(labels), key=lambda label: (-labels.count(label), label))
        result.append(_Group(group_key[rows[0]], rows, majority, frozenset(labels)))
    return result


def _by_label(groups: Sequence[_Group]) -> dict[int, list[_Group]]:
    members: dict[int, list[_Group]] = defaultdict(list)
    for group in groups:
        members[group.label].append(group)
    return members


def _held_out(groups: Sequence[_Group], names: Sequence[str], unseen: float, seed: int) -> dict[int, str]:
    """The held-out labels and their split."""
    if unseen <= 0 or len(names) < FEWEST_LABELS_FOR_UNSEEN:
        return {}
    shared = {label for group in groups if len(group.labels) > 1 for label in group.labels}
    free = sorted(set(range(len(names))) - shared, key=lambda label: seeded_hash(seed, names[label]))
    wanted = min(max(2, round(unseen * len(names))), len(names) - 2)
    chosen = free[:wanted]
    if len(chosen) < 2:
        return {}
    half = len(chosen) // 2
    return {label: "unseen_calib" if rank < half else "unseen_test" for rank, label in enumerate(chosen)}


def _fill(groups: Sequence[_Group], quotas: dict[str, float], seed: int) -> dict[str, list[_Group]]:
    """Part one label's groups: `train` and the names of `quotas`, of which the first is served first."""
    ranked = sorted(groups, key=lambda group: seeded_hash(seed, group.key))
    parts: dict[str, list[_Group]] = {"train": [], **{name: [] for name in quotas}}
    served = [name for name, share in quotas.items() if share > 0]
    if len(ranked) < 3:
        by_size = sorted(ranked, key=lambda group: -len(group.rows))
        for group, name in zip(by_size, ["train", *served, "train"], strict=False):
            parts[name].append(group)
        return parts

    total = sum(len(group.rows) for group in ranked)
    filled = dict.fromkeys(served, 0.0)
    for group in ranked:
        size = len(group.rows)
        fits = (name for name in served if filled[name] + size / 2 <= quotas[name] * total)
        name = next(fits, "train")
        parts[name].append(group)
        if name != "train":
            filled[name] += size
    for name in ("train", *served):
        if not parts[name]:
            donor = max(parts, key=lambda other: len(parts[other]))
            smallest = min(parts[donor], key=lambda group: len(group.rows))
            parts[donor].remove(smallest)
            parts[name].append(smallest)
    return parts
