"""The real command line in real processes that need not import anything: milliseconds each, not seconds.

A `Server` is one Python process that has imported the command line, and TensorFlow if it is `heavy`. For
every command it forks a child, which calls `simpipe.cli.main` and dies as it dies. With the shim of
engine/faults.c, file operations of a child fail on demand.

    with Server() as server:
        ended = server.run("run", "data", cwd=place)
"""

import atexit
import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Self

PATIENCE = 300
"""Seconds after which what must happen has not happened; nothing passes because of them."""

LIGHT = ("cli.app", "cli.results", "cli.rundirs", "data.fingerprint", "data.layout", "engine.execute")
HEAVY = ("numpy", "scipy.stats", "pyarrow.parquet", "sklearn.decomposition", "tensorflow", "keras", "h5py")


@dataclass(frozen=True)
class Fault:
    """At file operation `number` (from 1; 0 only counts) at or below `root`, do `action`; see faults.c."""

    number: int
    action: str
    root: Path


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that killed it.

    `operations` has the first letter of each file operation that it began, `hit` is the one that the fault
    met, such as "rename toy/gather".
    """

    pid: int
    code: int
    stdout: str
    stderr: str
    operations: str = ""
    hit: str | None = None


class Server:
    """Runs commands, one `start` at a time; close it, or use it with `with`.

    Args:
        install: Python code that comes before all imports, such as what puts toys in the place of stages.
        heavy: whether TensorFlow and the like are imported as well.
        shim: see `fault_injection.build_shim`; needed for faults.
    """

    def __init__(self, install: str = "", *, heavy: bool = False, shim: Path | None = None) -> None:
        environment = dict(os.environ)
        if shim:
            environment["LD_PRELOAD"] = str(shim)
        told = json.dumps({"path": sys.path, "install": install, "heavy": heavy})
        self._process = subprocess.Popen(
            [sys.executable, __file__, told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.running: list[int] = []
        self._unread = b""

    def run(
        self,
        *arguments: object,
        cwd: Path,
        fault: Fault | None = None,
        environment: Mapping[str, str] | None = None,
        code: str = "",
    ) -> Ended:
        """Run `simpipe ARGUMENTS` to its end, in a process that has run `code`."""
        (ended,) = self.start(*arguments, cwd=cwd, fault=fault, environment=environment, code=code)
        return ended

    def start(
        self,
        *arguments: object,
        cwd: Path,
        fault: Fault | None = None,
        environment: Mapping[str, str] | None = None,
        code: str = "",
        copies: int = 1,
    ) -> Iterator[Ended]:
        """Start `copies` of a command at once; returns when all run, and yields them as they end."""
        job = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": {**os.environ, **(environment or {})},
            "code": code,
            "copies": copies,
            "fault": fault and {**asdict(fault), "root": str(fault.root)},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        self.running = self._answer()
        return (self._one_end() for _ in range(copies))

    def close(self) -> None:
        """End the server and what still runs under it."""
        for pid in self.running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one_end(self) -> Ended:
        ended = Ended(**self._answer())
        self.running.remove(ended.pid)
        return ended

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            assert select.select([descriptor], [], [], PATIENCE)[0], "a command did not end"
            received = os.read(descriptor, 2**16)
            assert received, "the server died"
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)


@cache
def shared(install: str = "", *, heavy: bool = False) -> Server:
    """A server for all tests of this process; it dies with it."""
    started = Server(install, heavy=heavy)
    atexit.register(started.close)
    return started


def _serve(path: list[str], install: str, heavy: bool) -> None:
    """Read jobs from stdin and answer on stdout: first the numbers of the processes, then each end."""
    sys.path[:] = path
    globals().pop("__file__")  # or else it would be run again in a process that a stage has for itself
    shim = ctypes.CDLL(None)  # preloaded, so its functions are among the program's own
    os.environ.pop("LD_PRELOAD", None)  # what a command starts is not watched
    _import_everything(install, heavy)
    gc.freeze()
    for line in sys.stdin.buffer:
        job = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            hold, release = os.pipe()
            children = [_fork(job, Path(folder) / str(number), shim, hold) for number in range(job["copies"])]
            os.close(hold)
            os.close(release)  # they all start now
            _answer(children)
            for _ in children:
                pid, status = os.wait()
                ended = _end(Path(folder) / str(children.index(pid)), pid, status)
                _answer({**ended, **_met(shim, job["fault"]["root"])} if job["fault"] else ended)


def _import_everything(install: str, heavy: bool) -> None:
    """Once, so that no child has to; and let the libraries remember what they look up only once.

    Nothing is computed with TensorFlow here: its threads would not live on in a child.
    """
    exec(install, {})  # noqa: S102
    from simpipe.config import flatten, load
    from simpipe.engine.provenance import provenance
    from simpipe.progress import quiet_stderr

    provenance(flatten(load("baseline")))
    for name in LIGHT:
        import_module(f"simpipe.{name}")
    if heavy:
        os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        with quiet_stderr():
            for name in HEAVY:
                import_module(name)


def _fork(job: Mapping[str, Any], told: Path, shim: Any, hold: int) -> int:
    """A child that does the job when the other end of the pipe `hold` is closed everywhere; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.closerange(3, hold)
        os.closerange(hold + 1, 256)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(f"{told}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.closerange(hold + 1, 256)
        os.read(hold, 1)
        os.close(hold)
        code = _command(job, shim)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(job: Mapping[str, Any], shim: Any) -> int:
    from simpipe.cli import main

    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = ["simpipe", *job["arguments"]]
    exec(job["code"], {})  # noqa: S102
    fault = job["fault"]
    if fault and shim.fault_arm(fault["number"], fault["action"].encode(), os.fsencode(fault["root"])):
        raise ValueError(f"no such action: {fault['action']}")
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if fault:
            shim.fault_disarm()
    return 0


def _end(told: Path, pid: int, status: int) -> dict[str, Any]:
    stdout, stderr = (Path(f"{told}.{stream}").read_text(errors="replace") for stream in (1, 2))
    return asdict(Ended(pid, os.waitstatus_to_exitcode(status), stdout, stderr))


def _met(shim: ctypes.CDLL, root: str) -> dict[str, Any]:
    """What the shim of the child, dead or alive, left in the shared memory."""
    for told in (shim.fault_operations, shim.fault_operation, shim.fault_path):
        told.restype = ctypes.c_char_p
    path = os.fsdecode(shim.fault_path()).removeprefix(f"{root}/")
    hit = f"{shim.fault_operation().decode()} {path}" if shim.fault_hit() else None
    return {"operations": shim.fault_operations().decode(), "hit": hit}


def _answer(document: Any) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
