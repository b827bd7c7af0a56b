"""From neighbours to one match: a label, the distance that a threshold is held against, and the margin."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.similarity import Neighbours, nearest, neighbour_vote

MatchRule = Literal["nearest", "majority", "weighted", "balanced"]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

TEMPERATURE = 0.1  # of the balanced vote, a distance: a neighbour that much farther weighs 1/e
FARTHEST = 2.0
BLOCK_VALUES = 1 << 22


class Matches(NamedTuple):
    """`labels` int32 (n,), −1 without any neighbour; `distances` float32 (n,) of the closest with it."""

    labels: npt.NDArray[np.int32]
    distances: npt.NDArray[np.float32]


def match(neighbours: Neighbours, gallery_labels: npt.NDArray[np.int32], rule: MatchRule, k: int) -> Matches:
    """The label on which the `k` nearest agree by `rule`, at the distance of the closest that carries it.

    The rules are those of `neighbour_vote`, and `balanced`: the votes of a label, exp(-distance / 0.1)
    each, divided by min(k, its images in the gallery), so that a label of two images can outvote one of
    many. Equal votes go to the label of the closest.
    """
    ids, distances = neighbours.ids[:, :k], neighbours.distances[:, :k]
    if rule == "balanced":
        labels = _balanced_vote(ids, distances, gallery_labels)
    else:
        labels, _ = neighbour_vote(ids, distances, gallery_labels, k, rule)
    carries = (np.where(ids >= 0, gallery_labels[ids], -1) == labels[:, None]) & (ids >= 0)
    return Matches(labels, np.where(carries, distances, np.inf).min(axis=1).astype(np.float32))


def find_matches(
    queries: Floats,
    gallery: Floats,
    gallery_labels: npt.NDArray[np.int32],
    rule: MatchRule,
    k: int,
    query_groups: Ints | None = None,
    gallery_groups: Ints | None = None,
) -> tuple[Matches, npt.NDArray[np.float32]]:
    """The match of each query (n, d) in the gallery (m, d), and its margin, float32 (n,) in [-2, 2].

    The margin is the distance of the nearest gallery item of another label less that of the match. Where
    there is no other label it is as if one stood at distance 2; without a match it is 0. A gallery item
    with the query's group is invisible to it.
    """
    found = nearest(queries, gallery, k, query_groups, gallery_groups)
    matched = match(found, gallery_labels, rule, k)
    rival = _nearest_other(matched.labels, queries, gallery, gallery_labels, query_groups, gallery_groups)
    margin = np.minimum(rival, np.float32(FARTHEST)) - matched.distances
    return matched, np.where(matched.labels >= 0, margin, 0).astype(np.float32)


def _balanced_vote(ids: Ints, distances: Floats, gallery_labels: Ints) -> npt.NDArray[np.int32]:
    k = ids.shape[1]
    seen = ids >= 0
    labels = np.where(seen, gallery_labels[ids], -1)
    votes = np.exp(-distances.astype(np.float64) / TEMPERATURE)
    sums = np.stack([np.sum(votes * (labels == labels[:, [j]]), axis=1) for j in range(k)], axis=1)
    _, code, counts = np.unique(gallery_labels, return_inverse=True, return_counts=True)
    share = np.where(seen, sums / np.minimum(k, counts[code])[ids], -1.0)
    winners: npt.NDArray[np.int32] = labels[np.arange(len(ids)), np.argmax(share, axis=1)].astype(np.int32)
    return winners


def _nearest_other(
    labels: Ints,
    queries: Floats,
    gallery: Floats,
    gallery_labels: Ints,
    query_groups: Ints | None,
    gallery_groups: Ints | None,
) -> npt.NDArray[np.float32]:
    """The distance of the nearest gallery item whose label is not the query's in `labels`; inf without."""
    if query_groups is None or gallery_groups is None:
        return nearest(queries, gallery, 1, labels, gallery_labels).distances[:, 0]
    rival = np.full(len(queries), np.inf, np.float32)
    codes = np.unique(np.concatenate([query_groups, gallery_groups]), return_inverse=True)[1]
    hidden = np.bincount(codes[len(queries) :], minlength=len(codes))[codes[: len(queries)]]
    # a pass can exclude by one code, so what is of the own group is passed over in what it found
    for rows in (np.flatnonzero(hidden == 0), np.flatnonzero(hidden)):
        depth = int(hidden[rows].max(initial=0)) + 1
        step = max(1, BLOCK_VALUES // depth)
        for part in (rows[start : start + step] for start in range(0, len(rows), step)):
            found = nearest(queries[part], gallery, depth, labels[part], gallery_labels)
            others = (found.ids >= 0) & (gallery_groups[found.ids] != query_groups[part][:, None])
            rival[part] = np.where(others, found.distances, np.inf).min(axis=1)
    return rival
