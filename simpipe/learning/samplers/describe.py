"""What one epoch does with the images, for the report."""

from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.learning.samplers.epoch import DRAWS, plan_epoch, view_of
from simpipe.learning.samplers.plan import BatchPlan


def describe_epoch(
    labels: npt.NDArray[np.integer[Any]], plan: BatchPlan, epoch: int | None = None, views: int | None = None
) -> dict[str, Any]:
    """Coverage, draws by class size, and what positive pairs are made of.

    Args:
        labels: shape (n,), the label of each training image.
        plan: the sampler's parameters.
        epoch: its number; None is the first after the warm-up.
        views: augmented views of each image that there are; None is one for each draw.

    Returns:
        A JSON object. `identical_pairs_share`: of the pairs in a batch with equal labels (in `single_shot`,
        of the same image), those that are the same view of the same image; a right plan has 0.
        `augmented_share`: of the draws, those that are not the image itself.
    """
    batches = plan_epoch(labels, plan, plan.warmup_epochs if epoch is None else epoch)
    rows = np.concatenate([batch.rows for batch in batches])
    draws = np.concatenate([batch.draws for batch in batches])
    shown = draws if views is None else view_of(draws, views)
    batch = np.repeat(np.arange(len(batches)), [len(batch.rows) for batch in batches])
    times = np.bincount(rows, minlength=len(labels))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    in_batch = np.unique(batch * len(counts) + codes[rows], return_counts=True)[1]
    of_image = np.unique(batch * len(labels) + rows, return_counts=True)[1]
    of_view = np.unique((batch * len(labels) + rows) * DRAWS + shown, return_counts=True)[1]
    positive = _pairs(of_image if plan.mode == "single_shot" else in_batch)
    return {
        "batches": len(batches),
        "images": len(labels),
        "draws": len(rows),
        "images_seen_share": float((times > 0).mean()),
        "largest_repeat": int(times.max()),
        "classes_per_batch": len(in_batch) / len(batches),
        "identical_pairs_share": _pairs(of_view) / max(1, positive),
        "augmented_share": float((shown > 0).mean()),
        "by_class_size": _by_class_size(times, counts[codes]),
    }


def _pairs(counts: npt.NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _by_class_size(times: npt.NDArray[np.int64], size_of_class: npt.NDArray[np.int64]) -> dict[str, Any]:
    order = np.argsort(size_of_class, kind="stable")
    return {
        name: {
            "images": len(rows),
            "draws_per_image": float(times[rows].mean()),
            "class_sizes": [int(size_of_class[rows].min()), int(size_of_class[rows].max())],
        }
        for name, rows in zip(("small", "middle", "large"), np.array_split(order, 3), strict=True)
        if len(rows)
    }
