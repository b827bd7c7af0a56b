from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import photo

from simpipe.data.duplicates import (
    FLAT,
    LIMIT,
    MOST_LEVELS,
    SHARE,
    Duplicates,
    contrast,
    dense,
    duplicate_groups,
)
from simpipe.data.phash import miniature

BASE = np.stack([miniature(photo(seed)) for seed in range(3)])
MAX_BITS = 4


class Images(NamedTuple):
    """n images: what `duplicate_groups` is given, and a number for each one's pixels."""

    sha256: list[str]
    phash: NDArray[np.uint64]
    miniatures: NDArray[np.uint8]
    size: NDArray[np.int32]
    user_group: list[str | None]
    pixels: list[int]


def images(
    sha256: list[str], phash: NDArray[np.uint64], miniatures: NDArray[np.uint8], **changes: Any
) -> Images:
    """Images of one size, each with pixels of its own and in no group."""
    n = len(sha256)
    plain = Images(sha256, phash, miniatures, np.full((n, 2), 64, np.int32), [None] * n, list(range(n)))
    return plain._replace(**changes)


def look_for(data: Images, max_bits: int = MAX_BITS, max_group: int = 50) -> Duplicates:
    def pixel_digests(images: NDArray[np.int64]) -> list[int]:
        assert len(np.unique(images)) == len(images), "asked twice"
        return [data.pixels[k] for k in images.tolist()]

    looks = data.miniatures.__getitem__
    return duplicate_groups(
        data.sha256, data.phash, looks, data.size, data.user_group, pixel_digests, max_bits, max_group
    )


def joined(n: int, links: Any) -> list[int]:
    """The smallest member of each one's set."""
    component = list(range(n))
    for i, j in links:
        low, high = sorted((component[i], component[j]))
        component = [low if c == high else c for c in component]
    return component


class Expected(NamedTuple):
    """By comparing all with all: links of each kind, those of sets that are too large, and the user's.

    Of large sets, `crowd` has the set of each image that has a near copy."""

    exact: set[tuple[int, int]]
    pixels: set[tuple[int, int]]
    near: set[tuple[int, int]]
    of_large: set[tuple[int, int]]
    theirs: set[tuple[int, int]]
    crowd: dict[int, int]


def brute_force(data: Images, max_bits: int, max_group: int) -> Expected:
    n = len(data.sha256)
    sha256, phash, minis = data.sha256, data.phash, data.miniatures.astype(float)
    first = [sha256.index(sha) for sha in sha256]
    spread = data.miniatures.reshape(n, -1, 3).astype(float).var(axis=1).mean(axis=1) ** 0.5
    members = [i for i in range(n) if first[i] == i and max_bits >= 0]
    near = set()
    for i in members:
        for j in members:
            difference = np.abs(minis[i] - minis[j]).mean()
            limit = min(LIMIT, SHARE * min(spread[i], spread[j]))
            close = int(phash[i] ^ phash[j]).bit_count() <= max_bits
            if i < j and min(spread[i], spread[j]) >= FLAT and close and difference <= limit:
                near.add((i, j))
    flat = [i for i in members if spread[i] < FLAT]
    for look in {minis[i].tobytes() for i in flat}:
        alike = sorted(
            (i for i in flat if minis[i].tobytes() == look), key=lambda i: (*data.size[i][::-1], i)
        )
        near |= {(min(pair), max(pair)) for pair in pairwise(alike)}

    exact = {(f, i) for i, f in enumerate(first) if f != i}
    size, of, pixels = data.size.tolist(), data.user_group, data.pixels
    alike = {(i, j) for i, j in near if np.abs(minis[i] - minis[j]).max() <= MOST_LEVELS}
    same = {(i, j) for i, j in alike if pixels[i] == pixels[j] and size[i] == size[j]}
    sets = joined(n, exact | near)
    chained = {sets[i] for i, _ in near - same}
    large = {(i, j) for i, j in near if sets[i] in chained and sets.count(sets[i]) > max_group}
    theirs = {(i, j) for i in range(n) for j in range(i + 1, n) if of[i] is not None and of[i] == of[j]}
    crowd = {i: sets[i] for pair in near for i in pair if sets.count(sets[i]) > max_group}
    return Expected(exact, same, near - same, large, theirs, crowd)


@st.composite
def collections(draw: st.DrawFn) -> Images:
    n = draw(st.integers(1, 14))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    kinds, shift, strength = (
        each(st.integers(0, 3)),
        each(st.integers(-4, 4)),
        each(st.sampled_from((1, 0.3, 0.28, 0.25))),
    )
    flips = each(st.lists(st.integers(0, 63), max_size=5))
    hashes, minis = [], []
    for kind, flip, add, factor in zip(kinds, flips, shift, strength, strict=True):
        value = [0x123456789ABCDEF0, 0xFEDCBA9876543210, 0, 0][kind]
        for bit in flip:
            value ^= 1 << bit
        hashes.append(value)
        base = 128 + (BASE[kind] - 128.0) * factor if kind < 2 else np.full((16, 16, 3), 200 + kind)
        minis.append((base.astype(int) + add * (kind != 3)).clip(0, 255).astype(np.uint8))
    size, pixels = each(st.sampled_from(((64, 48), (48, 64), (64, 64)))), each(st.integers(0, 3))
    known: dict[int, int] = {}  # equal bytes have equal looks
    same = [known.setdefault(value, k) for k, value in enumerate(each(st.integers(0, 12)))]
    return Images(
        [f"{k:064}" for k in same],
        np.array([hashes[k] for k in same], np.uint64),
        np.stack([minis[k] for k in same]),
        np.array([size[k] for k in same], np.int32),
        each(st.sampled_from((None, None, None, "ward 1", "ward 2", "0"))),
        [pixels[k] for k in same],
    )


def refines(fine: Any, coarse: Any) -> bool:
    """Whether each set of `fine` lies in one of `coarse`."""
    return len(set(zip(fine, coarse, strict=True))) == len(set(fine))


@settings(max_examples=150, deadline=None)
@given(data=collections(), max_bits=st.integers(-1, 9), max_group=st.sampled_from((2, 3, 50)))
def test_groups_against_brute_force(data: Images, max_bits: int, max_group: int) -> None:
    n = len(data.sha256)
    found, expected = look_for(data, max_bits, max_group), brute_force(data, max_bits, max_group)
    pairs = {kind: {(i, j) for i, j, k in found.pairs if k == kind} for kind in ("exact", "pixels", "near")}
    assert found.pairs == sorted(set(found.pairs)) and all(i < j for i, j, _ in found.pairs)
    assert len(found.pairs) == sum(map(len, pairs.values()))
    assert pairs["exact"] == expected.exact

    # all links of sets that are not too large; of the others, at most links that there are
    crowd = expected.crowd
    of_small = [{p for p in kind if p[0] not in crowd} for kind in (pairs["pixels"], expected.pixels)]
    assert of_small[0] == of_small[1]
    assert pairs["near"] - expected.of_large == expected.near - expected.of_large
    assert pairs["near"] <= expected.near
    looks = [(data.pixels[k], *data.size[k].tolist()) for k in range(n)]
    assert all(looks[i] == looks[j] for i, j in pairs["pixels"])
    for i in crowd:
        for j in crowd:
            if crowd[i] == crowd[j] and looks[i] == looks[j]:
                assert found.group[i] == found.group[j], "equal pixels are never parted"
    assert (found.oversized > 0) == bool(expected.of_large)
    near = joined(n, pairs["exact"] | pairs["pixels"] | pairs["near"])
    assert all(near.count(near[i]) <= max_group for i, _ in pairs["near"])

    links = pairs["exact"] | pairs["pixels"] | pairs["near"] | expected.theirs
    order = {c: number for number, c in enumerate(dict.fromkeys(joined(n, links)))}
    assert found.group.tolist() == [order[c] for c in joined(n, links)]
    least = joined(n, links - expected.of_large)
    most = joined(n, expected.exact | expected.pixels | pairs["pixels"] | expected.near | expected.theirs)
    assert refines(least, found.group.tolist()) and refines(found.group.tolist(), most)


@settings(max_examples=50, deadline=None)
@given(data=collections(), order=st.randoms(use_true_random=False))
def test_the_order_of_the_images_parts_them_no_other_way(data: Images, order: Any) -> None:
    rows = list(range(len(data.sha256)))
    order.shuffle(rows)
    there, back = look_for(data).group[rows].tolist(), look_for(take(data, rows)).group.tolist()
    assert refines(there, back) and refines(back, there)


def take(data: Images, rows: list[int]) -> Images:
    chosen = (value[rows] if isinstance(value, np.ndarray) else [value[k] for k in rows] for value in data)
    return Images(*chosen)


def test_a_large_set_of_near_copies_keeps_equal_bytes_and_pixels() -> None:
    n = 60
    sha256 = [f"{k}" for k in range(n)]
    sha256[7] = sha256[3]
    still = images(sha256, np.full(n, 99, np.uint64), np.repeat(BASE[:1], n, 0))
    kept = look_for(still, max_group=60)
    assert kept.group.max() == 0 and kept.oversized == 0
    broken = look_for(still, max_group=50)
    assert broken.pairs == [(3, 7, "exact")] and broken.oversized == 1
    assert len(np.unique(broken.group)) == n - 1

    pixels = list(range(n))
    pixels[30] = pixels[40] = 20
    same = look_for(
        still._replace(
            miniatures=still.miniatures + (np.array(pixels) == 20)[:, None, None, None].astype(np.uint8),
            pixels=pixels,
        ),
        max_group=50,
    )
    assert same.group[20] == same.group[30] == same.group[40] and len(np.unique(same.group)) == n - 3
    assert {kind for _, _, kind in same.pairs} == {"exact", "pixels"}


def test_equal_pixels_of_a_large_set_meet_although_their_looks_differ_a_little() -> None:
    """Forty frames of a still scene, and each saved again by another decoder's road."""
    looks = np.repeat(BASE[:1], 80, 0)
    looks[40:] += np.uint8(1) * (looks[40:] < 255)
    scene = images([str(k) for k in range(80)], np.full(80, 99, np.uint64), looks)
    found = look_for(scene._replace(pixels=[k % 40 for k in range(80)]))
    assert found.oversized == 1 and len(np.unique(found.group)) == 40
    assert (found.group[:40] == found.group[40:]).all()


def test_many_colours_of_one_page_are_not_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simpipe.data.duplicates.MOST_STEPS", 30)
    n, seen = 300, 0
    looks = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    page = images([str(k) for k in range(n)], np.full(n, 7, np.uint64), looks)

    def counted(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        nonlocal seen
        seen += len(rows)
        return looks[rows]

    found = duplicate_groups(page.sha256, page.phash, counted, page.size, page.user_group, lambda rows: [], 4)
    assert found.pairs == [] and seen < 2 * n * 30, "both of a pair, and each with at most 29"


def test_sixty_copies_of_equal_pixels_are_one_group() -> None:
    still = images([str(k) for k in range(60)], np.full(60, 99, np.uint64), np.repeat(BASE[:1], 60, 0))
    found = look_for(still._replace(pixels=[0] * 60))
    assert found.group.max() == 0 and found.oversized == 0
    assert {kind for _, _, kind in found.pairs} == {"pixels"}


def test_groups_of_the_user_are_joined_however_large() -> None:
    apart = images(
        [str(k) for k in range(200)],
        np.random.default_rng(0).integers(0, 2**64, 200, dtype=np.uint64),
        np.repeat(BASE[:1], 200, 0),
        user_group=["burst"] * 150 + ["other", None] * 25,
    )
    apart.phash[199] = apart.phash[150]  # "other", by way of a near copy
    group = look_for(apart).group
    assert group[:150].tolist() == [0] * 150
    assert set(group[150::2].tolist()) == {group[199]} and len(np.unique(group)) == 2 + 24


def test_equal_hashes_of_different_pictures_are_no_duplicates() -> None:
    assert look_for(images(["a", "b", "c"], np.zeros(3, np.uint64), BASE), 10).pairs == []


@pytest.mark.parametrize(("bright", "alike"), [(204, True), (203, False)])
def test_the_paler_of_two_looks_says_how_much_they_may_differ(bright: int, alike: bool) -> None:
    half = (np.indices((16, 16)).sum(axis=0) % 2 == 1)[:, :, None] * np.ones(3, bool)
    looks = np.stack([np.where(half, 208, 128), np.where(half, bright, 132)]).astype(np.uint8)
    difference = (4 + 208 - bright) / 2
    assert (difference <= SHARE * (bright - 132) / 2) == alike and difference <= SHARE * 40
    found = look_for(images(["a", "b"], np.zeros(2, np.uint64), looks))
    assert found.pairs == [(0, 1, "near")] * alike


def test_blank_pages_do_not_chain() -> None:
    greys = np.arange(200, 240, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    pages = images([str(k) for k in range(41)], np.zeros(41, np.uint64), np.r_[greys, greys[:1]])
    assert look_for(pages, 16).pairs == [(0, 40, "near")]


def test_blank_pages_of_equal_pixels_meet_across_one_of_another_size() -> None:
    white = np.full((3, 16, 16, 3), 255, np.uint8)
    size = np.array([(10, 20), (30, 40), (10, 20)], np.int32)
    pages = images(["a", "b", "c"], np.zeros(3, np.uint64), white, size=size, pixels=[7, 7, 7])
    assert look_for(pages).pairs == [(0, 2, "pixels"), (1, 2, "near")]


def test_many_images_in_bounded_time_and_space() -> None:
    n = 20_000
    phash = np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)
    phash[n // 2 :] = phash[: n // 2] ^ np.uint64(0b1010)
    looks = np.repeat(BASE[:1], n, 0)
    found = look_for(images([str(k) for k in range(n)], phash, looks), 4)
    assert [(i, j) for i, j, _ in found.pairs] == [(k, k + n // 2) for k in range(n // 2)]

    asked: list[int] = []
    still = images([str(k) for k in range(n)], np.full(n, 5, np.uint64), looks)

    def pixel_digests(images: NDArray[np.int64]) -> list[int]:
        asked.append(len(images))
        return images.tolist()

    apart = duplicate_groups(
        still.sha256, still.phash, looks.__getitem__, still.size, still.user_group, pixel_digests, 8
    )
    assert apart.pairs == [] and apart.oversized == 1 and asked == [n]

    rng = np.random.default_rng(1)  # now every other image, each unlike the next by a few bits
    flips = np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64)
    mixed = np.where(np.arange(n) % 2, rng.integers(0, 2**64, n, dtype=np.uint64), np.uint64(5) ^ flips)
    duplicate_groups(still.sha256, mixed, looks.__getitem__, still.size, still.user_group, pixel_digests, 4)
    assert n // 3 < asked[1] <= n // 2, "each of the set, and no other"


@pytest.mark.parametrize("max_bits", [-1, 0, 4, 63])
def test_none_and_one(max_bits: int) -> None:
    for n in (0, 1):
        found = look_for(images(["a"] * n, np.zeros(n, np.uint64), BASE[:n]), max_bits)
        assert found.group.tolist() == [0] * n and found.pairs == []


def test_dense() -> None:
    assert dense(np.array(["c", "a", "c", "b"])).tolist() == [0, 1, 0, 2]


def test_contrast() -> None:
    random = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    assert np.allclose(contrast(random), np.sqrt(random.var(axis=(1, 2)).mean(axis=1)), rtol=1e-12)
    extreme = np.zeros((1, 16, 16, 3), np.uint8)
    extreme[:, 0] = 255
    assert np.allclose(contrast(np.r_[extreme, 255 - extreme]), extreme.std())
    assert contrast(np.full((2, 16, 16, 3), [255, 0, 7], np.uint8)).tolist() == [0, 0]
    assert contrast(random[:0]).shape == (0,)
