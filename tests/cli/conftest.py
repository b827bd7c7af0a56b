"""A small data set and one finished run of the real pipeline, shared by the tests of this folder."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from commands import executed, make_data, simpipe, toy


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` and the finished run `runs/quick`, made by one of the workers for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait until it is there
        if not (shared / "finished").is_dir():
            making = tmp_path_factory.mktemp("making") / "finished"
            make_data(making / "data")
            result = simpipe("run", "data", "--config", "quick", "--json", cwd=making)
            assert len(executed(result)) == 7, result.stderr
            making.rename(shared / "finished")
    return copy_of(shared / "finished", tmp_path_factory.mktemp("finished") / "own")


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` that a test may spoil."""
    return copy_of(finished, tmp_path / "copy")


@pytest.fixture(scope="session")
def finished_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` and a finished run of the toy stages, `runs/baseline`."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "data").mkdir()
    (folder / "data/numbers.txt").write_text("1 2 3\n")
    result = toy("run", "data", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def made(finished_toy: Path, tmp_path: Path) -> Path:
    """A copy of `finished_toy` that a test may spoil."""
    return copy_of(finished_toy, tmp_path / "made")


def copy_of(place: Path, copy: Path) -> Path:
    """A copy whose run is about its own copy of the data."""
    shutil.copytree(place, copy, copy_function=shutil.copy2)
    [told] = copy.glob("runs/*/run.json")
    told.write_text(json.dumps({**json.loads(told.read_text()), "source": str(copy / "data")}))
    return copy


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A folder with the data of the toy stages."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/numbers.txt").write_text("1 2 3\n")
    return tmp_path
