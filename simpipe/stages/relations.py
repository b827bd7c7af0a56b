"""How the labels stand to each other and how the embedding spreads, and the document that says it."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Samples
from simpipe.metrics import relations as metrics
from simpipe.metrics.health import Health, measure_health
from simpipe.metrics.relations import Separability

SCHEMA = "simpipe.relations/1"


class Related(NamedTuple):
    """`similarity` float64 (C, C), the separability of pairs of labels, and the health of the embedding."""

    similarity: npt.NDArray[np.float64]
    separability: Separability
    threshold: float | None
    health: Health


def relate(
    embeddings: npt.NDArray[np.float32],
    samples: Samples,
    neighbour_ids: npt.NDArray[np.int32],
    names: list[str],
    threshold: float | None,
    seed: int,
) -> Related:
    """Measure how the labels stand to each other.

    Separability is measured on images that training did not see, against the train gallery; a label without
    train images is its own gallery. On the images that it was trained on, an embedding looks far better: on
    photos of clothing the hardest pair has 0.97 there, and 0.82 on new images.

    Args:
        embeddings: of all images, (n, d).
        samples: the images.
        neighbour_ids: their nearest neighbours in the embedding, own group left out, (n, k).
        names: the labels by id; none where the images have no labels.
        threshold: the calibrated distance up to which two images match, or None.
        seed: draws the images of large labels.
    """
    labels = samples.label_id
    train, labelled = samples.split == "train", labels >= 0
    similarity = metrics.class_similarity(embeddings, labels, len(names)) if names else np.zeros((0, 0))
    return Related(
        similarity,
        metrics.separability(
            embeddings,
            labels,
            samples.group_id,
            len(names),
            np.flatnonzero(labelled & ~train),
            np.flatnonzero(labelled & (train | ~np.isin(labels, labels[train]))),
            metrics.pairs_that_matter(similarity),
            threshold,
            seed,
        ),
        threshold,
        measure_health(embeddings, neighbour_ids),
    )


def relations(
    related: Related,
    labels: npt.NDArray[np.int32],
    neighbour_ids: npt.NDArray[np.int32],
    confusion: npt.NDArray[np.int64],
    names: list[str],
) -> dict[str, Any]:
    """The document of relations.json; what is about labels is empty where there are none."""
    shares = (
        metrics.neighbour_shares(neighbour_ids, labels, labels, len(names)) if names else np.zeros((0, 0))
    )
    return {
        "schema": SCHEMA,
        "labels": names,
        "similarity": [_numbers(row) for row in related.similarity],
        "neighbour_share": [_numbers(row) for row in shares],
        "confused": [
            {
                "label": names[pair.label],
                "predicted": names[pair.predicted],
                "count": pair.count,
                "share": pair.share,
            }
            for pair in metrics.confused_pairs(confusion)
        ],
        "separability": _separability(related, names),
        "health": dict(zip(Health._fields, _numbers(np.array(related.health)), strict=True)),
    }


def _separability(related: Related, names: list[str]) -> dict[str, Any]:
    """The pairs of labels, the least separable first, and what they were measured on."""
    measured = related.separability
    order = np.argsort(np.where(np.isnan(measured.auc), np.inf, measured.auc), kind="stable")
    every = len(names) <= metrics.ALL_PAIRS
    return {
        "measured_on": "images that training did not see, against train; held-out labels among themselves",
        "images": measured.asked.tolist(),
        "most_images": metrics.DRAWN,
        "sampled": [name for name, sampled in zip(names, measured.sampled, strict=True) if sampled],
        "which": "all pairs" if every else f"each label with its {metrics.MOST_SIMILAR} most similar ones",
        "threshold": related.threshold,
        "pairs": [
            {"label": names[a], "other": names[b], "auc": auc, "overlap": overlap}
            for (a, b), auc, overlap in zip(
                measured.pairs[order].tolist(),
                _numbers(measured.auc[order]),
                _numbers(measured.overlap[order]),
                strict=True,
            )
        ],
    }


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in np.round(values, 6).tolist()]  # NaN is no number
