"""The pairs of two sets of images: all positive ones, and all negative ones or a seeded sample of them.

Similarities are whole steps of `similarity.RESOLUTION`, so that pairs within one step are ties. Images of one
duplicate group are no pair.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import RESOLUTION

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

STEPS = round(1 / RESOLUTION)
BLOCK_PAIRS = 1 << 20
SHARED = 32  # queries that meet the same draw of the gallery


class Images(NamedTuple):
    """One side of the pairs: `vectors` float [n, d] of length 1, `labels` int [n], `groups` int [n]."""

    vectors: Floats
    labels: Ints
    groups: Ints


class Pairs(NamedTuple):
    """`steps` of similarity, the rows of both ends, and for how many pairs each stands: [pairs] each."""

    steps: Ints
    query: Ints
    other: Ints
    times: Array


class Positives(NamedTuple):
    """`histogram` int64 over all steps from -1 to 1; counts for each class; `drawn` for the intervals."""

    histogram: NDArray[np.int64]
    labels: Ints
    held: NDArray[np.int64]
    missed: NDArray[np.int64]
    drawn: Pairs


def count_pairs(queries: Images, gallery: Images | None) -> tuple[int, int]:
    """How many positive and negative pairs there are."""
    other = gallery or queries

    def equal(a: Ints, b: Ints) -> int:
        codes, counts = np.unique(b, return_counts=True)
        at = np.minimum(np.searchsorted(codes, a), len(codes) - 1)
        return int(counts[at][codes[at] == a].sum()) if len(codes) else 0

    _, groups = np.unique(np.concatenate([queries.groups, other.groups]), return_inverse=True)
    first, second = groups[: len(queries.groups)], groups[len(queries.groups) :]
    size = len(groups) + 1
    both = equal(
        *(side.labels.astype(np.int64) * size + each for side, each in ((queries, first), (other, second)))
    )
    same_label, same_group = equal(queries.labels, other.labels), equal(first, second)
    positives = same_label - both
    negatives = len(first) * len(second) - same_label - same_group + both
    return (positives // 2, negatives // 2) if gallery is None else (positives, negatives)


def similarity_steps(queries: Images, other: Images, rows: Ints, columns: Ints) -> Ints:
    """The similarities of `rows` with `columns`, in whole steps: int32 [rows, columns]."""
    one, two = (np.asarray(side.vectors[at], np.float32) for side, at in ((queries, rows), (other, columns)))
    steps: NDArray[np.int32] = np.clip(np.rint(one @ two.T * np.float32(STEPS)), -STEPS, STEPS).astype(
        np.int32
    )
    return steps


def negative_pairs(queries: Images, gallery: Images | None, most: int, rng: np.random.Generator) -> Pairs:
    """All negative pairs, or those among `most` pairs; each query then meets equally many images."""
    other = gallery or queries
    n, m = len(queries.labels), len(other.labels)
    found: list[tuple[Ints, Ints, Ints]] = []
    whole = n * m <= (2 * most if gallery is None else most)
    if whole:
        size = max(1, BLOCK_PAIRS // max(1, m))
        blocks = [(np.arange(start, min(start + size, n)), np.arange(m)) for start in range(0, n, size)]
    else:
        order, cycle = rng.permutation(n)[:most], rng.permutation(m)
        width = max(1, most // n)
        blocks = [
            (order[start : start + SHARED], cycle[(number * width + np.arange(width)) % m])
            for number, start in enumerate(range(0, len(order), SHARED))
        ]
    for rows, columns in blocks:
        kept = queries.labels[rows, None] != other.labels[columns]
        kept &= queries.groups[rows, None] != other.groups[columns]
        if whole and gallery is None:
            kept &= rows[:, None] < columns
        row, column = np.nonzero(kept)
        found.append((similarity_steps(queries, other, rows, columns)[kept], rows[row], columns[column]))
    return _joined(found, 1.0)


def positive_pairs(
    queries: Images, gallery: Images | None, limits: Ints, share: float, rng: np.random.Generator
) -> Positives:
    """One pass over all positive pairs, class by class; a random `share` of them is kept."""
    other = gallery or queries
    labels = np.union1d(queries.labels, other.labels)
    histogram = np.zeros(2 * STEPS + 1, np.int64)
    held, missed = np.zeros(len(labels), np.int64), np.zeros((len(labels), len(limits)), np.int64)
    kept: list[tuple[Ints, Ints, Ints]] = []
    for at, rows, columns in _class_blocks(queries.labels, other.labels, labels):
        steps = similarity_steps(queries, other, rows, columns)
        pairs = queries.groups[rows, None] != other.groups[columns]
        if gallery is None:
            pairs &= rows[:, None] < columns
        row, column = np.nonzero(pairs)
        found = steps[pairs]
        held[at] += len(found)
        missed[at] += [int(np.sum(found <= limit)) for limit in limits]
        np.add.at(histogram, found + STEPS, 1)
        drawn = np.flatnonzero(rng.random(len(found)) < share)
        kept.append((found[drawn], rows[row[drawn]], columns[column[drawn]]))
    return Positives(histogram, labels, held, missed, _joined(kept, 1.0 / share))


def _class_blocks(queries: Ints, gallery: Ints, labels: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    """Yield the number of each label, some of its queries, and all its gallery, in bounded blocks."""
    rows, columns = np.argsort(queries, kind="stable"), np.argsort(gallery, kind="stable")
    row_ends, column_ends = (
        np.searchsorted(codes[order], labels, "right")
        for codes, order in ((queries, rows), (gallery, columns))
    )
    for at, (mine, theirs) in enumerate(
        zip(np.split(rows, row_ends[:-1]), np.split(columns, column_ends[:-1]), strict=True)
    ):
        size = max(1, BLOCK_PAIRS // max(1, len(theirs)))
        for start in range(0, len(mine) if len(theirs) else 0, size):
            yield at, mine[start : start + size], theirs


def _joined(found: list[tuple[Any, Any, Any]], times: float) -> Pairs:
    if not found:
        found = [(np.zeros(0), np.zeros(0), np.zeros(0))]
    steps, query, other = (np.concatenate(part).astype(np.int32) for part in zip(*found, strict=True))
    return Pairs(steps, query, other, np.full(len(steps), times))
