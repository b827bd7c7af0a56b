import errno
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pictures import write_tree

from simpipe.data import fingerprint as module
from simpipe.data import scan
from simpipe.data.fingerprint import fingerprint
from simpipe.data.layout import Rules
from simpipe.errors import DataError

OLD = time.time_ns() - 3_600_000_000_000


def age(root: Path, when: int = OLD) -> None:
    for path in root.rglob("*"):
        os.utime(path, ns=(when, when))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "data", {"cat/1.jpg": b"one", "dog/deep/er/2.PNG": b"two"})
    age(root)
    return root


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two seconds had gone by since the files were made."""
    monkeypatch.setattr(module, "RACY_NS", 0)
    time.sleep(0.02)  # the tick of the file system's clock


def refuse(path: str) -> Any:
    raise AssertionError(path)


def test_files_have_the_hash_of_their_bytes(two: Path, tmp_path: Path) -> None:
    found = fingerprint(two, tmp_path / "cache.json", Rules(group_from=r"\d"))
    one, other = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))
    assert found.files == [
        ("cat/1.jpg", 3, one, "cat", None, "1", None),
        ("dog/deep/er/2.PNG", 3, other, "dog", None, "2", None),
    ]
    assert found.ignored == [] and len(found.notes) == 1


def test_digest_is_of_paths_and_contents_and_nothing_else(two: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    before = fingerprint(two, cache).digest
    assert before.startswith("sha256:") and len(before) == 71
    write_tree(two, {"README.md": b"read me"})
    age(two, OLD + 1)
    assert fingerprint(two, cache).digest == before
    two.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert fingerprint(moved, cache).digest == before
    (moved / "cat/1.jpg").rename(moved / "cat/2.jpg")
    renamed = fingerprint(moved, cache).digest
    (moved / "cat/2.jpg").write_bytes(b"eno")
    assert len({before, renamed, fingerprint(moved, cache).digest}) == 3


def test_digest_covers_the_table(two: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rules = Rules(table=table)
    digests = [fingerprint(two, tmp_path / "cache.json").digest]
    for last in ("dog", "Dog", "dog\n"):
        table.write_text(f"path,label\ncat/1.jpg,cat\ndog/deep/er/2.PNG,{last}")
        digests.append(fingerprint(two, tmp_path / "cache.json", rules).digest)
    table.write_text(f"path,label\ncat/1.jpg,cat\ndog/deep/er/2.PNG,{last}")
    assert fingerprint(two, tmp_path / "cache.json", rules).digest == digests[-1]
    assert len(set(digests)) == 4


def test_a_listed_file_that_is_not_there_is_missing_until_it_comes(two: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\ncat/1.jpg,cat\ndog/late.jpg,dog\n")
    before = fingerprint(two, tmp_path / "cache.json", Rules(table=table))
    assert before.files[1] == ("dog/late.jpg", -1, "", "dog", None, None, "missing")
    write_tree(two, {"dog/late.jpg": b"three"})
    after = fingerprint(two, tmp_path / "cache.json", Rules(table=table))
    assert after.files[1].fault is None and after.digest != before.digest


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsdecode(b"bad\xff")
    try:
        write_tree(tmp_path, {f"{folder}/\udcfe.jpg": b"1", "ok/new\nline.jpg": b"2"})
    except OSError:
        pytest.skip("this file system takes valid names only")
    one = fingerprint(tmp_path, tmp_path / ".cache")
    assert one.files[0].path == f"{folder}/\udcfe.jpg" and one.files[0].label == "bad\\xff"
    assert fingerprint(tmp_path, tmp_path / ".cache") == one


@pytest.mark.usefixtures("settled")
def test_a_second_call_reads_no_image(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "new/folder/cache.json"
    first = fingerprint(two, cache)
    written = cache.stat().st_mtime_ns
    monkeypatch.setattr(module, "_sha256", refuse)
    assert fingerprint(two, cache) == first
    assert cache.stat().st_mtime_ns == written
    os.utime(two / "cat/1.jpg", ns=(OLD, OLD + 7))
    with pytest.raises(AssertionError, match=r"cat/1\.jpg"):
        fingerprint(two, cache)


@pytest.mark.usefixtures("settled")
def test_an_edit_that_hides_its_size_and_its_time_is_noticed(two: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    before = fingerprint(two, cache)
    times = (two / "cat/1.jpg").stat()
    time.sleep(0.02)
    (two / "cat/1.jpg").write_bytes(b"two")
    os.utime(two / "cat/1.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(two, cache).digest != before.digest


@pytest.mark.usefixtures("settled")
def test_a_time_in_the_future_is_remembered_like_any_other(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(two, time.time_ns() + 10**18)
    time.sleep(0.02)
    first = fingerprint(two, tmp_path / "cache.json")
    monkeypatch.setattr(module, "_sha256", refuse)
    assert fingerprint(two, tmp_path / "cache.json") == first


@pytest.mark.usefixtures("settled")
def test_without_leave_to_remember_nothing_is_written(two: Path, tmp_path: Path) -> None:
    fingerprint(two, tmp_path / "cache.json", remember=False)
    assert not (tmp_path / "cache.json").exists()


@pytest.mark.parametrize("ahead", [0, 10**15])
def test_a_file_as_young_as_its_hash_is_hashed_again(two: Path, tmp_path: Path, ahead: int) -> None:
    cache = tmp_path / "cache.json"
    now = time.time_ns() + ahead
    os.utime(two / "cat/1.jpg", ns=(now, now))
    before = fingerprint(two, cache)
    (two / "cat/1.jpg").write_bytes(b"two")  # same size, and the same time:
    os.utime(two / "cat/1.jpg", ns=(now, now))
    assert fingerprint(two, cache).digest != before.digest


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", "null", '{"schema": "simpipe.stat-cache/2", "files": {"a": 1}}']
)
@pytest.mark.usefixtures("settled")
def test_a_damaged_cache_is_an_empty_one(two: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache.json"
    whole = fingerprint(two, cache)
    good = cache.read_text()
    cache.write_text(damage)
    assert fingerprint(two, cache) == whole
    assert cache.read_text() == good
    cache.write_text(good[: len(good) // 2])
    assert fingerprint(two, cache) == whole


def test_a_cache_that_cannot_be_written_is_let_be(two: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert fingerprint(two, tmp_path / "file/cache.json") == fingerprint(two, tmp_path / "cache.json")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("number", "calls"), [(errno.EIO, 4), (errno.ESTALE, 4), (errno.EACCES, 1), (errno.ENOENT, 1)]
)
@pytest.mark.usefixtures("settled")
def test_a_file_that_cannot_be_read_is_tried_again_and_not_remembered(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, calls: int
) -> None:
    tried = []

    def fail(path: str, flags: int) -> int:
        tried.append(path)
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patched:
        patched.setattr(module, "PAUSES", (0.0, 0.0, 0.0))
        patched.setattr(scan, "_at_once", fail)
        files = fingerprint(two, tmp_path / "cache.json").files
    fault = "missing" if number == errno.ENOENT else "unreadable"
    assert [(f.sha256, f.fault) for f in files] == [("", fault)] * 2
    assert len(tried) == 2 * calls
    assert all(len(f.sha256) == 64 for f in fingerprint(two, tmp_path / "cache.json").files)


def test_a_passing_trouble_passes(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fingerprint(two, tmp_path / "cache.json").files
    tried: list[str] = []

    def fail_twice(path: str, flags: int) -> int:
        tried.append(path)
        if tried.count(path) < 3:
            raise OSError(errno.ESTALE, "stale", path)
        return os.open(path, flags)

    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(scan, "_at_once", fail_twice)
    assert fingerprint(two, tmp_path / "cache2.json").files == expected


def test_a_pipe_in_the_place_of_a_file_blocks_nobody(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_files = module.list_files

    def swap(*args: Any) -> Any:
        listing = list_files(*args)
        (two / "cat/1.jpg").unlink()
        os.mkfifo(two / "cat/1.jpg")
        return listing

    monkeypatch.setattr(module, "list_files", swap)
    assert [f.fault for f in fingerprint(two, tmp_path / "cache.json").files] == ["unreadable", None]


def test_a_file_of_several_names_is_read_once(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(two / "cat/1.jpg", two / "cat/hard.jpg")
    (two / "dog/soft.jpg").symlink_to(two / "cat/1.jpg")
    read, sha256 = [], module._sha256

    def count(path: str) -> Any:
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(module, "_sha256", count)
    files = {f.path: f for f in fingerprint(two, tmp_path / "cache.json").files}
    assert len(read) == 2
    expected = hashlib.sha256(b"one").hexdigest()
    assert {files[path].sha256 for path in ("cat/1.jpg", "cat/hard.jpg", "dog/soft.jpg")} == {expected}
    assert files["dog/soft.jpg"].label == "dog"


def test_equal_numbers_on_two_disks_are_two_files(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_files = module.list_files

    def same_numbers(*args: Any) -> Any:
        listing = list_files(*args)
        listing.files[:] = [f._replace(size=3, mtime_ns=1, ctime_ns=1, inode=7) for f in listing.files]
        return listing

    expected = [f.sha256 for f in fingerprint(two, tmp_path / "cache.json").files]
    monkeypatch.setattr(module, "list_files", same_numbers)
    assert [f.sha256 for f in fingerprint(two, tmp_path / "cache2.json").files] == expected


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {f"{n % 3}/{n}.jpg": b"%d" % n for n in range(100)})
    one, three = (fingerprint(root, tmp_path / f"{n}.json", workers=n) for n in (1, 3))
    assert one == three


def test_what_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        fingerprint(tmp_path, tmp_path / "cache.json")
