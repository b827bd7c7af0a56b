"""The run directory: where things lie, the receipts, and the commit that makes a stage whole or absent.

A stage is written into a folder of its own, `.stage/NAME.xxxxxxxx`. Its receipt is written there last: a
folder whose receipt fits its files is *sealed*. The commit moves the old generation to `.old/` and the
sealed one into its place. Killed between these two renames, the run still has both; `standing` finds the
one that counts, for those who read, and `recover` puts it in its place at the next start.

The folders in `.stage/` and `.old/` have names that no other process uses, so that an orphan that still
writes spoils nothing, and what cannot be deleted is in nobody's way.
"""

import errno
import os
import shlex
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError, NewerError
from simpipe.files import digest, read_document, sha256_file, sync_file, sync_folder, write_json

RECEIPT = "_stage.json"
RECEIPT_SCHEMA = "simpipe.stage/2"
RUN_SCHEMA = "simpipe.run/1"

KEY_DIGITS = 32
"""Digits of a stage's key in the name of its folder of checkpoints."""


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

    def command(self, source: Path, config: str | None = None, settings: Sequence[str] = ()) -> str:
        """The command line that brings this run up to date.

        Args:
            source: the user's data.
            config: a configuration; the one that the run has if not given, and CONFIG, to be filled in, if it
                has lost that.
            settings: what `--set` changes in it.
        """
        config = config or (str(self.config) if self.config.is_file() else "CONFIG")
        words = ["simpipe", "run", str(source), "--config", config, "--name", self.name]
        if self.path.parent != Path("runs"):
            words += ["--runs-dir", str(self.path.parent)]
        for setting in settings:
            words += ["--set", setting]
        return shlex.join(words)

    def stage(self, name: str) -> Path:
        """The place of a stage's committed generation."""
        return self.path / name

    def staged(self, name: str) -> list[Path]:
        """What runs of the stage, dead or alive, have written and not committed."""
        return sorted((self.path / ".stage").glob(f"{name}.*"))

    def replaced(self, name: str) -> list[Path]:
        """Older generations that a commit moved away and has not deleted yet."""
        return sorted((self.path / ".old").glob(f"{name}.*"))

    def checkpoints(self, name: str, key: str) -> Path:
        """Where the stage keeps, under that key, what is to outlive a kill."""
        return self.path / ".stage" / f"{name}@{key[:KEY_DIGITS]}"

    def standing(self, name: str) -> Path:
        """Where the generation that counts lies: in its place, or where a cut-short commit left it."""
        place = self.stage(name)
        if os.path.lexists(place):
            return place
        left = (folder for folder in (*self.staged(name), *self.replaced(name)) if sealed_key(folder))
        return next(left, place)

    def describe(self) -> dict[str, Any]:
        """The document in run.json: the schema, who made the run, the data's root as `source`, and as
        `config` the values and the hash of config.yaml.

        Raises:
            DamagedError: it cannot be read, or a newer simpipe wrote it.
            FileNotFoundError: there is none.
        """
        try:
            document = read_document(self.path / "run.json", RUN_SCHEMA)
            config = document.get("config")
            if not (isinstance(document.get("source"), str) and isinstance(config, dict)):
                raise DamagedError(f"{self.path / 'run.json'}: not a whole document")
            if not (isinstance(config.get("sha256"), str) and isinstance(config.get("values"), dict)):
                raise DamagedError(f"{self.path / 'run.json'}: does not say which configuration the run has")
        except NewerError:
            raise
        except DamagedError as error:
            hint = f"write it anew: {self.command(Path('DATA'))}"
            raise DamagedError(error.message, hint=hint) from error
        return document

    def receipt(self, name: str) -> dict[str, Any] | None:
        """The receipt of a stage; None where the stage is not complete. Raises what `read_receipt` raises."""
        return read_receipt(self.standing(name))


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """The receipt in a stage's folder; None if there is none.

    Raises:
        DamagedError: it cannot be read; NewerError if a newer simpipe wrote it.
    """
    try:
        receipt = read_document(folder / RECEIPT, RECEIPT_SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not _is_whole(receipt):
        raise DamagedError(f"{folder / RECEIPT}: not a whole receipt")
    return receipt


def readable_receipt(run: RunDir, name: str) -> dict[str, Any] | None:
    """The receipt of a stage; None if there is none, or none that can be read.

    Raises:
        NewerError: a newer simpipe wrote it.
    """
    try:
        return run.receipt(name)
    except NewerError:
        raise
    except DamagedError:
        return None


def _is_whole(receipt: Mapping[str, Any]) -> bool:
    """Whether a receipt has all that is relied on; its key is the hash of its key document."""
    try:
        files = [entry for kind in ("outputs", "logs") for entry in receipt[kind].values()]
        return receipt["key"] == digest(receipt["key_doc"]) and all(
            isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str) for entry in files
        )
    except (LookupError, TypeError, AttributeError):
        return False


def damage(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each of `files`, as a receipt lists them, that is not in `folder` as it was written: one sentence."""
    for name, expected in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["bytes"]:
                yield f"{path} has {size:,} bytes instead of {expected['bytes']:,}"
            elif sha256_file(path) != expected["sha256"]:
                yield f"{path} is not the file that was written (its SHA-256 differs)"
        except FileNotFoundError:
            yield f"{path} is missing"
        except OSError as error:
            yield f"{path} cannot be read ({error.strerror})"


def sealed_key(folder: Path) -> str | None:
    """The key under which `folder` was sealed; None if it is not whole.

    Raises:
        NewerError: a newer simpipe sealed it.
    """
    try:
        receipt = read_receipt(folder)
    except NewerError:
        raise
    except DamagedError:
        return None
    return str(receipt["key"]) if receipt and not any(damage(folder, receipt["outputs"])) else None


def lists_other_files(receipt: Mapping[str, Any], stage: Stage) -> bool:
    """Whether a receipt of this version of the stage lists other files than the stage writes."""
    listed = (receipt["outputs"].keys(), receipt["logs"].keys())
    of_this_version = receipt["key_doc"].get("version") == stage.version
    return of_this_version and listed != (set(stage.outputs), set(stage.logs))


def sealed_under(run: RunDir, name: str, key: str) -> Path | None:
    """What a killed run of the stage finished under `key`, and did not commit any more."""
    return next((folder for folder in run.staged(name) if sealed_key(folder) == key), None)


def new_staging(run: RunDir, name: str) -> Path:
    """A fresh folder for a run of the stage to write into; what dead runs left is deleted."""
    for leftover in run.staged(name):
        discard(leftover)
    return _new_place(run.path / ".stage", name, make=True)


def seal(folder: Path, stage: Stage, receipt: Mapping[str, Any]) -> None:
    """Hash what the stage wrote, make it durable, and write the receipt, last.

    Raises:
        RuntimeError: the stage did not write what it declares, or wrote something else; a bug.
    """
    expected = {*stage.outputs, *stage.logs}
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if found != expected:
        raise RuntimeError(f"stage {stage.name} declares {sorted(expected)} and wrote {sorted(found)}")
    for name in sorted(expected):
        sync_file(folder / name)
    files = {kind: _hashes(folder, getattr(stage, kind)) for kind in ("outputs", "logs")}
    write_json(folder / RECEIPT, {"schema": RECEIPT_SCHEMA, **receipt, **files})


def _hashes(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }


def commit(run: RunDir, name: str, sealed: Path) -> None:
    """Put a sealed folder in the place of the stage's old generation; that one stays until this one stands.

    Raises:
        OSError: the disk refused; the old generation is back in its place.
    """
    place, old = run.stage(name), None
    if os.path.lexists(place):
        old = _new_place(run.path / ".old", name)
        _move(place, old)
    try:
        sealed.rename(place)
    except OSError:
        if old is not None:
            old.rename(place)
        raise
    sync_folder(run.path)
    tidy(run, name)


def _move(folder: Path, target: Path) -> None:
    """Rename a folder; copy it where its layer cannot be changed, as in the image of a container.

    Killed while the folder is deleted, the run still has what was sealed, and commits it the next time.
    """
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, target, symlinks=True)
        shutil.rmtree(folder)


def recover(run: RunDir, stages: Sequence[Stage]) -> list[str]:
    """Finish the commits that were cut short; called under the run's lock. Returns what was done."""
    told = []
    for stage in stages:
        place, standing = run.stage(stage.name), run.standing(stage.name)
        if standing != place:
            standing.rename(place)
            sync_folder(run.path)
            done = "put back as it was" if standing.parent.name == ".old" else "finished now"
            told.append(f"{stage.name}: the last run ended in the middle of its commit; {done}")
        for leftover in run.replaced(stage.name):
            discard(leftover)
    return told


def tidy(run: RunDir, name: str) -> None:
    """Delete what runs of the stage left beside its place, once its place holds what was wanted."""
    for leftover in (*run.staged(name), *run.replaced(name), *(run.path / ".stage").glob(f"{name}@*")):
        discard(leftover)
    remove_if_empty(run.path / ".stage")
    remove_if_empty(run.path / ".old")


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless something lies in it, such as another stage's work."""
    with suppress(OSError):
        folder.rmdir()


def discard(leftover: Path) -> None:
    """Delete a file or a folder; what cannot be deleted now is tried again at the next start."""
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover, ignore_errors=True)
        return
    with suppress(OSError):
        leftover.unlink()


def _new_place(parent: Path, name: str, make: bool = False) -> Path:
    parent.mkdir(exist_ok=True)
    place = parent / f"{name}.{uuid.uuid4().hex[:8]}"
    if make:
        place.mkdir()
    return place
