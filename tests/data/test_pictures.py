import hashlib
import itertools
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.data import pictures as module
from simpipe.data.picture import Picture, Refusal
from simpipe.data.pictures import PictureStore
from simpipe.errors import DamagedError, DiskError

RECIPE = {"side": 96}
Outcome = Picture | Refusal


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def outcome(number: int) -> Outcome:
    """Any outcome, equal for equal numbers."""
    rng = random.Random(number)  # noqa: S311
    if rng.random() < 0.3:
        return Refusal(rng.choice(["empty", "truncated"]), f"détail {number}")
    return Picture(
        format=rng.choice(["JPEG", "PNG"]),
        width=rng.randrange(1, 2**31),
        height=number,
        warnings=tuple(sorted(rng.sample(["alpha", "flat", "long", "tiny"], rng.randrange(4)))),
        phash=rng.getrandbits(64),
        miniature=rng.randbytes(768),
        thumbnail=rng.randbytes(rng.randrange(50)),
        copy=rng.choice([None, sha(-number)]),
    )


def fill(folder: Path, *blocks: range) -> PictureStore:
    store = PictureStore(folder, RECIPE)
    for block in blocks:
        store.add([sha(number) for number in block], [outcome(number) for number in block])
    return store


def read(store: PictureStore, numbers: list[int]) -> list[Outcome | None]:
    """What a store knows of the contents `numbers`."""
    places = store.find([sha(number) for number in numbers])
    found: list[Outcome | None] = [None] * len(numbers)
    known = np.flatnonzero(places >= 0)
    thumbnails = dict(zip(known.tolist(), store.thumbnails(places[known]), strict=True))
    for rows, facts in store.facts(places):
        for row, fact in zip(rows.tolist(), facts.to_pylist(), strict=True):
            reason, detail, small, warnings = map(fact.pop, ("reason", "detail", "miniature", "warnings"))
            if reason is not None:
                found[row] = Refusal(reason, detail)
                assert not any(small) and not thumbnails[row]
                continue
            found[row] = Picture(
                **fact,
                warnings=tuple(warnings.split()),
                thumbnail=thumbnails[row],
                miniature=small,
            )
    return found


@settings(deadline=None, max_examples=50)
@given(
    blocks=st.lists(st.integers(1, 8), max_size=4),
    asked=st.lists(st.integers(0, 40), max_size=30),
)
def test_what_was_added_is_found(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[int], asked: list[int]
) -> None:
    edges = np.cumsum([0, *blocks]).tolist()
    folder = tmp_path_factory.mktemp("store")
    writer = fill(folder, *(range(*pair) for pair in itertools.pairwise(edges)))
    for store in (writer, PictureStore(folder, RECIPE)):
        assert store.damaged == 0
        for number, found in zip(asked, read(store, asked), strict=True):
            assert found == (outcome(number) if number < edges[-1] else None)


def test_another_recipe_is_another_store(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    assert PictureStore(tmp_path, {"side": 64}).find([sha(0)]).tolist() == [-1]
    assert PictureStore(tmp_path, RECIPE).find([sha(0)]).tolist() != [-1]


def test_a_recipe_in_use_is_touched(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (folder,) = tmp_path.iterdir()
    os.utime(folder, (1, 1))
    PictureStore(tmp_path, {"side": 64})
    assert folder.stat().st_mtime == 1
    PictureStore(tmp_path, RECIPE)
    assert time.time() - folder.stat().st_mtime < 60


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.arrow"))


@pytest.mark.parametrize("how", ["flip", "cut", "longer", "gone"])
def test_a_damaged_shard_is_a_miss(tmp_path: Path, how: str) -> None:
    fill(tmp_path / "whole", range(5), range(5, 9))
    whole = [path.read_bytes() for path in shards(tmp_path / "whole")]
    length = len(whole[0])
    for at in {*range(0, length, length // 20), length - 1}:
        folder = tmp_path / str(at)
        fill(folder, range(5), range(5, 9))
        path, other = shards(folder)
        raw = whole[0]
        damaged = {
            "flip": raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :],
            "cut": raw[:at],
            "longer": raw + bytes(at + 1),
            "gone": b"",
        }[how]
        path.write_bytes(damaged)
        if how == "gone":
            path.unlink()
        store = PictureStore(folder, RECIPE)
        assert store.damaged == (how != "gone")
        assert shards(folder) == [other]
        missing = [found is None for found in read(store, list(range(9)))]
        assert missing in ([True] * 5 + [False] * 4, [False] * 5 + [True] * 4)
        lost = range(5) if missing[0] else range(5, 9)
        store.add([sha(number) for number in lost], [outcome(number) for number in lost])
        assert read(store, list(range(9))) == list(map(outcome, range(9)))


def test_a_file_that_bears_its_own_hash_and_is_no_shard(tmp_path: Path) -> None:
    fill(tmp_path, range(2))
    folder = shards(tmp_path)[0].parent
    (folder / f"{hashlib.sha256(b'rubbish').hexdigest()}.arrow").write_bytes(b"rubbish")
    (folder / "notes.txt").write_text("mine")
    assert None not in read(PictureStore(tmp_path, RECIPE), [0, 1])
    assert (folder / "notes.txt").exists()


def test_two_writers(tmp_path: Path) -> None:
    one, other = PictureStore(tmp_path, RECIPE), PictureStore(tmp_path, RECIPE)
    for store, block in ((one, range(4)), (other, range(2, 8)), (other, range(4))):
        store.add([sha(number) for number in block], [outcome(number) for number in block])
    assert read(one, [5]) == [None]
    for store in (other, PictureStore(tmp_path, RECIPE)):
        assert store.damaged == 0
        assert read(store, list(range(8))) == list(map(outcome, range(8)))
    assert len(shards(tmp_path)) == 2  # equal shards are one file


def test_a_shard_that_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    store = fill(tmp_path, range(3), range(3, 6))
    for path in shards(tmp_path):
        path.unlink()
    for reading in (store.facts(np.array([4])), store.thumbnails(np.array([4]))):
        with pytest.raises(DamagedError, match=r"[0-9a-f]{64}\.arrow: vanished"):
            list(reading)
    assert list(store.facts(np.array([-1]))) == []


def test_many_shards_need_no_open_files(tmp_path: Path) -> None:
    numbers = list(range(60))
    fill(tmp_path, *(range(number, number + 1) for number in numbers))
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = PictureStore(tmp_path, RECIPE)
    reading = store.thumbnails(store.find([sha(number) for number in numbers]))
    next(reading)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert read(store, numbers) == list(map(outcome, numbers))


def test_more_thumbnails_than_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 4)
    store = fill(tmp_path, range(6), range(6, 12))
    numbers = [11, 0, 7, 7, 3, 0, 10, 5, 11]
    wanted = [getattr(outcome(number), "thumbnail", b"") for number in numbers]
    assert list(store.thumbnails(store.find([sha(number) for number in numbers]))) == wanted


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DiskError, match="picture cache"):
        fill(tmp_path / "store", range(1))
