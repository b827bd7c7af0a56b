"""Completion through the protocol of the shells; once through a shell, with the installed command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from commands import simpipe

from simpipe.config import Config, flatten
from simpipe.config.training import Backbone, Loss
from simpipe.stages import STAGE_NAMES

SIMPIPE = Path(sys.executable).parent / "simpipe"
BASH = shutil.which("bash")

PRESETS = ["baseline", "finetune", "quick", "unlabelled"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for run in ("runs/alpha", "runs/beta", "elsewhere/gamma"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").write_text("{}")
    for path in ("my.yaml", "note.txt", "conf/one.yml", "conf/two.yaml", "conf/b.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "runs/.cache").mkdir()
    return tmp_path


def protocol(words: tuple[str, ...]) -> dict[str, str]:
    """How bash asks for the last of the words behind `simpipe`."""
    return {
        "_SIMPIPE_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(["simpipe", *words]),
        "COMP_CWORD": str(len(words)),
    }


def offered(place: Path, *words: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is offered for the last of the words behind `simpipe`."""
    done = simpipe(cwd=place, **{**protocol(words), **(environ or {})})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [line for line in done.stdout.split("\n") if line]


def test_commands(place: Path) -> None:
    assert set(STAGE_NAMES) | {"run", "status", "init", "config", "doctor"} <= set(offered(place, ""))
    assert offered(place, "doc") == ["doctor"]
    assert offered(place, "config", "") == ["show"]


@pytest.mark.parametrize("command", [("status",), ("query",), ("index",), ("config", "show")])
def test_runs(place: Path, command: tuple[str, ...]) -> None:
    assert offered(place, *command, "--run", "") == ["alpha", "beta"]
    assert offered(place, *command, "--run", "b") == ["beta"]


def test_runs_of_another_folder(place: Path) -> None:
    assert offered(place, "status", "--runs-dir", "elsewhere", "--run", "") == ["gamma"]
    assert offered(place, "status", "--run", "", environ={"SIMPIPE_RUNS_DIR": "elsewhere"}) == ["gamma"]
    assert offered(place, "status", "--runs-dir", "nowhere", "--run", "") == []


@pytest.mark.parametrize("option", ["--from", "--to", "--only", "--force-stage"])
def test_stages(place: Path, option: str) -> None:
    assert offered(place, "run", "data", option, "") == list(STAGE_NAMES)
    assert offered(place, "run", "data", option, "in") == ["ingest", "index"]


@pytest.mark.parametrize("command", [("run", "data"), ("config", "show")])
def test_presets_and_yaml_files(place: Path, command: tuple[str, ...]) -> None:
    assert offered(place, *command, "--config", "") == [*PRESETS, "my.yaml"]
    assert offered(place, *command, "--config", "conf/") == ["conf/one.yml", "conf/two.yaml"]
    assert offered(place, *command, "-c", "q") == ["quick"]
    assert offered(place, "init", "--preset", "") == PRESETS


def test_keys(place: Path) -> None:
    assert offered(place, "run", "data", "--set", "") == [f"{key}=" for key in flatten(Config())]
    assert offered(place, "run", "data", "--set", "train.l") == ["train.loss=", "train.lr="]
    assert offered(place, "run", "data", "--set", "zzz") == []


def test_values(place: Path) -> None:
    losses = get_args(Loss)
    whole = [f"train.loss={loss}" for loss in losses]
    assert offered(place, "run", "data", "--set", "train.lo") == ["train.loss=", *whole]
    assert offered(place, "run", "data", "--set", "train.loss=") == whole
    assert offered(place, "run", "data", "--set", "train.loss=supc") == ["train.loss=supcon"]
    assert offered(place, "run", "data", "--set", "train.lr=") == ["train.lr=0.004"]
    assert offered(place, "run", "data", "--set", "train.los=") == []
    assert len(offered(place, "run", "data", "--set", "train.backbone=")) == len(Backbone.__args__)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--set", "train.loss", "=", "supc"), ["supcon"]),
        (("--set", "train.loss", "="), list(get_args(Loss))),
        (("--set", "=", "index.backend", "=", "ex"), ["exact"]),
        (("--set", "seed", "=", "5", "--set", "train.lr"), ["train.lr=", "train.lr=0.004"]),
        (("--set", "seed", "=", "5", "--from", "tr"), ["train"]),
        (("--set", "zzz", "=", ""), []),
        (("--config", "=", "qu"), ["quick"]),
        (("--config", "="), [*PRESETS, "my.yaml"]),
    ],
)
def test_bash_cuts_words_at_the_equals_sign(place: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert offered(place, "run", "data", *words) == expected


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.skipif(not SIMPIPE.is_file(), reason="the command is not installed beside Python")
def test_the_function_that_bash_calls(place: Path) -> None:
    source = subprocess.run(
        [SIMPIPE], env={**os.environ, "_SIMPIPE_COMPLETE": "source_bash"}, capture_output=True, check=True
    ).stdout.decode()
    script = (
        f"{source}\nCOMP_WORDS=(simpipe run \"'my data'\" --set train.loss = supc); COMP_CWORD=6\n"
        "_simpipe_completion simpipe; printf '%s|' \"${COMPREPLY[@]}\""
    )
    environ = {**os.environ, "PATH": f"{SIMPIPE.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script],
        cwd=place,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "supcon|", done.stderr


def test_fish_and_zsh_get_whole_words(place: Path) -> None:
    line = {"_TYPER_COMPLETE_ARGS": "simpipe run data --set train.loss=supc"}
    fish = {"_SIMPIPE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert offered(place, environ={**line, **fish}) == ["train.loss=supcon"]
    (zsh,) = offered(place, environ={**line, "_SIMPIPE_COMPLETE": "complete_zsh"})
    assert '"train.loss=supcon"' in zsh


@pytest.mark.parametrize(
    "words", [("status", "--run", ""), ("run", "d", "--from", ""), ("run", "d", "--set", "train.loss=")]
)
def test_nothing_heavy_is_loaded(place: Path, words: tuple[str, ...]) -> None:
    script = (
        "import sys; sys.argv = ['simpipe']\n"
        "from simpipe.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        env={**os.environ, **protocol(words)},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"tensorflow", "keras", "numpy", "pandas", "pyarrow", "PIL", "nmslib", "umap", "bokeh", "sklearn"}
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & heavy
