"""`simpipe ingest`: what it prints, that a person can act on it, and that it is true."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import draw, executed, simpipe
from PIL import Image

from simpipe.data.manifest import read_manifest

COLOURS = {"cats": (40, 120, 230), "dogs": (190, 60, 40)}
HEADS = ("images", "splits", "labels", "quarantined", "ignored", "accepted", "duplicates", "look at", "note")
FORMULA = "=cmd|' calc'!A0"
ANY_BAD = ("--set", "ingest.max_bad=0.9")


def jpeg(image: Image.Image, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", **{"quality": 92, **options})
    return sink.getvalue()


def make(root: Path) -> Path:
    """Two labels of ten good images each."""
    for number, (label, colour) in enumerate(COLOURS.items()):
        (root / label).mkdir(parents=True)
        for index in range(10):
            (root / label / f"{index}.jpg").write_bytes(jpeg(draw(colour, 100 * number + index)))
    return root


def make_dirty(root: Path) -> Path:
    """`make`, with something of each kind that the summary tells."""
    make(root)
    good = (root / "cats/0.jpg").read_bytes()
    for number in range(4):
        (root / f"dogs/cut {number}.jpg").write_bytes(jpeg(draw((9, 9, 9), 300 + number))[:300])
    (root / FORMULA).mkdir()
    for number in range(2):
        (root / FORMULA / f"{number}.jpg").write_bytes(jpeg(draw((9, 200, 9), 400 + number)))
    (root / FORMULA / "empty.jpg").write_bytes(b"")
    (root / "dogs/stray cat.jpg").write_bytes(good)
    (root / "cats/seen again.jpg").write_bytes(jpeg(Image.open(io.BytesIO(good)), quality=70))
    draw((200, 9, 200), 500).save(root / "cats/a png.jpg", "PNG")
    (root / "cats/notes.txt").write_text("see there")
    (root / ".DS_Store").write_bytes(b"\0")
    (root / "void").mkdir()
    return root


@pytest.fixture(scope="module")
def taken_in(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with `data/` and the run of it, and what `simpipe ingest data` printed."""
    place = tmp_path_factory.mktemp("dirty")
    make_dirty(place / "data")
    result = simpipe("ingest", "data", *ANY_BAD, cwd=place)
    assert result.returncode == 0, result.stderr
    return place, result.stdout


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    make(tmp_path / "data")
    return tmp_path


def lines(stdout: str, head: str) -> list[str]:
    """The lines of the summary under one head."""
    found = [line[13:] for line in stdout.splitlines() if line.startswith(f"{head:12} ")]
    assert found, (head, stdout)
    return found


def test_the_summary_is_what_is_in_the_manifest(taken_in: tuple[Path, str]) -> None:
    place, told = taken_in
    run = place / "runs/baseline/ingest"
    rows = read_manifest(run / "manifest.parquet").rows
    status = Counter(row["status"] for row in rows)
    assert status == {"ok": 25, "quarantined": 5}
    with (run / "ignored.csv").open(newline="") as stream:
        ignored = Counter(row["reason"] for row in csv.DictReader(stream))
    assert lines(told, "images") == ["25 ok · 5 quarantined · 2 ignored"]
    assert lines(told, "ignored") == [f"1 {reason}" for reason in sorted(ignored)]

    splits = Counter(row["split"] for row in rows if row["split"])
    (shown,) = lines(told, "splits")
    assert {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", shown)} == splits

    sizes = Counter(row["label"] for row in rows if row["status"] == "ok")
    assert sizes == {"cats": 12, "dogs": 11, FORMULA: 2}
    assert lines(told, "labels") == [f"3, from 12 images (cats) to 2 ({FORMULA})"]

    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            reasons.setdefault(row["reason"], []).append(row["path"])
    assert lines(told, "quarantined") == [
        f"1 empty: {FORMULA}/empty.jpg",
        "4 truncated: dogs/cut 0.jpg, dogs/cut 1.jpg, dogs/cut 2.jpg, …",
    ]
    assert {reason: len(paths) for reason, paths in reasons.items()} == {"empty": 1, "truncated": 4}

    warned = Counter(warning for row in rows for warning in row["warnings"])
    assert lines(told, "accepted") == [f"with a warning: {warned['suffix']} suffix"]


def test_the_summary_says_what_to_look_at(taken_in: tuple[Path, str]) -> None:
    _, told = taken_in
    assert lines(told, "look at") == [
        f"{FORMULA}: 2 images, 1 not usable",
        "dogs: 11 images, 4 not usable, 1 also under another label",
        "cats: 12 images, 1 also under another label",
    ]
    (pairs,) = lines(told, "duplicates")
    assert pairs.startswith("1 of equal bytes, ") and "nearly equal (pairs); " in pairs
    assert pairs.endswith("under two labels")
    notes = "\n".join(lines(told, "note"))
    assert "1 pair of images of equal bytes or pixels under two labels: 'cats' and 'dogs'" in notes
    assert "of fewer than 4 images" in notes


def test_the_full_lists_are_where_it_says_and_hold_no_formula(taken_in: tuple[Path, str]) -> None:
    place, told = taken_in
    quarantined, ignored = lines(told, "full list")
    with (place / quarantined).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [
        f"'{FORMULA}/empty.jpg",
        *(f"dogs/cut {number}.jpg" for number in range(4)),
    ]
    assert rows[0]["label"] == f"'{FORMULA}"
    assert all(row["reason"] and row["detail"] for row in rows)
    with (place / ignored).open(newline="", encoding="utf-8") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == [".DS_Store", "cats/notes.txt"]


def test_alone_it_repeats_the_summary_and_runs_nothing(taken_in: tuple[Path, str]) -> None:
    place, told = taken_in
    receipt = place / "runs/baseline/ingest/_stage.json"
    before = receipt.read_bytes(), receipt.stat().st_mtime_ns
    again = simpipe("ingest", cwd=place)
    assert (again.returncode, again.stdout) == (0, told)
    assert "ingest     fresh" in again.stderr
    assert (receipt.read_bytes(), receipt.stat().st_mtime_ns) == before
    assert simpipe("ingest", "--run", "baseline", cwd=place).stdout == told
    assert simpipe("run", "data", "--to", "ingest", *ANY_BAD, cwd=place).stdout == told


def test_documents_for_programs(taken_in: tuple[Path, str]) -> None:
    place, _ = taken_in
    result = simpipe("ingest", "--json", cwd=place)
    assert executed(result) == [] and result.stderr == ""
    assert json.loads(result.stdout)["schema"] == "simpipe.run_result/1"
    plan = simpipe("ingest", "data", "--dry-run", "--json", "--set", "ingest.val=0.2", *ANY_BAD, cwd=place)
    (stage,) = json.loads(plan.stdout)["stages"]
    assert (stage["stage"], stage["state"]) == ("ingest", "stale")
    assert [reason["key"] for reason in stage["reasons"]] == ["ingest.val"]
    refused = simpipe("ingest", "nowhere", "--json", cwd=place)
    assert refused.returncode == 2 and json.loads(refused.stderr)["error"]["code"] == "usage"


def test_quiet_says_nothing(taken_in: tuple[Path, str]) -> None:
    result = simpipe("ingest", "-q", cwd=taken_in[0])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_dry_run_leaves_nothing(clean: Path) -> None:
    result = simpipe("ingest", "data", "--dry-run", cwd=clean)
    assert result.returncode == 0 and re.search(r"ingest +missing", result.stdout)
    assert [path.name for path in clean.iterdir()] == ["data"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_reader_that_has_enough_is_no_fault(taken_in: tuple[Path, str], encoding: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from simpipe.cli import main; main()", "ingest"],
        cwd=taken_in[0],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    process.stdout.close()  # long before it has something to say
    with process.stderr as stderr:
        assert b"rror" not in stderr.read()
    assert process.wait(60) == 0


def test_a_narrow_terminal_without_the_characters_loses_nothing(taken_in: tuple[Path, str]) -> None:
    place, told = taken_in
    plain = simpipe("ingest", cwd=place, PYTHONIOENCODING="ascii", COLUMNS="20", TERM="dumb").stdout
    assert plain.isascii()
    assert plain.replace("\\xb7", "·").replace("...", "…") == told


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["nowhere"], "no such folder: nowhere", "one sub-folder per label"),
        (["data.zip"], "data.zip is neither a folder nor a table", "a table with the columns path and label"),
        (["data", "--run", "baseline"], "--run names a run that has its data", "leave out DATA or --run"),
        (["--name", "x"], "--config and --name belong to DATA", "simpipe ingest DATA"),
        ([], "there is no run in runs yet", "simpipe run DATA"),
        (["data/cats"], "only one label|outside any label folder", "label"),
        (["data", "--set", "ingest.labels=maybe"], "ingest.labels", "required"),
        (["data", "--set", "ingest.exclude=nowhere.csv"], "there is no file", "findings.csv"),
        (["data", "--set", "ingest.label_from=regex:("], "no regular expression", ""),
        (["data", "-q", "-v"], "--quiet and --verbose exclude each other", ""),
    ],
)
def test_what_is_refused(clean: Path, arguments: list[str], message: str, hint: str) -> None:
    shutil.make_archive(str(clean / "data"), "zip", clean / "data")
    result = simpipe("ingest", *arguments, cwd=clean)
    assert result.returncode == (5 if arguments == ["data/cats"] else 2), result.stderr
    assert re.search(message, result.stderr) and hint in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert not (clean / "runs/baseline").exists()


def test_a_wrong_folder_is_told_with_reasons(clean: Path) -> None:
    for number in range(9):
        (clean / f"data/cats/cut {number}.jpg").write_bytes(jpeg(draw((9, 9, 9), 300 + number))[:300])
    result = simpipe("ingest", "data", cwd=clean)
    assert result.returncode == 5 and result.stdout == ""
    assert "error: 9 of 29 files are not usable, more than 5.0%: 9 truncated. cats/cut 0.jpg" in result.stderr
    assert "→ Repair or remove them, or allow more with ingest.max_bad." in result.stderr
    assert not (clean / "runs/baseline/ingest").exists()
    assert simpipe("ingest", "data", *ANY_BAD, cwd=clean).returncode == 0


WRITERS = ("two\nimages       99 ok", "red \x1b[31m", "back \r\b")


def test_a_name_cannot_write_on_the_terminal(clean: Path) -> None:
    """A line of the summary is a line, whatever the files are called."""
    for name in WRITERS:
        (clean / "data/cats" / f"{name}.jpg").write_bytes(b"no image")
    result = simpipe("ingest", "data", *ANY_BAD, cwd=clean)
    assert result.returncode == 0, result.stderr
    heads = [line[:12].strip() for line in result.stdout.splitlines() if line]
    assert set(heads) <= {*HEADS, "full list"}
    assert lines(result.stdout, "images") == ["20 ok · 3 quarantined · 0 ignored"]
    assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n"))


def test_nor_can_it_in_an_error(clean: Path) -> None:
    for name in WRITERS:
        (clean / "data/cats" / f"{name}.jpg").write_bytes(b"no image")
    result = simpipe("ingest", "data", cwd=clean)
    assert result.returncode == 5
    started, error, hint = result.stderr.splitlines()
    assert started.startswith("ingest     running")
    assert error.startswith("error: 3 of 23 files are not usable") and hint.startswith("  → ")
    assert error.isprintable()


def test_a_table_in_place_of_the_folder(clean: Path) -> None:
    table = clean / "data/labels.csv"
    rows = [f"cats/{k}.jpg,007,{'test' if k < 3 else 'train'}" for k in range(10)]
    rows += [f"dogs/{k}.jpg,NA,{'test' if k < 3 else 'training'}" for k in range(9)]
    table.write_text("\n".join(["path,label,split", *rows]), encoding="utf-8-sig")
    result = simpipe("run", "data/labels.csv", "--to", "ingest", cwd=clean)
    assert result.returncode == 0, result.stderr
    assert lines(result.stdout, "images") == ["19 ok · 0 quarantined · 2 ignored"]
    (labels,) = lines(result.stdout, "labels")
    assert labels == "2, from 10 images (007) to 9 (NA), with the splits of the data set"
    assert "test 6" in lines(result.stdout, "splits")[0]
    again = simpipe("ingest", "data/labels.csv", "--json", cwd=clean)
    assert executed(again) == []
    table.write_text(table.read_text().replace("NA", "null"))
    assert executed(simpipe("ingest", "--json", cwd=clean)) == ["ingest"]


def test_exclusion_lasts_when_its_file_is_gone(clean: Path) -> None:
    (clean / "out.csv").write_text("path,exclude\ncats/0.jpg,x\ndogs/1.jpg,\ndogs/2.jpg,yes\n")
    result = simpipe("ingest", "data", "--set", "ingest.exclude=out.csv", cwd=clean)
    assert result.returncode == 0, result.stderr
    assert lines(result.stdout, "images") == ["18 ok · 0 quarantined · 0 ignored · 2 excluded"]
    own = clean / "runs/baseline/exclude.csv"
    assert own.read_bytes() == (clean / "out.csv").read_bytes()
    (clean / "out.csv").unlink()
    again = simpipe("ingest", "--json", cwd=clean)
    assert executed(again) == []
    inside = clean / "runs/baseline/ingest/quarantined.csv"
    refused = simpipe("ingest", "--set", f"ingest.exclude={inside}", cwd=clean)
    assert refused.returncode == 2
    assert "is written anew by this run" in refused.stderr and f"cp {inside} exclude.csv" in refused.stderr


def test_without_labels_a_run_ends_at_the_sampler(clean: Path) -> None:
    result = simpipe("run", "data", "--set", "ingest.labels=none", cwd=clean)
    assert result.returncode == 5
    assert "training needs labels" in result.stderr and "ingest.labels=required" in result.stderr
    alone = simpipe("ingest", cwd=clean)
    assert alone.returncode == 0
    assert not [line for line in alone.stdout.splitlines() if line.startswith("labels")]


def test_a_folder_that_went_away_is_told_once(clean: Path) -> None:
    assert simpipe("ingest", "data", cwd=clean).returncode == 0
    (clean / "data").rename(clean / "elsewhere")
    alone = simpipe("ingest", cwd=clean)
    assert alone.returncode == 0
    assert alone.stderr.count("data is gone; it is taken as it was") == 1
    assert simpipe("ingest", "data", cwd=clean).returncode == 2


def test_a_run_with_an_exclusion_can_be_moved(clean: Path) -> None:
    (clean / "out.csv").write_text("path,exclude\ncats/0.jpg,x\n")
    assert simpipe("ingest", "data", "--set", "ingest.exclude=out.csv", cwd=clean).returncode == 0
    (clean / "runs/baseline").rename(clean / "runs/moved")
    again = simpipe("ingest", "--run", "moved", "--json", cwd=clean)
    assert executed(again) == [], again.stderr
    status = simpipe("status", "--run", "moved", cwd=clean)
    assert "ingest     fresh" in status.stdout
    known = (
        "run",
        "data",
        "--config",
        "runs/moved/config.yaml",
        "--name",
        "moved",
        "--only",
        "ingest",
        "--json",
    )
    assert executed(simpipe(*known, cwd=clean)) == []


def test_a_table_that_went_away_with_its_folder_changes_nothing(clean: Path) -> None:
    names = [f"{label}/{k}.jpg,{label}" for label in ("cats", "dogs") for k in range(10)]
    (clean / "data/labels.csv").write_text("path,label\n" + "\n".join(names) + "\n")
    assert simpipe("ingest", "data/labels.csv", cwd=clean).returncode == 0
    (clean / "data").rename(clean / "elsewhere")
    assert executed(simpipe("ingest", "--json", cwd=clean)) == []
    assert executed(simpipe("sampler", "--json", cwd=clean)) == ["sampler"]


def test_copies_that_were_lost_are_made_again(clean: Path) -> None:
    keep = ("--set", "ingest.cache=all")
    assert simpipe("ingest", "data", *keep, cwd=clean).returncode == 0
    images = clean / "runs/.cache/images"
    made = {path.name for path in images.rglob("*.jpg")}
    shutil.rmtree(images)
    assert simpipe("ingest", "data", *keep, "--force", cwd=clean).returncode == 0
    assert made and {path.name for path in images.rglob("*.jpg")} == made
