import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import photo

from simpipe.data.duplicates import FLAT, LIMIT, SHARE, contrast, dense, duplicate_groups
from simpipe.data.phash import miniature

BASE = np.stack([miniature(photo(seed)) for seed in range(3)])


def brute_force(
    sha256: list[str], phash: NDArray[np.uint64], miniatures: NDArray[np.uint8], max_bits: int, max_group: int
) -> tuple[list[int], set[tuple[int, int]]]:
    """Groups (numbered by first member) and near links, by comparing all with all."""
    n = len(sha256)
    first = [sha256.index(sha) for sha in sha256]
    spread = contrast(miniatures)
    near = set()
    for i in range(n):
        for j in range(i + 1, n):
            if max_bits < 0 or first[i] != i or first[j] != j:
                continue
            difference = np.abs(miniatures[i].astype(float) - miniatures[j]).mean()
            if (spread[i] < FLAT) != (spread[j] < FLAT):
                continue
            if spread[i] < FLAT:
                alike = difference == 0
            else:
                alike = int(phash[i] ^ phash[j]).bit_count() <= max_bits and difference <= min(
                    LIMIT, SHARE * min(spread[i], spread[j])
                )
            if alike:
                near.add((i, j))
    component = list(range(n))
    for i, j in [*enumerate(first), *near]:
        low, high = sorted((component[i], component[j]))
        component = [low if c == high else c for c in component]
    large = {
        c for c in component if component.count(c) > max_group and any(component[i] == c for i, _ in near)
    }
    component = [first[i] if c in large else c for i, c in enumerate(component)]
    order = {c: number for number, c in enumerate(dict.fromkeys(component))}
    return [order[c] for c in component], near


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[str], NDArray[np.uint64], NDArray[np.uint8]]:
    n = draw(st.integers(1, 14))
    kinds = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    sha = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    flips = draw(st.lists(st.lists(st.integers(0, 63), max_size=5), min_size=n, max_size=n))
    shift = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    hashes, minis = [], []
    for kind, flip, add in zip(kinds, flips, shift, strict=True):
        value = [0x123456789ABCDEF0, 0xFEDCBA9876543210, 0, 0][kind]
        for bit in flip:
            value ^= 1 << bit
        hashes.append(value)
        base = BASE[kind] if kind < 2 else np.full((16, 16, 3), 200 + kind)
        minis.append((base.astype(int) + add * (kind != 3)).clip(0, 255).astype(np.uint8))
    known: dict[int, int] = {}  # equal bytes have equal looks
    same = [known.setdefault(value, k) for k, value in enumerate(sha)]
    return (
        [f"{value:064}" for value in sha],
        np.array([hashes[k] for k in same], np.uint64),
        np.stack([minis[k] for k in same]),
    )


@settings(max_examples=150, deadline=None)
@given(data=collections(), max_bits=st.integers(-1, 9), max_group=st.sampled_from((3, 50)))
def test_groups_against_brute_force(
    data: tuple[list[str], NDArray[np.uint64], NDArray[np.uint8]], max_bits: int, max_group: int
) -> None:
    sha256, phash, minis = data
    found = duplicate_groups(sha256, phash, minis, max_bits, max_group)
    expected, near = brute_force(sha256, phash, minis, max_bits, max_group)
    if max_group == 50:
        assert found.group.tolist() == expected
        assert found.oversized == 0
        detailed = contrast(minis) >= FLAT
        links = {(i, j) for i, j, kind in found.pairs if kind == "near"}
        assert {pair for pair in links if detailed[pair[0]]} == {pair for pair in near if detailed[pair[0]]}
        assert links <= near
    for i, j, kind in found.pairs:
        assert i < j and found.group[i] == found.group[j]
        assert sha256[i] == sha256[j] if kind == "exact" else sha256[i] != sha256[j]
    firsts = [sha256.index(sha) for sha in sha256]
    assert {(i, j) for i, j, kind in found.pairs if kind == "exact"} == {
        (f, j) for j, f in enumerate(firsts) if f != j
    }
    sizes = np.bincount(found.group)
    for number in np.flatnonzero(sizes > max_group):
        assert len({sha256[k] for k in np.flatnonzero(found.group == number)}) == 1


def test_a_large_set_of_near_copies_keeps_exact_links_only() -> None:
    n = 60
    sha256 = [f"{k}" for k in range(n)]
    sha256[7] = sha256[3]
    kept = duplicate_groups(sha256, np.full(n, 99, np.uint64), np.repeat(BASE[:1], n, 0), 4, max_group=60)
    assert kept.group.max() == 0 and kept.oversized == 0
    broken = duplicate_groups(sha256, np.full(n, 99, np.uint64), np.repeat(BASE[:1], n, 0), 4, max_group=50)
    assert broken.pairs == [(3, 7, "exact")] and broken.oversized == 1
    assert len(np.unique(broken.group)) == n - 1


def test_equal_hashes_of_different_pictures_are_no_duplicates() -> None:
    phash = np.zeros(3, np.uint64)
    assert duplicate_groups(["a", "b", "c"], phash, BASE, 10).pairs == []


def test_blank_pages_do_not_chain() -> None:
    greys = np.arange(200, 240, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    found = duplicate_groups(
        [str(k) for k in range(41)], np.zeros(41, np.uint64), np.r_[greys, greys[:1]], 16
    )
    assert found.pairs == [(0, 40, "near")]


def test_many_images_in_bounded_time_and_space() -> None:
    n = 20_000
    phash = np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)
    phash[n // 2 :] = phash[: n // 2] ^ np.uint64(0b1010)
    looks = np.repeat(BASE[:1], n, 0)
    found = duplicate_groups([str(k) for k in range(n)], phash, looks, 4)
    assert [(i, j) for i, j, _ in found.pairs] == [(k, k + n // 2) for k in range(n // 2)]
    still = duplicate_groups([str(k) for k in range(5_000)], np.full(5_000, 5, np.uint64), looks[:5_000], 8)
    assert still.pairs == [] and still.oversized == 1


@pytest.mark.parametrize("max_bits", [-1, 0, 4, 63])
def test_none_and_one(max_bits: int) -> None:
    for n in (0, 1):
        found = duplicate_groups(["a"] * n, np.zeros(n, np.uint64), BASE[:n], max_bits)
        assert found.group.tolist() == [0] * n and found.pairs == []


def test_dense() -> None:
    assert dense(np.array(["c", "a", "c", "b"])).tolist() == [0, 1, 0, 2]
    assert contrast(np.full((1, 16, 16, 3), [255, 0, 0], np.uint8)).tolist() == [0]
