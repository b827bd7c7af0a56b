"""What else `report` does once the page stands: show it, and hand its data to the Embedding Projector."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from simpipe.cli.console import Console
from simpipe.cli.options import AsJson, DryRun, Force, Overrides, Quiet, RunName, RunsDir, Verbose, Wait
from simpipe.engine.rundir import RunDir
from simpipe.errors import UsageError

OWN_FOLDER = "projector"
"""The folder of an export in the run."""

PATIENCE_SECONDS = 5.0
"""Some commands return only when the browser is closed; after so long it is taken to be open."""

_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"

Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


class Wishes(NamedTuple):
    """`export`: the folder for the Embedding Projector, None for none; `show`: open the page in a browser."""

    export: Path | None = None
    show: bool = False


NO_WISHES = Wishes()

REPORT_EXAMPLES = "\n  simpipe report --open\n  simpipe report --projector-export embeddings/"


def report_command(bring: Callable[[Wishes], Callable[..., None]]) -> Callable[..., None]:
    """The command `report`; `bring` gives that of a stage, which also fulfils the wishes."""

    def command(
        folder: Annotated[
            Path | None,
            typer.Argument(
                metavar="DIR", help="Folder for --projector-export; `projector` in the run if not given."
            ),
        ] = None,
        run_name: RunName = None,
        runs_dir: RunsDir = Path("runs"),
        overrides: Overrides = None,
        force: Force = False,
        projector_export: Annotated[
            bool,
            typer.Option(
                "--projector-export",
                help="Also write embeddings, labels and thumbnails for TensorBoard's Embedding Projector.",
            ),
        ] = False,
        show: Open = False,
        dry_run: DryRun = False,
        wait: Wait = 0,
        as_json: AsJson = False,
        quiet: Quiet = False,
        verbose: Verbose = 0,
    ) -> None:
        from simpipe.cli.rundirs import find_run

        if folder is not None and not projector_export:
            raise UsageError(
                f"{folder}: a folder belongs to --projector-export", hint="name a run with --run"
            )
        export = _export_folder(find_run(run_name, runs_dir), folder) if projector_export else None
        asked: dict[str, Any] = {
            **{"runs_dir": runs_dir, "overrides": overrides, "force": force, "dry_run": dry_run},
            **{"wait": wait, "as_json": as_json, "quiet": quiet, "verbose": verbose},
        }
        bring(Wishes(export, show))(run_name, **asked)

    return command


def _export_folder(run: RunDir, given: Path | None) -> Path:
    """Where an export goes: the folder that was given, or one in the run.

    Raises:
        UsageError: something else lies there, or would see the export as its own.
    """
    from simpipe.runs.export_folder import require_free

    folder = given or run.path / OWN_FOLDER
    place, own = folder.resolve(), run.path.resolve()
    if own in place.parents and place.parent != own:
        raise UsageError(f"{folder} lies in a stage of the run", hint=f"name {run.path / OWN_FOLDER}")
    source = Path(run.describe()["source"]).resolve()
    if source == place or source in place.parents:
        raise UsageError(
            f"{folder} lies in the images, and would be read as one of their labels",
            hint=f"name another folder, or none for {run.path / OWN_FOLDER}",
        )
    require_free(folder)
    return folder


def print_export(folder: Path) -> None:
    """The two ways to open an export."""
    print(f"projector  {folder}")
    print(f"  tensorboard --logdir {shlex.quote(str(folder))}, and there the tab Projector")
    print("  or load embedding.tsv and metadata.tsv at https://projector.tensorflow.org")


def show_page(page: Path, console: Console) -> None:
    """Open a page in the user's browser; where there is none, say where the page is."""
    if not _opened(page.absolute().as_uri()):
        console.note(f"no browser could be opened here; the page is {page}")


def _opened(address: str) -> bool:
    """Whether the browser took it. What it writes goes nowhere: stdout is for results."""
    # without TERM no browser for text is tried: it would want the terminal
    environment = {name: value for name, value in os.environ.items() if name != "TERM"}
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _OPEN, address],
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            env=environment,
            start_new_session=True,  # Ctrl-C is not for the browser
        )
        return process.wait(PATIENCE_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
