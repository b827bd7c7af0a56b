"""Classification by neighbours: accuracies, per-class precision and recall, the confusion matrix."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
