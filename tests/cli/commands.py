"""The command line as a user calls it, on data of ours or on the toy stages."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from warm import Ended, Server, shared

COLOURS = {"azure": (40, 120, 230), "brick": (190, 60, 40), "cream": (240, 225, 170), "dill": (60, 130, 60)}
PER_LABEL = 14
TOYS = Path(__file__).with_name("toy_stages.py")
INSTALL = "import toy_stages; toy_stages.install()"
"""For `warm.Server`."""


def draw(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A disc of a colour on noise: easy to tell apart, and no two alike."""
    generator = np.random.default_rng(seed)
    canvas = generator.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(canvas).resize((96, 96), Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[:96, :96]
    centre, radius = generator.integers(34, 62, 2), generator.integers(20, 32)
    picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = colour
    return Image.fromarray(picture)


def simpipe(
    *arguments: object, cwd: Path, code: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command, after `code` in the same process, with these environment variables besides."""
    if decides_the_start(environment):
        script = f"{code}\nfrom simpipe.cli import main; main()"
        return anew(["-c", script, *map(str, arguments)], cwd, environment)
    return ended(shared(heavy=True).run(*arguments, cwd=cwd, code=code, environment=environment))


def driven(code: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command after `code`, which may call the functions of driver_hooks.py."""
    return simpipe(*arguments, cwd=cwd, code=f"from driver_hooks import *\n{code}", **environment)


def toy(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command with the stages of toy_stages.py."""
    if decides_the_start(environment):
        return anew([str(TOYS), *map(str, arguments)], cwd, environment)
    return ended(toys().run(*arguments, cwd=cwd, environment=environment))


def toys() -> Server:
    """What runs commands with the stages of toy_stages.py."""
    return shared(INSTALL)


def decides_the_start(environment: Mapping[str, str]) -> bool:
    """Whether some of it is looked at only when the interpreter starts or a library is imported."""
    looked_at = ("PYTHON", "LC_", "OMP_", "OPENBLAS_", "TF_")
    return any(name.startswith(looked_at) for name in environment)


def anew(
    command: list[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter itself."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ended(by: Ended) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["simpipe"], by.code, by.stdout, by.stderr)


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
