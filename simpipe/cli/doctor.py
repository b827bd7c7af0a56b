"""The command `doctor`: can this machine do the work?"""

from pathlib import Path
from typing import Annotated

import typer

from simpipe.cli.options import AsJson, RunsDir, Verbose


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Neither train nor search, only look at what is there.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Examine this machine: libraries, disk, locks, a small training.

    Exits with 1 if something fails.

    \b
    Examples:
      simpipe doctor --quick
      simpipe doctor --json > doctor.json
    """
    from simpipe.cli.checkup import checks, examine
    from simpipe.cli.results import print_json

    found = []
    for name, check in checks(runs_dir, quick):
        finding = examine(check)
        found.append({"name": name, **finding._asdict()})
        if not as_json:
            mend = f" → {finding.hint}" if finding.hint else ""
            print(f"{finding.status:4}  {name:14}  {finding.detail}{mend}", flush=True)
    if as_json:
        print_json({"schema": "simpipe.doctor/1", "checks": found})
    if any(check["status"] == "FAIL" for check in found):
        raise typer.Exit(1)
