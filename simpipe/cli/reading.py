"""The commands that only read: `status` and `query`."""

from pathlib import Path
from typing import Annotated

import typer

from simpipe.cli.options import AsJson, RunName, RunsDir, Verbose
from simpipe.errors import CheckError


def status(
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 unless every stage is fresh.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Say which stages are fresh, and why the others are not. Takes no lock, writes nothing.

    \b
    Examples:
      simpipe status
      simpipe status --run baseline --check
    """
    from simpipe.cli.results import print_plan
    from simpipe.cli.rundirs import COPIED_KEYS, FILE_KEYS, config_values, damaged_copy, find_run
    from simpipe.engine.lock import holder
    from simpipe.engine.plan import Request, look, plan
    from simpipe.engine.requirements import changed_libraries
    from simpipe.stages import PIPELINE, STAGE_NAMES

    run = find_run(run_name, runs_dir)
    source = Path(run.describe()["source"])
    values = config_values(run)
    request = Request(
        source,
        None,
        values,
        STAGE_NAMES,
        files=FILE_KEYS,
        copied=COPIED_KEYS,
        source_may_be_gone=True,
        remember=False,
    )
    assessments = list(plan(run, PIPELINE, look(run, PIPELINE, request)))
    busy = holder(run.path)
    notes = [f"in use by {busy}"] if busy else []
    notes += [] if source.is_dir() else [f"{source} is gone; taken as it was"]
    notes += changed_libraries(run, PIPELINE)
    damaged = [] if run.config.is_file() else [f"{run.config} is missing"]
    damaged += damaged_copy(run)
    stale = any(assessment.runs for assessment in assessments)
    mend = run.command(source)
    next_command = mend if (stale or damaged) and not busy else None
    print_plan(run, assessments, STAGE_NAMES, as_json, notes + damaged, next_command)
    if check and stale:
        raise CheckError(f"{run.path} is not up to date", hint=mend)


def query(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many similar images.")] = 5,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DISTANCE",
            help="Name of a threshold: precision_0.95, optimal (best F1), ...; or a cosine distance, 0 to 2. "
            "If not given, the one of the report: the first precision that can be met.",
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Find similar images in a run, and the calibrated label.

    \b
    Examples:
      simpipe query new.jpg
      simpipe query new/*.jpg -k 10 --threshold precision_0.95 --json
      simpipe query new.jpg --threshold 0.3
    """
    from simpipe.cli.results import print_json, print_matches
    from simpipe.cli.rundirs import find_run
    from simpipe.runs import open_run

    results = open_run(find_run(run_name, runs_dir).path).query(images, k, threshold)
    if as_json:
        print_json({"schema": "simpipe.query/1", "results": [result.to_json() for result in results]})
    else:
        print_matches(results)
