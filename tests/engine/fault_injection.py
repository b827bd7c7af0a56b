"""Faults of file operations, for the processes of `warm.Server`.

with Server(INSTALL, shim=build_shim(folder)) as server:
    ended = server.run("run", "data", cwd=place, fault=Fault(17, "kill", place / "runs"))
"""

import shutil
import subprocess
import sys
from pathlib import Path

ACTIONS = ("kill", "kill_after", "torn", "enospc", "eio", "full")
KILLS = ("kill", "kill_after", "torn")


class NoShimError(Exception):
    """The shim cannot be built here; the text says why."""


def build_shim(folder: Path) -> Path:
    """Compile faults.c into `folder`."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        raise NoShimError("needs Linux and a C compiler called cc")
    source, library = Path(__file__).with_name("faults.c"), folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise NoShimError(f"faults.c does not compile here:\n{built.stderr}")
    return library
