"""Ctrl-C, TERM and HUP: the first asks the work to stop at the next good place, the second ends it at once.

A thread listens, not a Python signal handler: that one waits until the main thread is back from native
code, such as a long index build. Nothing needs cleaning up. A run that is cut off anywhere is whole.
"""

import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from simpipe.cli.failures import failure_text, wants_json
from simpipe.errors import Stopped

GRACE_SECONDS = 10.0
"""After the first signal, the time to reach a place to stop at; then it ends at once after all."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SHOW_CURSOR = "\x1b[?25h"


class _Wish:
    """What the signals of this process have asked for: `number` of the first, 0 for none."""

    number = 0
    working = False


def wished() -> int:
    """The number of the signal that asked to stop; 0 if none did."""
    return _Wish.number


def stopped(number: int) -> Stopped:
    """The end that signal `number` asked for, with the command line that goes on."""
    return Stopped(
        "stopped; what was done is kept", signal=number, hint=shlex.join(["simpipe", *sys.argv[1:]])
    )


@contextmanager
def stopping_gently() -> Iterator[None]:
    """While this lasts, the first signal is a wish; outside, it ends the process."""
    _Wish.working = True
    try:
        yield
    finally:
        _Wish.working = False


def listen_for_signals() -> None:
    """Take over the signals that end a process, but those that are ignored already (`nohup`)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _heard_by_the_thread)
    os.register_at_fork(after_in_child=_hear_nothing)
    threading.Thread(target=_listen, args=(reader,), daemon=True).start()


def _heard_by_the_thread(number: int, frame: Any) -> None:
    """Python writes the number of a signal that has a handler into the pipe; nothing else is to do."""


def _hear_nothing() -> None:
    """In a forked worker: it dies of a signal, and writes none into the pipe of its parent."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _heard_by_the_thread:
            signal.signal(number, signal.SIG_DFL)


def _listen(reader: int) -> None:
    number = _next_signal(reader)
    if not _Wish.working:
        _leave(number, told=not wants_json())
    _Wish.number = number
    if not wants_json():
        again = ", Ctrl-C again to quit now" if number == signal.SIGINT else ""
        _tell(f"stopping at the next good place (at most {GRACE_SECONDS:.0f} s{again})")
    second = _next_signal(reader, GRACE_SECONDS)
    if not second and not _Wish.working:
        second = _next_signal(reader)  # the work has stopped, and the main thread tells so itself
    _leave(second or number, told=not _Wish.working)


def _next_signal(reader: int, seconds: float | None = None) -> int:
    """The number of the next of our signals; 0 if none comes in time."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if until is None else max(until - time.monotonic(), 0)
        if not select.select([reader], [], [], left)[0]:
            return 0
        [number] = os.read(reader, 1)
        if number in SIGNALS:
            return number


def _leave(number: int, told: bool) -> None:
    """End this process and those that it started; say how to go on, if that was not `told`."""
    _tell("" if told else failure_text(stopped(number)))
    children = sys.modules.get("multiprocessing")
    for child in children.active_children() if children else ():
        child.kill()
    os._exit(128 + number)


def _tell(text: str) -> None:
    """Write to stderr past Python's buffer, which the main thread may hold; never wait for a full pipe."""
    if not select.select([], [2], [], 0)[1]:
        return
    on_terminal = os.isatty(2)
    bar = _SHOW_CURSOR if on_terminal and "rich.live" in sys.modules else ""
    start = "\n" if on_terminal else ""  # the terminal has shown ^C, or a bar
    end = "\n" if text else ""
    encoding = getattr(sys.__stderr__, "encoding", "utf-8")  # sys.stderr is a stand-in under a bar
    with suppress(OSError):  # the terminal may be gone; that is what HUP says
        os.write(2, f"{bar}{start}{text}{end}".encode(encoding, "plain"))
