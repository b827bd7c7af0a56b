"""The one blocked pass over similarities: nearest neighbours, ranks of positives, and the neighbour vote.

Embeddings are rows of length 1, so that the dot product is the cosine similarity `s` and the distance
is `1 - s`, in [0, 2]. Every query sees the whole gallery except the items that carry its exclusion
code. A block of queries meets the gallery in one strip of similarities; no [n, n] matrix exists.

A dot product in float32 has noise below 1e-6, and the noise of equal vectors depends on where they
stand in a block. Similarities closer than `RESOLUTION` are therefore equal: positives and negatives
that close are ties. The neighbours found are measured again in float64, rounded to `RESOLUTION`, and
ordered by that and then by gallery id.
"""

import functools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

RESOLUTION = 2.0**-20
INVISIBLE = np.float32(-1.5)  # below every similarity; hidden items have -inf
SLACK = np.float32(2 * RESOLUTION)
STRIP_VALUES = 1 << 26  # similarities held at a time: 256 MiB
MAX_ROWS = 512
TILE = 8192
SHARE = 16  # rows that a thread takes at a time
FEW = 8  # a selection of less than one in so many is cheaper than to sort all
MAX_THREADS = 8


class Neighbours(NamedTuple):
    """The nearest gallery items of each query, by ascending distance, then gallery id.

    `ids` int32 [nq, k], padded with -1; `distances` float32 [nq, k] in [0, 2], padded with inf.
    """

    ids: NDArray[np.int32]
    distances: NDArray[np.float32]


class Ranks(NamedTuple):
    """Where each query's positives stand among all gallery items it sees, 1-based and ascending.

    Query `i` owns the slice `offsets[i]:offsets[i + 1]`; `offsets` int64 [nq + 1]. `optimistic` int32
    places a positive before the negatives it ties with, `pessimistic` int32 after them.
    """

    offsets: NDArray[np.int64]
    optimistic: NDArray[np.int32]
    pessimistic: NDArray[np.int32]


def nearest(
    queries: Floats,
    gallery: Floats,
    k: int,
    query_exclude: Ints | None = None,
    gallery_exclude: Ints | None = None,
) -> Neighbours:
    """The exact `k` nearest gallery items [ng, d] of each query [nq, d].

    A gallery item whose `gallery_exclude` code [ng] equals the query's `query_exclude` code [nq] is
    invisible to that query. Raises ValueError where rows are not finite or longer than 1.
    """
    found = empty_neighbours(len(queries), k)
    excluded = _excluded(query_exclude, gallery_exclude)
    nobody = np.empty(0, np.float32)

    def take(first: int, strip: NDArray[np.float32]) -> None:
        closest = []
        for row, similarities in enumerate(strip, start=first):
            if excluded is not None:
                similarities[excluded.of(row)] = -np.inf
            closest.append(_closest(similarities, *_rivals(similarities, nobody, k), k))
        rows = slice(first, first + len(strip))
        found.ids[rows], found.distances[rows] = _measured(closest, k, queries[rows], gallery)

    _pass(queries, gallery, take)
    return found


def search(
    queries: Floats,
    gallery: Floats,
    k: int,
    query_labels: Ints,
    gallery_labels: Ints,
    query_exclude: Ints | None = None,
    gallery_exclude: Ints | None = None,
) -> tuple[Neighbours, Ranks]:
    """`nearest`, and in the same pass the full-ranking ranks of every query's positives.

    A positive is a visible gallery item with the query's label. The ranks take 8 bytes for each pair
    of a query and its positive: give the queries in parts where classes are very large.
    """
    found = empty_neighbours(len(queries), k)
    positives = _Matches(query_labels, gallery_labels)
    excluded = _excluded(query_exclude, gallery_exclude)
    nothing = np.empty(0, np.int32)
    optimistic: list[Ints] = [nothing] * len(queries)
    pessimistic: list[Ints] = [nothing] * len(queries)

    def take(first: int, strip: NDArray[np.float32]) -> None:
        closest = []
        for row, similarities in enumerate(strip, start=first):
            if excluded is not None:
                similarities[excluded.of(row)] = -np.inf
            own = np.sort(similarities[positives.of(row)])
            own = own[np.searchsorted(own, INVISIBLE) :]
            rivals, ids = _rivals(similarities, own, k)
            if len(own):
                optimistic[row], pessimistic[row] = _ranks(rivals, own)
            closest.append(_closest(similarities, rivals, ids, k))
        rows = slice(first, first + len(strip))
        found.ids[rows], found.distances[rows] = _measured(closest, k, queries[rows], gallery)

    _pass(queries, gallery, take)
    offsets = np.zeros(len(queries) + 1, np.int64)
    np.cumsum([len(each) for each in optimistic], out=offsets[1:])
    return found, Ranks(offsets, *(np.concatenate([nothing, *each]) for each in (optimistic, pessimistic)))


def neighbour_vote(
    ids: Ints,
    distances: Floats,
    gallery_labels: Ints,
    k: int,
    rule: Literal["nearest", "majority", "weighted"] = "weighted",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The label that the first `k` of each query's neighbours [nq, >=k] agree on, and how far they do.

    - `nearest`: the label of the closest; `majority`: one vote each; `weighted`: a neighbour's vote
      weighs its similarity, `max(0, 1 - distance)`. Equal votes go to the label of the closest.
    - The confidence is the winner's share of the votes of the `k`, in [0, 1]; `nearest` counts them as
      `weighted` does. It is 0 where all weights are 0.

    Returns labels int32 [nq], -1 for a query without any neighbour, and confidences float32 [nq].
    """
    ids, distances = ids[:, :k], distances[:, :k]
    seen = ids >= 0
    labels = np.where(seen, np.asarray(gallery_labels)[ids], -1)
    if rule == "majority":
        weights = seen.astype(np.float64)
    else:
        weights = np.where(seen, np.maximum(0.0, 1.0 - distances.astype(np.float64)), 0.0)
    votes = np.stack([np.sum(weights * (labels == labels[:, [j]]), axis=1) for j in range(ids.shape[1])], 1)
    winner = np.zeros(len(ids), np.int64) if rule == "nearest" else np.argmax(votes, axis=1)
    rows, mass = np.arange(len(ids)), weights.sum(axis=1)
    share = np.divide(votes[rows, winner], mass, out=np.zeros(len(ids)), where=mass > 0)
    return labels[rows, winner].astype(np.int32), share.astype(np.float32)


def empty_neighbours(count: int, k: int) -> Neighbours:
    """Neighbours of `count` queries, none found yet."""
    return Neighbours(np.full((count, k), -1, np.int32), np.full((count, k), np.inf, np.float32))


class _Matches:
    """For each query, the gallery items that carry the same code."""

    def __init__(self, query_codes: Ints, gallery_codes: Ints) -> None:
        self.order = np.argsort(gallery_codes, kind="stable")
        ordered = np.asarray(gallery_codes)[self.order]
        self.starts = np.searchsorted(ordered, query_codes, side="left")
        self.stops = np.searchsorted(ordered, query_codes, side="right")

    def of(self, query: int) -> Ints:
        return self.order[self.starts[query] : self.stops[query]]


def _excluded(query_codes: Ints | None, gallery_codes: Ints | None) -> _Matches | None:
    if query_codes is None or gallery_codes is None:
        return None
    return _Matches(query_codes, gallery_codes)


def _pass(queries: Floats, gallery: Floats, take: Callable[[int, NDArray[np.float32]], None]) -> None:
    """Give `take` parts [rows, ng] of the strips of similarities, each with the row of its first query.

    It may write there. The threads share one strip, so that memory does not grow with the cores: first
    each multiplies tiles of the gallery on its own core, which is faster than one large product on all
    of them, then each takes rows.
    """
    _check(queries, "queries")
    _check(gallery, "gallery")
    if not len(queries) or not len(gallery):
        return
    rows = min(int(np.clip(STRIP_VALUES // len(gallery), 1, MAX_ROWS)), len(queries))
    strip = np.empty((rows, len(gallery)), np.float32)

    def multiply(start: int) -> None:
        tile = np.ascontiguousarray(gallery[start : start + TILE], np.float32)
        np.matmul(part, tile.T, out=strip[: len(part), start : start + TILE])

    def hand_over(start: int) -> None:
        take(first + start, strip[start : min(start + SHARE, len(part))])

    with single_threaded_blas(), ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        try:
            for first in range(0, len(queries), rows):
                part = np.ascontiguousarray(queries[first : first + rows], np.float32)
                deque(pool.map(multiply, range(0, len(gallery), TILE)), maxlen=0)
                deque(pool.map(hand_over, range(0, len(part), SHARE)), maxlen=0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check(vectors: Floats, name: str) -> None:
    for start in range(0, len(vectors), TILE):
        tile = np.asarray(vectors[start : start + TILE], np.float32)
        lengths = np.einsum("ij,ij->i", tile, tile)
        if not np.all(lengths < 1.001):  # also refuses NaN
            row = start + int(np.argmin(lengths < 1.001))
            raise ValueError(
                f"{name} must be finite rows of length 1; row {row} has {lengths[row - start]:.4g}²"
            )


def single_threaded_blas() -> AbstractContextManager[Any]:
    """While it is entered, a product of matrices uses one thread: for small ones, and where threads share."""
    controller = _blas_controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")


@functools.cache
def _blas_controller() -> Any:
    """To find the libraries takes ten milliseconds, so once."""
    try:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return ThreadpoolController()


def _rivals(
    similarities: NDArray[np.float32], own: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], Ints | None]:
    """All similarities of one query that matter to the ranks of `own` and to its `k` nearest, ascending.

    These are the ones not below the worst of `own`, and not below the `k`-th best. Also their ids,
    ascending too; None where they are so many that it is cheaper to sort everything.
    """
    floor = own[0] if len(own) else np.float32(np.inf)
    if len(own) < k:
        floor = min(floor, _reached(similarities, k))
    above = similarities >= floor - SLACK
    if np.count_nonzero(above) * FEW > len(above):
        return np.sort(similarities), None
    ids = np.flatnonzero(above)
    return np.sort(similarities[ids]), ids


def _reached(similarities: NDArray[np.float32], k: int) -> np.float32:
    """A similarity that the `k` nearest reach, and few others: the k-th best of `width` maxima.

    Each maximum is of a set of items apart from the others, so at least `k` items are above it.
    """
    width = 8 * k
    folds = len(similarities) // width
    if folds < 4:
        return INVISIBLE
    maxima = similarities[: folds * width].reshape(folds, width).max(axis=0)
    return max(INVISIBLE, np.partition(maxima, width - k)[width - k])


def _closest(
    similarities: NDArray[np.float32], rivals: NDArray[np.float32], ids: Ints | None, k: int
) -> Ints:
    """Ids of the at most `k` nearest, ascending, from what `_rivals` found."""
    floor = max(rivals[-k] - SLACK, INVISIBLE) if len(rivals) >= k else INVISIBLE
    near = similarities >= floor if ids is None else similarities[ids] >= floor
    candidates: Ints = np.flatnonzero(near) if ids is None else ids[near]
    if len(candidates) <= k:
        return candidates
    steps = np.rint(similarities[candidates].astype(np.float64) / RESOLUTION)
    return np.sort(candidates[np.argsort(-steps, kind="stable")[:k]])


def _measured(closest: list[Ints], k: int, queries: Floats, gallery: Floats) -> Neighbours:
    """The neighbours of `queries`, measured again in float64 and ordered."""
    ids = np.full((len(closest), k), -1, np.int64)
    for row, candidates in enumerate(closest):
        ids[row, k - len(candidates) :] = candidates
    again = np.einsum("qd,qkd->qk", queries.astype(np.float64), gallery[ids])
    distances = np.clip(1.0 - np.rint(again / RESOLUTION) * RESOLUTION, 0.0, 2.0)
    distances[ids < 0] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    ids, distances = np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)
    return Neighbours(ids.astype(np.int32), distances.astype(np.float32))


def _ranks(rivals: NDArray[np.float32], own: NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Optimistic and pessimistic ranks of `own`, best first, among `rivals`; both ascending."""
    # negatives above = all above less the positives above
    place = np.arange(len(own), 0, -1)
    above, tied = own + np.float32(RESOLUTION), own - np.float32(RESOLUTION)
    better = _count_above(rivals, above, "right") - _count_above(own, above, "right")
    at_least = _count_above(rivals, tied, "left") - _count_above(own, tied, "left")
    return (place + better)[::-1].astype(np.int32), (place + at_least)[::-1].astype(np.int32)


def _count_above(ascending: Floats, bounds: Floats, side: Literal["left", "right"]) -> Ints:
    return len(ascending) - np.searchsorted(ascending, bounds, side=side)
