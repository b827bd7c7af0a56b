"""Full disks and folders that may not be written, through the real command: exit 7, nothing lost."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import driven, executed, simpipe

pytestmark = pytest.mark.slow
RUN = Path("runs/quick")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A shell in a mount namespace of its own; skips where it cannot mount a small disk."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(["unshare", "-rm", "sh"], text=True, **pipes) as shell:  # noqa: S607
        try:
            (tmp_path / "tried").mkdir()
            told, code = answer(shell, f"mount -t tmpfs -o size=1m none {tmp_path}/tried")
            if code != 0:
                pytest.skip(f"no file system can be mounted here: {told.strip()}")
            yield shell
        finally:
            shell.kill()


def answer(shell: "subprocess.Popen[str]", command: str) -> tuple[str, int]:
    """Run a command in the shell: what it tells, and its exit code; -1 if the shell has died."""
    print(f"{command}; echo code $?", file=shell.stdin, flush=True)
    told = ""
    for line in shell.stdout:
        if line.startswith("code "):
            return told, int(line.split()[1])
        told += line
    return told, -1


def do(shell: "subprocess.Popen[str]", command: str) -> str:
    told, code = answer(shell, command)
    assert code == 0, told
    return told


def inside(
    shell: "subprocess.Popen[str]", *arguments: object, cwd: Path, code: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run the real command in the namespace of the shell."""
    return driven(f"enter_namespace({shell.pid})\n{code}", *arguments, cwd=cwd)


@pytest.mark.parametrize(("size", "to"), [("16k", "sampler"), ("200k", "sampler"), ("1m", "train")])
def test_a_disk_that_is_too_small_or_full(finished, shell, tmp_path, size, to):
    """It is full in ingest, after it, and in train; then there is room, and the command goes on."""
    shutil.copytree(finished / "data", tmp_path / "data")
    (tmp_path / "runs").mkdir()
    command = ("run", "data", "--config", "quick")
    do(shell, f"mount -t tmpfs -o size={size} none {tmp_path}/runs")
    full = inside(shell, *command, cwd=tmp_path)
    assert full.returncode == 7, full.stderr
    assert "free" in full.stderr
    assert "Traceback" not in full.stderr
    assert "Traceback" not in inside(shell, "status", cwd=tmp_path).stderr
    do(shell, f"mount -o remount,size=200m {tmp_path}/runs")
    again = inside(shell, *command, "--to", to, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert not any((tmp_path / "runs").iterdir()), "it was written to the small disk"
    left = do(shell, f"find {tmp_path}/runs -path '*/.cache' -prune -o -name '.?*' -print")
    assert "/runs/quick/.lock" in left
    assert not [line for line in left.splitlines() if ".stage" in line or ".old" in line], left


@pytest.mark.parametrize("folder", ["runs", "runs/.cache"])
def test_a_folder_that_is_read_only(place, shell, folder):
    before = {path: path.read_bytes() for path in (place / RUN).glob("*/*") if path.is_file()}
    do(shell, f"mount --bind {place}/{folder} {place}/{folder}")
    do(shell, f"mount -o remount,ro,bind {place}/{folder}")
    assert inside(shell, "status", cwd=place).returncode == 0
    result = inside(shell, "run", "data", "--config", "quick", "--set", "train.pooling=max", cwd=place)
    assert result.returncode == 7, result.stderr
    assert "Traceback" not in result.stderr
    assert folder in result.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert executed(simpipe("run", "data", "--config", "quick", "--json", cwd=place)) == []


def test_data_that_are_read_only_and_a_home_that_is_not_there(finished, shell, tmp_path):
    data = shutil.copytree(finished / "data", tmp_path / "data")
    do(shell, f"mount --bind {data} {data}")
    do(shell, f"mount -o remount,ro,bind {data}")
    command = ("run", "data", "--config", "quick", "--to", "sampler", "--json")
    result = inside(shell, *command, cwd=tmp_path, code="import os; del os.environ['HOME']")
    assert result.returncode == 0, result.stderr
    assert [stage["action"] for stage in json.loads(result.stdout)["stages"]] == ["ran", "ran"]
