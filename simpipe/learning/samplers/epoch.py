"""The batches of one epoch."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.learning.samplers.groups import group_sizes, groups_per_class, whole_groups
from simpipe.learning.samplers.packing import likeness_of, pack
from simpipe.learning.samplers.plan import BatchPlan

Ints = npt.NDArray[np.int64]

DRAWS = 2**16  # the numbers of draws run from 0 to below this

# The numbers of two draws of one image lie one of these primes apart. None is a multiple of a smaller
# number, so the two show different views, however many there are, up to 256.
_STEPS = np.array([257, 263, 269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331, 337, 347, 349, 353, 359])


class Batch(NamedTuple):
    """The images of one batch.

    Attributes:
        rows: int64 (b,), positions in the labels.
        draws: int64 (b,), in [0, DRAWS): which view of the image, as a running number. 0 is the image
            itself, k ≥ 1 its k-th augmented draw. See `view_of` for a fixed number of views.
    """

    rows: Ints
    draws: Ints


def view_of(draws: Ints, views: int | npt.NDArray[np.integer[Any]]) -> Ints:
    """The views that draws stand for, if each image has itself (0) and `views` augmented ones (1 … views).

    Args:
        draws: int64 (b,), of a `Batch`.
        views: of every image, or (b,) of each; 0 to 255.

    Returns:
        int64 (b,), 0 … views, all equally often. With one view or more, two draws of one image in a batch
        are two views.
    """
    return np.asarray(draws % (1 + np.asarray(views, np.int64)), np.int64)


def plan_epoch(
    labels: npt.NDArray[np.integer[Any]],
    plan: BatchPlan,
    epoch: int,
    confusion: npt.NDArray[np.float64] | None = None,
) -> list[Batch]:
    """The batches of one epoch.

    Args:
        labels: shape (n,), the label of each training image.
        plan: the sampler's parameters.
        epoch: its number, from 0. The same plan, epoch and confusion give the same batches.
        confusion: shape (C, C), how often images of the i-th label, in ascending order, were taken for the
            j-th, for `plan.hard_share`; counts or soft, ≥ 0. None: no batch is hard.

    Returns:
        Batches; every epoch has equally many. In `multi_shot` and `coverage` each class that is in a batch
        has one block in it, of K different images or all it has; no batch has one class only, if there are
        two (with P = 2, one batch may have three for that). In `single_shot` the second half of a batch is
        the images of its first half, in other views; every image is in one batch, and the batches differ
        in size by one image at most.

    Raises:
        ValueError: a confusion of another shape, or with an entry below 0 or not finite.
    """
    generator = np.random.default_rng([plan.seed, epoch])
    if plan.mode == "single_shot":
        return _pairs(len(labels), plan, generator)
    rounding, packing, queueing, viewing = generator.spawn(4)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    groups = whole_groups(groups_per_class(counts, plan), rounding)
    likeness = None
    if confusion is not None and plan.hard_share:
        likeness = likeness_of(confusion, len(counts))
    packed = pack(groups, min(plan.classes_per_batch, len(counts)), packing, likeness, plan.hard_share)
    classes = np.concatenate(packed)

    warm = epoch < plan.warmup_epochs
    sizes = group_sizes(counts, replace(plan, single_image="keep") if warm else plan)
    # an image that comes twice in its group stands in the queue as two
    images = np.repeat(np.arange(len(codes)), np.maximum(1, sizes // counts)[codes])
    queue = images[_queues(codes[images], np.maximum(counts, sizes), sizes, groups, queueing)]
    # the j-th group of a class is the j-th piece of its part of the queue
    turn = np.empty_like(classes)
    turn[np.argsort(classes, kind="stable")] = _runs(np.zeros_like(groups), groups)
    begin = np.cumsum(groups * sizes) - groups * sizes
    rows = queue[_runs(begin[classes] + turn * sizes[classes], sizes[classes])]

    draws = np.zeros_like(rows) if warm else viewing.integers(0, DRAWS, len(rows))
    again = np.flatnonzero(np.repeat((sizes > counts)[classes], sizes[classes]))[1::2]
    draws[again] = _another(draws[again - 1], viewing)
    ends = np.cumsum([sizes[batch].sum() for batch in packed])[:-1]
    return [Batch(*batch) for batch in zip(np.split(rows, ends), np.split(draws, ends), strict=True)]


def _pairs(images: int, plan: BatchPlan, generator: np.random.Generator) -> list[Batch]:
    """Batches of `single_shot`."""
    most = plan.classes_per_batch * plan.examples_per_class_per_batch // 2
    batches = max(1, min(-(-images // most), images // 2))
    order = generator.permutation(images)
    first = generator.integers(0, DRAWS, images)
    second = _another(first, generator)
    parts = np.array_split(np.arange(images), batches)
    return [Batch(np.tile(order[part], 2), np.concatenate((first[part], second[part]))) for part in parts]


def _another(draws: Ints, generator: np.random.Generator) -> Ints:
    """Second draws of the same images, in other views."""
    step = generator.choice(_STEPS, len(draws))
    return np.asarray(np.where(draws < DRAWS // 2, draws + step, draws - step), np.int64)


def _queues(codes: Ints, counts: Ints, sizes: Ints, groups: Ints, generator: np.random.Generator) -> Ints:
    """The images that each class gives in an epoch, in order; the classes one after another.

    Args:
        codes: shape (n,), the class of each image, 0 … C − 1.
        counts: shape (C,), images of each class.
        sizes: shape (C,), images in each group of a class, at most `counts`.
        groups: shape (C,), groups of each class.
        generator: of the orders.

    Returns:
        int64 of positions in `codes`, `sizes` · `groups` for each class. All images of a class come before
        any comes again, and no group has an image twice.
    """
    wanted = sizes * groups
    members, first = np.argsort(codes, kind="stable"), np.cumsum(counts) - counts
    queue, begin = np.empty(wanted.sum(), np.int64), np.cumsum(wanted) - wanted
    late = np.zeros(len(codes), np.int64)
    given = 0  # times that all images of a class were given
    while len(active := np.flatnonzero(wanted > given * counts)):
        there, number = begin[active] + given * counts[active], counts[active]
        # what a group already has of the pass before goes to the end of this one
        part = (given * number) % sizes[active]
        has = queue[_runs(there - part, part)]
        late[has] = 1
        shuffled = generator.permutation(members[_runs(first[active], number)])
        order = shuffled[np.argsort(2 * codes[shuffled] + late[shuffled], kind="stable")]
        late[has] = 0
        number = np.minimum(number, wanted[active] - given * number)
        offset = np.cumsum(counts[active]) - counts[active]
        queue[_runs(there, number)] = order[_runs(offset, number)]
        given += 1
    return queue


def _runs(starts: Ints, lengths: Ints) -> Ints:
    """`start`, `start` + 1, … `length` numbers, for each in turn."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths), np.int64)
