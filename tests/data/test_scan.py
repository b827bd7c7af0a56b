import os
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import write_tree

from simpipe.data import scan
from simpipe.data.scan import fingerprint, list_files
from simpipe.errors import DataError, UsageError

OLD = time.time_ns() - 3_600_000_000_000


def age(root: Path, when: int = OLD) -> None:
    for path in root.rglob("*"):
        os.utime(path, ns=(when, when))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "data", {"cat/1.jpg": b"one", "dog/deep/er/2.PNG": b"two"})
    age(root)
    return root


def test_label_is_the_first_folder_and_order_is_by_bytes(tmp_path: Path) -> None:
    names = ["b/1.jpg", "a/é.jpg", "a/z.jpg", "a/Z.jpg", "a.b/1.jpg", "a/x/y.webp", "a-b/1.jpg"]
    write_tree(tmp_path, dict.fromkeys(names, b"x"))
    files = list_files(tmp_path).files
    assert [f.path for f in files] == sorted(names, key=os.fsencode)
    assert {f.path: f.label for f in files} == {name: name.split("/")[0] for name in names}
    assert all(f.split is None and f.size == 1 for f in files)


def test_what_is_no_image_is_counted_and_passed_over(two: Path) -> None:
    hidden = (".DS_Store", "cat/._1.jpg", "cat/Thumbs.db", "desktop.ini", ".git/x.jpg", "__MACOSX/1.jpg")
    write_tree(two, dict.fromkeys(hidden, b""))
    write_tree(two, dict.fromkeys(("README.md", "cat/notes.txt", "cat/jpg", "labels.csv"), b""))
    os.mkfifo(two / "cat/pipe.jpg")
    (two / "cat/broken.jpg").symlink_to("nowhere.jpg")
    (two / "cat/loop.jpg").symlink_to("loop.jpg")
    (two / "cat/again").symlink_to(two / "cat", target_is_directory=True)
    (two / "cat/linked.jpg").symlink_to(two / "cat/1.jpg")
    listing = list_files(two)
    assert [f.path for f in listing.files] == ["cat/1.jpg", "cat/linked.jpg", "dog/deep/er/2.PNG"]
    assert listing.ignored == {"hidden": 6, "linked_folder": 1, "not_a_file": 3, "not_an_image_name": 4}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "test"), ("train", "test")),
        (("Training", "DEV", "testing"), ("train", "val", "test")),
        (("train", "valid"), ("train", "val")),
    ],
)
def test_predefined_splits(tmp_path: Path, folders: tuple[str, ...], splits: tuple[str, ...]) -> None:
    for folder in folders:
        write_tree(tmp_path, {f"{folder}/cat/1.jpg": b"1", f"{folder}/dog/x/2.jpg": b"2"})
    write_tree(tmp_path, {"docs/readme.txt": b"", "readme.md": b""})
    found = {(f.path, f.label, f.split) for f in list_files(tmp_path).files}
    assert found == {
        (f"{folder}/{rest}", label, split)
        for folder, split in zip(folders, splits, strict=True)
        for rest, label in (("cat/1.jpg", "cat"), ("dog/x/2.jpg", "dog"))
    }


@pytest.mark.parametrize("folders", [("train", "other"), ("val", "test"), ("train", "Train")])
def test_other_folders_are_labels(tmp_path: Path, folders: tuple[str, ...]) -> None:
    write_tree(tmp_path, {f"{folder}/cat/1.jpg": b"1" for folder in folders})
    if folders == ("train", "Train"):
        with pytest.raises(DataError, match="spelling"):
            list_files(tmp_path)
    else:
        assert {(f.label, f.split) for f in list_files(tmp_path).files} == {(name, None) for name in folders}


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("cat ", "cat"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301")],
)
def test_labels_that_differ_only_in_spelling_are_refused(tmp_path: Path, one: str, other: str) -> None:
    write_tree(tmp_path, {f"{one}/1.jpg": b"1", f"{other}/2.jpg": b"2", "dog/3.jpg": b"3"})
    with pytest.raises(DataError) as caught:
        list_files(tmp_path)
    assert repr(one) in caught.value.message and repr(other) in caught.value.message


def test_the_same_label_in_two_splits_is_one_label_but_not_in_two_spellings(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train/Cat/1.jpg": b"", "train/dog/1.jpg": b"", "test/cat/1.jpg": b""})
    with pytest.raises(DataError, match="'test/cat' and 'train/Cat'"):
        list_files(tmp_path)


def test_labels_are_in_normal_form_c_and_paths_as_they_are(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    write_tree(tmp_path, {f"{decomposed}/1.jpg": b"", "tea/2.jpg": b""})
    file = list_files(tmp_path).files[0]
    assert (file.label, file.path) == ("café", f"{decomposed}/1.jpg")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsdecode(b"bad\xff")
    try:
        write_tree(tmp_path, {f"{folder}/\udcfe.jpg": b"1", "ok/new\nline.jpg": b"2"})
    except OSError:
        pytest.skip("this file system takes valid names only")
    one = fingerprint(tmp_path, tmp_path / ".cache")
    assert one.files[0].path == f"{folder}/\udcfe.jpg" and one.files[0].label == "bad\\xff"
    assert fingerprint(tmp_path, tmp_path / ".cache") == one


def test_images_without_a_label_are_named(two: Path) -> None:
    write_tree(two, {f"{n}.jpg": b"" for n in range(7)})
    with pytest.raises(DataError, match=r"7 images lie .* 0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg, …"):
        list_files(two)


def test_images_in_a_split_without_a_label_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train/cat/1.jpg": b"", "train/dog/1.jpg": b"", "test/lost.jpg": b""})
    with pytest.raises(DataError, match=r"1 image lies .* test/lost\.jpg"):
        list_files(tmp_path)


def test_wrong_roots(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        list_files(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        list_files(tmp_path / "file")
    with pytest.raises(DataError, match="no images"):
        list_files(tmp_path)
    write_tree(tmp_path, {"cat/1.jpg": b""})
    with pytest.raises(DataError, match=r"only one label .*'cat'"):
        list_files(tmp_path)


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


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two seconds had gone by since the files were made."""
    monkeypatch.setattr(scan, "RACY_NS", 0)
    time.sleep(0.02)  # the tick of the file system's clock


@pytest.mark.usefixtures("settled")
def test_a_second_call_reads_no_image(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "new/folder/cache.json"
    first = fingerprint(two, cache)
    written = cache.stat().st_mtime_ns

    def refuse(path: str) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(scan, "_sha256", refuse)
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
    monkeypatch.setattr(scan, "_sha256", lambda path: pytest.fail(path))
    assert fingerprint(two, tmp_path / "cache.json") == first


@pytest.mark.usefixtures("settled")
def test_without_leave_to_remember_nothing_is_written(two: Path, tmp_path: Path) -> None:
    fingerprint(two, tmp_path / "cache.json", remember=False)
    assert not (tmp_path / "cache.json").exists()


@pytest.mark.parametrize("ahead", [0, 10**15])
def test_a_file_as_young_as_its_hash_is_hashed_again(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
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


def test_an_unreadable_file_has_no_hash_and_is_not_remembered(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error", path)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", fail)
        assert [f.sha256 for f in fingerprint(two, tmp_path / "cache.json").files] == ["", ""]
    assert all(len(f.sha256) == 64 for f in fingerprint(two, tmp_path / "cache.json").files)


names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."} and len(name.encode()) < 100)
SUFFIXES = st.sampled_from((".jpg", ".JPEG", ".png", ".txt", ""))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(st.tuples(names, names, SUFFIXES), st.binary(max_size=8), max_size=8))
def test_any_tree_is_listed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, str, str], bytes]
) -> None:
    root = tmp_path_factory.mktemp("any")
    for (folder, name, suffix), content in tree.items():
        write_tree(root, {f"{folder}/{name}{suffix}": content})
    try:
        listing = list_files(root)
    except DataError:
        return
    in_sight = [p for p in root.rglob("*") if p.is_file()]
    below_hidden = sum(p.parent != root and p.parent.name.startswith(".") for p in in_sight)
    hidden_folders = sum(p.name.startswith(".") for p in root.iterdir())
    passed_over = sum(listing.ignored.values()) - hidden_folders + below_hidden
    assert len(listing.files) + passed_over == len(in_sight)
    assert [f.path for f in listing.files] == sorted((f.path for f in listing.files), key=os.fsencode)
