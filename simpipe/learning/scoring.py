"""How good a network is between two epochs: MAP@R of val images against training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe import similarity
from simpipe.learning.head import Embed
from simpipe.learning.inputs import Inputs
from simpipe.metrics import retrieval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """The images of a split.

    Attributes:
        inputs: what the network reads, by row.
        labels: (n,) integers; −1: none.
        groups: (n,) codes of the duplicate groups: an image is not scored against its own. None: no two
            images are duplicates.
        scored: rows that are embedded and scored after an epoch.
    """

    inputs: Inputs
    labels: npt.NDArray[np.integer[Any]]
    groups: Ints | None
    scored: Ints

    @classmethod
    def of(
        cls, inputs: Inputs, labels: npt.NDArray[np.integer[Any]], groups: Ints | None = None
    ) -> "Examples":
        """All of them are scored."""
        return cls(inputs, labels, groups, np.arange(len(labels)))

    def __len__(self) -> int:
        return len(self.labels)


MOST = {True: (20_000, 2000), False: (1000, 500)}
"""Whether the backbone is frozen → most training and val images to score after an epoch.

Where a part of the backbone runs for each, more would cost as much as the training itself.
"""


def sample(count: int, most: int, seed: int) -> Ints:
    """`most` of the numbers below `count` at random, ascending; all of them if there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def map_at_r(queries: Floats, gallery: Floats, val: Examples, train: Examples) -> float | None:
    """Mean MAP@R of the scored val images (nq, d) among the scored train images (ng, d).

    None if no query has a positive.
    """
    if len(queries) == 0 or (val.labels < 0).all():
        return None
    _, ranks = similarity.search(
        queries,
        gallery,
        1,
        val.labels[val.scored],
        train.labels[train.scored],
        *(None if part.groups is None else part.groups[part.scored] for part in (val, train)),
    )
    values = retrieval.retrieval_values(ranks)["map@r"]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def confusion(
    queries: Floats, gallery: Floats, query_labels: Any, gallery_labels: Any, classes: Any
) -> npt.NDArray[np.float64]:
    """How often queries of the i-th of `classes`, ascending, have a nearest neighbour of the j-th: (C, C)."""
    counts = np.zeros((len(classes), len(classes)))
    if len(queries):
        found = np.asarray(gallery_labels)[similarity.nearest(queries, gallery, 1).ids[:, 0]]
        known = np.isin(query_labels, classes) & np.isin(found, classes)
        truth, guess = (np.searchsorted(classes, np.asarray(each)[known]) for each in (query_labels, found))
        np.add.at(counts, (truth, guess), 1)
    return counts


def embed_rows(embed: Embed, inputs: Inputs, rows: Ints, out: Floats) -> None:
    """Write the embeddings of the plain images `rows` to `out` (len(rows), d), a block at a time."""
    for start in range(0, len(rows), embed.block):
        part = rows[start : start + embed.block]
        out[start : start + len(part)] = embed(inputs.plain(part))
