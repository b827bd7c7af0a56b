"""How classes stand to each other: mean similarities, shares of neighbours, confused pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

BLOCK_ROWS = 8192


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
