"""How classes stand to each other: mean similarities, shares of neighbours, confused pairs, how separable."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import RESOLUTION, single_threaded_blas

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

BLOCK_ROWS = 8192
ALL_PAIRS = 60
"""Up to so many classes all pairs are looked at, else each class with its `MOST_SIMILAR`."""
MOST_SIMILAR = 10
DRAWN = 128
"""Images of a class that its separability is measured on, on either side."""


@dataclass(frozen=True)
class ConfusedPair:
    """Queries of `label` were called `predicted` `count` times: `share` of the queries of `label`."""

    label: int
    predicted: int
    count: int
    share: float


def class_similarity(embeddings: Floats, labels: Ints, classes: int) -> Array:
    """Mean cosine similarity between the images of two classes, float64 [classes, classes]; exact.

    The mean over pairs is the product of the class means, so this takes O(n d + C^2 d). The diagonal
    leaves out each image with itself: `(n^2 |m|^2 - sum |x|^2) / (n (n - 1))`. NaN for a class without
    an image, and on the diagonal of a class of one.
    """
    sums = np.zeros((classes, embeddings.shape[1]))
    selfs = np.zeros(classes)
    for start in range(0, len(labels), BLOCK_ROWS):
        rows = np.asarray(embeddings[start : start + BLOCK_ROWS], np.float64)
        block_labels = labels[start : start + BLOCK_ROWS]
        order = np.argsort(block_labels, kind="stable")
        present, first = np.unique(block_labels[order], return_index=True)
        sums[present] += np.add.reduceat(rows[order], first, axis=0)
        selfs += np.bincount(block_labels, np.einsum("ij,ij->i", rows, rows), classes)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity = sums @ sums.T / np.outer(counts, counts)
        within = (np.einsum("ij,ij->i", sums, sums) - selfs) / (counts * (counts - 1))
    np.fill_diagonal(similarity, np.where(counts > 1, within, np.nan))
    return np.asarray(similarity)


def neighbour_shares(ids: Ints, query_labels: Ints, gallery_labels: Ints, classes: int) -> Array:
    """float64 [classes, classes]: the mean share of each class (column) among the neighbours of each (row).

    `ids` [nq, k] are gallery rows, -1 for none. A query counts once, however many neighbours it has. A
    row is NaN for a class without a query that has a neighbour.
    """
    seen = ids >= 0
    weight = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    cells = query_labels.astype(np.int64)[:, None] * classes + gallery_labels[ids]
    shares = np.bincount(cells[seen], weight[seen], classes * classes).reshape(classes, classes)
    queries = np.bincount(query_labels[seen.any(axis=1)], minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(shares / queries[:, None])


def confused_pairs(confusion: Ints, top: int = 20) -> list[ConfusedPair]:
    """The largest off-diagonal cells of a confusion matrix [C, C], by count, then by share of the label."""
    support = confusion.sum(axis=1)
    rows, columns = np.nonzero(confusion * ~np.eye(len(confusion), dtype=bool))
    pairs = [
        ConfusedPair(int(i), int(j), int(confusion[i, j]), float(confusion[i, j] / support[i]))
        for i, j in zip(rows, columns, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.label, pair.predicted))[:top]


class Separability(NamedTuple):
    """How well p pairs of classes can be told apart by similarity.

    `pairs` int [p, 2]: a class and another, in this order. `auc` float64 [p] in [0, 1]: how often two images
    of the first are more similar than an image of it and one of the other, ties half; 1 is apart, 0.5 is
    one class; NaN where the first has no two images. `overlap` float64 [p] in [0, 1]: the share of pairs of
    an image of each that are within the threshold; NaN without a threshold or without images.

    `asked` int64 [classes]: how many images of a class asked; `sampled` bool [classes]: whether it has more
    than were looked at.
    """

    pairs: Ints
    auc: Array
    overlap: Array
    asked: NDArray[np.int64]
    sampled: NDArray[np.bool_]


def pairs_that_matter(
    similarity: Array, all_pairs: int = ALL_PAIRS, most: int = MOST_SIMILAR
) -> NDArray[np.int64]:
    """Ordered pairs of classes, int64 [p, 2]: all, or in more than `all_pairs` classes each one with its
    `most` most similar ones.

    `similarity` [C, C] is that of `class_similarity`. Classes without an image are in no pair.
    """
    present = np.flatnonzero(~np.isnan(similarity).all(axis=1))
    among = similarity[np.ix_(present, present)]
    np.fill_diagonal(among, -np.inf)
    others = max(0, len(present) - 1 if len(present) <= all_pairs else min(most, len(present) - 1))
    # row by row: a sort of all at once would take several matrices of the size
    order = [np.sort(np.argsort(-row, kind="stable")[:others]) for row in among]
    chosen = np.array(order, np.int64).reshape(-1)
    return np.stack([np.repeat(present, others), present[chosen]], axis=1)


def separability(
    embeddings: Floats,
    labels: Ints,
    groups: Ints,
    classes: int,
    queries: Ints,
    gallery: Ints,
    pairs: Ints,
    threshold: float | None,
    seed: int,
    most: int = DRAWN,
) -> Separability:
    """How well each of `pairs` of classes can be told apart: images asked with, against images looked up.

    Exact for classes of at most `most` queries and `most` gallery images; of a larger one so many of each are
    drawn by lot, and all their pairs are looked at. Pairs of one duplicate group do not count. This takes
    O(p most² d) time and O(most² + most d) memory beside the arguments.

    Args:
        embeddings: float [n, d], L2-normalised.
        labels: int [n].
        groups: int [n], the duplicate groups.
        classes: how many labels there are.
        queries: int, rows that ask. They may also be in the gallery: no image meets itself.
        gallery: int, rows that are asked for.
        pairs: int [p, 2], classes.
        threshold: the cosine distance up to which two images match, or None.
        seed: draws the images of large classes.
        most: images drawn of a class for each side.
    """
    generator = np.random.default_rng(seed)
    asking = _draw(labels, queries, classes, most, generator)
    asked = _draw(labels, gallery, classes, most, generator)
    auc, overlap = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    limit = None if threshold is None else np.ceil((1.0 - threshold) / RESOLUTION - 1e-6)
    within, of = np.zeros(0, np.int32), -1
    with single_threaded_blas():
        for at in np.argsort(pairs[:, 0], kind="stable"):
            one, other = pairs[at]
            if one != of:
                within, of = _steps(embeddings, groups, asking[one], asked[one]), one
            across = _steps(embeddings, groups, asking[one], asked[other])
            auc[at] = _wins(within, across)
            if limit is not None and len(across):
                overlap[at] = 1.0 - np.searchsorted(across, limit) / len(across)
    sizes = np.stack([np.bincount(labels[rows], minlength=classes) for rows in (queries, gallery)])
    return Separability(pairs, auc, overlap, np.minimum(sizes[0], most), np.any(sizes > most, axis=0))


def _draw(
    labels: Ints, rows: Ints, classes: int, most: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """For each class at most `most` of `rows` with that label, ascending."""
    shuffled = generator.permutation(np.asarray(rows, np.int64))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    bounds = np.searchsorted(labels[shuffled], np.arange(classes + 1))
    return [np.sort(shuffled[start : min(stop, start + most)]) for start, stop in pairwise(bounds)]


def _steps(embeddings: Floats, groups: Ints, rows: Ints, others: Ints) -> NDArray[np.int32]:
    """The similarities of `rows` and `others` of different groups, ascending, in units of `RESOLUTION`."""
    left, right = (np.asarray(embeddings[each], np.float64) for each in (rows, others))
    steps = np.rint(left @ right.T / RESOLUTION).astype(np.int32)
    return np.sort(steps[groups[rows][:, None] != groups[others]])


def _wins(higher: Ints, lower: Ints) -> float:
    """How often a value of the sorted `higher` is above one of the sorted `lower`, ties half."""
    if not len(higher) or not len(lower):
        return float("nan")
    beaten = np.searchsorted(lower, higher, "left") + np.searchsorted(lower, higher, "right")
    return float(beaten.mean() / 2 / len(lower))
