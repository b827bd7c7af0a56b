"""Groups of images that show the same thing: equal bytes, equal pixels, an equal look, or the user's word."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["exact", "pixels", "near"]
Ints = NDArray[np.int64]
Looks = Callable[[Ints], NDArray[np.uint8]]
PixelDigests = Callable[[Ints], Sequence[Hashable]]

# Two miniatures agree if they differ, in the mean, by at most SHARE of their contrast and at most LIMIT of
# 255 levels. Measured on 3,781 photos of clothes, many on one background, within 8 bits: copies at JPEG
# quality 20, at half size or cut by 1 % a side differ by less than 0.11 of their contrast and 5 levels;
# photos of different things by more than 0.2 and 12.
SHARE = 0.12
LIMIT = 6.0

# Below this contrast, in levels, a hash is noise (blank pages, lens caps): only equal miniatures agree.
FLAT = 2.0

# How far the miniatures of equal pixels may be apart in a pixel: one decoder may have reduced the image.
MOST_LEVELS = 4

# Images of one band of the hash that each is compared with: what is further apart in the order of hashes is
# alike by chance only, such as a thousand colours of one page.
MOST_STEPS = 1_000

BLOCK = 4_096
"""Miniatures that are looked at together: a million of them stay on disk."""

_MIX = np.cumprod(np.full(96, 0x9E37_79B9_7F4A_7C15, np.uint64))


@dataclass(frozen=True, eq=False)
class Duplicates:
    """`group`: int64 of shape (n,), numbered by first member. `pairs`: the links (i, j, kind), i < j, sorted.

    An exact copy is linked to the first image with its bytes, all other copies between such firsts. Of a set
    that is not too large, these are all pairs that look alike; images without detail make a chain.
    `oversized` counts the sets of near copies that were too large and fell apart.
    """

    group: Ints
    pairs: list[tuple[int, int, Kind]]
    oversized: int


def duplicate_groups(
    sha256: Sequence[str],
    phash: NDArray[np.uint64],
    looks: Looks,
    size: NDArray[np.integer[Any]],
    user_group: Sequence[str | None],
    pixel_digests: PixelDigests,
    max_bits: int,
    max_group: int = 50,
) -> Duplicates:
    """Group n images by content: equal `sha256`, or `phash` within `max_bits` and a like look.

    Links are followed transitively. A set that near links make of more than `max_group` images (frames of one
    camera, blank pages) would rule the splits: it falls back to its copies of equal bytes and pixels, which
    always stay together, as do the images of one `user_group`, however many they are.

    Args:
        sha256: n content hashes.
        phash: uint64 of shape (n,).
        looks: the miniatures of m images, given as int64 of shape (m,): uint8 of shape (m, 16, 16, 3).
        size: int of shape (n, 2), width and height.
        user_group: n names of groups; None for an image of no group.
        pixel_digests: for m images, given as int64 of shape (m,), what is equal if and only if their pixels
            are; "" for an image that cannot tell. It is asked once, about near copies of equal size whose
            miniatures hardly differ, and about those of equal size in sets that are too large.
        max_bits: the largest Hamming distance of near copies; -1 looks for exact copies only. (Distances
            are even: half of a hash's bits are set.)
        max_group: the largest set that near links may make.
    """
    exact = _firsts(sha256)
    members = np.flatnonzero(exact == np.arange(len(exact)))
    near = _near_links(members, phash, looks, size, max_bits, max_group)
    set_of = _join(exact, near)
    equal, of_crowd = _pixel_links(near, set_of, size, looks, pixel_digests, max_group)
    pixels, near = np.unique(np.concatenate([near[equal], of_crowd]), axis=0), near[~equal]
    too_large = np.bincount(set_of, minlength=len(exact))[set_of[near[:, 0]]] > max_group
    oversized = len(np.unique(set_of[near[too_large, 0]]))
    near = near[~too_large]

    theirs = _firsts(number if name is None else name for number, name in enumerate(user_group))
    group = _join(exact, np.concatenate([pixels, near, _links(theirs)]))
    kinds: tuple[tuple[Kind, Ints], ...] = (("exact", _links(exact)), ("pixels", pixels), ("near", near))
    pairs = [(i, j, kind) for kind, links in kinds for i, j in links.tolist()]
    return Duplicates(dense(group), sorted(pairs), oversized)


def contrast(miniatures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The standard deviation of each miniature over its pixels, in levels: shape (n,); 0 for a flat one."""
    n, height, width, bands = miniatures.shape
    pixels = height * width
    planes = miniatures.reshape(n, pixels, bands).transpose(0, 2, 1).astype(np.float32, order="C")
    total = planes.sum(axis=2, dtype=np.float64)
    squares = np.einsum("nij,nij->ni", planes, planes).astype(np.float64)  # exact: 256 x 255² is below 2^24
    return np.asarray(np.sqrt((pixels * squares - total * total).mean(axis=1)) / pixels)


def dense(code: NDArray[Any]) -> Ints:
    """Codes renumbered 0, 1, 2, ... by first occurrence."""
    _, index, inverse = np.unique(code, return_index=True, return_inverse=True)
    rank = np.empty(len(index), np.int64)
    rank[np.argsort(index)] = np.arange(len(index))
    return rank[inverse]


def _near_links(
    members: Ints,
    phash: NDArray[np.uint64],
    looks: Looks,
    size: NDArray[np.integer[Any]],
    max_bits: int,
    max_group: int,
) -> Ints:
    """The pairs (i, j), i < j, of `members` that look alike: int64 of shape (m, 2), sorted."""
    if max_bits < 0:
        return np.empty((0, 2), np.int64)
    spread = np.empty(len(members))
    fold = np.empty(len(members), np.uint64)
    for block in _blocks(len(members)):
        small = looks(members[block])
        spread[block], fold[block] = contrast(small), _fold(small)

    # equal looks of equal size stand side by side: they are the first to be compared
    by_look = np.lexsort((*size[members].T, fold))
    flat = by_look[spread[by_look] < FLAT]
    chain = np.stack([members[flat[:-1]], members[flat[1:]]], axis=1)
    chain = chain[_difference(chain, looks) == 0]

    detailed = by_look[spread[by_look] >= FLAT]
    detailed = detailed[np.argsort(phash[members[detailed]], kind="stable")]
    images, tolerance = members[detailed], np.minimum(LIMIT, SHARE * spread[detailed])
    alike = images[_search(phash[images], lambda rows: looks(images[rows]), tolerance, max_bits, max_group)]

    links = np.sort(np.concatenate([chain, alike]), axis=1)
    return links[np.lexsort(links.T[::-1])]


def _search(
    phash: NDArray[np.uint64], looks: Looks, tolerance: NDArray[np.float64], max_bits: int, max_group: int
) -> Ints:
    """The pairs of n images with like hashes, and looks that differ by no more than both tolerate: (m, 2).

    Two hashes within `max_bits` agree in at least one of `max_bits + 1` bands of bits, so that only images
    with one equal band are compared: sorted by the band, each with its next, its next but one, and so on.

    Images of a set that is too large already are compared no further: it falls apart whatever follows, and
    twenty thousand frames of a still scene do not make two hundred million pairs.
    """
    set_of = np.arange(len(phash))
    found = [np.empty((0, 2), np.int64)]
    counted = 0
    bands = _bands(max_bits)
    for number, band in enumerate(bands):
        order = np.argsort(phash & band, kind="stable")
        hashes = phash[order]
        keys = hashes & band
        left = np.arange(len(order))  # positions that share their band with the one `step` further on
        for step in range(1, min(len(order), MOST_STEPS)):
            left = left[: np.searchsorted(left, len(order) - step)]
            left = left[keys[left] == keys[left + step]]
            if step.bit_count() == 1:  # at 1, 2, 4, ...: the sets grow no faster than that
                set_of, counted = _join(set_of, np.concatenate(found[counted:])), len(found) - 1
                is_open = np.bincount(set_of, minlength=len(set_of))[set_of] <= max_group
                left = left[is_open[order[left]]]
            if not len(left):
                break
            close = left[np.bitwise_count(hashes[left] ^ hashes[left + step]) <= max_bits]
            for earlier in bands[:number]:  # a pair that agrees in two bands counts in the first
                close = close[(hashes[close] ^ hashes[close + step]) & earlier != 0]
            pairs = np.stack([order[close], order[close + step]], axis=1)
            agree = _difference(pairs, looks) <= tolerance[pairs].min(axis=1)
            if agree.any():
                found.append(pairs[agree])
    return np.concatenate(found)


def _pixel_links(
    near: Ints,
    set_of: Ints,
    size: NDArray[np.integer[Any]],
    looks: Looks,
    pixel_digests: PixelDigests,
    max_group: int,
) -> tuple[NDArray[np.bool_], Ints]:
    """Which of `near` have equal pixels; of large sets also the pairs (first, other) of equal images."""
    equal = (size[near[:, 0]] == size[near[:, 1]]).all(axis=1)
    equal[equal] = _difference(near[equal], looks, np.max) <= MOST_LEVELS
    # of a large set not all pairs are known, so that all its images are asked that are not alone in size
    crowd = np.unique(near)
    crowd = crowd[np.bincount(set_of, minlength=len(set_of))[set_of[crowd]] > max_group]
    place = np.column_stack([set_of[crowd], size[crowd]])
    _, number, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    crowd = crowd[count[number.ravel()] > 1]

    asked = np.unique(np.concatenate([near[equal].ravel(), crowd]))
    digests = dict(zip(asked.tolist(), pixel_digests(asked) if len(asked) else (), strict=True))
    equal[equal] = [digests[i] != "" and digests[i] == digests[j] for i, j in near[equal].tolist()]
    known = [k for k in crowd.tolist() if digests[k] != ""]
    first = _firsts((set_of[k], *size[k].tolist(), digests[k]) for k in known)
    return equal, np.array(known, np.int64)[_links(first)]


def _difference(pairs: Ints, looks: Looks, over: Callable[..., Any] = np.mean) -> NDArray[np.float64]:
    """The absolute difference of the looks of each pair, `over` their pixels, in levels: shape (m,)."""
    result = np.empty(len(pairs))
    for block in _blocks(len(pairs)):
        a, b = looks(pairs[block, 0]), looks(pairs[block, 1])
        result[block] = over(np.maximum(a, b) - np.minimum(a, b), axis=(1, 2, 3))
    return result


def _fold(miniatures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits of each miniature, equal for equal ones: shape (n,)."""
    words = np.ascontiguousarray(miniatures).reshape(len(miniatures), -1).view(np.uint64)
    return np.asarray((words * _MIX[: words.shape[1]]).sum(axis=1, dtype=np.uint64))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def _bands(max_bits: int) -> list[np.uint64]:
    """Masks that part 64 bits into `max_bits + 1` runs."""
    edges = [64 * k // (max_bits + 1) for k in range(max_bits + 2)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]


def _firsts(keys: Iterable[Hashable]) -> Ints:
    """The position of the first key that is equal, for each: shape (n,)."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, number) for number, key in enumerate(keys)], np.int64)


def _links(first: Ints) -> Ints:
    """(first, other) for each that is not the first itself: shape (m, 2)."""
    others = np.flatnonzero(first != np.arange(len(first)))
    return np.stack([first[others], others], axis=1)


def _join(set_of: Ints, links: Ints) -> Ints:
    """`set_of`, the smallest member of each one's set, after the two ends of every link are in one set."""
    set_of = set_of.copy()
    ends = set_of[links]
    while len(ends := ends[ends[:, 0] != ends[:, 1]]):
        np.minimum.at(set_of, ends.max(axis=1), ends.min(axis=1))
        while (set_of != (further := set_of[set_of])).any():
            set_of = further
        ends = set_of[ends]
    return set_of
