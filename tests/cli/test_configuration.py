"""`init` and `config show`, and the guesses at what was meant, through the real command."""

import json
import re
from pathlib import Path

import pytest
import yaml
from commands import simpipe

from simpipe.cli.rundirs import request_of, save_request
from simpipe.config import Config, flatten, load, override
from simpipe.engine.rundir import RunDir
from simpipe.stages import PIPELINE


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs that were never started, the second of them the latest."""
    for name, setting in (("quick", "train.epochs=7"), ("other", "train.epochs=8")):
        run = RunDir(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        save_request(run, request_of(tmp_path, override(Config(), [setting]), []))
    return tmp_path


def test_init_writes_the_defaults_and_never_over_a_file(tmp_path: Path) -> None:
    first = simpipe("init", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "simpipe.yaml\n")
    assert load(tmp_path / "simpipe.yaml") == Config()
    again = simpipe("init", "--preset", "quick", cwd=tmp_path)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert load(tmp_path / "simpipe.yaml") == Config()


def test_init_of_a_preset(tmp_path: Path) -> None:
    assert simpipe("init", "q.yaml", "--preset", "quick", cwd=tmp_path).returncode == 0
    assert load(tmp_path / "q.yaml") == load("quick") != Config()


def test_init_in_other_ways(tmp_path: Path) -> None:
    shown = simpipe("init", "--stdout", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    document = json.loads(simpipe("init", "--stdout", "--json", cwd=tmp_path).stdout)
    assert document == {"schema": "simpipe.init/1", "path": None, "text": shown.stdout}
    document = json.loads(simpipe("init", "--json", cwd=tmp_path).stdout)
    assert document["path"] == "simpipe.yaml"
    assert (tmp_path / "simpipe.yaml").read_text() == shown.stdout


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in ("nowhere/my.yaml", "file/my.yaml", "x" * 5000):
        result = simpipe("init", target, cwd=tmp_path)
        assert result.returncode == 7, target
        assert "cannot be written" in result.stderr
        assert "Traceback" not in result.stderr


def test_init_names_the_stages_that_read_each_key(tmp_path: Path) -> None:
    text = simpipe("init", "--stdout", cwd=tmp_path).stdout
    said, section = {}, ""
    for block in text.split("\n\n"):
        if head := re.match(r"(\w+):  #", block):
            section = head[1]
        elif readers := re.search(r"Read by ([\w,\s#]+)\.\n(  )?(\w+): ", block):
            key = f"{section}.{readers[3]}" if readers[2] else readers[3]
            said[key] = re.findall(r"\w+", readers[1])
    assert list(said) == list(flatten(Config()))
    assert said["ingest.resize"] == ["ingest", "train"]
    assert said["calibrate.k"] == ["calibrate"]
    for key, names in said.items():
        reads = {key, key.partition(".")[0]}
        assert names == [stage.name for stage in PIPELINE if reads & set(stage.config)], key
        assert names, "a key that nobody reads"


def values(*arguments: object, cwd: Path) -> dict[str, object]:
    result = simpipe("config", "show", "--json", *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "simpipe.config/1"
    assert list(document["values"]) == list(flatten(Config()))
    return document["values"]


def test_show_takes_what_is_named_or_the_latest_run_or_the_baseline(runs: Path, tmp_path: Path) -> None:
    assert values(cwd=runs)["train.epochs"] == 8
    assert values("--run", "quick", cwd=runs)["train.epochs"] == 7
    assert values("--config", "quick", cwd=runs) == flatten(load("quick"))
    assert values("--runs-dir", "none", cwd=runs) == flatten(Config())


def test_show_with_settings_over_it(runs: Path) -> None:
    shown = values("--run", "quick", "--set", "train.lr=1e-2", "--set", "seed=3", cwd=runs)
    assert (shown["train.lr"], shown["seed"], shown["train.epochs"]) == (0.01, 3, 7)
    (runs / "my.yaml").write_text("index:\n  m: 8\n")
    shown = values("--config", "my.yaml", "--set", "seed=3", cwd=runs)
    assert shown == flatten(override(Config(), ["index.m=8", "seed=3"]))


def test_show_prints_yaml_alone_on_stdout(runs: Path) -> None:
    result = simpipe("config", "show", cwd=runs)
    assert yaml.safe_load(result.stdout)["train"]["epochs"] == 8
    (runs / "again.yaml").write_text(result.stdout)
    assert load(runs / "again.yaml") == override(Config(), ["train.epochs=8"])
    assert "runs/other" in result.stderr


def test_show_refuses_a_run_and_a_file_at_once(runs: Path) -> None:
    result = simpipe("config", "show", "--run", "quick", "--config", "quick", cwd=runs)
    assert result.returncode == 2
    assert "cannot be combined" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("statsu",), "status"),
        (("config", "shwo"), "show"),
        (("run", ".", "--confg", "quick"), "--config"),
        (("run", ".", "--from", "trian"), "train"),
        (("run", ".", "--only", "idnex"), "index"),
        (("run", ".", "--force-stage", "evalute"), "evaluate"),
        (("status", "--run", "quik"), "quick"),
        (("config", "show", "--run", "quik"), "quick"),
        (("config", "show", "--set", "train.learning_rate=1"), "train.lr"),
        (("run", ".", "--set", "train.los=triplet"), "train.loss"),
        (("run", ".", "--set", "train.loss=supcn"), "supcon"),
        (("run", ".", "--config", "qick"), "quick"),
        (("init", "--preset", "basline"), "baseline"),
    ],
)
def test_what_was_meant_is_guessed(runs: Path, arguments: tuple[str, ...], guess: str) -> None:
    result = simpipe(*arguments, cwd=runs)
    assert result.returncode == 2
    assert re.search(
        rf"(did you mean|possible options:)[^.]*(?<![\w.]){re.escape(guess)}(?!\w)", result.stderr, re.I
    ), result.stderr
    assert result.stdout == ""
