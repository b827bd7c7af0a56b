"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from simpipe.cli import completion
from simpipe.cli.failures import hear_verbosity

RunsDir = Annotated[
    Path,
    typer.Option(
        "--runs-dir", metavar="FOLDER", envvar="SIMPIPE_RUNS_DIR", help="Folder that holds the runs."
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Name or path of a run; the last one if not given.",
        autocompletion=completion.run_names,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a configuration key; repeatable.",
        autocompletion=completion.settings,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run even what is fresh.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and why. Writes nothing.")]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for another process that has the run."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, errors as JSON too.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors, and the path of the report.")]
Verbose = Annotated[
    int,
    typer.Option(
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        callback=hear_verbosity,
        help="Tell all reasons; -vv: how an error came about, too.",
    ),
]
EXIT_CODES = (
    "Exit codes: 0 ok, 1 a stage failed, 2 usage or configuration, 3 a check said no, "
    "4 an upstream stage is missing or stale, 5 bad data or a damaged artifact, 6 the run is locked, "
    "7 disk or permission, 129/130/143 stopped by a signal."
)
