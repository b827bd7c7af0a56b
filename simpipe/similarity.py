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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

RESOLUTION = 2.0**-20
STRIP_VALUES = 1 << 24  # similarities that one thread holds at a time: 64 MiB
MAX_ROWS = 128
TILE = 8192
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

    def take(first: int, strip: NDArray[np.float32]) -> None:
        for row, similarities in enumerate(strip, start=first):
            if excluded is not None:
                similarities[excluded.of(row)] = -np.inf
        rows = slice(first, first + len(strip))
        found.ids[rows], found.distances[rows] = _top(strip, k, queries[rows], gallery)

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
    ranks: list[tuple[Ints, Ints]] = [(np.empty(0, np.int32), np.empty(0, np.int32))] * len(queries)

    def take(first: int, strip: NDArray[np.float32]) -> None:
        for row, similarities in enumerate(strip, start=first):
            if excluded is not None:
                similarities[excluded.of(row)] = -np.inf
            ranks[row] = _ranks(similarities, similarities[positives.of(row)])
        rows = slice(first, first + len(strip))
        found.ids[rows], found.distances[rows] = _top(strip, k, queries[rows], gallery)

    _pass(queries, gallery, take)
    offsets = np.zeros(len(queries) + 1, np.int64)
    np.cumsum([len(optimistic) for optimistic, _ in ranks], out=offsets[1:])
    joined = [
        np.concatenate([pair[side] for pair in ranks]).astype(np.int32) if ranks else np.empty(0, np.int32)
        for side in (0, 1)
    ]
    return found, Ranks(offsets, joined[0], joined[1])


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
    """Give `take` each strip of similarities [rows, ng] and the row of its first query; it may write there.

    Strips are shared among threads; each multiplies on its own core, which is faster than one large
    product on all of them.
    """
    _check(queries, "queries")
    _check(gallery, "gallery")
    if not len(queries) or not len(gallery):
        return
    rows = int(np.clip(STRIP_VALUES // len(gallery), 1, MAX_ROWS))

    def block(first: int) -> None:
        part = np.ascontiguousarray(queries[first : first + rows], np.float32)
        strip = np.empty((len(part), len(gallery)), np.float32)
        for start, tile in _tiles(gallery):
            np.matmul(part, tile.T, out=strip[:, start : start + len(tile)])
        take(first, strip)

    firsts = range(0, len(queries), rows)
    threads = min(len(firsts), os.cpu_count() or 1, MAX_THREADS)
    with _single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        try:
            for _ in pool.map(block, firsts):
                pass
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _tiles(vectors: Floats) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(vectors), TILE):
        yield start, np.ascontiguousarray(vectors[start : start + TILE], np.float32)


def _check(vectors: Floats, name: str) -> None:
    for start, tile in _tiles(vectors):
        lengths = np.einsum("ij,ij->i", tile, tile)
        if not np.all(lengths < 1.001):  # also refuses NaN
            row = start + int(np.argmin(lengths < 1.001))
            raise ValueError(
                f"{name} must be finite rows of length 1; row {row} has {lengths[row - start]:.4g}²"
            )


def _single_threaded_blas() -> AbstractContextManager[Any]:
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


def _top(strip: NDArray[np.float32], k: int, queries: Floats, gallery: Floats) -> Neighbours:
    """The `k` nearest of each row of a strip, the similarities of `queries`."""
    ids = np.full((len(strip), k), -1, np.int64)
    for row, (similarities, floor) in enumerate(zip(strip, _floors(strip, k), strict=True)):
        candidates = np.flatnonzero(similarities >= floor)
        steps = np.rint(similarities[candidates].astype(np.float64) / RESOLUTION)
        order = np.argsort(-steps, kind="stable")[:k]
        ids[row, : len(order)] = candidates[order]
    ids.sort(axis=1)
    again = np.einsum("qd,qkd->qk", queries.astype(np.float64), gallery[ids])
    distances = np.clip(1.0 - np.rint(again / RESOLUTION) * RESOLUTION, 0.0, 2.0)
    distances[ids < 0] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")
    ids, distances = np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)
    return Neighbours(ids.astype(np.int32), distances.astype(np.float32))


def _floors(strip: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each row a similarity that its `k` nearest reach, and few others: the k-th best of `width` maxima.

    Each maximum is of a set of columns apart from the others, so at least `k` items are above it.
    """
    visible = np.float32(-1.5)
    columns = strip.shape[1]
    width = 8 * k
    if columns < 4 * width:
        return np.full(len(strip), visible)
    folds = columns // width
    maxima = strip[:, : folds * width].reshape(len(strip), folds, width).max(axis=1)
    kth = np.partition(maxima, width - k, axis=1)[:, width - k]
    return np.asarray(np.maximum(kth - np.float32(2 * RESOLUTION), visible))


def _ranks(similarities: NDArray[np.float32], own: NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Optimistic and pessimistic ranks of the similarities `own` among all `similarities` of one query."""
    own = np.sort(own[own > -np.inf])[::-1]
    if not len(own):
        return np.empty(0, np.int32), np.empty(0, np.int32)
    rivals = similarities[similarities >= own[-1] - np.float32(2 * RESOLUTION)]
    rivals.sort()
    ascending = own[::-1]
    place = np.arange(1, len(own) + 1)
    # negatives above = all above less the positives above
    above, tied = own + np.float32(RESOLUTION), own - np.float32(RESOLUTION)
    better = _count_above(rivals, above, "right") - _count_above(ascending, above, "right")
    at_least = _count_above(rivals, tied, "left") - _count_above(ascending, tied, "left")
    return place + better, place + at_least


def _count_above(ascending: Floats, bounds: Floats, side: Literal["left", "right"]) -> Ints:
    return len(ascending) - np.searchsorted(ascending, bounds, side=side)
