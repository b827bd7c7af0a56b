"""The doors: Typer commands of a few lines each. The one place where an error becomes an exit code."""

import codecs
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from simpipe.errors import DiskError, SimpipeError, StageError, UsageError

_PLAIN = {"…": "...", "→": "->", "≤": "<=", "–": "-"}


def main() -> None:
    """The command `simpipe`."""
    from simpipe.cli.completion import mend_bash_words
    from simpipe.cli.stopping import listen_for_signals

    mend_bash_words(os.environ)  # before Typer reads them
    _mend_streams()
    listen_for_signals()
    code = _run()
    for stream in (sys.stdout, sys.stderr):
        _empty(stream)
    sys.exit(code)


def _run() -> int:
    """Carry out the command line; returns the exit code."""
    import typer

    from simpipe.cli.app import app

    try:
        code = app(prog_name="simpipe", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (BrokenPipeError, SystemExit):  # the latter is Typer's answer to the former
        return 0  # the reader of stdout, such as `head`, has enough
    except typer.TyperException as error:
        return _tell_usage(error)
    except SimpipeError as error:
        return _tell(error)
    except OSError as error:
        return _tell(_of_the_system(error), error)
    except Exception as error:
        return _tell(_fault(error), error)


def _of_the_system(error: OSError) -> SimpipeError:
    """What the operating system refused where nobody has named it better."""
    from simpipe.files import DISK_ERRORS, disk_error

    if error.errno not in DISK_ERRORS:
        return _fault(error)
    if error.filename is None:
        return DiskError(f"the results cannot be written: {error.strerror}")
    return disk_error(error, "simpipe", Path(str(error.filename)))


def _fault(error: Exception) -> SimpipeError:
    hint = "this is a fault of simpipe: see it with -vv, and report it with `simpipe doctor --json`"
    return StageError(f"{type(error).__name__}: {error}", hint=hint)


def _tell_usage(error: Any) -> int:
    """What Typer found wrong with the command line; it knows how to show the usage line."""
    from simpipe.cli.failures import wants_json

    if wants_json():
        hint = f"{error.ctx.command_path} --help" if getattr(error, "ctx", None) else "simpipe --help"
        return _tell(UsageError(error.format_message(), hint=hint))
    with suppress(OSError):
        error.show()
    return int(error.exit_code)


def _tell(failure: SimpipeError, cause: BaseException | None = None) -> int:
    from simpipe.cli.failures import failure_text

    failure.__cause__ = cause or failure.__cause__
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        print(failure_text(failure), file=sys.stderr, flush=True)
    return failure.exit_code


def _mend_streams() -> None:
    """See to it that printing cannot fail for want of a stream or of a character."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the caller; the next file that is opened must not take its place
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    codecs.register_error("plain", _spell_plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _spell_plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand-ins for characters that a terminal lacks, and for what is no text in file names."""
    if isinstance(error, UnicodeEncodeError) and (plain := _PLAIN.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)


def _empty(stream: Any) -> None:
    """Write out what is left; where nobody takes it any more, drop it, lest Python complain at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
