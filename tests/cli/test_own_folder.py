"""A run lies in a folder of its own: what is the user's is never in its way."""

import os
from pathlib import Path

import pytest
from commands import executed, make_data, simpipe, toy

import simpipe as package
from simpipe.errors import DamagedError

pytestmark = pytest.mark.slow


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
    [found] = run.query(images, k=4)
    assert (found.match.nearest_label, found.neighbours[0].path) == ("brick", "brick/01.jpg")
    again = ("run", "data", "--config", "quick", "--set", "seed=7", "--to", "calibrate", "--json")
    assert "train" in executed(simpipe(*again, cwd=place))
    with pytest.raises(DamagedError, match="made anew since the run was opened"):
        run.query(images)
    assert package.open(place / "runs/quick").keys != run.keys
