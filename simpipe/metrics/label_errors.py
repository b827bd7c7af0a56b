"""Label findings from neighbours: likely label errors, hard images, classes to merge, a class to split.

Label errors are sought among the neighbours of *pretrained* features: training pulls a wrong label into its
place and hides it. What it could not pull there is hard.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.confident import confident_labels
from simpipe.metrics.findings import SMALL_CLASS, Finding
from simpipe.metrics.relations import Separability, neighbour_shares

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
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
MERGE_AUC = 0.6
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
    score, suggested, _ = _judge(ids, labels, classes, trained_ids)
    return score, suggested


def label_errors(
    ids: Ints, labels: Ints, names: Sequence[str], trained_ids: Ints | None = None
) -> list[Finding]:
    """Images whose neighbours say that their label is another one; only with strong evidence.

    It is high where confident learning agrees, or one of the two labels is too rare for it. Alone that
    would raise many false alarms: with a tenth of the labels of photos of clothing exchanged, half of what
    it points at is wrong, but 97 % of what it confirms is right.
    """
    if not ids.size:
        return []
    score, suggested, lasting = _judge(ids, labels, len(names), trained_ids)
    ids = ids[:, :MAX_NEIGHBOURS]
    confident = confident_labels(ids, labels, len(names))
    agrees = confident.label == suggested
    mute = np.isnan(confident.thresholds[labels]) | np.isnan(confident.thresholds[suggested])
    high = (score >= _score(SURE)) & (agrees | mute)
    return [
        Finding(
            "label_error",
            "high" if high[row] else "medium",
            float(score[row]),
            f"its neighbours are like those of {names[suggested[row]]}, not of {names[labels[row]]}"
            + _tally(ids[row], labels, labels[row], suggested[row], names)
            + ("; so it is after training" if lasting[row] else "")
            + ("; confident learning agrees" if agrees[row] else ""),
            row=int(row),
            other_label=names[suggested[row]],
            exclude=bool(high[row]),
        )
        for row in np.flatnonzero(score >= 0.5)
    ]


def hard(
    trained_ids: Ints, labels: Ints, names: Sequence[str], taught: Bools, known: Bools | None = None
) -> list[Finding]:
    """Images that the embedding puts under another label though training was told theirs.

    The evidence is that of `label_evidence`, in the embedding. A wrong label is one cause; a bad photo, or
    labels that no picture tells apart, are others.

    Args:
        trained_ids: int [n, k], neighbours in the embedding.
        labels: int [n], the given labels.
        names: the labels by id.
        taught: bool [n], the images whose labels training was told.
        known: bool [n], the images that are label errors already; they are left out.
    """
    if not trained_ids.size:
        return []
    evidence = label_evidence(trained_ids, labels, len(names))
    stuck = (evidence.strength >= EVIDENCE) & ~_doubtful(evidence, labels, len(names)) & taught
    return [
        Finding(
            "hard",
            "medium",
            float(_score(evidence.strength[row])),
            f"training was told {names[labels[row]]}, and yet the embedding puts it under"
            f" {names[evidence.suggested[row]]}"
            + _tally(trained_ids[row, :MAX_NEIGHBOURS], labels, labels[row], evidence.suggested[row], names),
            row=int(row),
            other_label=names[evidence.suggested[row]],
        )
        for row in np.flatnonzero(stuck if known is None else stuck & ~known)
    ]


def merges(
    ids: Ints, labels: Ints, names: Sequence[str], separability: Separability | None = None
) -> list[Finding]:
    """Pairs of classes that mix like one: candidates to be merged.

    In each of the two the other's share among the neighbours is nearly what it would be had the labels
    been given by lot, and the two together make up most of the neighbours. Where their `separability` is
    known, it is below `MERGE_AUC` in both.
    """
    apart: dict[tuple[int, int], float] = {}
    if separability is not None:
        apart = {(int(a), int(b)): float(auc) for (a, b), auc in zip(*separability[:2], strict=True)}
    counts = np.bincount(labels, minlength=len(names)).astype(np.float64)
    shares = np.nan_to_num(neighbour_shares(ids, labels, labels, len(names)))
    together = np.diagonal(shares)[:, None] + shares
    by_lot = counts[None, :] / np.maximum(counts[:, None] + counts[None, :] - 1, 1)
    mixing = shares / np.maximum(together * by_lot, 1e-12)
    able = (together >= MERGE_SHARE) & (counts >= MERGE_IMAGES)[:, None] & (counts >= MERGE_IMAGES)[None, :]
    mixed = np.where(able & able.T, np.minimum(mixing, mixing.T), 0.0)
    findings = []
    for a, b in zip(*np.nonzero(np.triu(mixed, 1) >= MERGE_MIXING), strict=True):
        aucs = [auc for auc in (apart.get((a, b)), apart.get((b, a))) if auc is not None and np.isfinite(auc)]
        if any(auc >= MERGE_AUC for auc in aucs):
            continue
        text = f"the images of {names[a]} and {names[b]} are each other's neighbours as if they had one label"
        if aucs:
            text += f"; two of one label are the more similar ones in {max(aucs):.0%} of cases, 50% is by lot"
        score = float(min(mixed[a, b], 1.0))
        findings.append(Finding("merge", "low", score, text, label=names[a], other_label=names[b]))
    return findings


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


def _judge(
    ids: Ints, labels: Ints, classes: int, trained_ids: Ints | None
) -> tuple[Array, NDArray[np.int32], Bools]:
    """Of each image its score, the suggested label, and whether the trained neighbours strongly agree."""
    evidence = label_evidence(ids, labels, classes)
    strength, lasting = evidence.strength, np.zeros(len(labels), bool)
    if trained_ids is not None:
        trained = label_evidence(trained_ids, labels, classes)
        lasting = (trained.strength >= EVIDENCE) & (trained.suggested == evidence.suggested)
        strength = strength + AGREEMENT * lasting
    doubt = _doubtful(evidence, labels, classes)
    return (
        _score(np.where(doubt, np.minimum(strength, EVIDENCE) - EVIDENCE, strength)),
        evidence.suggested,
        lasting,
    )


def _doubtful(evidence: Evidence, labels: Ints, classes: int) -> Bools:
    """Where the own label is among the neighbours, or too rare to be."""
    small = np.bincount(labels, minlength=classes) < SMALL_CLASS
    return np.asarray((evidence.own_share > OWN_SHARE) | small[labels])


def _score(strength: Any) -> Any:
    return 1.0 / (1.0 + np.exp(np.clip(EVIDENCE - strength, -700, 700)))


def _tally(ids: Ints, labels: Ints, own: int, other: int, names: Sequence[str]) -> str:
    near = labels[ids[ids >= 0]]
    theirs, ours = int(np.sum(near == other)), int(np.sum(near == own))
    return f": {theirs} of {len(near)} are {names[other]}, {ours} {names[own]}"


def _habits(ids: Ints, labels: Ints, at_home: Bools, classes: int) -> Array:
    """float64 [classes, classes]: how the labels of the neighbours of a class (row) are distributed."""
    counts = np.bincount(labels, minlength=classes)
    usual = np.bincount(labels[at_home], minlength=classes)
    used = at_home | (2 * usual < counts)[labels]
    shares = np.nan_to_num(neighbour_shares(ids[used], labels[used], labels, classes))
    weight = np.bincount(labels[used], minlength=classes)[:, None]
    by_size = np.maximum(counts, 1) / max(1, len(labels))
    return np.asarray((shares * weight + by_size) / (weight + 1))
