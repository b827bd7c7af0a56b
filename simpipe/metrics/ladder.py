"""The ladder: the same queries and gallery, seen through one representation after the other."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.baselines import Projection, apply_projection, chance, lda_fit, whiten_fit
from simpipe.metrics.evaluation import Evaluation, evaluate_queries, paired_gain, summarise

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

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
    """A block's results: one evaluation and one summary for each rung, and the gains over `pretrained`."""

    evaluations: dict[str, Evaluation]
    ladder: list[dict[str, Any]]
    gain: list[dict[str, Any]]

    def summary(self, rung: str) -> dict[str, Any]:
        """The rung's counts and metrics, as `metrics.json` has them for a block."""
        entry = next(entry for entry in self.ladder if entry["rung"] == rung)
        return {"counts": entry["counts"], "metrics": entry["metrics"]}


def fitted_rungs(pretrained: Floats, train: Ints, labels: Ints) -> dict[str, Projection | str]:
    """`whitened` and `lda`, fitted on the rows `train` only; a reason in the place of one that cannot be."""
    fitted: dict[str, Projection | str] = {}
    for name, (projection, reason) in {
        "whitened": whiten_fit(pretrained[train]),
        "lda": lda_fit(pretrained[train], labels[train]),
    }.items():
        fitted[name] = projection if projection is not None else str(reason)
    return fitted


def climb(
    block: Block, rungs: Mapping[str, Floats | str], base: str, top: str, k: int, resamples: int, seed: int
) -> Scores:
    """Evaluate every rung on a block.

    Args:
        block: the queries and the gallery.
        rungs: representations [n, d] of all images by name, L2-normalised; or why there is none.
        base: the rung that `top` is compared with.
        top: the rung whose gain is reported.
        k: neighbours that are kept.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
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
        ladder.append({"rung": name, "block": block.name, **summary})
    gain = [
        {"block": block.name, "from": base, "to": top}
        | paired_gain(
            evaluations[base], evaluations[top], metric, labels, groups, resamples, seed, block.unit
        )
        for metric in GAINS[block.unit]
    ]
    return Scores(evaluations, ladder, gain)


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


def _chance(block: Block) -> dict[str, Any]:
    values = chance(
        *(block.labels[block.queries], block.labels[block.gallery]),
        *(block.exclude[block.queries], block.exclude[block.gallery]),
    )
    metrics = {}
    for name, each in values.items():
        counted = each[np.isfinite(each)]
        if len(counted) and (block.unit == "groups" or not name.startswith("accuracy")):
            metrics[name] = {"value": float(counted.mean()), "low": None, "high": None, "n": len(counted)}
    return metrics
