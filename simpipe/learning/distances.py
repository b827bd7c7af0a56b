"""Distances between two sets of embeddings: one table, with the direction of each.

All return a matrix (n, m) for `a` of shape (n, d) and `b` of shape (m, d), float32. `between` turns them
so that smaller is always nearer, and `to_similarity` is the one place where a distance becomes a
similarity. On embeddings of length 1: cosine and 1 − inner product are equal, in [0, 2]; Euclidean is
in [0, 2], its square in [0, 4].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

EQUAL = 1e-6
"""Squared distances of vectors of length 1 below it are float32 noise: the vectors count as equal."""


class Distance(NamedTuple):
    """A measure `(a (n, d), b (m, d)) -> (n, m)`, and whether larger values are nearer."""

    measure: Callable[[Any, Any], Any]
    larger_is_nearer: bool = False


def between(name: str, a: Any, b: Any) -> Any:
    """Distances (n, m), smaller is nearer, by a key of `DISTANCES`; an inner product p becomes 1 − p."""
    measure, larger_is_nearer = DISTANCES[name]
    return 1.0 - measure(a, b) if larger_is_nearer else measure(a, b)


def to_similarity(distance: Any) -> Any:
    """1 − distance, for every distance: the cosine, the inner product, and 1 to −1 for Euclidean."""
    return 1.0 - distance


def unit(rows: Any) -> Any:
    """The rows (n, d) scaled to length 1; a row of zeros stays, with a finite gradient."""
    from keras import ops

    return rows * ops.rsqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1, keepdims=True), 1e-12))


def root(squared: Any) -> Any:
    """The square root of squared distances, of any shape; 0 with gradient 0 below `EQUAL`."""
    from keras import ops

    apart = squared > EQUAL
    return ops.where(apart, ops.sqrt(ops.where(apart, squared, 1.0)), 0.0)


def cosine(a: Any, b: Any) -> Any:
    """1 − cos(a, b), in [0, 2], whatever the lengths of the rows."""
    from keras import ops

    return 1.0 - ops.matmul(unit(a), ops.transpose(unit(b)))


def inner_product(a: Any, b: Any) -> Any:
    """a · b; larger is nearer."""
    from keras import ops

    return ops.matmul(a, ops.transpose(b))


def squared_euclidean(a: Any, b: Any) -> Any:
    """|a − b|², without a tensor of shape (n, m, d)."""
    from keras import ops

    lengths = ops.sum(ops.square(a), axis=1)[:, None] + ops.sum(ops.square(b), axis=1)[None, :]
    return ops.maximum(lengths - 2.0 * inner_product(a, b), 0.0)


def euclidean(a: Any, b: Any) -> Any:
    """|a − b|; equal vectors have distance 0 and gradient 0."""
    return root(squared_euclidean(a, b))


DISTANCES: dict[str, Distance] = {
    "cosine": Distance(cosine),
    "euclidean": Distance(euclidean),
    "squared_euclidean": Distance(squared_euclidean),
    "inner_product": Distance(inner_product, larger_is_nearer=True),
}
