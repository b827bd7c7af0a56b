"""With what a stage was made: recorded in its receipt, never part of its key."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

LIBRARIES = (
    "tensorflow",
    "keras",
    "nmslib",
    "numpy",
    "scikit-learn",
    "pillow",
    "pyarrow",
    "umap-learn",
    "bokeh",
)

GIT_SECONDS = 2.0
"""A repository too large to answer in this time is left out."""


def provenance(values: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, machine, threads, seeds, the command and the caller's git state, as a JSON document.

    Args:
        values: the flat configuration; its seeds are recorded.
    """
    return {
        "simpipe": version("simpipe"),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "threads": {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
        "seeds": {key: value for key, value in values.items() if key.rpartition(".")[2].endswith("seed")},
        "command": sys.argv,
        "git": _git_state(),
    }


def drift(recorded: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """The libraries whose version is no longer the one in a receipt's provenance: name → (then, now)."""
    then = {name: recorded[name] for name in ("python",) if name in recorded} | recorded.get("libraries", {})
    now = {name: platform.python_version() if name == "python" else version(name) for name in then}
    return {name: (then[name], now[name]) for name in then if then[name] != now[name]}


@cache
def version(name: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def _git_state() -> dict[str, Any] | None:
    """The commit of the repository that the command was called in, and whether it had changes."""
    git = shutil.which("git")
    if git is None:
        return None

    def answer(*arguments: str) -> str:
        command = [git, "--no-optional-locks", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=GIT_SECONDS, check=True
        ).stdout.strip()

    try:
        return {
            "root": answer("rev-parse", "--show-toplevel"),
            "sha": answer("rev-parse", "HEAD"),
            "dirty": bool(answer("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
