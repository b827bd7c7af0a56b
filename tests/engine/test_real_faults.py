"""The real seven stages, killed again and again: what is left is whole, and the end is always the same."""

import hashlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_injection import KILLS, NoShimError, build_shim
from PIL import Image
from warm import Ended, Fault, Server

from simpipe.engine.rundir import KEY_DIGITS
from simpipe.stages import STAGE_NAMES

pytestmark = pytest.mark.slow

LABELS, PER_LABEL = 4, 12
KILLS_PER_STAGE = 30 if os.environ.get("SIMPIPE_FAULTS") == "all" else 2

EXEMPT = {"index.bin", "report.html"}
"""nmslib's file differs at every build; the page shows times."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        shim = build_shim(tmp_path_factory.mktemp("shim"))
    except NoShimError as error:
        pytest.skip(str(error))
    with Server(heavy=True, shim=shim) as server:
        yield server


@pytest.fixture(scope="module")
def simpipe(server: Server) -> Callable[..., Ended]:
    """A function that runs the pipeline as far as a stage."""

    def run(place: Path, to: str, fault: Fault | None = None, code: str = "") -> Ended:
        command = ("run", "data", "--config", "quick", "--to", to)
        return server.run(*command, cwd=place, fault=fault, code=code)

    return run


@pytest.fixture(scope="module")
def trained(simpipe: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` and an undisturbed run as far as train."""
    place = tmp_path_factory.mktemp("trained")
    generator = np.random.default_rng(0)
    for label in range(LABELS):
        (place / "data" / f"label{label}").mkdir(parents=True)
        for number in range(PER_LABEL):
            noise = generator.integers(0, 256, (12, 12, 3)).astype(np.uint8)
            picture = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)).copy()
            picture[16:48, 16:48] = np.eye(4)[label][:3] * 200 + generator.integers(0, 40)
            Image.fromarray(picture).save(place / f"data/label{label}/{number:02d}.png")
    assert simpipe(place, "train").code == 0
    return place


def outputs(run: Path) -> dict[str, str]:
    """The hash of every output of every stage; a stage that is there must be whole."""
    found = {}
    for folder in sorted(path for path in run.iterdir() if path.is_dir() and not path.name.startswith(".")):
        receipt = json.loads((folder / "_stage.json").read_bytes())
        for name, expected in receipt["outputs"].items():
            sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert sha256 == expected["sha256"], f"{folder.name}/{name} is not whole"
            if name not in EXEMPT:
                found[f"{folder.name}/{name}"] = sha256
    return found


def fresh_place(trained: Path, folder: Path) -> Path:
    shutil.copytree(trained / "data", folder / "data", copy_function=shutil.copy2)
    return folder


@pytest.mark.faults
def test_kills_at_any_file_operation_of_the_real_pipeline(trained, simpipe, tmp_path, capsys):
    """In each stage some, one after the other; then that stage ends as if nothing had been."""
    straight, place = fresh_place(trained, tmp_path / "straight"), fresh_place(trained, tmp_path / "killed")
    shutil.copytree(trained / "runs/.cache", straight / "runs/.cache")
    chance = random.Random(0)  # noqa: S311
    for stage in STAGE_NAMES:
        counted = simpipe(straight, stage, Fault(0, "kill", straight / "runs"))
        assert counted.code == 0, counted.stderr
        killed = 0
        while killed < KILLS_PER_STAGE:
            number, action = chance.randint(1, len(counted.operations)), chance.choice(KILLS)
            code = simpipe(place, stage, Fault(number, action, place / "runs")).code
            if code == 0:  # what went on from a checkpoint had fewer operations
                shutil.rmtree(place / "runs/quick" / stage)
                continue
            assert code == -signal.SIGKILL
            killed += 1
            if (place / "runs/quick").is_dir():
                outputs(place / "runs/quick")
        assert simpipe(place, stage).code == 0
        assert outputs(place / "runs/quick") == outputs(straight / "runs/quick")
        assert not list((place / "runs/quick").glob(".stage/*"))
        assert not list((place / "runs/quick").glob(".old/*"))
    with capsys.disabled():
        print(f"\n{KILLS_PER_STAGE} kills of the real pipeline in each stage")


@pytest.mark.parametrize("where", ["mid-epoch", "mid-checkpoint", "after a checkpoint"])
def test_a_training_that_is_killed_goes_on_and_ends_the_same(trained, simpipe, tmp_path, where):
    place = fresh_place(trained, tmp_path)
    shutil.copytree(trained / "runs/.cache", place / "runs/.cache")
    key = json.loads((trained / "runs/quick/train/_stage.json").read_bytes())["key"]
    checkpoints = place / "runs/quick/.stage" / f"train@{key[:KEY_DIGITS]}"
    if where == "mid-epoch":
        killed = simpipe(place, "train", code="from killable import *; kill_after_batches(33)")
    else:
        action = "torn" if where == "mid-checkpoint" else "kill_after"
        killed = simpipe(place, "train", Fault(3 if action == "torn" else 9, action, checkpoints))
    assert killed.code == -signal.SIGKILL
    assert list(checkpoints.glob("[!.]*")), "there is something to go on from"
    assert simpipe(place, "train").code == 0
    log = [json.loads(line) for line in (place / "runs/quick/log.jsonl").read_text().splitlines()]
    assert any("training goes on" in record.get("text", "") for record in log)
    assert outputs(place / "runs/quick") == outputs(trained / "runs/quick")
    history = [(each / "runs/quick/train/history.csv").read_bytes() for each in (place, trained)]
    assert history[0] == history[1]
    assert not checkpoints.exists()
