"""From neighbours to one match: a label and the distance that a threshold is held against."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.similarity import Neighbours, neighbour_vote

MatchRule = Literal["nearest", "majority", "weighted"]


class Matches(NamedTuple):
    """`labels` int32 (n,), −1 without any neighbour; `distances` float32 (n,) of the closest with it."""

    labels: npt.NDArray[np.int32]
    distances: npt.NDArray[np.float32]


def match(neighbours: Neighbours, gallery_labels: npt.NDArray[np.int32], rule: MatchRule, k: int) -> Matches:
    """The label on which the `k` nearest agree by `rule`, at the distance of the closest that carries it."""
    ids, distances = neighbours.ids[:, :k], neighbours.distances[:, :k]
    labels, _ = neighbour_vote(ids, distances, gallery_labels, k, rule)
    carries = (np.where(ids >= 0, gallery_labels[ids], -1) == labels[:, None]) & (ids >= 0)
    return Matches(labels, np.where(carries, distances, np.inf).min(axis=1).astype(np.float32))
