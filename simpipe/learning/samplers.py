"""Which images make up each batch: a plan that is a pure function of the seed and the epoch.

A batch holds P classes of K images each (Hermans et al., arXiv:1703.07737, §2). Classes are drawn by
their mass n^q — q = 1 `none`, ½ `sqrt`, 0 `class` — and the images of a class come from a queue without
replacement. On a long tail `sqrt` draws a tail image about six times an epoch where plain P × K draws it
twenty times.
"""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_EXPONENTS = {"none": 1.0, "sqrt": 0.5, "class": 0.0}


@dataclass(frozen=True)
class BatchPlan:
    """The resolved parameters of a P × K sampler; see the configuration's section `sampler`.

    Attributes:
        classes_per_batch: P, at most the number of training classes.
        examples_per_class_per_batch: K; a class with fewer images gives all it has.
        balance: how the mass of a class grows with its size: none, sqrt or class.
        coverage: draws in an epoch as a multiple of the number of training images.
        min_batches: batches in an epoch, at least, as far as `max_repeat` allows.
        max_repeat: most draws of one image in an epoch.
        seed: of all orders.
    """

    classes_per_batch: int
    examples_per_class_per_batch: int
    balance: str
    coverage: float
    min_batches: int
    max_repeat: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def groups_per_class(counts: npt.NDArray[np.int64], plan: BatchPlan) -> npt.NDArray[np.int64]:
    """How many groups of K images each class gets in an epoch.

    Args:
        counts: shape (C,), images in each class, all ≥ 1.
        plan: the sampler's parameters.

    Returns:
        int64 of shape (C,): at least 1; at most one group in each batch, and no image more often than
        `max_repeat`. What the caps take from some classes goes to the others by their mass.
    """
    size = plan.examples_per_class_per_batch
    covering = int(np.ceil(plan.coverage * counts.sum() / (plan.classes_per_batch * size)))
    batches = max(plan.min_batches, covering)
    drawn = np.minimum(counts, size)
    cap = np.clip(np.floor(plan.max_repeat * counts / drawn), 1, batches)
    mass = counts.astype(float) ** _EXPONENTS[plan.balance]
    share = np.zeros(len(counts))
    free = np.ones(len(counts), bool)
    while free.any():
        budget = batches * plan.classes_per_batch - share[~free].sum()
        share[free] = budget * mass[free] / mass[free].sum()
        over = free & (share > cap)
        if not over.any():
            break
        share[over] = cap[over]
        free &= ~over
    return np.clip(np.round(share), 1, cap).astype(np.int64)


def plan_epoch(
    labels: npt.NDArray[np.integer[Any]], plan: BatchPlan, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """The batches of one epoch.

    Args:
        labels: shape (n,), the label of each training image.
        plan: the sampler's parameters.
        epoch: its number, from 0. The same (seed, epoch) gives the same batches.

    Returns:
        One array of positions in `labels` for each batch: at least two classes, each in one block of at
        most K distinct images.
    """
    generator = np.random.default_rng([plan.seed, epoch])
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    remaining = groups_per_class(counts, plan)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    queues = [_Queue(rows, generator) for rows in members]
    batches = []
    while (remaining > 0).sum() >= min(2, len(classes)):
        tie_break = generator.random(len(classes))
        fullest = np.lexsort((tie_break, -remaining))[: plan.classes_per_batch]
        chosen = fullest[remaining[fullest] > 0]
        remaining[chosen] -= 1
        batches.append(np.concatenate([queues[c].draw(plan.examples_per_class_per_batch) for c in chosen]))
    order = generator.permutation(len(batches))
    return [batches[i] for i in order]


class _Queue:
    """The images of one class, shuffled anew when all were drawn; no image twice in one draw."""

    def __init__(self, rows: npt.NDArray[np.int64], generator: np.random.Generator) -> None:
        self._rows, self._generator = rows, generator
        self._waiting: deque[int] = deque()

    def draw(self, count: int) -> npt.NDArray[np.int64]:
        drawn: list[int] = []
        while len(drawn) < min(count, len(self._rows)):
            if not self._waiting:
                fresh = self._generator.permutation(self._rows).tolist()
                # what was just drawn goes to the end, so that no group holds an image twice
                self._waiting.extend(sorted(fresh, key=set(drawn).__contains__))
            drawn.append(self._waiting.popleft())
        return np.array(drawn, np.int64)


def describe_epoch(labels: npt.NDArray[np.integer[Any]], plan: BatchPlan, epoch: int = 0) -> dict[str, Any]:
    """What one epoch does with the images, for the report: coverage, and draws by class size."""
    batches = plan_epoch(labels, plan, epoch)
    draws = np.bincount(np.concatenate(batches), minlength=len(labels))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    size_of_class = counts[codes]
    order = np.argsort(size_of_class, kind="stable")
    thirds = {
        name: {
            "images": len(rows),
            "draws_per_image": float(draws[rows].mean()),
            "class_sizes": [int(size_of_class[rows].min()), int(size_of_class[rows].max())],
        }
        for name, rows in zip(("small", "middle", "large"), np.array_split(order, 3), strict=True)
        if len(rows)
    }
    return {
        "batches": len(batches),
        "images": len(labels),
        "draws": int(draws.sum()),
        "images_seen_share": float((draws > 0).mean()),
        "largest_repeat": int(draws.max()),
        "classes_per_batch": float(np.mean([len(np.unique(labels[rows])) for rows in batches])),
        "by_class_size": thirds,
    }
