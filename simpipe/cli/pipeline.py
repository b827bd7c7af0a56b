"""The commands that work: `run`, and one for each stage."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simpipe.cli.console import Console
from simpipe.cli.options import AsJson, Force, Overrides, Quiet, RunName, RunsDir, Verbose
from simpipe.cli.results import print_json, print_plan, print_results
from simpipe.engine.rundir import RunDir, recover
from simpipe.engine.stage import Stage
from simpipe.errors import UsageError
from simpipe.files import sha256_file
from simpipe.stages import PIPELINE, STAGE_NAMES

if TYPE_CHECKING:
    from simpipe.config import Config
    from simpipe.engine.execute import Outcome
    from simpipe.engine.plan import Request


def run(
    data: Annotated[Path, typer.Argument(help="Folder with one sub-folder of images for each label.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help="A YAML file, or the name of a preset: baseline, quick.")
    ] = "baseline",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run; that of the configuration if not given.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    overrides: Overrides = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Start with this stage.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STAGE", help="Just this stage.")] = None,
    force: Force = False,
    force_stage: Annotated[
        list[str] | None,
        typer.Option("--force-stage", metavar="STAGE", help="Run it even if fresh; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and why. Writes nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Bring a run up to date, from the images to report.html. Stages that are fresh are skipped.

    Example: simpipe run photos/ --config baseline --set train.epochs=60
    """
    from simpipe.cli.rundirs import create_run, save_request
    from simpipe.config import config_stem, load
    from simpipe.engine.execute import execute
    from simpipe.engine.plan import plan, require_same_data, require_upstream, select

    selected = select(STAGE_NAMES, first, last, only)
    for forced in force_stage or []:
        select(selected, only=forced)
    wanted = load(config, overrides or [])
    target = RunDir(Path(runs_dir) / _valid_name(name or config_stem(config)))
    console = Console(quiet or as_json, verbose)
    request = _request(data.resolve(), wanted, selected, force, force_stage or [], console)
    if not data.is_dir():
        raise UsageError(f"no such folder: {data}")
    if dry_run:
        require_same_data(target, PIPELINE, request)
        print_plan(target, plan(target, PIPELINE, request), selected, as_json)
        return
    create_run(target, PIPELINE[0], request)
    with _working_on(target, console):
        require_same_data(target, PIPELINE, request)
        require_upstream(target, PIPELINE, request)
        save_request(target, request)
        outcomes = execute(target, PIPELINE, request, console)
    _show(target, outcomes, as_json, quiet)


def add_stage_commands(app: typer.Typer) -> None:
    """One command for each stage of the pipeline."""
    for stage in PIPELINE:
        app.command(stage.name, help=stage.summary, rich_help_panel="One stage alone")(_stage_command(stage))


def _stage_command(stage: Stage) -> Callable[..., None]:
    def command(
        run_name: RunName = None,
        runs_dir: RunsDir = Path("runs"),
        overrides: Overrides = None,
        force: Force = False,
        as_json: AsJson = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        from simpipe.cli.rundirs import find_run, save_request
        from simpipe.config import override, read_resolved
        from simpipe.engine.execute import execute
        from simpipe.engine.plan import require_upstream

        target = find_run(run_name, runs_dir)
        config = read_resolved(target.config)
        console = Console(quiet or as_json, verbose)
        if overrides:
            config = override(config, overrides)
        source = Path(target.describe()["source"])
        request = _request(source, config, [stage.name], force, [], console, lone=True)
        with _working_on(target, console):
            require_upstream(target, PIPELINE, request)
            save_request(target, request)
            if overrides:
                console.note(f"{', '.join(overrides)}: kept in {target.config}")
            outcomes = execute(target, PIPELINE, request, console)
        _show(target, outcomes, as_json, quiet)

    return command


def _request(
    source: Path,
    config: "Config",
    selected: Sequence[str],
    force: bool,
    force_stage: Sequence[str],
    console: Console,
    lone: bool = False,
) -> "Request":
    from simpipe.config import flatten
    from simpipe.engine.plan import Request

    forced = frozenset(selected) if force else frozenset(force_stage)
    values = flatten(config)
    if Path(config.train.weights).is_file():
        # what counts is the file's content, not where it lies
        values["train.weights"] = f"sha256:{sha256_file(Path(config.train.weights))}"
    return Request(source, config, values, selected, forced, lone, console)


@contextmanager
def _working_on(target: RunDir, console: Console) -> Iterator[None]:
    """Hold the run's lock, mended from what a killed process left."""
    from simpipe.cli.rundirs import publish_report
    from simpipe.engine.lock import run_lock

    with run_lock(target.path):
        for told in recover(target, PIPELINE):
            console.note(told)
        try:
            yield
        finally:
            console.close()
            publish_report(target)


def _show(target: RunDir, outcomes: "list[Outcome]", as_json: bool, quiet: bool) -> None:
    document: dict[str, Any] = {
        "schema": "simpipe.run_result/1",
        "run": str(target.path),
        "stages": [outcome.to_json() for outcome in outcomes],
    }
    if as_json:
        report = target.path / "report.html"
        print_json({**document, "report": str(report) if report.is_file() else None})
    else:
        print_results(target, [outcome.stage for outcome in outcomes], quiet)
    sys.stdout.flush()


def _valid_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} cannot be the name of a run", hint="letters, digits, - and _ are safe")
    return name
