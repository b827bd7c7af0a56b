"""One process at a time works on a run. A kernel lock dies with its process: nothing to unlock."""

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from simpipe.errors import DiskError, LockedError
from simpipe.files import disk_error, is_alive

OFF = "SIMPIPE_LOCK"
"""Set this variable to `off` where the file system knows no locks; then see to it yourself."""

POLL_SECONDS = 0.1

PATIENCE_SECONDS = 0.3
"""A command that only looks whether a run may be cleaned holds it for less."""

WAIT_SECONDS = 3600
"""What is proposed to somebody who found the run locked."""


@dataclass(frozen=True)
class Holder:
    """Who works on a run."""

    pid: int
    host: str
    since: str
    command: str
    birth: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


@contextmanager
def run_lock(folder: Path, wait: float = 0, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a run.

    Args:
        folder: the run directory.
        wait: seconds to wait for a process that has the lock.
        waiting: called again and again while it waits, with the name of who has it.

    Raises:
        LockedError: another process has it; the message names it and since when.
        DiskError: the folder cannot be written, or its file system knows no locks.
    """
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise disk_error(error, "the lock of the run", folder) from error
    _held.add(descriptor)
    try:
        if os.environ.get(OFF) != "off":
            _take(
                descriptor, folder, time.monotonic() + max(wait, PATIENCE_SECONDS), waiting if wait else None
            )
        _sign(descriptor)
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int, folder: Path, until: float, waiting: Callable[[str], None] | None) -> None:
    while not _try(descriptor, folder):
        who = str(holder(folder) or "another process")
        if time.monotonic() >= until:
            raise LockedError(
                f"{folder} is in use by {who}", hint=f"wait for it: {_command_line()} --wait {WAIT_SECONDS}"
            )
        if waiting:
            waiting(who)
        time.sleep(POLL_SECONDS)


def _try(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise DiskError(
                f"the file system of {folder} knows no locks: {error.strerror}",
                hint=f"use another --runs-dir, or set {OFF}=off and never start two at once",
            ) from error
        raise DiskError(f"{folder} cannot be locked: {error.strerror}") from error
    return True


def _sign(descriptor: int) -> None:
    """Write into the lock's file who holds it: for messages, so a full disk does not matter."""
    me = Holder(
        os.getpid(),
        socket.gethostname(),
        datetime.now().astimezone().isoformat(timespec="seconds"),
        _command_line(),
        _birth(os.getpid()),
    )
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(me)).encode(), 0)


def _command_line() -> str:
    return shlex.join(["simpipe", *sys.argv[1:]])


def holder(folder: Path) -> Holder | None:
    """Who says that it works on a run, read without taking the lock; None if nobody alive does.

    For messages only: the truth is with the kernel.
    """
    try:
        found = Holder(**json.loads((folder / ".lock").read_bytes()))
        found = replace(found, pid=int(found.pid))
    except (OSError, ValueError, TypeError):
        return None
    is_it = is_alive(found.pid) and found.birth == _birth(found.pid)
    return found if is_it or found.host != socket.gethostname() else None


def _birth(pid: int) -> str | None:
    """When a process began, and under which start of the machine: numbers of processes come again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return f"{boot} {status.rpartition(')')[2].split()[19]}"


_held: set[int] = set()


def _let_go() -> None:
    """The lock belongs to the open file, so a forked worker that outlives its parent would keep it."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
