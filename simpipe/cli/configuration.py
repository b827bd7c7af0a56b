"""The commands around the configuration: `init` writes one, `config show` prints the one in force."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simpipe.cli.completion import preset_names, sources
from simpipe.cli.options import AsJson, Overrides, RunName, RunsDir, Verbose
from simpipe.errors import DiskError, UsageError

if TYPE_CHECKING:
    from simpipe.config import Config

config_app = typer.Typer(
    help="The configuration that is in force.", no_args_is_help=True, rich_markup_mode=None
)


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to write.")] = Path("simpipe.yaml"),
    preset: Annotated[
        str, typer.Option(help="Preset to start from.", autocompletion=preset_names)
    ] = "baseline",
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Write a commented configuration to start from, with every key.

    \b
    Examples:
      simpipe init
      simpipe init mine.yaml --preset quick
    """
    from simpipe.cli.results import print_json
    from simpipe.config import commented_yaml, load

    text = commented_yaml(load(preset), _readers())
    if not stdout:
        _write_new(path, text)
    if as_json:
        print_json({"schema": "simpipe.init/1", "path": None if stdout else str(path), "text": text})
    else:
        print(text if stdout else path, end="" if stdout else "\n")


@config_app.command()
def show(
    run_name: RunName = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="A YAML file or a preset instead.", autocompletion=sources),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    overrides: Overrides = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Print every value in force: of a run, of a file, or of a preset.

    \b
    Examples:
      simpipe config show --run baseline
      simpipe config show --config mine.yaml --set train.epochs=60
    """
    from simpipe.cli.results import print_json
    from simpipe.config import dump_yaml, flatten, override

    if run_name and config:
        raise UsageError("--run and --config cannot be combined", hint="a run has its configuration already")
    shown, origin = _in_force(run_name, config, runs_dir)
    if overrides:
        shown = override(shown, overrides)
    if as_json:
        print_json({"schema": "simpipe.config/1", "values": flatten(shown)})
    else:
        print(f"of {origin}", file=sys.stderr)
        print(dump_yaml(shown), end="")


@config_app.callback()
def _group() -> None:
    """Keeps `show` a command of its own; Typer would fold a lone one into the group."""


def _in_force(run_name: str | None, config: str | None, runs_dir: Path) -> "tuple[Config, str]":
    """The configuration that is meant, and whose it is."""
    from simpipe.cli.rundirs import LATEST, config_of, find_run
    from simpipe.config import load

    if config:
        return load(config), config
    if run_name or (runs_dir / LATEST).is_file():
        run = find_run(run_name, runs_dir)
        return config_of(run), str(run.path)
    return load("baseline"), "the preset baseline"


def _readers() -> dict[str, list[str]]:
    """The stages that read each key, by their own declarations."""
    from simpipe.config import Config, flatten
    from simpipe.engine.stage import declared
    from simpipe.stages import PIPELINE

    values = flatten(Config())
    return {
        key: [stage.name for stage in PIPELINE if key in declared(values, stage.config)] for key in values
    }


def _write_new(path: Path, text: str) -> None:
    from simpipe.files import atomic_write

    try:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already", hint="name another file, or print with --stdout")
        atomic_write(path, text)
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written: {error.strerror}", hint="name another file, or print with --stdout"
        ) from error
