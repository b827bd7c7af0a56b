"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunsDir = Annotated[
    Path, typer.Option("--runs-dir", envvar="SIMPIPE_RUNS_DIR", help="Folder that holds the runs.")
]
RunName = Annotated[
    str | None, typer.Option("--run", help="Name or path of a run; the last one if not given.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a configuration key; repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Run even what is fresh.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors, and the path of the report.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="All reasons.")]
EXIT_CODES = (
    "Exit codes: 0 ok · 1 a stage failed · 2 usage or configuration · 3 a check said no · "
    "4 an upstream stage is missing or stale · 5 bad data or a damaged artifact · 6 the run is locked · "
    "7 disk or permission · 130/143 stopped"
)
