"""Label findings from neighbours: likely label errors, classes to merge, a class to split.

The neighbours are to be those of *pretrained* features: training pulls a wrong label into its place and
hides it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.findings import SMALL_CLASS, Finding
from simpipe.metrics.relations import neighbour_shares

Array = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

MAX_NEIGHBOURS = 20
EVIDENCE = 5.8  # from here on a label error is reported
AGREEMENT = 0.25 * EVIDENCE  # what the trained embedding adds where it says the same
OWN_SHARE = 0.1  # the label itself is nearly absent among the neighbours
SURE = EVIDENCE + 2.0
BLOCK_ROWS = 4096

MERGE_MIXING = 0.8
MERGE_SHARE = 0.5
MERGE_IMAGES = 10
SPLIT_IMAGES = 40
SPLIT_PART = 0.25
SPLIT_COVER = 0.9


class Evidence(NamedTuple):
    """For each image, `strength` float64 [n] for the label `suggested` int32 [n] against its own.

    `own_share` float64 [n] is the share of its own label among its neighbours.
    """

    strength: Array
    suggested: NDArray[np.int32]
    own_share: Array


def label_evidence(ids: Ints, labels: Ints, classes: int) -> Evidence:
    """How much better another label explains an image's neighbours than its own does.

    Each class has its habit: which labels the neighbours of its images carry. The evidence is the mean
    over the image's k neighbours of the log ratio of the two habits, times sqrt(k) for the noise of a
    mean. Labels that are often confused have similar habits, so that a hard class gives weak evidence
    while an image among labels that its own never meets gives strong evidence. A habit is that of the
    images with at least one neighbour of their own label, if they are half of the class; it is shrunk
    to the class sizes with the weight of one image. An image without neighbours has no evidence.
    """
    ids = ids[:, :MAX_NEIGHBOURS]
    seen = ids >= 0
    near = np.where(seen, labels[ids], 0)
    own = np.sum(seen & (near == labels[:, None]), axis=1)
    habit = np.log(_habits(ids, labels, own > 0, classes))
    strength, suggested = np.zeros(len(labels)), labels.astype(np.int32)
    count = np.maximum(seen.sum(axis=1), 1)
    for start in range(0, len(labels), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block, weight, label = near[rows], seen[rows], labels[rows]
        under = np.einsum("ijk,ik->ij", habit[block[:, :, None], block[:, None, :]], weight)
        under = np.where(weight & (block != label[:, None]), under, -np.inf)
        under_own = np.sum(habit[label[:, None], block] * weight, axis=1)
        best = np.argmax(under, axis=1)
        at = np.arange(len(block))
        other = np.isfinite(under[at, best])
        strength[rows] = np.where(other, (under[at, best] - under_own) / np.sqrt(count[rows]), -np.inf)
        suggested[rows] = np.where(other, block[at, best], label)
    return Evidence(strength, suggested, own / count)


def label_error_scores(
    ids: Ints, labels: Ints, classes: int, trained_ids: Ints | None = None
) -> tuple[Array, NDArray[np.int32]]:
    """A score in [0, 1] that an image's label is wrong, float64 [n], and the suggested label, int32 [n].

    From 0.5 on it is reported. Where the neighbours in the trained embedding (`trained_ids` [n, k']) are
    strong evidence for the same label, less is asked of the pretrained ones. That the trained ones
    agree with the given label is no argument: it may have learnt it.
    """
    evidence = label_evidence(ids, labels, classes)
    strength = evidence.strength.copy()
    if trained_ids is not None:
        trained = label_evidence(trained_ids, labels, classes)
        strength[(trained.strength >= EVIDENCE) & (trained.suggested == evidence.suggested)] += AGREEMENT
    doubt = (evidence.own_share > OWN_SHARE) | (np.bincount(labels, minlength=classes) < SMALL_CLASS)[labels]
    strength = np.where(doubt, np.minimum(strength, EVIDENCE) - EVIDENCE, strength)
    return 1.0 / (1.0 + np.exp(np.clip(EVIDENCE - strength, -700, 700))), evidence.suggested


def label_errors(
    ids: Ints, labels: Ints, names: Sequence[str], trained_ids: Ints | None = None
) -> list[Finding]:
    """Images whose neighbours say that their label is another one; only with strong evidence."""
    if not ids.size:
        return []
    score, suggested = label_error_scores(ids, labels, len(names), trained_ids)
    sure = 1.0 / (1.0 + np.exp(EVIDENCE - SURE))
    return [
        Finding(
            "label_error",
            "high" if score[row] >= sure else "medium",
            float(score[row]),
            f"its neighbours are like those of {names[suggested[row]]}, not of {names[labels[row]]}",
            row=int(row),
            other_label=names[suggested[row]],
            exclude=bool(score[row] >= sure),
        )
        for row in np.flatnonzero(score >= 0.5)
    ]


def merges(ids: Ints, labels: Ints, names: Sequence[str]) -> list[Finding]:
    """Pairs of classes that mix like one: candidates to be merged.

    In each of the two the other's share among the neighbours is nearly what it would be had the labels
    been given by lot, and the two together make up most of the neighbours.
    """
    counts = np.bincount(labels, minlength=len(names)).astype(np.float64)
    shares = np.nan_to_num(neighbour_shares(ids, labels, labels, len(names)))
    together = np.diagonal(shares)[:, None] + shares
    by_lot = counts[None, :] / np.maximum(counts[:, None] + counts[None, :] - 1, 1)
    mixing = shares / np.maximum(together * by_lot, 1e-12)
    able = (together >= MERGE_SHARE) & (counts >= MERGE_IMAGES)[:, None] & (counts >= MERGE_IMAGES)[None, :]
    mixed = np.where(able & able.T, np.minimum(mixing, mixing.T), 0.0)
    return [
        Finding(
            "merge",
            "low",
            float(min(mixed[a, b], 1.0)),
            f"the images of {names[a]} and {names[b]} are each other's neighbours as if they had one label",
            label=names[a],
            other_label=names[b],
        )
        for a, b in zip(*np.nonzero(np.triu(mixed, 1) >= MERGE_MIXING), strict=True)
    ]


def splits(ids: Ints, labels: Ints, names: Sequence[str]) -> list[Finding]:
    """Classes in two parts, none of whose images has a neighbour in the other part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    columns = ids.ravel()
    linked = (columns >= 0) & (labels[columns] == labels[rows])
    graph = coo_array((np.ones(linked.sum()), (rows[linked], columns[linked])), (len(ids), len(ids)))
    _, part = connected_components(graph.tocsr(), directed=False)
    findings = []
    for label, name in enumerate(names):
        sizes = np.sort(np.unique(part[labels == label], return_counts=True)[1])[::-1]
        total = int(sizes.sum())
        if total >= SPLIT_IMAGES and len(sizes) > 1 and sizes[1] >= SPLIT_PART * total:
            share = float(sizes[:2].sum() / total)
            if share >= SPLIT_COVER:
                text = f"two parts of {sizes[0]} and {sizes[1]} images that are never each other's neighbours"
                findings.append(Finding("split", "low", share, text, label=name))
    return findings


def _habits(ids: Ints, labels: Ints, at_home: NDArray[np.bool_], classes: int) -> Array:
    """float64 [classes, classes]: how the labels of the neighbours of a class (row) are distributed."""
    counts = np.bincount(labels, minlength=classes)
    usual = np.bincount(labels[at_home], minlength=classes)
    used = at_home | (2 * usual < counts)[labels]
    shares = np.nan_to_num(neighbour_shares(ids[used], labels[used], labels, classes))
    weight = np.bincount(labels[used], minlength=classes)[:, None]
    by_size = np.maximum(counts, 1) / max(1, len(labels))
    return np.asarray((shares * weight + by_size) / (weight + 1))
