import errno
import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, photo
from PIL import Image

from simpipe.data import copies as module
from simpipe.data.copies import load_pixels, write_copy
from simpipe.data.preparation import Preparation, pixels, prepare, recipe
from simpipe.errors import DataError

LIMIT = 10**8
SIZE = 20
PREPARATION = Preparation("squash", 32, "#ffffff", None)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


class Folder:
    """Originals and what ingest keeps of them: plain ones, odd ones and large ones."""

    def __init__(self, root: Path, count: int = 12, keep: Any = "auto") -> None:
        self.root, self.cache = root / "data", root / "cache" / "images"
        self.root.mkdir()
        self.paths, self.raws = [], []
        for seed in range(count):
            image = photo(seed, *((32, 24), (28, 40), (80, 60))[seed % 3])
            name, raw = f"{seed}.png", encoded(image, "PNG")
            if seed % 3 == 1:
                name, raw = f"{seed}.bmp", encoded(image, "BMP")
            self.paths.append(self.root / name)
            self.raws.append(raw)
            self.paths[-1].write_bytes(raw)
        self.hashes = [sha256(raw) for raw in self.raws]
        prepared = [prepare(raw, PREPARATION, LIMIT, 16, keep) for raw in self.raws]
        self.copies = [
            None if each.copy is None else write_copy(self.cache, name, PREPARATION, each)
            for name, each in zip(self.hashes, prepared, strict=True)
        ]

    def load(self, start: int = 0) -> list[NDArray[np.uint8]]:
        return list(
            load_pixels(
                *(self.paths[start:], self.hashes[start:], self.copies[start:]),
                *(SIZE, PREPARATION, self.cache),
            )
        )

    def is_right(self, loaded: list[NDArray[np.uint8]]) -> bool:
        expected = [pixels(raw, SIZE, PREPARATION, LIMIT) for raw in self.raws]
        return len(loaded) == len(expected) and all(map(np.array_equal, loaded, expected))

    def kept(self) -> list[Path]:
        return sorted(path for path in self.cache.rglob("*") if path.is_file())


def test_copies_are_named_by_the_original_and_the_recipe(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert [copy is None for copy in folder.copies] == [True, False, False] * 4
    names = [
        folder.cache / name[:2] / f"{name}-{recipe(PREPARATION)}.{'png' if number % 3 == 1 else 'jpg'}"
        for number, name in enumerate(folder.hashes)
        if number % 3
    ]
    assert folder.kept() == sorted(names)
    assert {sha256(path.read_bytes()) for path in names} == {copy for copy in folder.copies if copy}


def test_with_copies_the_originals_are_not_needed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, keep="all")
    for path in folder.paths:
        path.unlink()
    folder.root.rmdir()
    assert folder.is_right(folder.load())


def test_without_copies_the_pixels_are_the_same(tmp_path: Path) -> None:
    folder = Folder(tmp_path, count=150)
    assert folder.is_right(folder.load())
    kept = folder.kept()
    kept[0].unlink()
    kept[1].write_bytes(b"")
    kept[2].write_bytes(kept[3].read_bytes())  # a good image, but another one
    kept[4].write_bytes(kept[4].read_bytes()[:-1])
    kept[5].unlink()
    kept[5].mkdir()
    assert folder.is_right(folder.load())
    folder.copies = [None] * len(folder.copies)
    assert folder.is_right(folder.load())


def test_another_recipe_is_another_copy(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    other = PREPARATION._replace(copy_side=24)
    for name, raw in zip(folder.hashes, folder.raws, strict=True):
        prepared = prepare(raw, other, LIMIT, 16, "auto")
        if prepared.copy is not None:
            write_copy(folder.cache, name, other, prepared)
    for path in folder.paths[1::3]:
        path.unlink()
    assert folder.is_right(folder.load())


def test_only_the_bytes_that_ingest_read_are_decoded(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    plain = folder.paths[3]
    plain.write_bytes(folder.raws[6])  # a good image, but another one
    folder.paths[1].write_bytes(b"")  # it has a copy
    stream = load_pixels(folder.paths, folder.hashes, folder.copies, SIZE, PREPARATION, folder.cache)
    for number in range(3):
        assert np.array_equal(next(stream), pixels(folder.raws[number], SIZE, PREPARATION, LIMIT))
    with pytest.raises(DataError, match=r"3\.png changed since ingest read it") as caught:
        next(stream)
    assert caught.value.hint == "run the same command again when the data are at rest"
    plain.unlink()
    with pytest.raises(DataError, match=r"3\.png changed since ingest read it \(No such file"):
        folder.load(3)


def test_if_folder_and_copy_are_gone_it_says_so(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.root.rename(tmp_path / "elsewhere")
    for start in (0, 1):
        for path in folder.kept():
            path.unlink()
        with pytest.raises(DataError) as caught:
            folder.load(start)
        message = caught.value.message
        assert f"the folder {folder.root} is gone, and {folder.paths[start]} has no copy" in message
        assert "put the folder back" in str(caught.value.hint)


def test_what_cannot_be_decoded_any_more_is_named(tmp_path: Path) -> None:
    path = tmp_path / "2.png"
    path.write_bytes(b"never an image")
    with pytest.raises(DataError, match=r"2\.png could be decoded by ingest, but not now") as caught:
        list(load_pixels([path], [sha256(b"never an image")], [None], SIZE, PREPARATION, tmp_path / "cache"))
    assert "ingest --force" in str(caught.value.hint)


def test_a_disk_that_is_full_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(encoded(photo(1), "BMP"), PREPARATION, LIMIT, 16, "auto")

    def write_bytes(path: Path, raw: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(raw[: len(raw) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError) as caught:
        write_copy(tmp_path, "ab" * 32, PREPARATION, prepared)
    assert caught.value.errno == errno.ENOSPC
    assert [*(tmp_path / "ab").iterdir()] == []
    with pytest.raises(ValueError, match="no copy"):
        write_copy(tmp_path, "ab" * 32, PREPARATION, prepared._replace(copy=None))


def test_many_may_write_the_same_copy_while_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "1.bmp"
    raw = encoded(photo(1), "BMP")
    path.write_bytes(raw)
    prepared = prepare(raw, PREPARATION, LIMIT, 16, "auto")
    copy = write_copy(tmp_path / "cache", sha256(raw), PREPARATION, prepared)
    stop, faults = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                assert write_copy(tmp_path / "cache", sha256(raw), PREPARATION, prepared) == copy
        except Exception as error:
            faults.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    stem = module._stem(tmp_path / "cache", sha256(raw), PREPARATION)
    read = [module._read_copy(stem, copy) for _ in range(300)]
    stop.set()
    for writer in writers:
        writer.join(10)
    assert not faults and read == [prepared.copy] * 300
    assert len(list(stem.parent.iterdir())) == 1


def test_a_name_that_is_no_text_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.png"
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(DataError, match=r"caf\\xe9\.png changed since"):
        list(load_pixels([path], ["0" * 64], [None], SIZE, PREPARATION, tmp_path / "cache"))
