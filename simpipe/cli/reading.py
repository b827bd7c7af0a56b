"""The commands that only read: `status`, `query`, and `init`, which writes no run."""

from pathlib import Path
from typing import Annotated

import typer

from simpipe.cli.options import AsJson, RunName, RunsDir
from simpipe.errors import CheckError, UsageError


def status(
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 unless every stage is fresh.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which stages of a run are fresh, and why the others are not."""
    from simpipe.cli.results import print_plan
    from simpipe.cli.rundirs import config_values, find_run
    from simpipe.engine.plan import Request, plan
    from simpipe.stages import PIPELINE, STAGE_NAMES

    run = find_run(run_name, runs_dir)
    source = Path(run.describe()["source"])
    request = Request(source, None, config_values(run), STAGE_NAMES, source_may_be_gone=True)
    assessments = list(plan(run, PIPELINE, request))
    print_plan(run, assessments, STAGE_NAMES, as_json)
    if check and any(assessment.runs for assessment in assessments):
        raise CheckError(f"{run.path} is not up to date", hint=f"simpipe run {source} --name {run.name}")


def query(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    k: Annotated[int, typer.Option("-k", min=1, help="How many similar images.")] = 5,
    threshold: Annotated[
        str, typer.Option(help="Name of a threshold: optimal, precision_0.95, …")
    ] = "optimal",
    as_json: AsJson = False,
) -> None:
    """Find the most similar images of a finished run, and the calibrated label."""
    from simpipe.cli.results import print_json, print_matches
    from simpipe.cli.rundirs import find_run
    from simpipe.runs import open_run

    results = open_run(find_run(run_name, runs_dir).path).query(images, k, threshold)
    if as_json:
        print_json({"schema": "simpipe.query/1", "results": [result.to_json() for result in results]})
    else:
        print_matches(results)


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("simpipe.yaml"),
    preset: Annotated[str, typer.Option(help="Preset to start from.")] = "baseline",
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    from simpipe.config import preset_text
    from simpipe.files import atomic_write

    text = preset_text(preset)
    if stdout:
        print(text, end="")
        return
    if path.exists():
        raise UsageError(f"{path} is there already", hint="name another file, or print with --stdout")
    atomic_write(path, text)
    print(path)
