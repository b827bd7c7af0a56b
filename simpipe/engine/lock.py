"""One process at a time works on a run. A kernel lock dies with its process: nothing to unlock."""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from simpipe.errors import DiskError, LockedError


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run.

    Raises:
        LockedError: another process has it; the message names it.
        DiskError: the folder cannot be written.
    """
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DiskError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{folder} is in use by {_holder(folder)}",
                hint="wait until it has ended, or use another --name",
            ) from None
        _held.add(descriptor)
        os.ftruncate(descriptor, 0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
        }
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


_held: set[int] = set()


def _let_go() -> None:
    """The lock belongs to the open file, so a forked worker that outlives its parent would keep it."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / ".lock").read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
