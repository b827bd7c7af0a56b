"""What became of the images of the last ingest: which of them changed their split, and why."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.data.manifest import Samples

_WHY = {
    "label": "for another label",
    "held_out": "for labels held out as unknown, or no longer",
    "group": "for other duplicates",
    "quota": "for changed counts or shares of their labels",
}


def moves(before: Samples, after: Samples) -> Counter[str]:
    """How many images, known by their `sample_id`, came, went or changed their split, and why.

    Returns:
        The counts of `new` and `gone` and, of the images in both, `stayed` and those in another split, each
        under the first reason that holds: `label` (it has another label), `held_out` (it came into or out of
        an unseen split), `group` (its duplicate group has other members), `quota` (none of these: the counts
        or the shares of its label changed, or the seed).
    """
    _, here, there = np.intersect1d(before.sample_id, after.sample_id, return_indices=True)
    count = Counter(new=len(after) - len(here), gone=len(before) - len(here))
    moved = before.split[here] != after.split[there]
    count["stayed"] = int((~moved).sum())
    here, there = here[moved], there[moved]
    held_out = [np.char.startswith(split, "unseen") for split in (before.split[here], after.split[there])]
    reasons = {
        "label": before.label[here] != after.label[there],
        "held_out": held_out[0] | held_out[1],
        "group": _members(before, here) != _members(after, there),
    }
    why = np.select(list(reasons.values()), list(reasons), "quota")
    return +(count + Counter(why.tolist()))


def moves_sentence(count: Counter[str]) -> str:
    """The counts of `moves` for a person; empty if nothing moved, came or went."""
    moved = {why: count[why] for why in _WHY if count[why]}
    total = sum(moved.values())
    parts = [f"{count['new']:,} new image{'s' * (count['new'] > 1)}"] if count["new"] else []
    parts += [f"{count['gone']:,} gone"] if count["gone"] else []
    if moved:
        told = ", ".join(f"{number:,} {_WHY[why]}" for why, number in moved.items())
        parts.append(f"{total:,} of {total + count['stayed']:,} others in another split: {told}")
    elif parts:
        parts.append("all others in the split they were in")
    return "; ".join(parts)


def _members(samples: Samples, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The members of the groups of `rows`, as objects that are equal for equal ones."""
    wanted = np.flatnonzero(np.isin(samples.group, samples.group[rows]))
    members: dict[str, set[str]] = defaultdict(set)
    for group, sample_id in zip(
        samples.group[wanted].tolist(), samples.sample_id[wanted].tolist(), strict=True
    ):
        members[group].add(sample_id)
    result = np.empty(len(rows), object)
    result[:] = [members[group] for group in samples.group[rows].tolist()]
    return result
