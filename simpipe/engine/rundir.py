"""The run directory: where things lie, the receipts, and the commit that makes a stage whole or absent.

A stage is written into `.stage/NAME`. Its receipt is written there last; a folder with a receipt is
complete. The commit moves the old generation to `.old/NAME` and the new one to `NAME`. Killed between
the two renames, the run is mended by `recover` at the next start: nothing whole is ever lost.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError
from simpipe.files import read_json, sha256_file, sync_file, sync_folder, write_json

RECEIPT = "_stage.json"
RECEIPT_SCHEMA = "simpipe.stage/1"
RUN_SCHEMA = "simpipe.run/1"


@dataclass(frozen=True)
class RunDir:
    """One run on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration: what a lone stage reads."""
        return self.path / "config.yaml"

    @property
    def cache(self) -> Path:
        """Memos of pure functions, shared with the other runs beside it."""
        return self.path.parent / ".cache"

    def stage(self, name: str) -> Path:
        return self.path / name

    def staging(self, name: str) -> Path:
        return self.path / ".stage" / name

    def previous(self, name: str) -> Path:
        return self.path / ".old" / name

    def describe(self) -> dict[str, Any]:
        """The document in run.json: the schema, who made the run, and the data's root as `source`.

        Raises:
            DamagedError: it cannot be read, or a newer simpipe wrote it.
        """
        document = read_json(self.path / "run.json")
        return check_schema(document, RUN_SCHEMA, self.path / "run.json")

    def receipt(self, name: str) -> dict[str, Any] | None:
        """The receipt of a stage; None where the stage is not complete.

        Raises:
            DamagedError: it cannot be read, or a newer simpipe wrote it.
        """
        return read_receipt(self.stage(name))


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """The receipt in a stage's folder; None if there is none. See `RunDir.receipt`."""
    try:
        document = read_json(folder / RECEIPT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return check_schema(document, RECEIPT_SCHEMA, folder / RECEIPT)


def check_schema(document: Any, expected: str, path: Path) -> dict[str, Any]:
    """`document` if its schema is `expected`.

    Raises:
        DamagedError: it has none, or one of another version; the message names who wrote it.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == expected:
        return dict(document)
    if isinstance(schema, str) and schema.split("/")[0] == expected.split("/")[0]:
        raise DamagedError(
            f"{path}: simpipe {document.get('simpipe', '?')} wrote it as {schema}; this one reads {expected}",
            hint="use the version that wrote it, or start a new run with --name",
        )
    raise DamagedError(f"{path}: not a {expected.split('/')[0]} document")


def damage(folder: Path, receipt: dict[str, Any]) -> str | None:
    """The first output in `folder` that is not what the receipt says, as a sentence; None if all are."""
    for name, expected in receipt["outputs"].items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            return f"{path} is missing"
        if size != expected["bytes"]:
            return f"{path} has {size:,} bytes instead of {expected['bytes']:,}"
        if sha256_file(path) != expected["sha256"]:
            return f"{path} is not the file that was written (its SHA-256 differs)"
    return None


def prepare_staging(run: RunDir, stage: Stage) -> Path:
    """An empty folder for the stage to write into."""
    folder = run.staging(stage.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def seal(folder: Path, stage: Stage, receipt: dict[str, Any]) -> dict[str, Any]:
    """Hash the stage's outputs, make them durable, and write the receipt, last.

    Raises:
        RuntimeError: the stage did not write what it declares, or wrote something else; a bug.
    """
    expected = {*stage.outputs, *stage.logs}
    found = {path.name for path in folder.iterdir()}
    if found != expected:
        raise RuntimeError(f"stage {stage.name} declares {sorted(expected)} and wrote {sorted(found)}")
    outputs = {}
    for name in stage.outputs:
        outputs[name] = {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
    for name in expected:
        sync_file(folder / name)
    sealed = {**receipt, "schema": RECEIPT_SCHEMA, "outputs": outputs, "logs": list(stage.logs)}
    write_json(folder / RECEIPT, sealed)
    return sealed


def commit(run: RunDir, name: str) -> None:
    """Put a sealed staging folder in the place of the stage's old generation."""
    final, old = run.stage(name), run.previous(name)
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        old.parent.mkdir(exist_ok=True)
        final.rename(old)
    run.staging(name).rename(final)
    sync_folder(run.path)
    shutil.rmtree(old, ignore_errors=True)


def recover(run: RunDir, stages: Sequence[Stage]) -> list[str]:
    """Finish or undo what a killed process left; called under the run's lock. Returns what was done."""
    leftovers = [run.path / ".stage", run.path / ".old"]
    if not any(folder.exists() for folder in leftovers):
        return []
    told = []
    for stage in stages:
        if _is_sealed(run.staging(stage.name)):
            commit(run, stage.name)
            told.append(f"{stage.name}: had finished when the last run ended; committed now")
        elif _is_sealed(run.previous(stage.name)) and not _is_sealed(run.stage(stage.name)):
            shutil.rmtree(run.stage(stage.name), ignore_errors=True)
            run.previous(stage.name).rename(run.stage(stage.name))
            told.append(f"{stage.name}: put back as it was before the last run ended")
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return told


def _is_sealed(folder: Path) -> bool:
    try:
        receipt = read_receipt(folder)
    except DamagedError:
        return False
    return receipt is not None and damage(folder, receipt) is None
