"""The doors: Typer commands of a few lines each. The one place where an error becomes an exit code."""

import io
import json
import os
import signal
import sys
from typing import Any, NoReturn

from simpipe.errors import SimpipeError


def main() -> None:
    """The command `simpipe`."""
    from simpipe.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except SimpipeError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader, such as `head`, has enough; Python must not complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _stop(number: int, frame: Any) -> NoReturn:
    """End at once with the shell's code for the signal; whole stages stay, the rest is done again.

    No exception is raised: it could arise anywhere, and some libraries swallow it while they load.
    """
    children = sys.modules.get("multiprocessing")
    for child in children.active_children() if children else ():
        child.terminate()
    os.write(2, b"\nstopped; the same command goes on with the stages that are left\n")
    os._exit(128 + number)


def _tell(error: SimpipeError) -> None:
    if "--json" in sys.argv:
        document = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": document}), file=sys.stderr)
        return
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  → {error.hint}", file=sys.stderr)
