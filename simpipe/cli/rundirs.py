"""Which run a command is about, and what is written into a run besides its stages."""

import errno
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe import __version__
from simpipe.engine.plan import Request
from simpipe.engine.rundir import RUN_SCHEMA, RunDir, damage, readable_receipt, sealed_key
from simpipe.errors import ConfigError, DamagedError, DiskError, UsageError
from simpipe.files import atomic_write, digest, disk_error, pretty_json, sha256_file

if TYPE_CHECKING:
    from simpipe.config import Config

LATEST = ".latest"

FILE_KEYS = ("train.weights", "train.backbone", "train.encoder", "ingest.table", "ingest.exclude")
"""Configuration keys that may name a file: those of `config.FILE_KEYS`, told without loading that room."""

COPIED_KEYS = ("train.encoder",)
"""Those of them whose file a run copies: it needs it no more."""

EXCLUSION = "exclude.csv"
"""The run's copy of the file that `ingest.exclude` names."""


def find_run(name: str | None, runs_dir: Path) -> RunDir:
    """The run called `name` in `runs_dir`, or at the path `name`; the last one started without a name.

    Raises:
        UsageError: there is no such run.
        DamagedError: it has lost its run.json, or the note which run was the last is not whole.
    """
    if name is None:
        name = _last_run(runs_dir)
    for path in (runs_dir / name, Path(name)):
        if (path / "run.json").is_file():
            return RunDir(path if path.name not in ("", "..") else path.resolve())
    if (runs_dir / name / "config.yaml").is_file():
        raise DamagedError(
            f"{runs_dir / name / 'run.json'} is missing",
            hint=f"write it anew: {RunDir(runs_dir / name).command(Path('DATA'))}",
        )
    present = run_names(runs_dir)
    import difflib

    close = difflib.get_close_matches(name, present, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(present) or 'none'}"
    raise UsageError(f"no run is called {name!r} in {runs_dir}", hint=hint)


def run_names(runs_dir: Path) -> list[str]:
    """The names of the runs in a folder."""
    return sorted(path.parent.name for path in runs_dir.glob("*/run.json"))


def _last_run(runs_dir: Path) -> str:
    try:
        text = (runs_dir / LATEST).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if names := run_names(runs_dir):
            told = f"{runs_dir / LATEST} is missing"
            raise UsageError(told, hint=f"name the run: --run NAME; there are {', '.join(names)}") from None
        raise UsageError(f"there is no run in {runs_dir} yet", hint="make one: simpipe run DATA") from None
    except OSError as error:
        raise DiskError(f"{runs_dir / LATEST} cannot be read: {error.strerror}") from error
    if text.endswith("\n") and text.strip():
        return text.removesuffix("\n")
    raise DamagedError(
        f"{runs_dir / LATEST} is not whole",
        hint=f"name the run: --run NAME; there are {', '.join(run_names(runs_dir)) or 'none'}",
    )


def require_own_folder(run: RunDir, source: Path) -> None:
    """Refuse to work in a folder that is the user's: stages replace what lies in their places.

    Raises:
        UsageError: the run would lie where the data are, or in a folder that holds something else.
    """
    folder, data = run.path.resolve(), source.resolve()
    if folder == data or folder in data.parents or data in folder.parents:
        raise UsageError(
            f"the run {run.path} would lie over or in the data {source}",
            hint="choose another --name or --runs-dir, so that it lies outside",
        )
    marks = ("run.json", "config.yaml", ".lock")
    if (
        run.path.is_dir()
        and any(run.path.iterdir())
        and not any((run.path / mark).exists() for mark in marks)
    ):
        raise UsageError(
            f"{run.path} is not a run, and something lies in it", hint="choose another --name or --runs-dir"
        )


def request_of(source: Path, config: Any, selected: Sequence[str]) -> Request:
    """What is asked of a run, with this configuration."""
    from simpipe.config import flatten

    return Request(source, config, flatten(config), selected, files=FILE_KEYS, copied=COPIED_KEYS)


def make_folders(folder: Path) -> None:
    """Make `folder` and those above it.

    Raises:
        DiskError: one of them cannot be made, or written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def save_request(run: RunDir, request: Request) -> None:
    """Write the data's root and the resolved configuration into the run, and name it as the last one."""
    from simpipe.config import dump_yaml

    with _writing(run.path):
        request = _with_own_exclusion(run, request)
        resolved = dump_yaml(request.config)
        document = {
            "schema": RUN_SCHEMA,
            "simpipe": __version__,
            "source": str(request.source),
            "config": {
                "sha256": sha256(resolved.encode()).hexdigest(),
                "values": dict(request.values),
                "values_digest": digest(dict(request.values)),
            },
        }
        _update(run.path / "run.json", pretty_json(document))
        _update(run.config, resolved)
        _update(run.path.parent / LATEST, f"{run.name}\n")


def _with_own_exclusion(run: RunDir, request: Request) -> Request:
    """`request` with `ingest.exclude` copied into the run: the findings it came from may change or go."""
    given = request.values["ingest.exclude"]
    own = run.path.resolve() / EXCLUSION
    if given is None:
        return request
    if Path(given) != own:
        _update(own, Path(given).read_bytes())
    # relative, so that the run can be moved
    config = _excluding(request.config, EXCLUSION)
    return replace(request, config=config, values={**request.values, "ingest.exclude": EXCLUSION})


def _excluding(config: "Config", path: str) -> "Config":
    ingest = config.ingest.model_copy(update={"exclude": path})
    return config.model_copy(update={"ingest": ingest})


def require_lasting_exclusion(run: RunDir, config: "Config") -> None:
    """Refuse to leave out what a file inside the run says: its stages write those files anew.

    Raises:
        UsageError: the file is missing, or it is one that a stage writes.
    """
    if config.ingest.exclude is None:
        return
    path = Path(config.ingest.exclude)
    if not path.is_file():
        raise UsageError(f"ingest.exclude: there is no file {path}", hint="give the path of a findings.csv")
    inside = path.resolve()
    if run.path.resolve() in inside.parents and inside != run.path.resolve() / EXCLUSION:
        raise UsageError(
            f"ingest.exclude: {path} is written anew by this run",
            hint=f"keep your choice in a file of your own: cp {shlex.quote(str(path))} exclude.csv",
        )


def require_other_encoder(run: RunDir, config: "Config") -> None:
    """Refuse a run that would take its own encoder.

    Raises:
        UsageError: `train.encoder` lies in the run.
    """
    encoder = config.train.encoder
    if encoder is not None and run.path.resolve() in Path(encoder).resolve().parents:
        raise UsageError(
            f"train.encoder: the run {run.path} would take its own encoder",
            hint="give this run another --name",
        )


def _update(path: Path, content: str | bytes) -> None:
    """Write a file whose content is another one."""
    raw = content.encode() if isinstance(content, str) else content
    if not path.is_file() or path.read_bytes() != raw:
        atomic_write(path, raw)


def config_of(run: RunDir) -> "Config":
    """The run's resolved configuration.

    Raises:
        DamagedError: config.yaml is missing, or what `read_resolved` raises.
    """
    from simpipe.config import read_resolved

    document = run.describe()
    try:
        if not run.config.is_file():
            raise DamagedError(f"{run.config} is missing")
        config = read_resolved(run.config, document["config"]["sha256"])
        own = str(run.path.resolve() / EXCLUSION)
        return _excluding(config, own) if config.ingest.exclude == EXCLUSION else config
    except (ConfigError, DamagedError) as error:
        anew = run.command(Path(document["source"]), "CONFIG")
        hint = f"write it anew, with your configuration or a preset for CONFIG: {anew}"
        raise DamagedError(error.message, hint=hint, location=error.location) from error


def config_values(run: RunDir) -> dict[str, Any]:
    """The run's configuration, flat.

    run.json remembers it beside the hash of config.yaml: so only an edited file, or that of another
    version, has to be checked again, which loads the whole configuration room.
    """
    document = run.describe()
    remembered: dict[str, Any] = document["config"]
    values = dict(remembered["values"])
    whole = digest(values) == remembered.get("values_digest")
    if whole and document.get("simpipe") == __version__ and _hash(run.config) in (None, remembered["sha256"]):
        if values.get("ingest.exclude") == EXCLUSION:
            values["ingest.exclude"] = str(run.path.resolve() / EXCLUSION)
        return values
    from simpipe.config import flatten

    return dict(flatten(config_of(run)))


def _hash(path: Path) -> str | None:
    """The hash of a file; None if there is none, as in a run that was killed before it had begun."""
    return sha256_file(path) if path.is_file() else None


def publish_report(run: RunDir) -> None:
    """Copy the report to the top of the run, where people look for it, unless the copy is there and whole."""
    if damaged_copy(run) and sealed_key(run.stage("report")):
        with _writing(run.path / "report.html"):
            atomic_write(run.path / "report.html", (run.stage("report") / "report.html").read_bytes())


def damaged_copy(run: RunDir) -> list[str]:
    """What is wrong with the copy of the report at the top of the run, as sentences."""
    receipt = readable_receipt(run, "report")
    expected = receipt["outputs"].get("report.html") if receipt else None
    return list(damage(run.path, {"report.html": expected})) if expected else []


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, f"{path} cannot be written", path) from error
