"""Declared is read, and equal keys are equal bytes: runs from nothing, cut-offs, and what is no change."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from commands import driven, executed, simpipe
from run_digests import digest, digests

from simpipe.engine.stage import covers
from simpipe.stages import PIPELINE, STAGE_NAMES

pytestmark = pytest.mark.slow

OTHER_THREADS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2"),  # elsewhere one: see tests/conftest.py
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
}
OTHER_BRANCHES = ("train.loss=triplet", "train.epochs=1", "calibrate.match=majority")
"""Settings under which the stages read what they leave alone under the preset quick."""


@pytest.fixture(scope="module")
def second(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same images from nothing: another folder, another name, other threads, and recorded."""
    place = tmp_path_factory.mktemp("second")
    shutil.copytree(finished / "data", place / "images")
    options = ("--config", "quick", "--name", "again", "--json")
    code = "record('read.json'); one_processor()"
    assert len(executed(driven(code, "run", "images", *options, cwd=place, **OTHER_THREADS))) == 7
    return place


@pytest.fixture(scope="module")
def other_branches(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same forced, with other settings, and with the feature cache lost before index runs."""
    place = tmp_path_factory.mktemp("other") / "place"
    shutil.copytree(second, place)
    code = "\n".join(
        (
            "import shutil",
            "record('read.json')",
            "around('index', lambda ctx, run: (shutil.rmtree(ctx.cache / 'features'), run(ctx)))",
        )
    )
    settings = [part for setting in OTHER_BRANCHES for part in ("--set", setting)]
    options = ("--config", "quick", "--name", "again", "--json", "--force", *settings)
    assert executed(driven(code, "run", "images", *options, cwd=place)) == list(STAGE_NAMES)
    return place


def test_two_runs_from_nothing_give_the_same_bytes(finished, second):
    ours, theirs = digests(finished / "runs/quick"), digests(second / "runs/again")
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_logs_that_hold_no_time_are_equal_too(finished, second):
    ours, theirs = finished / "runs/quick", second / "runs/again"
    for log in ("sampler/sampler_report.json", "train/history.csv", "train/views.webp"):
        assert digest(ours / log) == digest(theirs / log)


@pytest.mark.parametrize("stage", PIPELINE, ids=STAGE_NAMES)
def test_a_stage_reads_exactly_what_it_declares(second, other_branches, stage):
    recorded = [
        json.loads((place / "read.json").read_text())[stage.name] for place in (second, other_branches)
    ]
    keys = {key for each in recorded for key in each["keys"]}
    every = json.loads((second / "runs/again/run.json").read_text())["config"]["values"]
    assert keys == {key for key in every if covers(stage.config, key)}
    artifacts = {artifact for each in recorded for artifact in each["artifacts"]}
    if stage.name == "report":  # shows times and versions, which are in no key: see its `_environment`
        artifacts -= {f"{name}/_stage.json" for name in stage.upstream}
    assert artifacts == {*stage.reads, *stage.uses}


def test_after_all_was_forced_all_is_fresh(other_branches):
    status = simpipe("status", "--check", "--json", cwd=other_branches)
    assert [stage["state"] for stage in json.loads(status.stdout)["stages"]] == ["fresh"] * 7
    assert status.returncode == 0


def test_forcing_ingest_runs_ingest_alone(place):
    before = digests(place / "runs/quick")
    options = ("--config", "quick", "--json", "--force-stage", "ingest")
    assert executed(simpipe("run", "data", *options, cwd=place)) == ["ingest"]
    assert digests(place / "runs/quick") == before


def test_what_changes_nothing_runs_nothing(place, tmp_path):
    """An edited configuration that means the same, data from the future, all of it moved."""
    preset = simpipe("config", "show", cwd=place).stdout
    sections = re.split(r"\n(?=\w)", preset.strip())
    (place / "mine.yaml").write_text("# new\n\n" + "\n\n# why\n".join(sections[::-1]) + "   # the end\n")
    for path in (place / "data").rglob("*"):
        os.utime(path, (2_208_988_800, 2_208_988_800))  # 2040
    (place / "data").rename(place / "images")
    shutil.copytree(place, tmp_path / "elsewhere/deep")
    shutil.rmtree(place)
    options = ("--config", "mine.yaml", "--name", "quick", "--json")
    for _ in range(2):
        assert executed(simpipe("run", "images", *options, cwd=tmp_path / "elsewhere/deep")) == []


def test_a_renamed_run_keeps_its_page(place):
    """The name is shown and in no key; nothing is drawn again for it."""
    (place / "runs/quick").rename(place / "runs/slow")
    assert executed(simpipe("run", "data", "--config", "quick", "--name", "slow", "--json", cwd=place)) == []
