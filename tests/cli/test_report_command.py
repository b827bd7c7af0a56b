"""`simpipe report` beyond the page: the Embedding Projector's files, and the browser."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import COLOURS, PER_LABEL, executed, simpipe, toy

RUN = Path("runs/quick")
OUT = RUN / "projector"
NOWHERE = {"BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}


def exported(place: Path, *arguments: object) -> Path:
    result = simpipe("report", "--projector-export", *arguments, "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return place / json.loads(result.stdout)["projector_export"]


# the Embedding Projector


@pytest.mark.slow
def test_an_export_lies_in_the_run_and_is_no_part_of_it(place):
    folder = exported(place)
    assert folder == place / OUT
    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(COLOURS) * PER_LABEL
    assert {line.split("\t")[0] for line in lines[1:]} == set(COLOURS)
    assert (folder / "embedding.bytes").stat().st_size % (4 * len(lines[1:])) == 0
    for command in (["status", "--check"], ["verify"], ["gc"]):
        result = simpipe(*command, cwd=place)
        assert result.returncode == 0, result.stdout
        assert "projector" not in result.stdout
    assert executed(simpipe("run", "data", "--config", "quick", "--json", cwd=place)) == []
    assert (folder / "sprite.jpg").is_file()


@pytest.mark.slow
def test_people_are_told_the_two_ways_to_open_it(place):
    result = simpipe("report", "--projector-export", "my export", cwd=place)
    assert result.stdout.splitlines() == [
        f"report  {RUN}/report.html",
        "projector  my export",
        "  tensorboard --logdir 'my export', and there the tab Projector",
        "  or load embedding.tsv and metadata.tsv at https://projector.tensorflow.org",
    ]
    again = simpipe("report", "--projector-export", "my export", "-q", cwd=place)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{RUN}/report.html\n", "")


@pytest.mark.slow
def test_without_thumbnails_nothing_shows_pictures_and_the_ladder_has_no_pixels(place):
    without = ["--config", "quick", "--set", "ingest.thumbnail_size=0"]
    ran = executed(simpipe("run", "data", *without, "--json", cwd=place))
    assert ran == ["ingest", "evaluate", "report"]
    metrics = json.loads((place / RUN / "evaluate/metrics.json").read_text())
    rungs = {step["rung"] for step in metrics["ladder"]}
    assert "thumbnail" not in rungs and {"chance", "pretrained", "trained"} <= rungs
    assert (place / RUN / "report.html").stat().st_size > 100_000
    result = simpipe("report", "--projector-export", "--json", cwd=place)
    assert json.loads(result.stdout)["notes"] == [
        "the projector shows points, no pictures: ingest.thumbnail_size is 0"
    ]
    assert not (place / OUT / "sprite.jpg").exists()


def occupied(place: Path) -> list[object]:
    (place / "theses").mkdir()
    (place / "theses/mine.tex").write_text("all my work")
    return ["--projector-export", "theses"]


def among_the_images(place: Path) -> list[object]:
    return ["--projector-export", "data/projector"]


def in_a_stage(place: Path) -> list[object]:
    return ["--projector-export", RUN / "report/projector"]


def on_the_run(place: Path) -> list[object]:
    return ["--projector-export", RUN]


def of_no_run(place: Path) -> list[object]:
    return ["--projector-export", "--run", "nobody"]


def without_the_option(place: Path) -> list[object]:
    return ["quick"]


def after_new_data(place: Path) -> list[object]:
    shutil.copyfile(place / "data/dill/00.jpg", place / "data/azure/new.jpg")
    return ["--projector-export"]


def after_damage(place: Path) -> list[object]:
    (place / RUN / "index/pretrained.npy").write_bytes(b"rubbish")
    return ["--projector-export"]


def below_a_file(place: Path) -> list[object]:
    (place / "f").write_text("")
    return ["--projector-export", "f/p"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "code", "told"),
    [
        (occupied, 2, "not empty"),
        (among_the_images, 2, "one of their labels"),
        (in_a_stage, 2, "in a stage"),
        (on_the_run, 2, "not empty"),
        (of_no_run, 2, "no run is called 'nobody'"),
        (without_the_option, 2, "belongs to --projector-export"),
        (after_new_data, 4, "stale"),
        (after_damage, 5, "pretrained.npy"),
        (below_a_file, 7, "the export: "),
    ],
)
def test_what_cannot_be_exported(place, make, code, told):
    arguments = make(place)
    before = sorted(place.rglob("*"))
    result = simpipe("report", *arguments, cwd=place)
    assert result.returncode == code, result.stderr
    assert told in result.stderr
    assert "\n  → " in result.stderr
    assert "Traceback" not in result.stderr
    assert {*place.rglob("*")} - {*before} <= {place / RUN / ".lock"}


def test_a_run_that_is_not_there_yet(tmp_path):
    result = simpipe("report", "--projector-export", cwd=tmp_path)
    assert result.returncode == 2
    assert "simpipe run DATA" in result.stderr


# the browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """A browser that chatters, and the file in which it notes what it was to open."""
    noted, command = tmp_path / "noted", tmp_path / "browser"
    command.write_text(f'#!/bin/sh\necho chatter; echo chatter >&2\nprintf "%s" "$1" > {noted}\n')
    command.chmod(0o755)
    yield {"BROWSER": str(command)}, noted


@pytest.mark.parametrize("command", [["run", "data"], ["report"]])
@pytest.mark.parametrize("option", [[], ["-q"], ["--json"]])
def test_the_page_is_opened_and_nothing_else_changes(made, browser, command, option):
    variables, noted = browser
    silent = toy(*command, *option, cwd=made)
    result = toy(*command, *option, "--open", cwd=made, **variables)
    assert result.returncode == 0, result.stderr
    assert noted.read_text() == (made / "runs/baseline/report.html").as_uri()
    assert (result.stdout, result.stderr) == (silent.stdout, silent.stderr)


@pytest.mark.parametrize("variables", [NOWHERE, {**NOWHERE, "BROWSER": "/nowhere/browser"}])
def test_where_there_is_no_browser_the_page_is_named(made, variables):
    result = toy("report", "--open", cwd=made, **variables)
    assert result.returncode == 0
    assert "no browser could be opened here; the page is runs/baseline/report.html" in result.stderr
    document = json.loads(toy("report", "--open", "--json", cwd=made, **variables).stdout)
    assert document["notes"] == ["no browser could be opened here; the page is runs/baseline/report.html"]


def test_a_browser_that_stays_open_is_not_waited_for(numbers, tmp_path):
    command = tmp_path / "staying"
    command.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 100\n")
    command.chmod(0o755)
    result = toy("run", "data", "--open", cwd=numbers, BROWSER=str(command))
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 15)  # which also says that it is still there
    assert result.returncode == 0
    assert "no browser" not in result.stderr


def test_nothing_is_opened_after_a_failure_or_without_a_page(numbers, browser):
    variables, noted = browser
    without = toy("run", "data", "--to", "learn", "--open", cwd=numbers, **variables)
    assert without.returncode == 2
    assert "--open" in without.stderr
    (numbers / "data/numbers.txt").write_bytes(b"\xff")
    assert toy("run", "data", "--open", cwd=numbers, **variables).returncode == 1
    assert toy("report", "--open", cwd=numbers, **variables).returncode != 0
    (numbers / "data/numbers.txt").write_text("1")
    assert toy("run", "data", "--open", "--dry-run", cwd=numbers, **variables).returncode == 0
    assert not noted.exists()
