"""Which classes meet in which batch."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def pack(
    groups: Ints, most: int, generator: np.random.Generator, likeness: Floats | None = None, share: float = 0
) -> list[Ints]:
    """Batches of different classes, in which class c is in `groups[c]` batches.

    Args:
        groups: shape (C,), all ≥ 1.
        most: classes in a batch, at most; but of 2, a batch of 3 saves the last group from being alone.
        generator: of the orders.
        likeness: shape (C, C), symmetric, ≥ 0, its diagonal 0: how much two classes are confused.
        share: of the batches, 0 to 1, that are made of confused classes.

    Returns:
        As few batches as there can be, each int64 of classes in ascending order; all of one size, or of two
        that differ by 1. The classes of a batch are drawn by what remains of their groups. For the said
        share, one class is drawn by all its confusions, and those most confused with it come first.
    """
    remaining = groups.copy()
    confusions = np.zeros(len(groups)) if likeness is None else likeness.sum(axis=1)
    total = int(groups.sum())
    batches = max(min(-(-total // most), total // 2), int(groups.max()))
    hard = generator.permutation(batches) < round(share * batches)
    packed = []
    for left in range(batches, 0, -1):
        take = -(-int(remaining.sum()) // left)
        # the smallest of exponential times are a draw without replacement, in proportion to the rates
        turns = np.full(len(groups), np.inf)
        np.divide(generator.exponential(size=len(groups)), remaining, out=turns, where=remaining > 0)
        if likeness is not None and hard[left - 1]:
            first = _confused(likeness, confusions, remaining, generator)
            turns[first] = np.arange(-len(first), 0)
        turns[remaining == left] = -np.inf  # else not all its groups would find a batch
        chosen = np.sort(np.argpartition(turns, take - 1)[:take])
        remaining[chosen] -= 1
        packed.append(chosen)
    return [packed[i] for i in generator.permutation(batches)]


def likeness_of(confusion: Floats, classes: int) -> Floats | None:
    """`confusion` (C, C) in both directions, without its diagonal; None if nothing was confused.

    Raises:
        ValueError: of another shape, or an entry below 0 or not finite.
    """
    if confusion.shape != (classes, classes):
        raise ValueError(f"a confusion of shape {confusion.shape} for {classes} classes")
    if not (np.isfinite(confusion).all() and (confusion >= 0).all()):
        raise ValueError("a confusion with an entry that is below 0 or not finite")
    likeness = np.asarray(confusion + confusion.T, float)
    np.fill_diagonal(likeness, 0)
    return likeness if likeness.any() else None


def _confused(likeness: Floats, confusions: Floats, remaining: Ints, generator: np.random.Generator) -> Ints:
    """A class drawn by its confusions, and those confused with it, the most first; of what remains."""
    mass = np.cumsum(confusions * (remaining > 0))
    if mass[-1] == 0:
        return np.empty(0, np.int64)
    seed = np.searchsorted(mass, generator.random() * mass[-1], side="right")
    beside = np.flatnonzero((likeness[seed] > 0) & (remaining > 0))
    order = np.lexsort((generator.random(len(beside)), -likeness[seed, beside]))
    return np.concatenate(([seed], beside[order]))
