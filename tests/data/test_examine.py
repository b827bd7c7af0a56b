import hashlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pictures import encoded, photo, write_tree
from PIL import Image

from simpipe.data import examine as module
from simpipe.data.decode import BadImage
from simpipe.data.examine import Examined, Job, Options, Outcome, examine
from simpipe.data.fingerprint import HashedFile
from simpipe.data.picture import picture_of
from simpipe.data.preparation import Preparation, prepare
from simpipe.errors import DataError, Stopped
from simpipe.progress import Silent

PREPARATION = Preparation("squash", 64, "#ffffff", None)
OPTIONS = Options(100_000, 8, 32, PREPARATION, "auto")

TREE = {
    "a/plain.jpg": encoded(photo(1)),
    "a/copy.png": encoded(photo(1)),  # the same bytes under another format's name
    "a/large.jpg": encoded(photo(2, 200, 150)),
    "a/alpha.png": encoded(Image.new("RGBA", (20, 300), (9, 9, 9, 99)), "PNG"),
    "b/empty.jpg": b"",
    "b/text.jpg": b"no image",
    "b/cut.jpg": encoded(photo(3))[:-200],
    "b/huge.png": encoded(Image.new("1", (500, 500)), "PNG"),
    "b/small.png": encoded(photo(4, 7, 90), "PNG"),
    "b/\udcffné\n.gif": encoded(photo(5), "GIF"),
}


def hashed(tree: dict[str, bytes]) -> list[HashedFile]:
    return [
        HashedFile(path, len(raw), hashlib.sha256(raw).hexdigest(), "label", None, None, None)
        for path, raw in tree.items()
    ]


class Heard(Silent):
    """Counts what is told, and stops when that is wished."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.begun: list[tuple[str, int | None]] = []
        self.notes: list[str] = []
        self.done = 0
        self.stop_after = stop_after

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        self.begun.append((label, total))

    def advance(self, count: int = 1, detail: str = "") -> None:
        self.done += count
        if self.done == self.stop_after:
            raise Stopped

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(
    root: Path, files: Sequence[HashedFile], options: Options = OPTIONS, **more: Any
) -> tuple[Examined, Heard]:
    heard = more.pop("progress", Heard())
    cache = more.pop("cache", root.parent / "cache")
    return examine(root, files, options, cache, scratch=root.parent, progress=heard, **more), heard


def rows_of(found: Examined) -> list[tuple[Any, ...]]:
    """Everything in an Examined, row by row."""
    usable = np.array([row for row, reason in enumerate(found.reason) if reason is None], np.int64)
    thumbnails = dict(zip(usable.tolist(), found.thumbnails(usable), strict=True))
    return [
        (*facts, found.miniatures[row].tobytes(), thumbnails.get(row))
        for row, facts in enumerate(
            zip(
                found.reason,
                found.detail,
                found.format,
                found.width.tolist(),
                found.height.tolist(),
                found.warnings,
                found.phash.tolist(),
                found.copy,
                strict=True,
            )
        )
    ]


def expected(path: str, raw: bytes, options: Options = OPTIONS) -> tuple[Any, ...]:
    """The row of one file, made here and now."""
    nothing: tuple[Any, ...] = (None, 0, 0, (), 0, None, bytes(768), None)
    try:
        prepared = prepare(raw, options.preparation, options.max_pixels, 96, options.keep)
    except BadImage as error:
        return (error.reason, error.detail, *nothing)
    if min(prepared.width, prepared.height) < options.min_side:
        return ("too_small", "7 x 90 pixels, a side under 8", *nothing)
    copy = prepared.copy and hashlib.sha256(prepared.copy).hexdigest()
    picture = picture_of(prepared, options.thumbnail_size, "squash", copy)
    wrong = {"a/copy.png": ["suffix"]}.get(path, [])
    return (
        None,
        None,
        *picture[:3],
        tuple(sorted([*picture.warnings, *wrong])),
        picture.phash,
        picture.copy,
        picture.miniature,
        picture.thumbnail,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data", TREE)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: to start another takes longer than these few images."""
    monkeypatch.setattr(module, "map_guarded", lambda work, jobs, **_: (work(job) for job in jobs))


def test_each_file_has_its_outcome_whatever_the_order_and_the_workers(root: Path) -> None:
    files = hashed(TREE)
    wanted = [expected(path, raw) for path, raw in TREE.items()]
    assert {row[0] for row in wanted} == {
        *(None, "empty", "not_an_image", "truncated", "too_large", "too_small"),
    }
    assert [bool(row[7]) for row in wanted[:4]] == [False, False, True, True]
    for workers, step in ((1, 1), (3, -1)):
        cache = root.parent / f"cache{workers}"
        for _ in range(2):  # decoded, then remembered
            found, _ = run(root, files[::step], workers=workers, cache=cache)
            assert rows_of(found) == wanted[::step]


@pytest.mark.usefixtures("here")
def test_what_is_known_is_not_opened(root: Path) -> None:
    files = hashed(TREE)
    first, heard = run(root, files)
    contents = len(set(TREE.values()))
    assert heard.begun == [("reading", contents)] and heard.done == contents
    root.rename(root.parent / "gone")
    again, heard = run(root, files)
    assert heard.begun == []
    assert rows_of(again) == rows_of(first)


@pytest.mark.usefixtures("here")
def test_only_what_is_new_is_opened(root: Path) -> None:
    old = dict(list(TREE.items())[:4])
    run(root, hashed(old))
    found, heard = run(root, hashed(TREE))
    assert heard.begun == [("reading", 6)]
    assert rows_of(found) == [expected(path, raw) for path, raw in TREE.items()]


@pytest.mark.usefixtures("here")
def test_other_options_are_other_outcomes(root: Path) -> None:
    run(root, hashed(TREE))
    others: list[dict[str, Any]] = [
        {"max_pixels": 10**6},
        {"min_side": 1},
        {"thumbnail_size": 0},
        {"keep": "none"},
        {"keep": "all"},
        {"preparation": PREPARATION._replace(background="#000000")},
        {"preparation": PREPARATION._replace(grey_range=(0.0, 1.0))},
    ]
    for other in others:
        options = OPTIONS._replace(**other)
        found, heard = run(root, hashed(TREE), options)
        assert heard.begun == [("reading", 9)]
        assert rows_of(found) == [expected(path, raw, options) for path, raw in TREE.items()]


@pytest.mark.usefixtures("here")
def test_hashes_do_not_depend_on_thumbnails(root: Path) -> None:
    sizes = [run(root, hashed(TREE), OPTIONS._replace(thumbnail_size=size))[0] for size in (0, 96)]
    assert sizes[0].phash.tolist() == sizes[1].phash.tolist()
    assert (sizes[0].miniatures == sizes[1].miniatures).all()


@pytest.mark.usefixtures("here")
def test_thumbnails_come_in_the_order_asked_for(root: Path) -> None:
    found, _ = run(root, hashed(TREE))
    first, large, alpha = found.thumbnails(np.array([0, 2, 3]))
    assert len({first, large, alpha}) == 3
    assert list(found.thumbnails(np.array([3, 1, 0, 3, 2]))) == [alpha, first, first, alpha, large]


@pytest.mark.usefixtures("here")
def test_miniatures_lie_on_disk_and_leave_nothing(root: Path) -> None:
    found, _ = run(root, hashed(TREE))
    assert isinstance(found.miniatures, np.memmap) and not found.miniatures.flags.writeable
    assert sorted(path.name for path in root.parent.iterdir()) == ["cache", "data"]


@pytest.mark.usefixtures("here")
def test_copies(root: Path) -> None:
    found, _ = run(root, hashed(TREE))
    images = root.parent / "cache" / "images"
    kept = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images.rglob("*.*")}
    assert kept == {copy for copy in found.copy if copy}
    for path in images.rglob("*.*"):
        path.unlink()
    again, heard = run(root, hashed(TREE))
    assert heard.begun == [("reading", len(kept))] and again.copy == found.copy, "what was lost is made again"
    assert kept == {hashlib.sha256(path.read_bytes()).hexdigest() for path in images.rglob("*.*")}


@pytest.mark.usefixtures("here")
def test_copies_that_cannot_be_written(root: Path) -> None:
    write_tree(root.parent, {"cache/images": b"a file where the folder should be"})
    with pytest.raises(OSError, match="images"):
        run(root, hashed(TREE))


@pytest.mark.usefixtures("here")
def test_files_that_were_missing_or_unreadable(root: Path) -> None:
    files = [
        HashedFile("a/x.jpg", -1, "", "a", None, None, "missing"),
        *hashed(TREE)[:1],
        HashedFile("a/y.jpg", 5, "", "a", None, None, "unreadable"),
    ]
    found, heard = run(root, files)
    assert found.reason == ["missing", None, "unreadable"]
    assert found.detail[0] and found.detail[2]
    assert heard.begun == [("reading", 1)]
    nothing, heard = run(root, files[::2])
    assert nothing.reason == ["missing", "unreadable"] and heard.begun == []
    assert list(nothing.thumbnails(np.array([], np.int64))) == []


def test_no_files(root: Path) -> None:
    found, _ = run(root, [])
    assert found.reason == [] and found.miniatures.shape == (0, 16, 16, 3)


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_file_that_changes_is_an_error_and_the_rest_is_kept(root: Path, how: str) -> None:
    files = hashed(TREE)
    last = root / files[-1].path
    last.write_bytes(b"other") if how == "changed" else last.unlink()
    with pytest.raises(DataError, match=r"\\xffné\\n.gif changed while it was read") as caught:
        run(root, files, workers=1)
    assert caught.value.hint
    write_tree(root, {files[-1].path: TREE[files[-1].path]})
    _, heard = run(root, files)
    assert heard.begun == [("reading", 1)]


def test_a_file_that_is_just_being_written_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = b"all of it"
    sha256 = hashlib.sha256(whole).hexdigest()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (tmp_path / "x").write_bytes(whole)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    for before in (b"all of", None):
        (tmp_path / "x").unlink(missing_ok=True)
        if before is not None:
            (tmp_path / "x").write_bytes(before)
        assert module._read(str(tmp_path), "x", sha256) == whole
    assert len(slept) == 2


def test_who_is_stopped_goes_on_where_it_was(root: Path) -> None:
    tree = {f"c/{seed}.jpg": encoded(photo(seed)) for seed in range(40)}
    write_tree(root, tree)
    with pytest.raises(Stopped):
        run(root, hashed(tree), progress=Heard(stop_after=25))
    found, heard = run(root, hashed(tree))
    assert heard.begun == [("reading", 15)]
    assert rows_of(found) == [expected(path, raw) for path, raw in tree.items()]


@pytest.mark.usefixtures("here")
def test_the_store_is_written_in_blocks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)
    found, _ = run(root, hashed(TREE))
    assert len(list((root.parent / "cache").rglob("*.arrow"))) == 5
    assert rows_of(found) == [expected(path, raw) for path, raw in TREE.items()]


@pytest.mark.usefixtures("here")
def test_damage_in_the_store_is_told_and_mended(root: Path) -> None:
    found, _ = run(root, hashed(TREE))
    (shard,) = (root.parent / "cache").rglob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:-1])
    again, heard = run(root, hashed(TREE))
    assert "decoded again" in heard.notes[0]
    assert rows_of(again) == rows_of(found)


real = module._outcome


def sabotaged(root: str, copies: Path, options: Options, job: Job) -> Outcome:
    """`_outcome`, in a worker, where some decoders are broken."""
    path, _ = job
    if "hang" in path:
        time.sleep(60)
    if "die" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    with pytest.MonkeyPatch.context() as patch:
        if "bomb" in path:
            patch.setattr(module, "prepare", lambda *arguments: bytearray(1 << 50))
        return real(root, copies, options, job)


def test_decoders_that_hang_die_or_take_all_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {3: "hang", 7: "die", 20: "bomb"}
    tree = {f"c/{bad.get(seed, '')}{seed}.jpg": encoded(photo(seed)) for seed in range(30)}
    write_tree(root, tree)
    files = hashed(tree)
    reasons = {"hang": "decoder_hung", "die": "decoder_died", "bomb": "too_large"}
    with monkeypatch.context() as patch:
        patch.setattr(module, "_outcome", sabotaged)
        found, _ = run(root, files, seconds=0.7)
    assert found.reason == [reasons[bad[seed]] if seed in bad else None for seed in range(30)]
    assert all(
        bool(detail) == bool(reason) for detail, reason in zip(found.detail, found.reason, strict=True)
    )
    again, heard = run(root, files)  # chance is not remembered
    assert heard.begun == [("reading", 3)]
    assert rows_of(again) == [expected(path, raw) for path, raw in tree.items()]


class Impatient(Heard):
    """Wishes to stop while nothing is done."""

    def advance(self, count: int = 1, detail: str = "") -> None:
        if count == 0:
            raise Stopped


def test_a_wish_to_stop_is_heard_while_a_decoder_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(root, {"c/hang.jpg": b"any"})
    monkeypatch.setattr(module, "_outcome", sabotaged)
    started = time.monotonic()
    with pytest.raises(Stopped):
        run(root, hashed({"c/hang.jpg": b"any"}), progress=Impatient())
    assert time.monotonic() - started < 20
