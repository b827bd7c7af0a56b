"""The lower rungs of the ladder: chance in closed form, and two projections fitted on train only."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

BLOCK_ROWS = 4096
REDUCED = 256
"""Principal directions in which discriminants are looked for."""


def chance(
    query_labels: Ints,
    gallery_labels: Ints,
    query_exclude: Ints | None = None,
    gallery_exclude: Ints | None = None,
    recall_at: tuple[int, ...] = (1, 5, 10),
    share_at: tuple[int, ...] = (5, 10),
) -> dict[str, Array]:
    """What a random order of the gallery is expected to score, for each query: float64 [nq].

    With `n` visible items and `R` positives among them: accuracy@1 = precision@k = r_precision = R / n
    (precision@k times n / k where n < k), recall@k = 1 - C(n - R, k) / C(n, k), true_recall@k = k / n,
    map@r = (1/R) sum_{i<=R} (R/n) (1 + (i - 1)(R - 1)/(n - 1)) / i, and ap the same sum up to n over n.
    Retrieval metrics are NaN where R = 0; accuracy@1 is then 0. `accuracy@5` and `mrr` have no short form.
    `recall_at` are the k of recall@k, `share_at` those of true_recall@k and precision@k.
    """
    n, positives = _visible(query_labels, gallery_labels, query_exclude, gallery_exclude)
    lone = positives == 0
    share = np.where(lone, 0.0, positives / np.maximum(n, 1))
    follow = np.divide(positives - 1, n - 1, out=np.zeros(len(n)), where=n > 1)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n.max(initial=0) + 1))])

    def mean_precision(depth: NDArray[np.int64]) -> Array:
        """The sum of E[precision at i] P(a positive at i) over i <= depth, over R."""
        return np.asarray((harmonic[depth] + follow * (depth - harmonic[depth])) / np.maximum(n, 1))

    values = {f"recall@{k}": 1.0 - _none_of(n, positives, k) for k in recall_at}
    for k in share_at:
        seen = np.minimum(k, n)
        values |= {f"true_recall@{k}": seen / np.maximum(n, 1), f"precision@{k}": seen / k * share}
    values |= {"r_precision": share, "map@r": mean_precision(positives), "ap": mean_precision(n)}
    return {"accuracy@1": share} | {name: np.where(lone, np.nan, each) for name, each in values.items()}


class Projection(NamedTuple):
    """`x -> (x - mean) @ matrix`, then length 1: `mean` float64 [d], `matrix` float64 [d, dims]."""

    mean: Array
    matrix: Array


def apply_projection(features: Floats, projection: Projection) -> NDArray[np.float32]:
    """Project `features` [n, d], in blocks, to rows of length 1: float32 [n, dims]. Zero rows stay zero."""
    projected = np.empty((len(features), projection.matrix.shape[1]), np.float32)
    for start in range(0, len(features), BLOCK_ROWS):
        block = (features[start : start + BLOCK_ROWS] - projection.mean) @ projection.matrix
        length = np.linalg.norm(block, axis=1, keepdims=True)
        projected[start : start + BLOCK_ROWS] = block / np.where(length > 0, length, 1.0)
    return projected


class Principal(NamedTuple):
    """`mean` float64 [d], principal `directions` [d, r] and their `variance` [r], the largest first."""

    mean: Array
    directions: Array
    variance: Array


def whiten_fit(
    train: Floats, dims: int = 128, shrinkage: float = 0.1, known: Principal | None = None
) -> tuple[Projection | None, str | None]:
    """PCA whitening (Jegou & Chum 2012) of `train` [n, d] to at most `dims`, or None and the reason.

    Each kept direction is divided by `sqrt(variance + shrinkage * mean kept variance)`, which keeps the
    noise of weak directions down. `known` are at least `dims` principal directions of `train`, where the
    caller has them.
    """
    mean, directions, variance = known or principal(train, dims)
    directions, variance = directions[:, :dims], variance[:dims]
    if not len(variance):
        return None, "the features of train do not vary"
    scale = 1.0 / np.sqrt(variance + shrinkage * variance.mean())
    return Projection(mean, directions * scale), None


def lda_fit(
    train: Floats, labels: Ints, dims: int = 128, known: Principal | None = None
) -> tuple[Projection | None, str | None]:
    """Linear discriminants of `train` [n, d] with its `labels` [n], or None and the reason.

    The features are reduced to `REDUCED` principal directions first (`known`, where the caller has them);
    the scatter within classes is shrunk after Ledoit and Wolf, so that classes of one image and fewer
    images than directions are no obstacle. Keeps at most `dims` and (classes - 1) directions.
    """
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf

    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 3:
        return None, "discriminants need 3 labels: with two there is one direction, and only its sign is left"
    if len(labels) == len(classes):
        return None, "discriminants need a label with two images in train"
    mean, directions, variance = known or principal(train, REDUCED)
    if not len(variance):
        return None, "the features of train do not vary"
    reduced_train = np.concatenate([block @ directions for block in _centred(train, mean)])
    sums = np.zeros((len(classes), reduced_train.shape[1]))
    np.add.at(sums, inverse, reduced_train)
    means = sums / counts[:, None]
    within = reduced_train - means[inverse]
    if np.allclose(within, 0.0):
        return None, "all images of a label have the same features"
    scatter, _ = ledoit_wolf(within, assume_centered=True)
    between = (means * counts[:, None]).T @ means / len(labels)
    strength, matrix = eigh(between, scatter + 1e-9 * np.trace(scatter) / len(scatter) * np.eye(len(scatter)))
    kept = np.argsort(strength)[::-1][: min(dims, len(classes) - 1)]
    return Projection(mean, directions @ matrix[:, kept]), None


def principal(train: Floats, dims: int) -> Principal:
    """At most `dims` principal directions of `train` [n, d], those without variance left out."""
    from scipy.linalg import eigh

    count, width = train.shape
    mean = train.sum(axis=0, dtype=np.float64) / max(1, count)
    scatter = np.zeros((width, width))
    for block in _centred(train, mean):
        scatter += block.T @ block
    most = max(0, min(dims, count - 1, width))
    if not most:
        return Principal(mean, np.zeros((width, 0)), np.zeros(0))
    variance, directions = eigh(scatter / count, subset_by_index=(width - most, width - 1))
    order = np.argsort(variance)[::-1]
    order = order[variance[order] > 1e-10 * max(float(variance[-1]), 1e-6)]
    return Principal(mean, directions[:, order], variance[order])


def _centred(features: Floats, mean: Array) -> Iterator[Array]:
    """Blocks of rows less the mean, in float64: all at once would be twice the size of the features."""
    for start in range(0, len(features), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS] - mean


def _visible(
    query_labels: Ints, gallery_labels: Ints, query_exclude: Ints | None, gallery_exclude: Ints | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many gallery items each query sees, and how many of them carry its label: int64 [nq] each."""
    n = np.full(len(query_labels), len(gallery_labels), np.int64)
    positives = _count(query_labels[:, None], gallery_labels[:, None])
    if query_exclude is None or gallery_exclude is None:
        return n, positives
    hidden = _count(query_exclude[:, None], gallery_exclude[:, None])
    hidden_positives = _count(
        np.stack([query_labels, query_exclude], 1), np.stack([gallery_labels, gallery_exclude], 1)
    )
    return n - hidden, positives - hidden_positives


def _count(rows: Ints, among: Ints) -> NDArray[np.int64]:
    """How often each row of `rows` [nq, c] is in `among` [ng, c]."""
    _, codes = np.unique(np.concatenate([among, rows]), axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    return np.bincount(codes[: len(among)], minlength=int(codes.max(initial=0)) + 1)[codes[len(among) :]]


def _none_of(n: NDArray[np.int64], positives: NDArray[np.int64], k: int) -> Array:
    """The probability that `k` items drawn from `n` hold none of the positives."""
    none = np.ones(len(n))
    for i in range(k):
        left = np.maximum(n - i, 1)
        none = np.where(i < n, none * np.maximum(n - positives - i, 0) / left, none)
    return none
