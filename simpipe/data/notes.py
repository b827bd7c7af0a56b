"""Sentences for a person about what ingest made of a data set, where there may be something to decide."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from simpipe.data.duplicates import Duplicates
from simpipe.data.manifest import Samples
from simpipe.data.scan import some
from simpipe.data.splits import FEWEST_LABELS_FOR_UNSEEN, SplitBy

FEW_IMAGES = 4  # a label with fewer hardly serves every split
IMBALANCE = 10  # images of the largest label to those of the smallest

Labels = Sequence[dict[str, Any]]


def label_notes(labels: Labels, gone: Sequence[str]) -> Iterator[str]:
    """Labels with few images, labels of very unequal size, and the labels `gone` by exclusion.

    `labels` are those of `Intake`.
    """
    if gone:
        yield f"{_labels(gone)} left out whole: all images are excluded"
    if few := [label["name"] for label in labels if label["count"] < FEW_IMAGES]:
        yield f"{_labels(few)} of fewer than {FEW_IMAGES} images: numbers about them are guesses"
    if not labels:
        return
    smallest, largest = (pick(labels, key=lambda label: label["count"]) for pick in (min, max))
    if largest["count"] > IMBALANCE * smallest["count"]:
        yield (
            f"labels are of very unequal size, from {smallest['count']:,} images ({smallest['name']!r}) to "
            f"{largest['count']:,} ({largest['name']!r}): see sampler.balance"
        )


def duplicate_notes(duplicates: Duplicates, samples: Samples, max_group: int) -> Iterator[str]:
    """Equal pictures under two labels, and sets of near copies that fell apart."""
    label = samples.label_id
    conflicts = [
        (int(label[i]), int(label[j]))
        for i, j, kind in duplicates.pairs
        if kind != "near" and label[i] != label[j]
    ]
    if conflicts:
        name_of = dict(zip(label.tolist(), samples.label.tolist(), strict=True))
        shown = [f"{name_of[low]!r} and {name_of[high]!r}" for low, high in sorted(set(conflicts))]
        yield (
            f"{len(conflicts):,} pair{'s' * (len(conflicts) > 1)} of images of equal bytes or pixels under "
            f"two labels: {some(shown)}"
        )
    if duplicates.oversized:
        one = duplicates.oversized == 1
        yield (
            f"{duplicates.oversized:,} {'set' if one else 'sets'} of more than {max_group} images that look "
            f"alike: only equal bytes and pixels of {'it' if one else 'them'} are kept together"
        )


def split_notes(
    labels: Labels, samples: Samples, predefined: bool, by: SplitBy, unseen: float
) -> Iterator[str]:
    """Which labels are held out as unknown, or why none is although it was asked for; what is missing."""
    held_out = {
        use: [label["name"] for label in labels if set(label["splits"]) == {split}]
        for use, split in (("calibration", "unseen_calib"), ("test", "unseen_test"))
    }
    told = [f"{_labels(names)} for the {use}" for use, names in held_out.items() if names]
    if told:
        yield f"held out as unknown: {', '.join(told)}"
    elif not predefined and unseen > 0 and len(labels) >= FEWEST_LABELS_FOR_UNSEEN:
        yield "no label is held out as unknown: nearly all share duplicates or groups with one another"
    if predefined and by == "label":
        yield "the splits are those of the data set, ingest.split_by is not used"
    for split, use in (("test", "accuracy is not measured"), ("val", "no threshold can be chosen")):
        if labels and split not in samples.split:
            yield f"no image is in the split {split}, {use}: the labels have too few images or groups"
    if predefined:
        split_id = np.unique(samples.split, return_inverse=True)[1]
        group_of_pair = np.unique(np.stack([samples.group_id, split_id]), axis=1)[0]
        parted = int((np.bincount(group_of_pair) > 1).sum())
        if parted:
            yield f"groups of duplicates, or of ingest.group_from, that the given splits part: {parted:,}"


def _labels(names: Sequence[str]) -> str:
    return f"{len(names):,} label{'s' * (len(names) > 1)} ({some([repr(name) for name in names])})"
