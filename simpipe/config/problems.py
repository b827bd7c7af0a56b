"""What is wrong with a configuration, told to the person who wrote it: every problem, in one message."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from simpipe.errors import ConfigError

HINT = "Nothing was run. All keys: simpipe init --stdout"
MOST = 50  # problems that are listed; with more of them it is some other file


@dataclass(frozen=True)
class Problem:
    """One problem. `key` is dotted and may be empty, `line` counts from 1 and is 0 outside a file.

    `override` is the text of the `--set` that it came with; `quoted` asks for the source line below it.
    """

    message: str
    key: str = ""
    line: int = 0
    override: str | None = None
    quoted: bool = False


def config_error(name: str, problems: Sequence[Problem], text: Sequence[str] = ()) -> ConfigError:
    """The error that lists the `problems` of the file `name`, by line; those of `--set` come last.

    `text` holds the lines of the file, to quote from.
    """
    in_file = sorted(
        (problem for problem in problems if problem.override is None), key=lambda problem: problem.line
    )
    in_overrides = [problem for problem in problems if problem.override is not None]
    where = " and ".join([name] * bool(in_file) + ["--set"] * bool(in_overrides))
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    width = len(str(max((problem.line for problem in in_file), default=0)))
    rows = [f"{where}: {count}"]
    for problem in (in_file + in_overrides)[:MOST]:
        place = (
            f"line {problem.line:<{width}}"
            if problem.override is None
            else f"--set {shortened(problem.override)}"
        )
        key = f"{problem.key}: " if problem.key else ""
        rows.append(f"  {place}  {key}{problem.message}")
        if problem.quoted and 0 < problem.line <= len(text):
            rows.append(f"      {problem.line} | {shortened(text[problem.line - 1].rstrip())}")
    if len(problems) > MOST:
        rows.append(f"  … and {len(problems) - MOST} more")
    location = f"{name}:{in_file[0].line}" if in_file else None
    return ConfigError("\n".join(rows), hint=HINT, location=location)


def shown(value: object) -> str:
    """A value as its author would write it, short and on one line."""
    return shortened(repr(value) if isinstance(value, str) else json.dumps(value, default=str))


def shortened(text: str, limit: int = 100) -> str:
    """`text`, cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
