"""Full disks and folders that may not be written, through the real command: exit 7, nothing lost."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import executed, make_data, simpipe

pytestmark = pytest.mark.slow
RUN = Path("runs/quick")


def in_namespace(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own, with the real command as `simpipe`."""
    command = f"simpipe() {{ {sys.executable} -c 'from simpipe.cli import main; main()' \"$@\"; }}\n"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-ec", command + script],  # noqa: S607
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where a small disk cannot be mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    tried = in_namespace("mount -t tmpfs -o size=1m none .", tmp_path_factory.mktemp("mount"))
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")


@pytest.mark.usefixtures("mounting")
@pytest.mark.parametrize(("size", "to"), [("16k", "sampler"), ("200k", "sampler"), ("1m", "train")])
def test_a_disk_that_is_too_small_or_full(tmp_path, size, to):
    """It is full in ingest, after it, and in train; then there is room, and the command goes on."""
    make_data(tmp_path / "data")
    (tmp_path / "runs").mkdir()
    script = f"""
        mount -t tmpfs -o size={size} none runs
        simpipe run data --config quick && exit 99
        echo code $?
        simpipe status || true
        mount -o remount,size=200m runs
        simpipe run data --config quick --to {to}
        find runs -path runs/.cache -prune -o -name '.?*' -print
    """
    result = in_namespace(script, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "code 7" in result.stdout
    assert "free" in result.stderr
    assert "Traceback" not in result.stderr
    left = [line for line in result.stdout.splitlines() if line.startswith("runs/")]
    assert not [line for line in left if ".stage" in line or ".old" in line], left


@pytest.mark.usefixtures("mounting")
@pytest.mark.parametrize("folder", ["runs", "runs/.cache"])
def test_a_folder_that_is_read_only(place, folder):
    before = {path: path.read_bytes() for path in (place / RUN).glob("*/*") if path.is_file()}
    script = f"""
        mount --bind {folder} {folder}
        mount -o remount,ro,bind {folder}
        simpipe status
        simpipe run data --config quick --set train.pooling=max && exit 99
        echo code $?
    """
    result = in_namespace(script, place)
    assert "code 7" in result.stdout, result.stderr
    assert "Traceback" not in result.stderr
    assert folder in result.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert executed(simpipe("run", "data", "--config", "quick", "--json", cwd=place)) == []


@pytest.mark.usefixtures("mounting")
def test_data_that_are_read_only_and_a_home_that_is_not_there(tmp_path):
    make_data(tmp_path / "data")
    script = """
        mount --bind data data
        mount -o remount,ro,bind data
        unset HOME
        simpipe run data --config quick --to sampler --json
    """
    result = in_namespace(script, tmp_path)
    assert result.returncode == 0, result.stderr
    assert [stage["action"] for stage in json.loads(result.stdout)["stages"]] == ["ran", "ran"]
