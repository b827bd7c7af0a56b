"""Which images a training may use."""

import hashlib
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from simpipe.errors import UsageError


def select(
    labels: Sequence[str],
    ids: Sequence[str],
    class_list: Sequence[str] | None,
    total_examples_per_class: int | None,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The images of some classes, and at most so many of each.

    Args:
        labels: the name of the class of each image, n of them.
        ids: the content of each image, n of them, such as a hash; equal ids are one image.
        class_list: the classes to keep; None is all.
        total_examples_per_class: different images to keep of each class, at most, from 1; None is all.
        seed: of the choice. An image's rank in its class depends on the seed and its id only: other images
            do not change it, and a larger number adds to what a smaller one chose.

    Returns:
        int64, positions in `labels`, in ascending order.

    Raises:
        UsageError: a class that no image has.
    """
    names, codes = np.unique(np.asarray(labels, str), return_inverse=True)
    keep = np.ones(len(codes), bool)
    if class_list is not None:
        _refuse_unknown(class_list, names.tolist())
        keep = np.isin(names, np.asarray(list(class_list), str))[codes]
    rows = np.flatnonzero(keep)
    if total_examples_per_class is None:
        return rows
    hashes = np.array([_rank(seed, ids[row]) for row in rows.tolist()], np.uint64)
    order = np.lexsort((hashes, codes[rows]))
    rows, codes, hashes = rows[order], codes[rows][order], hashes[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (codes[1:] != codes[:-1]) | (hashes[1:] != hashes[:-1])
    rows, codes = rows[fresh], codes[fresh]
    place = np.arange(len(rows)) - np.searchsorted(codes, codes)
    return np.sort(rows[place < total_examples_per_class])


def _rank(seed: int, content: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {content}".encode()).digest()[:8])


def _refuse_unknown(class_list: Sequence[str], names: list[str]) -> None:
    unknown = sorted(set(class_list) - set(names))
    if unknown:
        close = sorted({name for wrong in unknown for name in get_close_matches(wrong, names, n=3)})
        raise UsageError(
            f"sampler.class_list: no training image has the label {', '.join(unknown)}",
            hint=f"Close are {', '.join(close)}." if close else f"There are {', '.join(names[:10])}.",
        )
