"""Fair comparisons of whole blocks: at equal numbers of classes, and without the images under suspicion."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.evaluation import Evaluation, as_dict, bootstrap, evaluate_queries, summarise
from simpipe.metrics.ladder import Block
from simpipe.metrics.retrieval import formula_id

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

MATCHED = ("recall@1", "map@r")
CLEANED = {"groups": ("accuracy@1", "macro_accuracy@1", "recall@1", "map@r"), "classes": MATCHED}
GROUPS = 10  # at least so many random groups of classes are averaged over


def matched_blocks(blocks: Sequence[Block], vectors: Floats, resamples: int, seed: int) -> dict[str, Any]:
    """`recall@1` and `map@r` of blocks as if all had as many classes as the smallest.

    Both fall as the number of classes grows, so that blocks of different sizes are compared only so
    (Zhdanov & Karpukhin 2023, arXiv:2306.13357, grouped recall). `vectors` [n, d] are of all images,
    L2-normalised. Returns `{"classes": C, "blocks": {NAME: {METRIC: {"value", "low", "high", "n",
    "formula"}}}}`; the intervals resample what each block's `unit` says.
    """
    count = min(len(_classes(block)) for block in blocks)
    document: dict[str, Any] = {"classes": count, "blocks": {}}
    for block in blocks:
        values = matched_values(block, vectors, count, seed)
        labels, groups = block.labels[block.queries], block.exclude[block.queries]
        estimates = bootstrap(values, MATCHED, labels, groups, resamples, seed, block.unit)
        document["blocks"][block.name] = {
            name: as_dict(each) | {"formula": formula_id(name)} for name, each in estimates.items()
        }
    return document


def matched_values(block: Block, vectors: Floats, classes: int, seed: int) -> dict[str, Array]:
    """Each query's mean value where only `classes` classes exist: float64 [nq] for each of `MATCHED`.

    The block's classes are dealt at random into groups of that size, again and again until there were
    `GROUPS`; a query sees the gallery of its own group only, and classes that are left over sit that
    deal out. NaN for a query that has no positive, or whose class never took part.
    """
    present = _classes(block)
    query_labels, gallery_labels = block.labels[block.queries], block.labels[block.gallery]
    sums = {name: np.zeros(len(block.queries)) for name in MATCHED}
    times = np.zeros(len(block.queries))
    for group in _dealt(present, classes, seed):
        asked = np.flatnonzero(np.isin(query_labels, group))
        part = block._replace(
            queries=block.queries[asked], gallery=block.gallery[np.isin(gallery_labels, group)]
        )
        values = _evaluated(part, vectors).values
        for name in MATCHED:
            sums[name][asked] += values[name]
        times[asked] += 1
    return {name: np.where(times > 0, total / np.maximum(times, 1), np.nan) for name, total in sums.items()}


def _dealt(classes: Ints, size: int, seed: int) -> Iterator[Ints]:
    """Random groups of `size` of the classes, all apart within one deal; the one group where that is all."""
    rng = np.random.default_rng(seed)
    hands = len(classes) // size if size else 0
    deals = -(-GROUPS // hands) if hands and size < len(classes) else min(hands, 1)
    for _ in range(deals):
        yield from rng.permutation(classes)[: hands * size].reshape(hands, size)


def without(block: Block, suspects: NDArray[np.bool_]) -> Block:
    """The block without the images of the mask `suspects` bool [n], neither as queries nor in the gallery."""
    return block._replace(
        queries=block.queries[~suspects[block.queries]], gallery=block.gallery[~suspects[block.gallery]]
    )


def score_after_cleaning(
    block: Block, vectors: Floats, suspects: NDArray[np.bool_], resamples: int, seed: int
) -> dict[str, Any]:
    """What the data cost: the block's headline metrics without the images under suspicion.

    `vectors` [n, d] and `suspects` bool [n] are of all images. Returns `{"removed": {"queries",
    "gallery"}, "metrics": {NAME: {"value", "low", "high", "n", "formula"}}}`.
    """
    clean = without(block, suspects)
    labels, groups = block.labels[clean.queries], block.exclude[clean.queries]
    metrics = summarise(_evaluated(clean, vectors), labels, groups, resamples, seed, block.unit)["metrics"]
    return {
        "removed": {
            "queries": len(block.queries) - len(clean.queries),
            "gallery": len(block.gallery) - len(clean.gallery),
        },
        "metrics": {name: metrics[name] for name in CLEANED[block.unit]},
    }


def _evaluated(block: Block, vectors: Floats) -> Evaluation:
    queries, gallery = block.queries, block.gallery
    return evaluate_queries(
        *(vectors[queries], vectors[gallery], block.labels[queries], block.labels[gallery]),
        *(block.exclude[queries], block.exclude[gallery]),
    )


def _classes(block: Block) -> Ints:
    """The classes that have a query and an image in the gallery."""
    return np.intersect1d(block.labels[block.queries], block.labels[block.gallery])
