"""`verify` and `gc` as people and programs see them: what is printed, the exit codes, the next command."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COLOURS, PER_LABEL, simpipe
from typer.testing import CliRunner, Result

from simpipe.cli.app import app
from simpipe.data.manifest import read_manifest
from simpipe.engine.lock import run_lock
from simpipe.engine.rundir import RUN_SCHEMA, RunDir
from simpipe.errors import DiskError, UsageError
from simpipe.files import write_json
from simpipe.runs import verify as room
from simpipe.runs.memos import stat_memo
from simpipe.runs.verify import Problem, Verification
from simpipe.stages import PIPELINE

RUN = Path("runs/quick")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/toy`, which has nothing but its run.json; the working folder is the one above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    write_json(
        Path("runs/toy/run.json"),
        {
            "schema": RUN_SCHEMA,
            "source": str(tmp_path / "data"),
            "config": {"sha256": "0" * 64, "values": {}},
        },
    )
    Path("runs/.latest").write_text("toy\n")
    return Path("runs")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def finds(monkeypatch: pytest.MonkeyPatch, found: Verification) -> None:
    monkeypatch.setattr(room, "verify", lambda run, stages, images, progress: found)


@pytest.mark.usefixtures("runs")
def test_of_a_whole_run_verify_says_so_in_one_line(monkeypatch):
    finds(monkeypatch, Verification(artifacts=17, images=3781, bytes=10, notes=["a note"]))
    result = invoke("verify")
    assert result.exit_code == 0
    assert result.stdout == "note: a note\n17 artifacts, 3,781 images: whole\n"
    finds(monkeypatch, Verification(artifacts=1))
    assert invoke("verify", "--no-images").stdout == "1 artifact: whole\n"


@pytest.mark.usefixtures("runs")
def test_people_are_told_some_problems_and_programs_all(monkeypatch):
    problems = [Problem(f"file{number}", "is missing") for number in range(25)]
    finds(monkeypatch, Verification(problems=problems, next="mend it"))
    result = invoke("verify")
    assert result.exit_code == 5
    told = [f"file{number}: is missing" for number in range(20)]
    assert result.stdout.splitlines() == [*told, "… and 5 more", "25 problems", "→ mend it"]
    result = invoke("verify", "--json")
    assert result.exit_code == 5
    document = json.loads(result.stdout)
    assert document["problems"] == [
        {"path": f"file{number}", "problem": "is missing"} for number in range(25)
    ]
    assert document["next"] == "mend it"


def test_verify_says_when_the_run_is_at_work(runs, monkeypatch):
    finds(monkeypatch, Verification())
    with run_lock(runs / "toy"):
        assert f"note: in use by process {os.getpid()}" in invoke("verify").stdout


def test_verify_of_a_run_that_has_just_begun(runs):
    """The real check, on what there is."""
    result = invoke("verify", "--json")
    assert result.exit_code == 5
    document = json.loads(result.stdout)
    assert document["schema"] == "simpipe.verify/1"
    assert document["run"] == "runs/toy"
    assert [problem["path"] for problem in document["problems"]] == ["runs/toy/config.yaml"]
    assert [note for note in document["notes"] if "not complete" in note] == [
        f"{stage.name} is not complete yet" for stage in PIPELINE
    ]


def litter(runs: Path) -> Path:
    left = runs / "toy" / ".stage" / "train.0123abcd" / "encoder.json"
    left.parent.mkdir(parents=True)
    left.write_text("x" * 1500)
    return left.parent


def test_gc_lists_and_deletes_only_with_apply(runs):
    left = litter(runs)
    result = invoke("gc", "--runs-dir", str(runs.absolute()), "--older-than", "7")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[:2] == [str(left.absolute()), "1.5 kB"]
    assert lines[1] == "1 item, 1.5 kB"
    words = shlex.split(lines[2].removeprefix("→ "))
    assert words == ["simpipe", "gc", "--apply", "--runs-dir", str(runs.absolute()), "--older-than", "7"]
    assert left.is_dir()
    result = invoke(*words[1:])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "1 item, 1.5 kB deleted"
    assert not left.parent.exists()
    assert invoke("gc").stdout == "nothing to delete\n"


def test_gc_json(runs):
    left = litter(runs)
    document = json.loads(invoke("gc", "--json").stdout)
    assert document["schema"] == "simpipe.gc/1"
    assert document["applied"] is False
    [item] = document["items"]
    assert (item["path"], item["bytes"]) == (str(left), 1500)
    with run_lock(runs / "toy"):
        document = json.loads(invoke("gc", "--json", "--apply").stdout)
    assert (document["applied"], document["items"]) == (True, [])
    assert [skipped["path"] for skipped in document["skipped"]] == ["runs/toy"]
    assert left.is_dir()


def test_gc_says_which_run_it_skipped(runs):
    with run_lock(runs / "toy"):
        lines = invoke("gc").stdout.splitlines()
    assert lines[0].startswith("skipped runs/toy: runs/toy is in use by process")
    assert lines[1:] == ["nothing to delete"]


def test_gc_exits_with_7_after_the_rest_is_gone(runs, monkeypatch):
    left = litter(runs)
    other = shutil.copytree(left, left.with_name("train.89abcdef"))
    remove = shutil.rmtree

    def refuse(path, *arguments, **options):
        if Path(path) == left:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        remove(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    result = invoke("gc", "--apply")
    assert isinstance(result.exception, DiskError)
    assert str(left) in result.exception.message
    assert not other.exists()
    assert str(other) in result.stdout


def test_gc_without_a_folder_of_runs(tmp_path):
    assert isinstance(invoke("gc", "--runs-dir", str(tmp_path / "none")).exception, UsageError)


@pytest.mark.slow
def test_verify_of_a_real_run_finds_what_the_stat_cache_cannot_and_its_command_mends_it(place):
    result = simpipe("verify", "--json", cwd=place)
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(result.stdout)
    assert (document["problems"], document["notes"], document["next"]) == ([], [], None)
    assert document["checked"]["images"] == len(COLOURS) * PER_LABEL
    artifacts = sum(len(stage.outputs) + len(stage.logs) + 1 for stage in PIPELINE)
    shards = list((place / "runs/.cache/features").glob("*/*.npy"))
    assert document["checked"]["artifacts"] == artifacts + 3 + len(shards)
    assert len(shards) >= 1
    shutil.rmtree(place / "runs/.cache/stat", ignore_errors=True)  # of the data that these are a copy of
    assert simpipe("gc", "--older-than", "0", cwd=place).stdout == "nothing to delete\n"

    image = sorted((place / "data" / "azure").iterdir())[0]
    status = image.stat()
    image.write_bytes(image.read_bytes()[:-2] + b"\xff\xd8")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    forge(place)
    assert simpipe("status", "--check", cwd=place).returncode == 0, "the stat cache was not fooled"
    result = simpipe("verify", cwd=place)
    assert result.returncode == 5
    first, *_, last = result.stdout.splitlines()
    assert first == f"{image}: has other content than ingest read"
    assert last.startswith("→ ")
    mended = subprocess.run(
        ["sh", "-ec", as_far_as_ingest(last.removeprefix("→ "))],  # noqa: S607
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert mended.returncode == 0, mended.stderr
    assert simpipe("verify", cwd=place).returncode == 0
    (place / RUN / "index" / "index.bin").write_bytes(b"")
    result = simpipe("verify", cwd=place)
    assert result.returncode == 5
    assert result.stdout.startswith(f"{RUN}/index/index.bin: has 0 bytes instead of")


def as_far_as_ingest(script: str) -> str:
    """The script, with a `simpipe` that ends with ingest: the other stages have nothing to mend."""
    command = f"{sys.executable} -c 'from simpipe.cli import main; main()'"
    return f'simpipe() {{ {command} "$@" --to ingest; }}\n{script}'


def forge(place: Path) -> None:
    """Tell the stat cache that every image, as it is now, has the hash that ingest saw."""
    files = {}
    for row in read_manifest(place / RUN / "ingest" / "manifest.parquet").rows:
        now = (place / "data" / row["path"]).stat()
        files[row["path"]] = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, row["sha256"]]
    memo = stat_memo(RunDir(place / RUN), place / "data")
    memo.parent.mkdir(exist_ok=True)
    memo.write_text(json.dumps({"schema": "simpipe.stat-cache/2", "files": files}))
