"""A run lies in a folder of its own: what is the user's is never in its way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import executed, make_data, simpipe

import simpipe as package
from simpipe.errors import DamagedError

pytestmark = pytest.mark.slow
TOY = Path(__file__).with_name("toy_stages.py")


def toy(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOY, *map(os.fsencode, map(str, arguments))]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "data", "--runs-dir", ".", "--name", "data"),
        ("run", "data", "--runs-dir", "data", "--name", "train"),
        ("run", "data", "--runs-dir", "data", "--name", "new"),
        ("run", "data/train", "--runs-dir", ".", "--name", "data"),
        ("run", "data", "--runs-dir", ".", "--name", "mine"),
    ],
)
def test_a_run_over_the_data_or_over_something_else_is_refused(tmp_path, arguments):
    make_data(tmp_path / "data" / "train")
    make_data(tmp_path / "data" / "test")
    (tmp_path / "mine" / "train").mkdir(parents=True)
    before = tree(tmp_path / "data") | tree(tmp_path / "mine")
    result = simpipe(*arguments, "--config", "quick", "--to", "sampler", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "another --name or --runs-dir" in result.stderr
    assert before == tree(tmp_path / "data") | tree(tmp_path / "mine")


def test_names_that_are_no_text(tmp_path):
    data = tmp_path / os.fsdecode(b"d\xff")
    data.mkdir()
    (data / "numbers.txt").write_text("1 2 3\n")
    done = toy("run", data.name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert toy("status", "--check", cwd=tmp_path).returncode == 0
    for name in (os.fsdecode(b"n\xff"), "a ", "x" * 300, "a\nb"):
        refused = toy("run", data.name, "--name", name, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert "cannot be the name of a run" in refused.stderr


def test_an_opened_run_does_not_mix_two_generations(place):
    run = package.open(place / "runs/quick")
    images = [place / "data/brick/01.jpg"]
    assert run.query(images)[0].match.nearest_label == "brick"
    again = ("run", "data", "--config", "quick", "--set", "seed=7", "--to", "calibrate", "--json")
    assert "train" in executed(simpipe(*again, cwd=place))
    with pytest.raises(DamagedError, match="made anew since the run was opened"):
        run.query(images)
    assert package.open(place / "runs/quick").query(images)[0].neighbours[0].path == "brick/01.jpg"


def test_a_query_finds_a_stage_whose_commit_was_cut_short(place):
    run = place / "runs/quick"
    (run / ".old").mkdir()
    (run / "train").rename(run / ".old/train.12345678")
    found = simpipe("query", "data/cream/03.jpg", "--json", cwd=place)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["results"][0]["neighbours"][0]["path"] == "cream/03.jpg"
