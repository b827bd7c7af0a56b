"""The ladder: the same queries and gallery, seen through one representation after the other.

Where all queries together are too much work, some of them answer for the rest: every class gives its
share, and all rungs are asked the same. The gallery is never cut: each answer is exact.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.baselines import (
    REDUCED,
    Projection,
    apply_projection,
    chance,
    lda_fit,
    principal,
    whiten_fit,
)
from simpipe.metrics.evaluation import Evaluation, evaluate_queries, paired_gain, summarise
from simpipe.metrics.retrieval import formula_id

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

BUDGET = 1e13
"""Multiply-adds that one block may take, over all rungs; about two minutes on two cores."""
SCAN = 400
"""What it costs to look at one similarity, in multiply-adds; measured, on the worst of embeddings."""
RANK = 12_000
"""What it costs to place one positive."""
SHORTCUT = 0.75
GAINS = {"groups": ("accuracy@1", "map@r"), "classes": ("recall@1", "map@r")}


class Block(NamedTuple):
    """Which images are queries and which the gallery.

    `labels` and `exclude` int [n] are of all images; `queries` and `gallery` int are rows. `unit` says
    what is resampled for the intervals.
    """

    name: str
    queries: Ints
    gallery: Ints
    labels: Ints
    exclude: Ints
    unit: Literal["groups", "classes"]


class Scores(NamedTuple):
    """A block's results: one evaluation and one summary for each rung, and the gains over `pretrained`.

    `block` has the queries that were asked, all or a sample: evaluations are in their order.
    """

    block: Block
    evaluations: dict[str, Evaluation]
    ladder: list[dict[str, Any]]
    gain: list[dict[str, Any]]

    def summary(self, rung: str) -> dict[str, Any]:
        """The rung's counts and metrics, as `metrics.json` has them for a block."""
        entry = next(entry for entry in self.ladder if entry["rung"] == rung)
        return {name: entry[name] for name in ("counts", "metrics", "compat")}


def fitted_rungs(pretrained: Floats, train: Ints, labels: Ints) -> dict[str, Projection | str]:
    """`whitened` and `lda`, fitted on the rows `train` only; a reason in the place of one that cannot be."""
    features = pretrained[train]
    known = principal(features, REDUCED)
    fitted: dict[str, Projection | str] = {}
    for name, (projection, reason) in {
        "whitened": whiten_fit(features, known=known),
        "lda": lda_fit(features, labels[train], known=known),
    }.items():
        fitted[name] = projection if projection is not None else str(reason)
    return fitted


def climb(
    block: Block, rungs: Mapping[str, Floats | str], base: str, top: str, k: int, resamples: int, seed: int
) -> Scores:
    """Evaluate every rung on a block, or on a sample of its queries if all exceed `BUDGET`.

    Args:
        block: the queries and the gallery.
        rungs: representations [n, d] of all images by name, L2-normalised; or why there is none.
        base: the rung that `top` is compared with.
        top: the rung whose gain is reported.
        k: neighbours that are kept.
        resamples: of the bootstrap.
        seed: of the sample and of the bootstrap.
    """
    asked = {"queries": len(block.queries)}
    dims = [each.shape[1] for each in rungs.values() if not isinstance(each, str)]
    block = within_budget(block, dims, seed, BUDGET)
    if len(block.queries) < asked["queries"]:
        asked["sampled"] = len(block.queries)
    labels, groups = block.labels[block.queries], block.exclude[block.queries]
    ladder: list[dict[str, Any]] = [{"rung": "chance", "block": block.name, "metrics": _chance(block)}]
    evaluations: dict[str, Evaluation] = {}
    for name, vectors in rungs.items():
        if isinstance(vectors, str):
            ladder.append({"rung": name, "block": block.name, "metrics": {}, "reason": vectors})
            continue
        evaluations[name] = evaluate_queries(
            *(vectors[block.queries], vectors[block.gallery], labels, block.labels[block.gallery]),
            *(groups, block.exclude[block.gallery], k),
        )
        summary = summarise(evaluations[name], labels, groups, resamples, seed, block.unit)
        summary["counts"] = summary["counts"] | asked
        ladder.append({"rung": name, "block": block.name, **summary})
    gain = [
        {"block": block.name, "from": base, "to": top}
        | paired_gain(
            evaluations[base], evaluations[top], metric, labels, groups, resamples, seed, block.unit
        )
        for metric in GAINS[block.unit]
    ]
    return Scores(block, evaluations, ladder, gain)


def within_budget(block: Block, dims: Sequence[int], seed: int, budget: float) -> Block:
    """The block, with a sample of its queries if rungs of `dims` dimensions would take more than `budget`."""
    labels = block.labels
    per_class = np.bincount(labels[block.gallery], minlength=int(labels.max(initial=0)) + 1)
    positives = per_class[labels[block.queries]].mean() if len(block.queries) else 0.0
    cost = len(block.gallery) * sum(each + SCAN for each in dims) + positives * RANK * len(dims)
    keep = max(1, int(budget / max(cost, 1.0)))
    return block._replace(queries=block.queries[sample(labels[block.queries], keep, seed)])


def sample(classes: Ints, keep: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most `keep` of the queries of `classes` [nq], ascending.

    Every class gives its share, rounded up or down at random, and every query has the same chance, so
    that a mean over the sample is an unbiased one over all (systematic sampling in the order of the
    classes, shuffled within).
    """
    if len(classes) <= keep:
        return np.arange(len(classes))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    places = ((np.arange(keep) + rng.random()) * (len(classes) / keep)).astype(np.int64)
    return np.sort(order[np.minimum(places, len(classes) - 1)])


def project_all(pretrained: Floats, fitted: Mapping[str, Projection | str]) -> dict[str, Floats | str]:
    """The fitted rungs of all images."""
    return {
        name: projection if isinstance(projection, str) else apply_projection(pretrained, projection)
        for name, projection in fitted.items()
    }


def pixel_rung(pixels: Floats) -> Floats:
    """The rung `thumbnail`: pixels [n, p], each image less its own mean and scaled to length 1.

    An image of one colour has no direction; it becomes a constant row.
    """
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = np.full_like(centred, 1 / np.sqrt(centred.shape[1]))
    return np.asarray(np.where(length > 1e-6, centred / np.maximum(length, 1e-6), flat))


def shortcut(ladder: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether pixels of a thumbnail nearly do what the trained embedding does, by accuracy@1 over chance.

    They know nothing of the things in an image. Where they reach `SHORTCUT` of the way from chance to the
    embedding, something simpler than what the labels mean may tell them apart: a background, a colour, a
    camera (Geirhos et al. 2020, arXiv:2004.07780). Both have to beat chance by their intervals. Empty where
    one of the three rungs is missing.
    """
    rungs = {
        entry["rung"]: entry["metrics"]["accuracy@1"] for entry in ladder if "accuracy@1" in entry["metrics"]
    }
    if not {"chance", "thumbnail", "trained"} <= set(rungs):
        return {}
    base, thumbnail, trained = (rungs[name]["value"] for name in ("chance", "thumbnail", "trained"))
    share = (thumbnail - base) / (trained - base) if trained > base else None
    real = all((rungs[name]["low"] or 0.0) > base for name in ("thumbnail", "trained"))
    return {
        "chance": base,
        "thumbnail": thumbnail,
        "trained": trained,
        "share": None if share is None else round(share, 6),
        "suspicious": real and share is not None and share >= SHORTCUT,
    }


def _chance(block: Block) -> dict[str, Any]:
    values = chance(
        *(block.labels[block.queries], block.labels[block.gallery]),
        *(block.exclude[block.queries], block.exclude[block.gallery]),
    )
    metrics: dict[str, Any] = {}
    for name, each in values.items():
        counted = each[np.isfinite(each)]
        if len(counted) and (block.unit == "groups" or not name.startswith("accuracy")):
            value = {"value": float(counted.mean()), "low": None, "high": None, "n": len(counted)}
            metrics[name] = value | {"formula": formula_id(name)}
    return metrics
