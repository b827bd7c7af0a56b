"""Every document that a command prints, against its schema; with --json nothing else is printed anywhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import INSTALL, simpipe, toy
from typer.testing import CliRunner
from warm import Server

from simpipe import errors
from simpipe.cli import checkup
from simpipe.cli.app import app
from simpipe.cli.checkup import Finding
from simpipe.engine.lock import run_lock
from simpipe.metrics.contracts import load_schema, schema_names

NAMES = schema_names("simpipe.cli")
RUN = Path("runs/quick")


def check(text: str, name: str) -> Any:
    """The one document in `text`, as its schema wants it; a schema that would take anything fails."""
    document = json.loads(text)
    validator = jsonschema.Draft202012Validator(load_schema(name, "simpipe.cli"))
    validator.validate(document)
    for key in document:
        assert not validator.is_valid({each: document[each] for each in document if each != key}), key
    assert not validator.is_valid(document | {"schema": "simpipe.other/1"})
    assert validator.is_valid(document | {"more": "is welcome"})
    return document


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_schemas(name):
    schema = load_schema(name, "simpipe.cli")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"simpipe.{name.removesuffix('-1')}/1"


def test_the_schema_of_errors_knows_every_kind_of_error():
    known = load_schema("error-1", "simpipe.cli")["properties"]["error"]["properties"]["code"]["enum"]
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    assert {kind.code for kind in kinds if issubclass(kind, errors.SimpipeError)} == set(known)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["run", "data", "--config", "quick"], "run_result-1"),
        (["run", "data", "--config", "quick", "-q"], "run_result-1"),
        (["index", "-v"], "run_result-1"),
        (["run", "data", "--config", "quick", "--dry-run", "--set", "index.m=8"], "plan-1"),
        (["run", "data", "--config", "quick", "--dry-run", "--force", "--name", "new"], "plan-1"),
        (["status"], "plan-1"),
        (["config", "show"], "config-1"),
        (["init", "--stdout"], "init-1"),
        (["verify"], "verify-1"),
        (["gc"], "gc-1"),
    ],
)
def test_what_succeeds(finished, arguments, name):
    result = simpipe(*arguments, "--json", cwd=finished)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    check(result.stdout, name)


@pytest.mark.slow
def test_a_query_finds_the_image_itself_and_its_label_although_a_commit_was_cut_short(place):
    (place / RUN / ".old").mkdir()
    (place / RUN / "train").rename(place / RUN / ".old/train.12345678")
    result = simpipe("query", "data/cream/03.jpg", "data/dill/05.jpg", "-k", "3", "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    first, second = check(result.stdout, "query-1")["results"]
    assert first["neighbours"][0]["path"] == "cream/03.jpg"
    assert first["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert second["match"]["nearest_label"] == "dill"
    assert len(second["neighbours"]) == 3


@pytest.mark.slow
def test_a_run_that_runs_tells_its_notes_in_the_document(place):
    result = simpipe("calibrate", "--set", "calibrate.precision=[0.9]", "--json", cwd=place)
    assert result.stderr == ""
    document = check(result.stdout, "run_result-1")
    assert [(stage["action"], stage["reasons"][0]["code"]) for stage in document["stages"]] == [
        ("ran", "config")
    ]
    assert len(document["notes"]) == 1
    assert "kept in" in document["notes"][0]


def corrupt(place: Path) -> None:
    (place / RUN / "index/embeddings.npy").write_bytes(b"rubbish")


def make_stale(place: Path) -> None:
    (place / "data/azure/new.jpg").write_bytes((place / "data/dill/00.jpg").read_bytes())


def lose(place: Path) -> None:
    shutil.rmtree(place / RUN / "train")


def make_newer(place: Path) -> None:
    path = place / RUN / "run.json"
    path.write_text(path.read_text().replace("simpipe.run/1", "simpipe.run/9"))


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [corrupt, make_stale, lose])
def test_the_states_of_stages(place, spoil):
    spoil(place)
    result = simpipe("status", "--json", cwd=place)
    document = check(result.stdout, "plan-1")
    assert {stage["state"] for stage in document["stages"]} & {"damaged", "stale", "missing"}
    assert document["next"].startswith("simpipe run ")


@pytest.mark.slow
def test_a_damaged_run_is_verified_with_a_document(place):
    corrupt(place)
    result = simpipe("verify", "--json", cwd=place)
    assert result.returncode == 5
    document = check(result.stdout, "verify-1")
    assert any("embeddings.npy" in problem["path"] for problem in document["problems"])


def nothing(place: Path) -> None:
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "kind"),
    [
        (nothing, ["run"], 2, "usage"),
        (nothing, ["run", "data", "--bogus"], 2, "usage"),
        (nothing, ["run", "data", "--wait", "soon"], 2, "usage"),
        (nothing, ["frobnicate"], 2, "usage"),
        (nothing, ["config"], 2, "usage"),
        (nothing, ["run", "nowhere"], 2, "usage"),
        (nothing, ["status", "--run", "nobody"], 2, "usage"),
        (nothing, ["run", "data", "-q", "-v"], 2, "usage"),
        (nothing, ["run", "data", "--set", "train.learning_rate=1"], 2, "config"),
        (make_stale, ["status", "--check"], 3, "check"),
        (nothing, ["evaluate", "--set", "train.epochs=3"], 4, "upstream"),
        (lose, ["query", "data/dill/00.jpg"], 4, "upstream"),
        (nothing, ["query", "runs/quick/config.yaml"], 5, "data"),
        (corrupt, ["calibrate"], 5, "damaged"),
        (make_newer, ["status"], 5, "newer"),
        (nothing, ["init", "nowhere/mine.yaml"], 7, "disk"),
    ],
)
def test_what_fails(place, spoil, arguments, code, kind):
    spoil(place)
    result = simpipe(*arguments, "--json", cwd=place)
    assert result.returncode == code, result.stderr
    document = check(result.stderr, "error-1")
    assert document["error"]["code"] == kind
    if kind != "check":
        assert result.stdout == ""


def test_a_run_that_is_locked(numbers):
    (numbers / "runs/baseline").mkdir(parents=True)
    with run_lock(numbers / "runs/baseline"):
        result = toy("run", "data", "--json", cwd=numbers)
    assert result.returncode == 6
    assert check(result.stderr, "error-1")["error"]["code"] == "locked"


def test_how_an_error_came_about_is_in_the_document(numbers):
    result = toy("run", "nowhere", "--json", "-vv", cwd=numbers)
    document = check(result.stderr, "error-1")
    assert "UsageError" in document["error"]["traceback"]
    assert "traceback" not in json.loads(toy("run", "nowhere", "--json", "-v", cwd=numbers).stderr)["error"]


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[tuple[str, Callable[[], Finding]]] = [
        ("one", lambda: Finding("OK", "fine")),
        ("two", lambda: Finding("WARN", "so so", "mend it")),
        ("three", lambda: 1 / 0),
    ]
    monkeypatch.setattr(checkup, "checks", lambda runs_dir, quick: answers)
    document = check(CliRunner().invoke(app, ["doctor", "--json"]).stdout, "doctor-1")
    assert [each["status"] for each in document["checks"]] == ["OK", "WARN", "FAIL"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_document_is_a_document_in_every_encoding(numbers, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (numbers / "data/Zürich…").mkdir()
    with Server(INSTALL) as anew:
        result = anew.run("run", "data/Zürich…", "--json", cwd=numbers)
        done = anew.run("run", "data", "--json", "--force", cwd=numbers)
    assert result.code == 1, "of a toy that does not name its errors"
    assert "Zürich…/numbers.txt" in check(result.stderr, "error-1")["error"]["message"]
    assert check(done.stdout, "run_result-1")["notes"] == ["3 numbers … Zürich → Köln"]
