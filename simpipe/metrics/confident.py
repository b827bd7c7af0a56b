"""Confident learning (Northcutt, Jiang and Chuang, JAIR 2021) on the votes of the neighbours.

The probability of a label is its share among an image's neighbours. The image and its duplicate group are
not among them, so that no probability has seen the label that it judges.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

LARGE_CLASS = 20  # smaller classes have no threshold that one could trust
BLOCK_ROWS = 8192


class Confident(NamedTuple):
    """What confident learning says of n images.

    `label` int32 [n]: the label that an image is counted for, -1 for none: all its labels are below their
    thresholds, or in too small a class. `share` float64 [n]: the share of the neighbours that carry it.
    `thresholds` float64 [classes]: the mean share of the own label in each class; NaN for a class that is
    too small.
    """

    label: NDArray[np.int32]
    share: Array
    thresholds: Array


def confident_labels(ids: Ints, labels: Ints, classes: int, least: int = LARGE_CLASS) -> Confident:
    """The label that each image is confidently of, after equation 1 of the paper.

    A label's threshold is the mean share of it among the neighbours of its own images: a hard or a rare
    label has a low one. An image is counted for the most frequent label among its neighbours whose share
    is at least that label's threshold; of equals for the one with the nearest image.

    Args:
        ids: int [n, k], the neighbours as rows, nearest first, -1 for none.
        labels: int [n], the given labels.
        classes: how many labels there are.
        least: classes with fewer images that have neighbours are left out.
    """
    seen = ids >= 0
    near = np.where(seen, labels[ids], -1)
    count = np.maximum(seen.sum(axis=1), 1)
    lone = ~seen.any(axis=1)
    sizes = np.bincount(labels[~lone], minlength=classes)
    own = np.bincount(labels, np.sum(near == labels[:, None], axis=1) / count, classes)
    thresholds = np.where(sizes >= least, own / np.maximum(sizes, 1), np.nan)
    label, share = np.full(len(labels), -1, np.int32), np.zeros(len(labels))
    for start in range(0, len(labels), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = near[rows]
        if not block.size:
            continue
        shares = np.sum(block[:, :, None] == block[:, None, :], axis=2) / count[rows, None]
        meets = (block >= 0) & (shares >= thresholds[block] - 1e-12)
        best = np.argmax(np.where(meets, shares, -1.0), axis=1)[:, None]
        met = meets.any(axis=1)
        label[rows] = np.where(met, np.take_along_axis(block, best, axis=1)[:, 0], -1)
        share[rows] = np.where(met, np.take_along_axis(shares, best, axis=1)[:, 0], 0.0)
    return Confident(label, share, thresholds)
