"""A small data set and one finished run of the real pipeline, shared by the tests of this folder."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"azure": (40, 120, 230), "brick": (190, 60, 40), "cream": (240, 225, 170), "dill": (60, 130, 60)}
PER_LABEL = 14
TOYS = Path(__file__).with_name("toy_stages.py")


def draw(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A disc of a colour on noise: easy to tell apart, and no two alike."""
    generator = np.random.default_rng(seed)
    canvas = generator.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(canvas).resize((96, 96), Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[:96, :96]
    centre, radius = generator.integers(34, 62, 2), generator.integers(20, 32)
    picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = colour
    return Image.fromarray(picture)


def simpipe(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command, with these environment variables besides."""
    command = [sys.executable, "-c", "from simpipe.cli import main; main()", *map(str, arguments)]
    return run(command, cwd, environment)


def toy(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command with the stages of toy_stages.py."""
    return run([sys.executable, str(TOYS), *map(str, arguments)], cwd, environment)


def run(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300, check=False
    )


def proposed(stderr: str, **words: str) -> list[str]:
    """The arguments of the command that a message ends with; `words` fill placeholders such as DATA."""
    _, arrow, last = stderr.rstrip().splitlines()[-1].rpartition("→ ")
    assert arrow, stderr
    command = shlex.split(last[last.index("simpipe ") :])
    return [words.get(word, word) for word in command[1:]]


def executed(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that a `run --json` executed."""
    assert result.returncode == 0, result.stderr
    return [stage["stage"] for stage in json.loads(result.stdout)["stages"] if stage["action"] == "ran"]


def make_data(root: Path) -> Path:
    for number, (label, colour) in enumerate(COLOURS.items()):
        (root / label).mkdir(parents=True)
        for index in range(PER_LABEL):
            draw(colour, 100 * number + index).save(root / label / f"{index:02d}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` and the finished run `runs/quick`."""
    place = tmp_path_factory.mktemp("finished")
    make_data(place / "data")
    result = simpipe("run", "data", "--config", "quick", "--json", cwd=place)
    assert len(executed(result)) == 7, result.stderr
    return place


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` that a test may spoil; its run is about its own copy of the data."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, copy_function=shutil.copy2)
    described = json.loads((copy / "runs/quick/run.json").read_text())
    (copy / "runs/quick/run.json").write_text(json.dumps({**described, "source": str(copy / "data")}))
    return copy


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A folder with the data of the toy stages."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/numbers.txt").write_text("1 2 3\n")
    return tmp_path
