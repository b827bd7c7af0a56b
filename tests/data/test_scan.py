import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import write_tree

from simpipe.data.scan import MAX_DEPTH, Ignored, display, some, walk
from simpipe.errors import DiskError


def walked(root: Path, **options: Any) -> tuple[list[str], list[tuple[str, str]]]:
    seen = walk(os.fspath(root), **options)
    return [entry.path for entry in seen.entries], [tuple(each) for each in seen.ignored]


def test_files_are_in_the_order_of_their_bytes_with_their_status(tmp_path: Path) -> None:
    names = ["b/1.jpg", "a/é.jpg", "a/z.jpg", "a/Z.jpg", "a.b/1.jpg", "a/x/y.webp", "a-b/1.jpg", "0.PNG"]
    write_tree(tmp_path, {name: b"x" * place for place, name in enumerate(names)})
    entries = walk(os.fspath(tmp_path)).entries
    assert [entry.path for entry in entries] == sorted(names, key=os.fsencode)
    for entry in entries:
        status = (tmp_path / entry.path).stat()
        assert entry[1:] == (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def test_each_name_that_is_passed_over_has_its_reason(tmp_path: Path) -> None:
    expected = {
        **dict.fromkeys((".DS_Store", "cat/._1.jpg", ".git/", "cat/.ipynb_checkpoints/"), "hidden"),
        **dict.fromkeys(
            ("cat/Thumbs.db", "cat/thumbs.DB", "Desktop.ini", "__MACOSX/", "cat/@eaDir/"), "system"
        ),
        **dict.fromkeys(("lost+found/", "$RECYCLE.BIN/", "System Volume Information/"), "system"),
        **dict.fromkeys(("README.md", "cat/jpg", "labels.csv", "cat/x.jpg.part"), "not_an_image_name"),
        **dict.fromkeys(("cat/pipe.jpg", "cat/broken.jpg", "cat/loop.jpg"), "not_a_file"),
        "cat/again/": "linked_folder",
    }
    for path in expected:
        write_tree(tmp_path, {f"{path}1.jpg" if path.endswith("/") else path: b""})
    for path in ("cat/pipe.jpg", "cat/broken.jpg", "cat/loop.jpg", "cat/again/1.jpg"):
        (tmp_path / path).unlink()
    (tmp_path / "cat/again").rmdir()
    write_tree(tmp_path, {"cat/1.jpg": b"1", "dog/deep/er/2.PNG": b"2"})
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "cat/broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "cat/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "cat/again").symlink_to(tmp_path / "cat", target_is_directory=True)
    (tmp_path / "cat/linked.jpg").symlink_to(tmp_path / "cat/1.jpg")
    files, ignored = walked(tmp_path)
    assert files == ["cat/1.jpg", "cat/linked.jpg", "dog/deep/er/2.PNG"]
    assert dict(ignored) == expected
    assert [path for path, _ in ignored] == sorted(expected, key=os.fsencode)


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path: Path) -> None:
    write_tree(tmp_path, {"cat.jpg/1.jpg": b""})
    assert walked(tmp_path) == (["cat.jpg/1.jpg"], [])


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("*_mask.png", ["a/1.png", "a/masks/1.png", "masks/1.png", "tmp.png"]),
        ("masks", ["a/1.png", "a/1_mask.png", "tmp.png"]),
        ("masks/", ["a/1.png", "a/1_mask.png", "tmp.png"]),
        ("a/masks", ["a/1.png", "a/1_mask.png", "masks/1.png", "tmp.png"]),
        ("a/*", ["masks/1.png", "tmp.png"]),
        ("[", ["a/1.png", "a/1_mask.png", "a/masks/1.png", "masks/1.png", "tmp.png"]),
    ],
)
def test_rules_match_names_and_paths(tmp_path: Path, rule: str, left: list[str]) -> None:
    every = ("a/1.png", "a/1_mask.png", "a/masks/1.png", "masks/1.png", "tmp.png")
    write_tree(tmp_path, dict.fromkeys(every, b""))
    files, ignored = walked(tmp_path, ignore=(rule, ""))
    assert files == left
    assert {reason for _, reason in ignored} <= {"ignored_by_rule"}
    stands_for = [[p for p in every if p == path or p.startswith(path)] for path, _ in ignored]
    assert sorted(sum(stands_for, left)) == sorted(every)


def test_linked_folders_are_followed_once_and_after_the_folders_themselves(tmp_path: Path) -> None:
    root, pool = tmp_path / "data", tmp_path / "pool"
    write_tree(root, {"cat/1.jpg": b"", "cat/in/2.jpg": b""})
    write_tree(pool, {"dog/3.jpg": b"", "4.jpg": b""})
    for link, target in {
        "a_cat": root / "cat",  # would come first, but the folder itself goes before
        "cat/in/up": root / "cat",
        "self": root,
        "dog": pool / "dog",
        "pool": pool,  # holds dog, which `dog` has taken
        "zoo": pool,
    }.items():
        (root / link).symlink_to(target, target_is_directory=True)
    files, ignored = walked(root, follow_links=True)
    assert files == ["cat/1.jpg", "cat/in/2.jpg", "dog/3.jpg", "pool/4.jpg"]
    assert ignored == [
        ("a_cat/", "linked_twice"),
        ("cat/in/up/", "link_loop"),
        ("pool/dog/", "linked_twice"),
        ("self/", "link_loop"),
        ("zoo/", "linked_twice"),
    ]
    assert walk(os.fspath(root), follow_links=True).links == ["dog/", "pool/"]


def test_a_link_out_and_back_in_is_a_loop(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data/cat/1.jpg": b"", "beside/2.jpg": b""})
    (tmp_path / "data/up").symlink_to(tmp_path, target_is_directory=True)
    files, ignored = walked(tmp_path / "data", follow_links=True)
    assert files == ["cat/1.jpg", "up/beside/2.jpg"]
    assert ignored == [("up/data/", "link_loop")]


def test_a_tree_without_a_floor_ends(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for depth in range(MAX_DEPTH + 2):
            Path(f"{depth}.jpg").write_bytes(b"")
            Path("d" * 100).mkdir()
            os.chdir("d" * 100)  # the whole path would be too long to name
    finally:
        os.chdir(here)
    files, ignored = walked(tmp_path)
    assert 20 < len(files) <= MAX_DEPTH + 1
    assert {reason for _, reason in ignored} == {"too_deep"}
    write_tree(tmp_path, {"a/" * 70 + "1.jpg": b"", "a/" * 64 + "2.jpg": b""})
    files, ignored = walked(tmp_path / "a")
    assert files == ["a/" * 63 + "2.jpg"]
    assert ignored == [("a/" * 65, "too_deep")]


class Shuffled:
    """`os.scandir` in another order."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.scandir = os.scandir

    @contextmanager
    def __call__(self, folder: str) -> Iterator[list["os.DirEntry[str]"]]:
        with self.scandir(folder) as names:
            listed = sorted(names, key=lambda name: name.name)
        yield [listed[place] for place in self.random.permutation(len(listed))]


def test_the_order_of_listing_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, pool = tmp_path / "data", tmp_path / "pool"
    for name in "abcdef":
        write_tree(root, {f"{name}/{n}.jpg": b"" for n in range(4)})
        write_tree(pool, {f"{name}/x/{n}.jpg": b"" for n in range(4)})
    for link, target in {"a/p": pool, "b/q": pool / "a", "c/r": pool / "a/x", "d/s": root / "e"}.items():
        (root / link).symlink_to(target, target_is_directory=True)
    expected = walk(os.fspath(root), follow_links=True)
    assert len(expected.entries) == 48 and len(expected.ignored) == 3
    for seed in range(10):
        monkeypatch.setattr(os, "scandir", Shuffled(seed))
        assert walk(os.fspath(root), follow_links=True) == expected
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("number", "text"), [(errno.EACCES, "no permission to read"), (errno.EIO, "cannot read")]
)
def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    write_tree(tmp_path, {"cat/1.jpg": b"", "dog/1.jpg": b""})
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("dog/"):
            raise OSError(number, os.strerror(number), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DiskError, match=rf"{text} the folder .*/dog/"):
        walk(os.fspath(tmp_path))


def test_a_folder_that_vanishes_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"cat/1.jpg": b"", "dog/1.jpg": b""})
    scandir = os.scandir

    def remove_first(folder: str) -> Any:
        if folder.endswith("dog/"):
            Path(folder, "1.jpg").unlink()
            Path(folder).rmdir()
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", remove_first)
    assert walked(tmp_path) == (["cat/1.jpg"], [])


def test_names_for_people() -> None:
    assert display(os.fsdecode(b"a\xff\xc3\xa9")) == "a\\xffé"
    assert some([]) == ""
    assert some(str(n) for n in range(5)) == "0, 1, 2, 3, 4"
    assert some(str(n) for n in range(10**9)) == "0, 1, 2, 3, 4, …"
    assert Ignored("a", "hidden") == ("a", "hidden")
