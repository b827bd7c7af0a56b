"""The folder of an export: whole or absent, and never in the place of anything but an earlier export."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path

from simpipe.errors import DamagedError, UsageError
from simpipe.files import TEMPORARY, disk_error, is_alive, read_document, sync_file, sync_folder

MARK = "export.json"
"""What an export says of itself; its `files` are those that it wrote."""

SCHEMA = "simpipe.projector_export/1"


def require_free(folder: Path) -> None:
    """Refuse a folder in which something lies that no export has written.

    Raises:
        UsageError: it is not empty and not an earlier export, or no folder.
    """
    hint = "name another folder, or move away what lies there"
    if not folder.exists():
        if folder.is_symlink():
            raise UsageError(f"{folder} is a link to nothing", hint=hint)
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="name a folder")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        written = {MARK, *read_document(folder / MARK, SCHEMA)["files"]}
    except (DamagedError, FileNotFoundError, LookupError, TypeError):
        raise UsageError(f"{folder} is not empty, and not an earlier export", hint=hint) from None
    if other := sorted(found - written):
        raise UsageError(f"{folder} is an earlier export, but {other[0]!r} in it is not of it", hint=hint)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into: at the end it takes the place of the earlier export.

    If the work fails it is deleted, and what was there stays. Killed at any instant, this leaves at most
    a hidden folder, which the next export to the same place deletes; between the last two renames `folder`
    is missing.

    Raises:
        UsageError: something else lies in `folder` at the end.
        DiskError: no room, or no permission.
    """
    place = folder.resolve()
    host = socket.gethostname()
    made = place.with_name(f".{place.name}.{getpid()}@{host}")
    old = place.with_name(f".{place.name}.{getpid()}-0@{host}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (*_leftovers(place), made, old):
            shutil.rmtree(leftover, ignore_errors=True)
        made.mkdir()
        yield made
        for path in made.iterdir():
            sync_file(path)
        require_free(place)
        _swap(made, place, old)
    except OSError as error:
        raise disk_error(error, "the export", place) from error
    finally:
        for leftover in (made, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _swap(made: Path, place: Path, old: Path) -> None:
    if place.exists():
        place.rename(old)
    try:
        made.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    sync_folder(place.parent)


def _leftovers(place: Path) -> Iterator[Path]:
    """What exports to `place` left that were killed on this machine."""
    for other in place.parent.iterdir():
        found = TEMPORARY.fullmatch(other.name)
        ours = found and (found["name"], found["host"]) == (place.name, socket.gethostname())
        if found and ours and not is_alive(int(found["pid"])):
            yield other
