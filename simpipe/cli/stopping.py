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
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_SECONDS = 10.0
"""After the first signal, the time to reach a place to stop at; then it ends at once after all."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_RESTORE_CURSOR = b"\x1b[?25h"


class _Wish:
    """What the signals of this process have asked for: `number` of the first, 0 for none."""

    number = 0
    working = False


def wished() -> int:
    """The number of the signal that asked to stop; 0 if none did."""
    return _Wish.number


def resume_command() -> str:
    """The command line that goes on with what this process does."""
    return shlex.join(["simpipe", *sys.argv[1:]])


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
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_listen, args=(reader,), daemon=True).start()


def _listen(reader: int) -> None:
    while True:
        [number] = os.read(reader, 1)
        if number not in SIGNALS:
            continue
        if not _Wish.working:
            _leave(number)
        _Wish.number = number
        again = ", Ctrl-C again to quit now" if number == signal.SIGINT else ""
        _tell(f"stopping at the next good place (at most {GRACE_SECONDS:.0f} s{again})")
        if select.select([reader], [], [], GRACE_SECONDS)[0]:
            [number] = os.read(reader, 1)
        if _Wish.working:
            _tell(f"stopped; go on with: {resume_command()}")
        _leave(number)


def _leave(number: int) -> None:
    children = sys.modules.get("multiprocessing")
    for child in children.active_children() if children else ():
        child.kill()
    if os.isatty(2):
        os.write(2, _RESTORE_CURSOR)
    os._exit(128 + number)


def _tell(text: str) -> None:
    os.write(2, f"\n{text}\n".encode(errors="backslashreplace"))
