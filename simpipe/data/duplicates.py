"""Groups of images that show the same thing: equal bytes, or an equal look."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["exact", "near"]
Ints = NDArray[np.int64]

# Two miniatures agree if they differ, in the mean, by at most SHARE of their contrast and at most LIMIT of
# 255 levels. Measured on 3,781 photos of clothes, many on one background, within 8 bits: copies at JPEG
# quality 20, at half size or cut by 1 % a side differ by less than 0.11 of their contrast and 5 levels;
# photos of different things by more than 0.2 and 12.
SHARE = 0.12
LIMIT = 6.0

# Below this contrast, in levels, a hash is noise (blank pages, lens caps): only equal miniatures agree.
FLAT = 2.0


@dataclass(frozen=True, eq=False)
class Duplicates:
    """`group`: int64 of shape (n,), numbered by first member. `pairs`: the links (i, j, kind), i < j, sorted.

    An exact copy is linked to the first image with its bytes. Near copies are linked between such firsts: all
    pairs that look alike, but images without detail to the first of their look only.
    `oversized` counts the sets of near copies that were too large and fell back to exact copies.
    """

    group: Ints
    pairs: list[tuple[int, int, Kind]]
    oversized: int


def duplicate_groups(
    sha256: Sequence[str],
    phash: NDArray[np.uint64],
    miniatures: NDArray[np.uint8],
    max_bits: int,
    max_group: int = 50,
) -> Duplicates:
    """Group n images by content: equal `sha256`, or `phash` (n,) within `max_bits` and like `miniatures`.

    Links are followed transitively. A set of near copies of more than `max_group` images (frames of one
    camera, blank pages) would rule the splits: it falls back to its exact copies.

    Args:
        sha256: n content hashes.
        phash: uint64 of shape (n,).
        miniatures: uint8 of shape (n, 16, 16, 3).
        max_bits: the largest Hamming distance of near copies; -1 looks for exact copies only. (Distances
            are even: half of a hash's bits are set.)
        max_group: the largest set that near links may make.
    """
    first: dict[str, int] = {}
    exact = np.array([first.setdefault(sha, i) for i, sha in enumerate(sha256)], np.int64)
    firsts = np.flatnonzero(exact == np.arange(len(exact)))
    near = _near_links(firsts, phash, miniatures, max_bits, max_group)

    root = _components(exact, near)
    size = np.bincount(root, minlength=len(root))
    too_large = (size > max_group) & (np.bincount(root[near[:, 0]], minlength=len(root)) > 0)
    root = np.where(too_large[root], exact, root)
    near = near[root[near[:, 0]] == root[near[:, 1]]]
    copies = np.flatnonzero(exact != np.arange(len(exact)))
    pairs: list[tuple[int, int, Kind]] = [(int(exact[j]), int(j), "exact") for j in copies]
    pairs += [(int(i), int(j), "near") for i, j in near]
    return Duplicates(dense(root), sorted(pairs), int(too_large.sum()))


def contrast(miniatures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The standard deviation of each miniature over its pixels, in levels: shape (n,); 0 for a flat one."""
    return np.asarray(np.sqrt(miniatures.var(axis=(1, 2)).mean(axis=1)))


def dense(code: NDArray[Any]) -> Ints:
    """Codes renumbered 0, 1, 2, ... by first occurrence."""
    _, index, inverse = np.unique(code, return_index=True, return_inverse=True)
    rank = np.empty(len(index), np.int64)
    rank[np.argsort(index)] = np.arange(len(index))
    return rank[inverse]


def _near_links(
    members: Ints, phash: NDArray[np.uint64], miniatures: NDArray[np.uint8], max_bits: int, max_group: int
) -> Ints:
    """The pairs (i, j), i < j, of `members` that look alike: int64 of shape (m, 2), sorted."""
    if max_bits < 0:
        return np.empty((0, 2), np.int64)
    is_flat = contrast(miniatures[members]) < FLAT
    flat, detailed = members[is_flat], members[~is_flat]
    first: dict[bytes, int] = {}
    same = ((first.setdefault(miniatures[i].tobytes(), int(i)), int(i)) for i in flat)
    equal = np.array([pair for pair in same if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    alike = detailed[_search(phash[detailed], miniatures[detailed], max_bits, max_group)]
    links = np.concatenate([equal, alike])
    return links[np.lexsort(links.T[::-1])]


def _search(phash: NDArray[np.uint64], miniatures: NDArray[np.uint8], max_bits: int, max_links: int) -> Ints:
    """The pairs (i, j), i < j, of like hashes and miniatures: int64 of shape (m, 2).

    Two hashes within `max_bits` agree in at least one of `max_bits + 1` bands of bits, so that only images
    with one equal band are compared: sorted by the band, each with its next, its next but one, and so on.

    An image with `max_links` links is compared no further: its set is too large whatever follows, and
    twenty thousand frames of a still scene do not make two hundred million pairs.
    """
    rows = miniatures.reshape(len(miniatures), math.prod(miniatures.shape[1:]))
    tolerance = np.minimum(LIMIT, SHARE * contrast(miniatures))
    links = np.zeros(len(phash), np.int64)
    found = [np.empty((0, 2), np.int64)]
    bands = _bands(max_bits)
    for number, band in enumerate(bands):
        order = np.argsort(phash & band, kind="stable")
        hashes = phash[order]
        keys = hashes & band
        left = np.arange(len(order))  # positions that share their band with the one `step` further on
        for step in range(1, len(order)):
            left = left[: np.searchsorted(left, len(order) - step)]
            left = left[(keys[left] == keys[left + step]) & (links[order[left]] < max_links)]
            if not len(left):
                break
            close = left[np.bitwise_count(hashes[left] ^ hashes[left + step]) <= max_bits]
            for earlier in bands[:number]:  # a pair that agrees in two bands counts in the first
                close = close[(hashes[close] ^ hashes[close + step]) & earlier != 0]
            i, j = order[close], order[close + step]
            agree = _mean_difference(rows[i], rows[j]) <= np.minimum(tolerance[i], tolerance[j])
            pair = np.sort(np.stack([i, j], axis=1)[agree], axis=1)
            links += np.bincount(pair.ravel(), minlength=len(links))
            found.append(pair)
    return np.concatenate(found)


def _mean_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean absolute difference of rows of bytes: shape (n,)."""
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).sum(axis=1, dtype=np.uint32) / a.shape[1])


def _bands(max_bits: int) -> list[np.uint64]:
    """Masks that part 64 bits into `max_bits + 1` runs."""
    edges = [64 * k // (max_bits + 1) for k in range(max_bits + 2)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]


def _components(exact: Ints, near: Ints) -> Ints:
    """The smallest member of each image's connected set (union-find, the smaller root wins)."""
    parent = exact.tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in near.tolist():
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return np.array([root(i) for i in range(len(parent))], np.int64)
