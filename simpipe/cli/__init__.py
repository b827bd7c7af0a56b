"""The doors: Typer commands of a few lines each. The one place where an error becomes an exit code."""

import io
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from simpipe.errors import SimpipeError, StageError, UsageError

ERROR_SCHEMA = "simpipe.error/1"


def main() -> None:
    """The command `simpipe`."""
    from simpipe.cli.stopping import listen_for_signals

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    listen_for_signals()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader, such as `head`, has enough; Python must not complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _run() -> int:
    """Carry out the command line; returns the exit code."""
    import typer

    from simpipe.cli.app import app

    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        raise
    except typer.TyperException as error:
        return _tell_usage(error)
    except SimpipeError as error:
        return _tell(error)
    except OSError as error:
        from simpipe.engine.execute import disk_error

        return _tell(disk_error(error, "simpipe", Path.cwd()))
    except Exception as error:
        hint = "this is a fault of simpipe: see it with -vv, and report it with `simpipe doctor --json`"
        return _tell(StageError(f"{type(error).__name__}: {error}", hint=hint))


def _tell_usage(error: Any) -> int:
    """What Typer found wrong with the command line: it shows the usage line itself."""
    if "--json" in sys.argv:
        return _tell(UsageError(error.format_message(), hint="see simpipe --help"))
    error.show()
    return int(error.exit_code)


def _tell(error: SimpipeError) -> int:
    if re.search(r" (-vv|-v .*-v|--verbose .*--verbose)\b", " ".join(sys.argv)):
        traceback.print_exc()
    if "--json" in sys.argv:
        document = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "location": error.location,
        }
        print(json.dumps({"schema": ERROR_SCHEMA, "error": document}), file=sys.stderr)
    else:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  → {error.hint}", file=sys.stderr)
    return error.exit_code
