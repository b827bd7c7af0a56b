"""The stage ingest in the real engine, on folders as people have them."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import (
    DIRTY,
    PASSED_OVER,
    REASONS,
    Recorder,
    document,
    encoded,
    guarded,
    ingest,
    jpeg,
    labelled,
    manifest,
    outputs,
    photo,
    rows_of,
    samples,
    seen,
    transparent,
    turned,
    untouched,
    write,
    write_dirty,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from simpipe.data import equality
from simpipe.data import examine as examining
from simpipe.data.copies import load_pixels
from simpipe.data.manifest import read_manifest
from simpipe.data.preparation import Preparation
from simpipe.engine.rundir import RunDir
from simpipe.errors import DataError, SimpipeError, Stopped, UsageError


def assert_all_names_told(run: RunDir, source: Path) -> None:
    """Each name that a plain walk sees is one row, of the manifest or of ignored.csv."""
    ignored = [row["path"] for row in rows_of(run.stage("ingest") / "ignored.csv")]
    rows = manifest(run)
    told = Counter(ignored) + Counter(guarded(os.fsdecode(path)) for path in rows)
    assert told == seen(source, set(ignored))
    status = Counter(row["status"] for row in rows.values())
    files = document(run)["files"]
    assert files == {
        "images": status["ok"],
        "quarantined": status["quarantined"],
        "excluded": status["ignored"],
    }
    assert sum(files.values()) + len(ignored) == told.total()
    assert len(samples(run)) == files["images"]
    assert len(rows_of(run.stage("ingest") / "quarantined.csv")) == files["quarantined"]


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Path]:
    """The folder of `write_dirty`, and the run that took it in."""
    place = tmp_path_factory.mktemp("dirty")
    data, run = write_dirty(place), RunDir(place / "runs/dirty")
    assert ingest(run, data, {"ingest.max_bad": 0.9}) == ["ran"]
    return run, data


@pytest.mark.parametrize(
    "path", DIRTY, ids=[os.fsdecode(path).encode("unicode_escape").decode() for path in DIRTY]
)
def test_the_row_of_each_fixture(dirty: tuple[RunDir, Path], path: bytes) -> None:
    row, (raw, why, warnings) = manifest(dirty[0])[path], DIRTY[path]
    bad = why in REASONS
    assert (row["status"], row["reason"] or row["format"]) == ("quarantined" if bad else "ok", why)
    assert tuple(row["warnings"]) == warnings
    assert row["label"] == path.decode("utf-8", "replace").split("/")[0]
    assert row["size"] == len(raw)
    assert bool(row["detail"]) == bad
    assert (row["sample_id"] is None) == (row["split"] is None) == bad


def test_every_name_is_told_and_only_once(dirty: tuple[RunDir, Path]) -> None:
    run, data = dirty
    assert_all_names_told(run, data)
    ignored = rows_of(run.stage("ingest") / "ignored.csv")
    assert {row["path"]: row["reason"] for row in ignored} == PASSED_OVER
    assert set(manifest(run)) == {*DIRTY, b"bears/linked.jpg"}
    assert manifest(run)[b"bears/linked.jpg"]["status"] == "ok"


def test_the_lists_for_people_hold_no_formula(dirty: tuple[RunDir, Path]) -> None:
    run, _ = dirty
    rows = rows_of(run.stage("ingest") / "quarantined.csv")
    expected = {path: each.why for path, each in DIRTY.items() if each.why in REASONS}
    assert [(row["path"], row["reason"]) for row in rows] == [
        (guarded(os.fsdecode(path)), expected[path]) for path in sorted(expected)
    ]
    assert "bears/=cmd|calc!A0.jpg" in [row["path"] for row in rows]
    assert not [value for row in rows for value in row.values() if value[:1] in tuple("=+-@\t\r")]


def test_what_is_told_besides(dirty: tuple[RunDir, Path]) -> None:
    run, data = dirty
    listener = Recorder()
    assert ingest(run, data, {"ingest.max_bad": 0.95}, listener=listener) == ["ran"]
    assert "reading" not in listener.totals
    told = "\n".join([*listener.notes, *document(run)["notes"]])
    for sentence in (
        "label folders without an image: 1 (void/)",
        "links that lead out of the folder and are followed: 1",
        "1 label ('=only') of fewer than 4 images",
        "labels are the first folders, but images lie in folders below them, too",
        "1 pair of images of equal bytes or pixels under two labels: 'apples' and 'bears'",
    ):
        assert sentence in told
    labels = json.loads((run.stage("ingest") / "labels.json").read_text())["labels"]
    assert {label["name"]: label["splits"] for label in labels}["=only"] == {"train": 1}
    assert [label["name"] for label in labels] == ["=only", "apples", "bears"]


def test_equal_and_alike(dirty: tuple[RunDir, Path]) -> None:
    """EXIF 1 to 8 show one picture: of a PNG the very same pixels, of a JPEG nearly so."""
    run, _ = dirty
    rows = manifest(run)
    path_of = {row["sample_id"]: path for path, row in rows.items()}
    pairs = {
        frozenset((path_of[first], path_of[second])): kind
        for first, second, kind in document(run)["duplicate_pairs"]
    }
    good = [b"apples/good.jpg", b"bears/good.jpg"]
    pngs = [f"apples/exif {number}.png".encode() for number in range(1, 9)]
    jpegs = [f"bears/exif {number}.jpg".encode() for number in range(1, 9)]
    pixels = {path: upright(DIRTY[path].raw) for path in (*pngs, *jpegs)}
    alike = [frozenset(pair) for paths in (pngs, jpegs) for pair in itertools.combinations(paths, 2)]
    kinds = {pair: "pixels" if len({pixels[path] for path in pair}) == 1 else "near" for pair in alike}
    assert set(kinds.values()) == {"pixels", "near"}
    assert {kinds[frozenset(pair)] for pair in itertools.combinations(pngs, 2)} == {"pixels"}
    assert pairs == {frozenset(good): "exact", **kinds}
    for paths in (pngs, jpegs, good):
        assert len({rows[path]["split"] for path in paths}) == 1
    assert {(rows[path]["width"], rows[path]["height"]) for path in (*pngs, *jpegs)} == {(64, 48)}
    assert rows[good[1]]["sample_id"] == f"{rows[good[0]]['sample_id']}-2"


def test_what_a_backbone_sees_of_the_odd_ones(dirty: tuple[RunDir, Path]) -> None:
    run, data = dirty
    found = seen_by_a_backbone(run, data)
    assert (found[b"apples/hidden.png"][:, 120:] == 255).all(), "a hidden colour came to light"
    assert (found[b"apples/la.png"][:, 120:] == 255).all()
    for path in (b"apples/16 bit.png", b"apples/12 bit.png", b"apples/float.tiff"):
        assert found[path].min() < 10 < 245 < found[path].max()
        assert 90 < found[path].mean() < 165
    for path, seed in (
        *((f"apples/exif {number}.png".encode(), 70) for number in range(1, 9)),
        *((f"bears/exif {number}.jpg".encode(), 71) for number in range(1, 9)),
        *((b"apples/cmyk.jpg", 7), (b"apples/3.png", 50), (b"apples/3.tiff", 40)),
    ):
        expected = np.asarray(photo(seed).resize((224, 224), Image.Resampling.BILINEAR), float)
        assert np.abs(found[path] - expected).mean() < (8 if path.endswith(b".jpg") else 1), path


def upright(raw: bytes) -> bytes:
    """The pixels as Pillow's own tool turns them."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).tobytes()


def read_here(patch: pytest.MonkeyPatch) -> None:
    """Let images be read in this process: for their workers, half a second each, see data/test_workers.py."""
    for module in (examining, equality):
        patch.setattr(module, "map_guarded", lambda function, jobs, **_: (function(job) for job in jobs))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    read_here(monkeypatch)


@pytest.mark.usefixtures("here")
def test_growing_data_are_read_once(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=12, dogs=12), RunDir(tmp_path / "runs/one")
    heard = Recorder()
    assert ingest(run, data, listener=heard) == ["ran"]
    assert heard.totals["reading"] == 24
    before = samples(run)
    for number in range(3):
        write(data, f"cats/new {number}.jpg", jpeg(500 + number))
    (data / "dogs/005.jpg").unlink()
    heard = Recorder()
    assert ingest(run, data, listener=heard) == ["ran"]
    assert heard.totals["reading"] == 3
    after = samples(run)
    split_of, was = (
        dict(zip(each.sample_id.tolist(), each.split.tolist(), strict=True)) for each in (after, before)
    )
    assert (len(split_of.keys() - was), len(was.keys() - split_of)) == (3, 1)
    moved = sum(split_of[sample_id] != split for sample_id, split in was.items() if sample_id in split_of)
    (told,) = [note for note in heard.notes if "new images" in note]
    assert told.startswith("3 new images; 1 gone; ")
    if moved:
        assert f"{moved} of 23 others in another split" in told
    else:
        assert told.endswith("all others in the split they were in")

    (data / "cats/000.jpg").rename(data / "cats/another name.jpg")
    (data / "dogs/000.jpg").rename(data / "cats/from the dogs.jpg")
    heard = Recorder()
    assert ingest(run, data, listener=heard) == ["ran"]
    assert "reading" not in heard.totals
    assert manifest(run)[b"cats/from the dogs.jpg"]["label"] == "cats"
    assert any("1 for another label" in note for note in heard.notes) == (
        split_of[manifest(run)[b"cats/from the dogs.jpg"]["sample_id"] or ""]
        != manifest(run)[b"cats/from the dogs.jpg"]["split"]
    )
    assert ingest(run, data) == ["fresh"]


@pytest.mark.usefixtures("here")
def test_a_stopped_ingest_goes_on_from_the_store(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=12, dogs=12), RunDir(tmp_path / "runs/one")

    def stop(done: int) -> None:
        if done == 10:
            raise Stopped

    with pytest.raises(Stopped):
        ingest(run, data, listener=Recorder(at_advance=stop))
    assert not run.stage("ingest").exists()
    heard = Recorder()
    assert ingest(run, data, listener=heard) == ["ran"]
    assert 0 < (heard.totals["reading"] or 0) <= 14
    other = RunDir(tmp_path / "others/one")
    ingest(other, data)
    assert outputs(run) == outputs(other)


KILLED = """
import os, signal, sys
from pathlib import Path
from folders import Recorder, ingest
from simpipe.data import examine
from simpipe.engine.rundir import RunDir

examine.BLOCK = 4
die = lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == 10 else None
ingest(RunDir(Path(sys.argv[1])), Path(sys.argv[2]), listener=Recorder(at_advance=die))
"""


def test_a_killed_ingest_goes_on_from_the_store(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=12, dogs=12), RunDir(tmp_path / "runs/one")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(run.path), str(data)],
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -9
    heard = Recorder()
    assert ingest(run, data, listener=heard) == ["ran"]
    assert heard.totals["reading"] == 24 - 8  # two blocks of four were written
    assert sorted(path.name for path in run.path.iterdir() if path.name.startswith(".")) == [".lock"]


def to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten": lambda path: path.write_bytes(jpeg(999)),
    "cut": lambda path: os.truncate(path, 100),
    "gone": Path.unlink,
    "a pipe": to_a_pipe,
    "a folder": to_a_folder,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["before it is read", "after it was read"])
def test_a_file_that_changes_meanwhile(
    tmp_path: Path, change: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "examine", partial(examining.examine, seconds=30.0))  # for one that hangs
    data, run = labelled(tmp_path / "data", cats=4, dogs=4), RunDir(tmp_path / "runs/one")
    with pytest.MonkeyPatch.context() as patch:
        read_here(patch)
        ingest(run, data)
    before = outputs(run)
    victim = write(data, "cats/victim.jpg", jpeg(900))

    def disturb(here: bool) -> None:
        if here:
            CHANGES[change](victim)

    if when == "before it is read":
        listener = Recorder(at_begin=lambda label: disturb(label == "reading"))
    else:
        listener = Recorder(at_advance=lambda done: disturb(done == 1))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"cats/victim\.jpg") as caught:
        ingest(run, data, listener=listener)
    assert time.monotonic() - started < 30
    assert (caught.value.exit_code, caught.value.code) == (5, "data")
    assert caught.value.hint and "same command again" in caught.value.hint
    assert outputs(run) == before
    assert not list((run.path / ".stage").iterdir())


def test_a_file_that_comes_meanwhile(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=4, dogs=4), RunDir(tmp_path / "runs/one")
    with pytest.raises(DataError, match=r"cats/late\.jpg is new"):
        ingest(run, data, listener=Recorder(at_begin=lambda label: late(label, data)))
    assert not run.stage("ingest").exists()


def late(label: str, data: Path) -> None:
    if label == "reading":
        write(data, "cats/late.jpg", jpeg(901))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            ["cats/x.jpg", "dogs/x.jpg"],
            r"2 of 22 files are not usable, more than 5\.0%: 2 truncated\. cats/x",
        ),
        (
            [f"fish/{number}.jpg" for number in range(1)],
            "no image of the label 'fish' is usable: 1 truncated",
        ),
    ],
)
def test_too_many_bad_files_leave_all_as_it_was(tmp_path: Path, bad: list[str], message: str) -> None:
    data, run = labelled(tmp_path / "data", cats=10, dogs=10), RunDir(tmp_path / "runs/one")
    for number, name in enumerate(bad):
        write(data, name, jpeg(800 + number)[:400])
    for path in data.rglob("*.jpg"):
        os.utime(path, ns=(10**18, 10**18))
    before = untouched(data)
    with pytest.raises(DataError, match=message) as caught:
        ingest(run, data)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (5, True)
    assert all(name in caught.value.message for name in bad)
    assert untouched(data) == before
    assert not run.stage("ingest").exists()
    if len(bad) > 1:
        assert ingest(run, data, {"ingest.max_bad": 0.1}) == ["ran"]
        assert untouched(data) == before
        assert document(run)["files"] == {"images": 20, "quarantined": 2, "excluded": 0}


@pytest.mark.usefixtures("here")
def test_excluded_images_are_in_no_split(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=8, dogs=8), RunDir(tmp_path / "runs/one")
    write(data, "dogs/copy.jpg", (data / "cats/003.jpg").read_bytes())
    write(data, "dogs/broken.jpg", b"")
    ingest(run, data, {"ingest.max_bad": 0.1})
    ids = {path: row["sample_id"] for path, row in manifest(run).items()}
    findings = run.path / "evaluate/findings.csv"
    findings.parent.mkdir()
    with findings.open("w") as stream:
        print("kind,severity,score,sample_id,path,label,other,detail,exclude", file=stream)
        print(f"duplicate,high,1,{ids[b'dogs/copy.jpg']},dogs/copy.jpg,dogs,,,yes", file=stream)
        print(f"outlier,low,1,{ids[b'cats/000.jpg']},elsewhere/now.jpg,cats,,,X", file=stream)
        print(f"outlier,low,1,{ids[b'cats/001.jpg']},cats/001.jpg,cats,,,", file=stream)
        print("unreadable,high,1,,dogs/broken.jpg,,,,1", file=stream)
        print("unreadable,high,1,,dogs/nowhere.jpg,,,,1", file=stream)
    with pytest.raises(UsageError, match="is written anew by this run") as caught:
        ingest(run, data, {"ingest.exclude": str(findings)})
    assert caught.value.exit_code == 2 and caught.value.hint and f"cp {findings}" in caught.value.hint

    own = tmp_path / "mine.csv"
    shutil.copy(findings, own)
    heard = Recorder()
    asked = {"ingest.exclude": str(own), "ingest.max_bad": 0}
    assert ingest(run, data, asked, listener=heard) == ["ran"]
    assert heard.notes[0].endswith("says: 3 images") and "1 of its 4 marked rows" in heard.notes[1]
    assert_all_names_told(run, data)
    gone = {path for path, row in manifest(run).items() if row["status"] == "ignored"}
    assert gone == {b"dogs/copy.jpg", b"cats/000.jpg", b"dogs/broken.jpg"}
    assert {manifest(run)[path]["reason"] for path in gone} == {"excluded"}
    kept = samples(run)
    assert set(kept.sample_id) == set(ids.values()) - {ids[path] for path in gone} - {None}
    assert len(kept) == 15 and not document(run)["duplicate_pairs"]

    copied = run.path / "exclude.csv"
    assert copied.read_bytes() == own.read_bytes()
    own.unlink()
    assert ingest(run, data, {**asked, "ingest.exclude": str(copied)}) == ["fresh"]
    moved = tmp_path / "moved.csv"
    shutil.copy(copied, moved)
    assert ingest(run, data, {**asked, "ingest.exclude": str(moved)}) == ["fresh"]
    moved.write_text("path\ncats/001.jpg\n")
    assert ingest(run, data, {**asked, "ingest.exclude": str(moved), "ingest.max_bad": 0.1}) == ["ran"]
    assert len(samples(run)) == 16


TABLE = """\ufeffpath,label,split,group
{0},007,train,a
{1},NA,train,b
{2},null,train,c
{3},007,test,d
{4},NA,testing,e
{5},1.0,train,f
{6},,,
"""


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    data, run = tmp_path / "data", RunDir(tmp_path / "runs/one")
    names = ["a b.jpg", "deep/é.jpg", "=x.jpg", "d.jpg", "e.png", ".hidden.jpg"]
    for seed, name in enumerate(names):
        write(data, name, jpeg(seed))
    write(data, "other.jpg", jpeg(50))
    table = tmp_path / "data/labels.csv"
    table.write_text("".join(TABLE.format(*names, "").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert ingest(run, data, {"ingest.table": str(table)}) == ["ran"]
    assert_all_names_told(run, data)
    rows = manifest(run)
    found = {path.decode(): (row["label"], row["group"], row["status"]) for path, row in rows.items()}
    labels = ["007", "NA", "null", "007", "NA", "1.0"]
    assert found == {
        name: (label, group, "ok") for name, label, group in zip(names, labels, "abcdef", strict=True)
    }
    assert rows[b"d.jpg"]["split"] == rows[b"e.png"]["split"] == "test"
    assert document(run)["predefined_splits"] is True
    assert {row["path"]: row["reason"] for row in rows_of(run.stage("ingest") / "ignored.csv")} == {
        "other.jpg": "not_in_table",
        "labels.csv": "not_an_image_name",
    }
    table.write_text(table.read_text().replace("1.0", "2.0"))
    assert ingest(run, data, {"ingest.table": str(table)}) == ["ran"]
    table.write_text(TABLE.format(*names, "other.jpg"))
    with pytest.raises(DataError, match="1 of 7 rows have no label: row 8"):
        ingest(run, data, {"ingest.table": str(table)})


@pytest.mark.usefixtures("here")
def test_groups_stay_together(tmp_path: Path) -> None:
    """Groups of a table, or of a pattern in the names, give the same splits."""
    data = tmp_path / "data"
    lines = ["path,label,group"]
    for product in range(30):
        label = f"l{product % 3}"
        for shot in range(1 + product % 4):
            name = f"{label}/{product:02}_{shot}.jpg"
            write(data, name, jpeg(10 * product + shot))
            lines.append(f"{name},{label},product {product:02}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    runs = {}
    for name, asked in (
        ("table", {"ingest.table": str(tmp_path / "labels.csv")}),
        ("pattern", {"ingest.group_from": r"(?P<group>\d+)_"}),
        ("none", {}),
    ):
        runs[name] = RunDir(tmp_path / "runs" / name)
        ingest(runs[name], data, asked)
    splits = {name: {path: row["split"] for path, row in manifest(run).items()} for name, run in runs.items()}

    def parted(split_of: dict[bytes, str | None]) -> int:
        by_product: dict[bytes, set[str | None]] = {}
        for path, split in split_of.items():
            by_product.setdefault(path.split(b"_")[0], set()).add(split)
        return sum(len(each) > 1 for each in by_product.values())

    assert splits["table"] == splits["pattern"]
    assert {"train", "val", "test"} <= set(splits["table"].values())
    assert parted(splits["table"]) == 0 < parted(splits["none"])


@pytest.mark.usefixtures("here")
def test_predefined_splits_and_their_leaks(tmp_path: Path) -> None:
    data, run = tmp_path / "data", RunDir(tmp_path / "runs/one")
    labelled(data / "Train", cats=6, dogs=6)
    labelled(data / "TESTING", first_seed=50, cats=2, dogs=2, newt=2)
    again = photo(0)
    write(data, "TESTING/cats/again.jpg", encoded(again, quality=70))
    write(data, "TESTING/dogs/same.jpg", jpeg(7))
    heard = Recorder()
    ingest(run, data, listener=heard)
    assert any(note.startswith("the folders TESTING, Train are taken as splits") for note in heard.notes)
    rows = manifest(run)
    for path, row in rows.items():
        top, label, _ = path.decode().split("/")
        expected = {"Train": ("train", "val"), "TESTING": ("test",)}[top]
        assert (row["split"] in expected) if label != "newt" else row["split"] == "unseen_test"
        assert row["label"] == label
    found = document(run)
    assert (found["leaks"], found["conflicts"]) == (2, 0)
    assert (found["duplicates"]["exact"], found["duplicates"]["near"]) == (1, 1)
    assert found["predefined_splits"] is True

    other = RunDir(tmp_path / "runs/other")
    ingest(other, data, {"ingest.layout": "labels"})
    assert {row["label"] for row in manifest(other).values()} == {"Train", "TESTING"}


@pytest.mark.usefixtures("here")
def test_equal_pixels_under_two_labels_are_a_conflict(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", cats=4, dogs=4), RunDir(tmp_path / "runs/one")
    picture = photo(300)
    small, large = (encoded(picture, "PNG", compress_level=level) for level in (9, 0))
    write(data, "cats/small.png", small)
    write(data, "dogs/large.png", large)
    write(data, "cats/again.jpg", encoded(photo(301), quality=95))
    write(data, "cats/worse.jpg", encoded(photo(301), quality=60))
    assert len(small) < len(large)
    ingest(run, data)
    rows = manifest(run)
    id_of = {path.decode(): str(row["sample_id"]) for path, row in rows.items()}
    found = document(run)
    assert {(frozenset(pair[:2]), pair[2]) for pair in found["duplicate_pairs"]} == {
        (frozenset((id_of["cats/small.png"], id_of["dogs/large.png"])), "pixels"),
        (frozenset((id_of["cats/again.jpg"], id_of["cats/worse.jpg"])), "near"),
    }
    assert (found["conflicts"], found["leaks"]) == (1, 0)
    assert {each["name"]: each["conflicts"] for each in found["worst_labels"]} == {"cats": 1, "dogs": 1}
    for one, two in (("cats/small.png", "dogs/large.png"), ("cats/again.jpg", "cats/worse.jpg")):
        assert rows[one.encode()]["split"] == rows[two.encode()]["split"]


@pytest.mark.usefixtures("here")
def test_copies_and_the_pixels_that_do_not_depend_on_them(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", cats=3, dogs=3)
    large = b"dogs/large.jpg"
    write(data, large, encoded(photo(400, 900, 700)))
    write(data, "cats/alpha.png", encoded(transparent(401), "PNG"))
    write(data, "cats/plain.png", encoded(photo(402), "PNG"))
    write(data, "dogs/turned.jpg", turned(403, 6, "JPEG"))
    copied = {large, b"cats/alpha.png", b"dogs/turned.jpg"}
    pictures = {}
    for keep in ("none", "auto", "all"):
        run = RunDir(tmp_path / keep / "run")
        ingest(run, data, {"ingest.cache": keep})
        rows = manifest(run)
        with_copy = {path for path, row in rows.items() if row["copy"]}
        assert with_copy == {"none": set(), "auto": copied, "all": set(rows)}[keep]
        assert len([path for path in (run.cache / "images").rglob("*.*") if path.is_file()]) == len(with_copy)
        pictures[keep] = seen_by_a_backbone(run, data)
    assert len(pictures["none"]) == 10
    shutil.rmtree(data)
    pictures["all, without the folder"] = seen_by_a_backbone(run, data)
    for keep, found in pictures.items():
        for path, pixels in found.items():
            np.testing.assert_array_equal(pixels, pictures["none"][path], err_msg=f"{keep} {path!r}")
    assert (
        np.abs(pictures["auto"][b"cats/plain.png"] - pictures["auto"][b"cats/alpha.png"].astype(float)).mean()
        > 5
    )
    with pytest.raises(DataError, match="is gone"):
        seen_by_a_backbone(RunDir(tmp_path / "auto/run"), data)


def seen_by_a_backbone(run: RunDir, data: Path) -> dict[bytes, Any]:
    """Each image as feature extraction reads it."""
    kept = read_manifest(run.stage("ingest") / "manifest.parquet")
    of = samples(run)
    ids = of.sample_id.tolist()
    paths = [data / kept.paths_by_sample[each] for each in ids]
    copies = [kept.copies_by_sample[each] for each in ids]
    preparation = Preparation("squash", 384, "#ffffff", None)
    found = load_pixels(paths, of.sha256.tolist(), copies, 224, preparation, run.cache / "images")
    names = [os.fsencode(kept.paths_by_sample[each]) for each in ids]
    return dict(zip(names, found, strict=True))


@pytest.mark.usefixtures("here")
def test_a_split_by_label_holds_labels_out_whole(tmp_path: Path) -> None:
    data, run = labelled(tmp_path / "data", **{f"l{k}": 4 for k in range(10)}), RunDir(tmp_path / "runs/one")
    ingest(run, data, {"ingest.split_by": "label", "ingest.unseen": 0.0})
    held_out = document(run)["held_out_labels"]
    assert (len(held_out["unseen_calib"]), len(held_out["unseen_test"])) == (1, 2)
    for row in manifest(run).values():
        names = [split for split, labels in held_out.items() if row["label"] in labels]
        assert [row["split"]] == names if names else row["split"] in ("train", "val", "test")


@pytest.mark.usefixtures("here")
def test_without_labels_the_run_stops_at_the_sampler(tmp_path: Path) -> None:
    data, run = tmp_path / "data", RunDir(tmp_path / "runs/one")
    for seed in range(12):
        write(data, f"{seed}.jpg", jpeg(seed))
    write(data, "train/x.jpg", jpeg(20))
    with pytest.raises(DataError, match="outside any label folder"):
        ingest(run, data)
    asked = {"ingest.labels": "none"}
    with pytest.raises(DataError, match=r"training needs labels.*ingest\.labels is none") as caught:
        ingest(run, data, asked, selected=("ingest", "sampler"))
    assert caught.value.exit_code == 5 and caught.value.hint and "ingest.labels=required" in caught.value.hint
    assert not run.stage("sampler").exists()
    assert_all_names_told(run, data)
    assert {(row["label"], row["status"]) for row in manifest(run).values()} == {(None, "ok")}
    assert set(samples(run).split) == {"train", "val", "test"}
    assert document(run)["labels"] == 0


def content_of(kind: int) -> bytes:
    """One of a few good pictures, a cut one, none, or anything else that was there."""
    seed, how = divmod(kind, 8)
    good = encoded(photo(seed, 20, 16), "PNG" if seed % 2 else "JPEG")
    return {5: good[: len(good) * 2 // 3], 6: b"", 7: bytes([kind, 255, 216, 137, 80])}.get(how, good)


ODD = st.binary(min_size=1, max_size=6).filter(lambda name: not set(name) & {0, 47})
NAMED = st.sampled_from(
    [b"a", b"A", b"a ", b"caf\xc3\xa9", b"cafe\xcc\x81", b"train", b"Test", b"dev", b".h", b"\xff"]
)
FOLDERS = st.one_of(*[st.lists(st.one_of(NAMED, ODD), min_size=least, max_size=3) for least in (1, 1, 0)])
SUFFIXES = st.sampled_from([b".jpg", b".PNG", b".tiff", b".JPEG", b".txt", b""])
PATHS = st.builds(lambda folders, name, end: b"/".join([*folders, name + end]), FOLDERS, ODD, SUFFIXES)
THINGS = st.one_of(
    st.integers(0, 47), st.integers(0, 47), st.sampled_from(["pipe", "folder", "link", "loop", "nowhere"])
)
TREES = st.dictionaries(PATHS, THINGS, max_size=10)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "label_from": st.sampled_from(["leaf", "path", "regex:^(?P<label>.)", "regex:(?P<label>[^/]+)/"]),
        "label_twins": st.sampled_from(["merge", "refuse"]),
        "layout": st.just("labels"),
        "labels": st.just("none"),
        "ignore": st.lists(st.sampled_from(["*.png", "a*", "?", "[", "m0/", "*"]), max_size=2),
        "follow_links": st.just(True),
        "group_from": st.sampled_from([".$", "^(?P<group>[^/]*)", "(x)?"]),
        "split_by": st.just("label"),
        "max_bad": st.just(0.05),
        "near_duplicate_bits": st.sampled_from([0, 16]),
        "min_side": st.just(17),
        "cache": st.sampled_from(["all", "none"]),
    },
)  # fmt: skip
EXAMPLES = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 16
MAIN = {f"m{label}/{seed}.jpg".encode(): 8 * (3 * label + seed) for label in range(2) for seed in range(3)}


def plant(root: Path, tree: list[tuple[bytes, Any]]) -> None:
    """Make the tree, in this order."""
    for path, thing in tree:
        target = root / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        match thing:
            case int():
                target.write_bytes(content_of(thing))
            case "pipe":
                os.mkfifo(target)
            case "folder":
                target.mkdir()
            case _:
                target.symlink_to(
                    {"link": root / "m0/0.jpg", "loop": root, "nowhere": Path("nowhere")}[thing]
                )


def compatible(tree: dict[bytes, Any]) -> list[tuple[bytes, Any]]:
    """What can stand side by side: no name is both a file and a folder."""
    above = {path.rsplit(b"/", depth)[0] for path in tree for depth in range(1, path.count(b"/") + 1)}
    parts = {path: path.split(b"/") for path in tree}
    return [
        (path, thing)
        for path, thing in tree.items()
        if path not in above and not {b".", b".."} & {*parts[path]}
    ]


def outcome(run: RunDir, data: Path, asked: dict[str, Any]) -> tuple[str, Any]:
    """What ingest gives, or why it refuses; in its messages, the folder is called DATA."""
    started = time.monotonic()
    try:
        assert ingest(run, data, asked) == ["ran"]
    except SimpipeError as error:
        return error.code, error.message.replace(str(data), "DATA")
    finally:
        assert time.monotonic() - started < 20
    return "committed", outputs(run)


@pytest.mark.slow
def test_any_tree_is_taken_in_or_refused_for_a_reason(tmp_path: Path) -> None:
    codes: Counter[str] = Counter()

    @given(TREES, RULES)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def try_it(odd: dict[bytes, Any], rules: dict[str, Any]) -> None:
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        asked = {"ingest.max_bad": 1.0, "ingest.label_twins": "keep"}
        asked |= {f"ingest.{key}": value for key, value in rules.items()}
        tree = compatible(MAIN | odd)
        found = []
        for name, order in (("here", tree), ("workers", tree[::-1])):
            data, run = place / name / "data", RunDir(place / name / "runs/x")
            plant(data, order)
            with pytest.MonkeyPatch.context() as patch:
                if name == "here":
                    read_here(patch)
                found.append(outcome(run, data, asked))
            if found[-1][0] == "committed":
                assert_all_names_told(run, data)
                heard = Recorder()
                assert ingest(run, data, asked, listener=heard) == ["fresh"]
                assert "reading" not in heard.totals
        assert found[0] == found[1]
        assert found[0][0] in ("committed", "data")
        codes[found[0][0]] += 1

    try_it()
    assert min(codes["committed"], codes["data"]) >= 3, codes
