"""Which run a command is about, and what is written into a run besides its stages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from simpipe import __version__
from simpipe.engine.plan import Request, content_hashes
from simpipe.engine.rundir import RUN_SCHEMA, RunDir
from simpipe.engine.stage import Stage
from simpipe.errors import DiskError, UsageError
from simpipe.files import atomic_write, sha256_file, write_json

LATEST = ".latest"


def find_run(name: str | None, runs_dir: Path) -> RunDir:
    """The run called `name` in `runs_dir`, or at the path `name`; the last one started without a name.

    Raises:
        UsageError: there is no such run.
    """
    if name is None:
        try:
            name = (runs_dir / LATEST).read_text(encoding="utf-8").strip()
        except OSError:
            raise UsageError(
                f"there is no run in {runs_dir} yet", hint="make one: simpipe run DATA"
            ) from None
    for path in (runs_dir / name, Path(name)):
        if (path / "run.json").is_file():
            return RunDir(path if path.name not in ("", "..") else path.resolve())
    present = sorted(path.parent.name for path in runs_dir.glob("*/run.json"))
    import difflib

    close = difflib.get_close_matches(name, present, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(present) or 'none'}"
    raise UsageError(f"no run is called {name!r} in {runs_dir}", hint=hint)


def create_run(run: RunDir, first: Stage, request: Request) -> None:
    """Make the run's folder, once the source has been looked at: bad data leave no empty run behind.

    Raises:
        DiskError: the folder cannot be made or written.
    """
    with _writing(run.path):
        run.cache.mkdir(parents=True, exist_ok=True)
        if not os.access(run.cache.parent, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
        content_hashes(run, first, request)
        run.path.mkdir(exist_ok=True)


def save_request(run: RunDir, request: Request) -> None:
    """Write the data's root and the resolved configuration into the run, and name it as the last one."""
    from simpipe.config import dump_yaml

    with _writing(run.path):
        resolved = dump_yaml(request.config)
        document = {
            "schema": RUN_SCHEMA,
            "simpipe": __version__,
            "source": str(request.source),
            "config": {"sha256": sha256(resolved.encode()).hexdigest(), "values": dict(request.values)},
        }
        atomic_write(run.config, resolved)
        write_json(run.path / "run.json", document)
        atomic_write(run.path.parent / LATEST, f"{run.name}\n")


def config_values(run: RunDir) -> dict[str, Any]:
    """The run's configuration, flat.

    run.json remembers it beside the hash of config.yaml, so that only an edited file has to be checked
    again, which loads the whole configuration room.
    """
    remembered: dict[str, Any] = run.describe().get("config", {})
    if run.config.is_file() and sha256_file(run.config) == remembered.get("sha256"):
        return dict(remembered["values"])
    from simpipe.config import flatten, read_resolved

    return dict(flatten(read_resolved(run.config)))


def publish_report(run: RunDir) -> None:
    """Copy the report to the top of the run, where people look for it."""
    page, copy = run.stage("report") / "report.html", run.path / "report.html"
    if page.is_file() and not (copy.is_file() and copy.stat().st_mtime_ns >= page.stat().st_mtime_ns):
        with _writing(copy):
            atomic_write(copy, page.read_bytes())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written: {error.strerror}", hint="choose another --runs-dir"
        ) from error
