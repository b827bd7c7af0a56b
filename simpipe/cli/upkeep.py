"""The commands that look after what is there: `verify` and `gc`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simpipe.cli.options import AsJson, RunName, RunsDir, Verbose
from simpipe.errors import DamagedError, DiskError, UsageError
from simpipe.wording import count

if TYPE_CHECKING:
    from simpipe.runs.cleaning import Cleaning
    from simpipe.runs.verify import Verification

SHOWN = 20
"""Problems that people are told; JSON has all."""

DAYS = 30.0


def verify(
    run_name: RunName = None,
    runs_dir: RunsDir = Path("runs"),
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Only what the run wrote, not the images.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Hash all that a run wrote and was made of, and compare. Takes no lock, writes nothing.

    Exits with 5 if anything is damaged, missing or changed. It finds accidents, not forgeries.

    \b
    Examples:
      simpipe verify
      simpipe verify --run baseline --no-images
    """
    from simpipe.cli.console import Console
    from simpipe.cli.results import print_json
    from simpipe.cli.rundirs import find_run
    from simpipe.engine.lock import holder
    from simpipe.runs.verify import verify as check
    from simpipe.stages import PIPELINE

    run = find_run(run_name, runs_dir)
    console = Console(quiet=as_json)
    busy = holder(run.path)
    try:
        found = check(run, PIPELINE, images=not no_images, progress=console)
    finally:
        console.close()
    if busy:
        found.notes.insert(0, f"in use by {busy}: what it replaced meanwhile looks damaged")
    if as_json:
        print_json(
            {
                "schema": "simpipe.verify/1",
                "run": str(run.path),
                "checked": {"artifacts": found.artifacts, "images": found.images, "bytes": found.bytes},
                "problems": [{"path": each.path, "problem": each.problem} for each in found.problems],
                "notes": found.notes,
                "next": found.next,
            }
        )
    else:
        _tell_verification(found)
    if found.problems:
        raise typer.Exit(DamagedError.exit_code)


def _tell_verification(found: "Verification") -> None:
    for each in found.problems[:SHOWN]:
        print(f"{each.path}: {each.problem}")
    if len(found.problems) > SHOWN:
        print(f"… and {len(found.problems) - SHOWN:,} more")
    for note in found.notes:
        print(f"note: {note}")
    if found.problems:
        print(count(len(found.problems), "problem"))
        print(f"→ {found.next}")
    else:
        images = f", {count(found.images, 'image')}" if found.images else ""
        print(f"{count(found.artifacts, 'artifact')}{images}: whole")


def gc(
    runs_dir: RunsDir = Path("runs"),
    apply: Annotated[bool, typer.Option("--apply", help="Delete it.")] = False,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            help="Age of what may be of use yet: unused memos, checkpoints, results not taken up.",
        ),
    ] = DAYS,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """List what killed runs left, and memos that no run uses.

    With --apply, delete it. Nothing else is touched. Runs that another process works on are skipped.

    \b
    Examples:
      simpipe gc
      simpipe gc --older-than 7 --apply
    """
    from simpipe.cli.results import print_json
    from simpipe.runs.cleaning import clean
    from simpipe.stages import PIPELINE

    if not runs_dir.is_dir():
        raise UsageError(f"no such folder: {runs_dir}", hint="name the folder of the runs with --runs-dir")
    done = clean(runs_dir, PIPELINE, days=older_than, apply=apply)
    if as_json:
        print_json(
            {
                "schema": "simpipe.gc/1",
                "applied": apply,
                "items": [
                    {"path": str(item.path), "bytes": item.bytes, "why": item.why} for item in done.items
                ],
                "skipped": [{"path": str(path), "why": why} for path, why in done.skipped],
                "failed": [{"path": str(path), "why": why} for path, why in done.failed],
            }
        )
    else:
        _tell_cleaning(done, apply, runs_dir, older_than)
    if done.failed:
        path, why = done.failed[0]
        more = f", and {len(done.failed) - 1} more" if len(done.failed) > 1 else ""
        raise DiskError(f"could not be deleted: {path} ({why}){more}", hint="mend the permissions, try again")


def _tell_cleaning(done: "Cleaning", applied: bool, runs_dir: Path, days: float) -> None:
    from simpipe.files import readable_size

    for item in done.items:
        print(f"{item.path}  {readable_size(item.bytes)}  {item.why}")
    for path, why in done.skipped:
        print(f"skipped {path}: {why}")
    if not done.items:
        print("nothing to delete")
        return
    size = readable_size(sum(item.bytes for item in done.items))
    print(f"{count(len(done.items), 'item')}, {size}{' deleted' if applied else ''}")
    if not applied:
        words = ["simpipe", "gc", "--apply"]
        words += ["--runs-dir", str(runs_dir)] if runs_dir != Path("runs") else []
        words += ["--older-than", f"{days:g}"] if days != DAYS else []
        print(f"→ {shlex.join(words)}")
