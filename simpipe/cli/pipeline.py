"""The commands that work: `run`, and one for each stage."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simpipe import __version__
from simpipe.cli.completion import run_names, sources, stage_names
from simpipe.cli.console import Console
from simpipe.cli.intake import intake_document
from simpipe.cli.options import AsJson, DryRun, Force, Overrides, Quiet, RunName, RunsDir, Verbose, Wait
from simpipe.cli.page import NO_WISHES, REPORT_EXAMPLES, Open, Wishes, print_export, report_command, show_page
from simpipe.cli.results import print_json, print_plan, print_results
from simpipe.cli.stopping import stopping_gently
from simpipe.engine.journal import record
from simpipe.engine.rundir import RunDir, recover
from simpipe.engine.stage import Stage
from simpipe.errors import UsageError
from simpipe.stages import PIPELINE, STAGE_NAMES

if TYPE_CHECKING:
    from simpipe.engine.execute import Outcome
    from simpipe.engine.plan import Request


MOST_BYTES = 200
"""A name of more would not fit a file system, with what is put around it."""


def _stage_option(name: str, help_text: str) -> Any:
    return typer.Option(name, metavar="STAGE", help=help_text, autocompletion=stage_names)


Source = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        help="A YAML file, or the name of a preset: baseline, finetune, quick, unlabelled.",
        autocompletion=sources,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name", help="Name of the run; that of the configuration if not given, with --encoder that of DATA."
    ),
]
DATA_HELP = "Folder with one sub-folder of images for each label, or a table of images and labels in it."


def run(
    data: Annotated[Path, typer.Argument(metavar="DATA", help=DATA_HELP)],
    config: Source = "baseline",
    name: Name = None,
    runs_dir: RunsDir = Path("runs"),
    overrides: Overrides = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="RUN",
            help="Use the encoder of this finished run; nothing is trained.",
            autocompletion=run_names,
        ),
    ] = None,
    first: Annotated[str | None, _stage_option("--from", "Start with this stage.")] = None,
    last: Annotated[str | None, _stage_option("--to", "Stop after this stage.")] = None,
    only: Annotated[str | None, _stage_option("--only", "Just this stage.")] = None,
    force: Force = False,
    force_stage: Annotated[
        list[str] | None, _stage_option("--force-stage", "Run it even if fresh; repeatable.")
    ] = None,
    show: Open = False,
    dry_run: DryRun = False,
    wait: Wait = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Bring a run up to date, from the images to report.html. Stages that are fresh are skipped.

    The same command again goes on with the same run, also after it was stopped or killed.

    \b
    Examples:
      simpipe run photos/
      simpipe run photos/ --config quick --name first-look
      simpipe run photos/labels.csv
      simpipe run delivery/ --encoder baseline
      simpipe run photos/ --config mine.yaml --set train.epochs=60 --dry-run
    """
    from simpipe.cli.beforehand import require_network, settings_notes
    from simpipe.cli.rundirs import (
        request_of,
        require_lasting_exclusion,
        require_other_encoder,
        require_own_folder,
    )
    from simpipe.config import config_stem, load
    from simpipe.engine.plan import select
    from simpipe.engine.requirements import require_same_data, require_upstream

    selected = select(STAGE_NAMES, first, last, only)
    for forced in force_stage or []:
        select(selected, only=forced)
    if show and "report" not in selected:
        raise UsageError("--open: the report is not among the stages", hint="leave out --open, or --to")
    folder, table = _folder_and_table(data)
    given = [*(overrides or []), *_encoder_setting(encoder, runs_dir)]
    wanted = load(config, [*table, *given])
    named_after = folder.resolve().name if encoder else config_stem(config)
    target = RunDir(Path(runs_dir) / _valid_name(name or named_after))
    require_other_encoder(target, wanted)
    require_own_folder(target, folder)
    require_lasting_exclusion(target, wanted)
    console = _console(as_json, quiet, verbose)
    request = request_of(folder.resolve(), wanted, selected)
    require_network(target, request)
    request = replace(
        request,
        forced=frozenset(selected if force else force_stage or []),
        progress=console,
        command=target.command(data, config, given),
    )

    def check(target: RunDir, stages: tuple[Stage, ...], request: "Request") -> None:
        require_same_data(target, stages, request)
        require_upstream(target, stages, request)
        for note in settings_notes(target, request, config, [*table, *given]):
            console.note(note)

    if dry_run:
        _plan_only(target, request, check, console, as_json)
    else:
        outcomes = _work(target, lambda: request, check, wait, console)
        if show:
            show_page(target.path / "report.html", console)
        _show(target, outcomes, console.notes, as_json, quiet)


def _encoder_setting(name: str | None, runs_dir: Path) -> list[str]:
    """`--encoder` as a setting."""
    from simpipe.cli.rundirs import find_run

    if name is None:
        return []
    path = os.path.abspath(find_run(name, runs_dir).path)  # noqa: PTH100
    if not Path(path, "train", "encoder.json").is_file():
        raise UsageError(f"--encoder: the run {path} has no encoder yet", hint="finish that run first")
    return [f"train.encoder={json.dumps(path, ensure_ascii=False)}"]


def _folder_and_table(data: Path) -> tuple[Path, list[str]]:
    """The folder of the images; a table in its place becomes a setting.

    Raises:
        UsageError: there is no such folder or table.
    """
    from simpipe.config import TABLES

    if data.is_dir():
        return data, []
    if data.is_file() and data.suffix.lower() in TABLES:
        return data.parent, [f"ingest.table={json.dumps(os.path.abspath(data), ensure_ascii=False)}"]  # noqa: PTH100
    told = f"{data} is neither a folder nor a table" if data.exists() else f"no such folder: {data}"
    raise UsageError(
        told,
        hint="give the folder that has one sub-folder per label, or a table with the columns path and label "
        f"({', '.join(TABLES)}). An archive must be unpacked first",
    )


def ingest(
    data: Annotated[Path | None, typer.Argument(metavar="[DATA]", help=DATA_HELP)] = None,
    config: Source = "baseline",
    name: Name = None,
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    overrides: Overrides = None,
    force: Force = False,
    dry_run: DryRun = False,
    wait: Wait = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Read the images, set bad files and duplicates apart, split, and say what was found.

    With DATA as `simpipe run DATA` would; without, the data of the last run, or of the one that --run names.

    \b
    Examples:
      simpipe ingest photos/
      simpipe ingest photos/ --set ingest.label_from=leaf --dry-run
      simpipe ingest --run baseline
    """
    asked: dict[str, Any] = {
        **{"runs_dir": runs_dir, "overrides": overrides, "force": force, "dry_run": dry_run},
        **{"wait": wait, "as_json": as_json, "quiet": quiet, "verbose": verbose},
    }
    if data is not None:
        if run_name is not None:
            raise UsageError("--run names a run that has its data; leave out DATA or --run")
        run(data, config, name, only="ingest", **asked)
    elif name is not None or config != "baseline":
        raise UsageError("--config and --name belong to DATA", hint="simpipe ingest DATA --config …")
    else:
        _stage_command(PIPELINE[0])(run_name, **asked)


def add_stage_commands(app: typer.Typer) -> None:
    """One command for each stage of the pipeline."""
    app.command(short_help=PIPELINE[0].summary)(ingest)
    for stage in PIPELINE[1:]:
        is_page = stage.name == "report"
        app.command(
            stage.name,
            short_help=stage.summary,
            help=f"{stage.summary}\n\nWorks on the last run, or on the one that --run names, once the stages "
            f"before it are fresh.\n\n\b\nExamples:\n  simpipe {stage.name}\n"
            f"  simpipe {stage.name} --run baseline --dry-run" + (REPORT_EXAMPLES if is_page else ""),
        )(report_command(partial(_stage_command, stage)) if is_page else _stage_command(stage))


def _stage_command(stage: Stage, wishes: Wishes = NO_WISHES) -> Callable[..., None]:
    def command(
        run_name: RunName = None,
        runs_dir: RunsDir = Path("runs"),
        overrides: Overrides = None,
        force: Force = False,
        dry_run: DryRun = False,
        wait: Wait = 0,
        as_json: AsJson = False,
        quiet: Quiet = False,
        verbose: Verbose = 0,
    ) -> None:
        from simpipe.cli.beforehand import require_network
        from simpipe.cli.rundirs import (
            config_of,
            find_run,
            publish_report,
            request_of,
            require_lasting_exclusion,
            require_other_encoder,
        )
        from simpipe.config import idle_settings, override
        from simpipe.engine.requirements import require_upstream

        target = find_run(run_name, runs_dir)
        console = _console(as_json, quiet, verbose)

        def once(note: str) -> None:  # it is asked twice: also under the lock
            if note not in console.notes:
                console.note(note)

        def ask() -> "Request":
            before = config = config_of(target)
            if overrides:
                config = override(before, overrides)
                for idle in idle_settings(config, before):
                    once(idle)
            require_lasting_exclusion(target, config)
            require_other_encoder(target, config)
            source = Path(target.describe()["source"])
            if not source.is_dir():
                once(f"{source} is gone; it is taken as it was")
            request = request_of(source, config, [stage.name])
            require_network(target, request)
            return replace(
                request,
                forced=frozenset([stage.name] if force else []),
                source_may_be_gone=True,
                progress=console,
                command=target.command(source, None, overrides or []),
            )

        def afterwards() -> None:
            if wishes.export:
                from simpipe.runs.projector_export import export

                publish_report(target)  # the page stands even if the export fails
                export(target, wishes.export, console)

        if dry_run:
            _plan_only(target, ask(), require_upstream, console, as_json)
            return
        outcomes = _work(target, ask, require_upstream, wait, console, afterwards)
        if overrides:
            console.note(f"{', '.join(overrides)}: kept in {target.config}")
        if wishes.show:
            show_page(target.path / "report.html", console)
        _show(target, outcomes, console.notes, as_json, quiet, wishes.export)

    return command


def _console(as_json: bool, quiet: bool, verbose: int) -> Console:
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    return Console(quiet or as_json, verbose)


Check = Callable[[RunDir, tuple[Stage, ...], "Request"], None]


def _plan_only(target: RunDir, request: "Request", check: Check, console: Console, as_json: bool) -> None:
    """Say what would run; the planner is the one that a real run asks."""
    from simpipe.engine.plan import look, plan

    looked = look(target, PIPELINE, replace(request, remember=False))
    check(target, PIPELINE, looked)
    notes = console.notes if as_json else ()  # else they are told already
    print_plan(target, plan(target, PIPELINE, looked), request.selected, as_json, notes)


def _work(
    target: RunDir,
    ask: "Callable[[], Request]",
    check: Check,
    wait: float,
    console: Console,
    afterwards: Callable[[], None] = lambda: None,
) -> "list[Outcome]":
    """Take the run, look at the data, and bring it up to date.

    `ask` is called under the lock: a lone stage is asked for with the configuration that the run has then.
    So is `afterwards`, once the stages stand.
    """
    from simpipe.cli.rundirs import make_folders, save_request
    from simpipe.engine.execute import execute
    from simpipe.engine.plan import look

    with stopping_gently():
        make_folders(target.cache)
        if not (target.path / "run.json").is_file():
            look(target, PIPELINE, ask())  # bad data leave no run behind
            make_folders(target.path)
        with _taken(target, console, wait):
            request = ask()
            looked = look(target, PIPELINE, request)
            check(target, PIPELINE, looked)
            save_request(target, request)
            outcomes = execute(target, PIPELINE, looked, console)
            afterwards()
            return outcomes


@contextmanager
def _taken(target: RunDir, console: Console, wait: float) -> Iterator[None]:
    """Hold the run's lock, mended from what a killed process left."""
    from simpipe.cli.rundirs import publish_report
    from simpipe.engine.lock import run_lock

    def waiting(who: str) -> None:
        if not told:
            told.append(who)
            console.note(f"waiting for {who}")
        console.advance(0)  # hears of a wish to stop

    told: list[str] = []
    with run_lock(target.path, wait, waiting):
        console.journal = target.path
        record(target.path, "command", simpipe=__version__, command=sys.argv)
        for mended in recover(target, PIPELINE):
            console.note(mended)
        try:
            yield
        finally:
            console.close()
        publish_report(target)


def _show(
    target: RunDir,
    outcomes: "list[Outcome]",
    notes: list[str],
    as_json: bool,
    quiet: bool,
    export: Path | None = None,
) -> None:
    if as_json:
        report = target.path / "report.html"
        print_json(
            {
                "schema": "simpipe.run_result/1",
                "run": str(target.path),
                "stages": [outcome.to_json() for outcome in outcomes],
                "notes": notes,
                "report": str(report) if report.is_file() else None,
                "projector_export": str(export) if export else None,
                "intake": intake_document(target) if "ingest" in {each.stage for each in outcomes} else None,
            }
        )
    else:
        print_results(target, [outcome.stage for outcome in outcomes], quiet)
        if export and not quiet:
            print_export(export)


def _valid_name(name: str) -> str:
    plain = name.isprintable() and name == name.strip() and len(name.encode()) <= MOST_BYTES
    if not name or name.startswith(".") or "/" in name or not plain:
        raise UsageError(f"{name!r} cannot be the name of a run", hint="letters, digits, - and _ are safe")
    return name
