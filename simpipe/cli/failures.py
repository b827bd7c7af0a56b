"""How a failure is told on stderr: a sentence for people; with --json one document, `simpipe.error/1`."""

import json
import sys
import traceback

from simpipe.errors import SimpipeError, Stopped

SCHEMA = "simpipe.error/1"


class _Heard:
    verbosity = 0


def hear_verbosity(count: int) -> int:
    """Remember how often -v was given, for a failure that comes later."""
    _Heard.verbosity = count
    return count


def wants_json() -> bool:
    """Whether --json is on the command line; asked also where the rest of it makes no sense."""
    return "--json" in sys.argv[1:]


def failure_text(error: SimpipeError) -> str:
    """What is to be told of `error`, ending with how to go on; with -vv also how it came about."""
    story = "".join(traceback.format_exception(error)) if _Heard.verbosity > 1 else ""
    if wants_json():
        document = {name: getattr(error, name) for name in ("code", "message", "hint", "location")}
        return json.dumps({"schema": SCHEMA, "error": document | ({"traceback": story} if story else {})})
    from simpipe.data.scan import printable  # names of files and labels may be in it

    told = error.message if isinstance(error, Stopped) else f"error: {error.message}"
    told += f"\n  → {error.hint}" if error.hint else ""
    return story + "\n".join(map(printable, told.split("\n")))
