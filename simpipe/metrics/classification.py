"""Classification by neighbours: accuracies, per-class precision and recall, the confusion matrix."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import wilson

Ints = NDArray[np.integer[Any]]


class PerClass(NamedTuple):
    """float64 [C] in [0, 1], NaN where undefined; `support` int64 [C] counts the queries of each class."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def correctness(predicted: Ints, labels: Ints) -> NDArray[np.bool_]:
    """bool [nq]: the prediction is the label. A query without a prediction (-1) is wrong."""
    return np.asarray((predicted == labels) & (predicted >= 0))


def macro_accuracy(correct: NDArray[np.bool_], labels: Ints) -> float:
    """The mean over classes of the share of correct queries of each class; NaN without queries."""
    if not len(labels):
        return float("nan")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return float(np.mean(np.bincount(inverse, weights=correct) / counts))


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> NDArray[np.int64]:
    """int64 [classes, classes]: queries of each label (row) by prediction (column).

    Queries without a prediction (-1) are in no cell.
    """
    kept = predicted >= 0
    cells = labels[kept].astype(np.int64) * classes + predicted[kept]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def per_class(labels: Ints, predicted: Ints, classes: int) -> PerClass:
    """Precision, recall, F1 and support of each class of `0 .. classes - 1`.

    Precision is NaN for a class that was never predicted, recall for one without queries, and F1 where
    a class has neither.
    """
    right = np.diagonal(confusion_matrix(labels, predicted, classes))
    support = np.bincount(labels, minlength=classes)
    claimed = np.bincount(predicted[predicted >= 0], minlength=classes)
    with np.errstate(invalid="ignore"):
        return PerClass(right / claimed, right / support, 2 * right / (claimed + support), support)


class ClassRow(NamedTuple):
    """How the queries of one class fare; None where a value is undefined.

    `recall_low` and `recall_high` are the 95 % Wilson interval of `recall`, over `support` queries.
    `map_at_r` is the mean over the class's queries that have a positive. `confused` are the classes that
    its wrong queries were called, most often first, then by class, with how often.
    """

    label: int
    support: int
    precision: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None
    map_at_r: float | None
    confused: tuple[tuple[int, int], ...]


def class_rows(
    labels: Ints, predicted: Ints, map_at_r: NDArray[np.float64], confusions: int = 3
) -> list[ClassRow]:
    """A row for each class that has a query or was predicted, ascending.

    Args:
        labels: int [nq] of the queries, 0 or more.
        predicted: int [nq], the label of the nearest, -1 without any.
        map_at_r: float64 [nq] in [0, 1], NaN for a query without a positive.
        confusions: how many confused classes a row has at most.
    """
    classes = int(max(labels.max(initial=-1), predicted.max(initial=-1))) + 1
    right = correctness(predicted, labels)
    hits = np.bincount(labels[right], minlength=classes)
    support = np.bincount(labels, minlength=classes)
    claimed = np.bincount(predicted[predicted >= 0], minlength=classes)
    counted = np.isfinite(map_at_r)
    sums = np.bincount(labels[counted], weights=map_at_r[counted], minlength=classes)
    numbers = np.bincount(labels[counted], minlength=classes)
    confused = _confused(labels, predicted, right, confusions)

    def share(count: int, of: int) -> float | None:
        return count / of if of else None

    rows = []
    for label in np.flatnonzero((support > 0) | (claimed > 0)).tolist():
        n, hit = int(support[label]), int(hits[label])
        low, high = wilson(hit, n) or (None, None)
        mean = float(sums[label] / numbers[label]) if numbers[label] else None
        shares = (share(hit, int(claimed[label])), share(hit, n), low, high)
        f1 = share(2 * hit, int(claimed[label]) + n)
        rows.append(ClassRow(label, n, *shares, f1, mean, tuple(confused.get(label, []))))
    return rows


def _confused(
    labels: Ints, predicted: Ints, right: NDArray[np.bool_], most: int
) -> dict[int, list[tuple[int, int]]]:
    """For each class with wrong queries, what they were called and how often; no [C, C] matrix."""
    wrong = ~right & (predicted >= 0)
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    confused: dict[int, list[tuple[int, int]]] = {}
    for (label, called), count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True):
        found = confused.setdefault(label, [])
        if len(found) < most:
            found.append((called, count))
    return confused
