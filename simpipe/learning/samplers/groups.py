"""How often each class is drawn in an epoch.

On a long tail `sqrt` draws a tail image about six times an epoch where plain P × K draws it twenty times.
"""

import numpy as np
import numpy.typing as npt

from simpipe.learning.samplers.plan import BatchPlan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def group_sizes(counts: Ints, plan: BatchPlan) -> Ints:
    """Draws in one group of each class, int64 (C,): K, or all its images, or one image twice."""
    sizes = np.minimum(counts, plan.examples_per_class_per_batch)
    if plan.single_image == "augment":
        sizes[counts == 1] = min(2, plan.examples_per_class_per_batch)
    return sizes


def groups_per_class(counts: Ints, plan: BatchPlan) -> Floats:
    """How many groups of K images each class gets in an epoch, as a mean over epochs.

    Args:
        counts: shape (C,), images in each class, all ≥ 1.
        plan: the sampler's parameters.

    Returns:
        float64 of shape (C,). At least 1, or in `coverage` enough for all images of the class; at most one
        group in each batch, and no image more often than `max_repeat`. What the caps take from some classes
        goes to the others by their mass. No class gets more than all others together, so that two classes
        fit in each batch; in `coverage` the others get more than `max_repeat` allows, if need be.
    """
    classes = min(plan.classes_per_batch, len(counts))
    sizes = group_sizes(counts, plan)
    mass = counts.astype(float) if plan.mode == "coverage" else class_mass(counts, plan)
    least = np.ceil(counts / sizes) if plan.mode == "coverage" else np.ones(len(counts))
    batches = max(
        plan.min_batches,
        np.ceil(plan.coverage * counts.sum() / (classes * plan.examples_per_class_per_batch)),
        np.ceil(least.sum() / classes),
        least.max(),
    )
    most = np.maximum(least, np.minimum(np.floor(plan.max_repeat * counts / sizes), batches))
    groups = _divide(batches * classes, mass, least, most)
    largest = int(groups.argmax())
    others = np.arange(len(counts)) != largest
    if len(counts) > 1 and groups[largest] > groups[others].sum():
        groups[largest] = max(least[largest], groups[others].sum())
        most = np.full(others.sum(), groups[largest])
        groups[others] = _divide(groups[largest], mass[others], groups[others], most)
    return groups


def class_mass(counts: Ints, plan: BatchPlan) -> Floats:
    """How often each class is drawn, relative to the others; float64 (C,). See `BatchPlan.balance`."""
    if plan.balance == "effective":
        beta = 1 - 1 / np.median(counts) if plan.effective_beta is None else plan.effective_beta
        return np.asarray(counts * (1 - beta) / (1 - beta**counts), float)
    return np.asarray(counts ** {"none": 1.0, "sqrt": 0.5, "class": 0.0}[plan.balance], float)


def whole_groups(groups: Floats, generator: np.random.Generator) -> Ints:
    """`groups` rounded up or down at random, right in the mean; their sum stays. int64 (C,).

    Systematic sampling: in a random order, the running sum from a random start is cut at whole numbers.
    """
    whole = np.floor(groups).astype(np.int64)
    fraction = groups - whole
    order = generator.permutation(np.flatnonzero(fraction))
    running = np.cumsum(fraction[order])
    running[-1:] = running[-1:].round()
    whole[order] += np.diff(np.floor(running + generator.random()), prepend=0).astype(np.int64)
    return whole


def _divide(total: float, mass: Floats, least: Floats, most: Floats) -> Floats:
    """`total` in proportion to `mass`, each part within its bounds; as near as they allow."""
    low, high = 0.0, 2 * float((most / mass).max())
    for _ in range(100):
        level = (low + high) / 2
        if np.clip(level * mass, least, most).sum() < total:
            low = level
        else:
            high = level
    parts = np.clip(high * mass, least, most)
    return np.where(np.abs(parts - np.rint(parts)) < 1e-9, np.rint(parts), parts)
