"""Files that are whole or absent: atomic writes, hashes, and one canonical form of JSON."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from simpipe.errors import DamagedError, DiskError, NewerError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
"""What the operating system says where a disk is full, broken or not to be written."""

TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,10})(-\d+)?@(?P<host>[^/]+)")
"""How a file is called while it is written: after the file it will be, and the process, or its thread."""


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Holds against the death of the process at any instant and, where the file system honours fsync,
    against the loss of power. What a killed writer left is deleted by the next one.
    """
    raw = content.encode() if isinstance(content, str) else content
    for leftover in _leftovers(path):
        with suppress(OSError):
            leftover.unlink()
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _leftovers(path: Path) -> Iterator[Path]:
    """Writes of `path` that were cut short on this machine."""
    for other in path.parent.glob(f".{glob.escape(path.name)}.*@{glob.escape(socket.gethostname())}"):
        found = TEMPORARY.fullmatch(other.name)
        if found and found["name"] == path.name and not is_alive(int(found["pid"])):
            yield other


def is_alive(pid: int) -> bool:
    """Whether a process with that number runs on this machine, anybody's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return pid > 0


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; file systems that cannot are left alone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of `path` durable."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(document: Any) -> str:
    """`document` as JSON with one spelling: sorted keys, no spaces, no NaN. Equal documents, equal text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(document: Any) -> str:
    """The SHA-256 of a JSON document in its canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def content_id(path: Path) -> str:
    """What the file, or the files of the folder, at `path` are, as `sha256:…`; nothing of them is run."""
    if path.is_file():
        return f"sha256:{sha256_file(path)}"
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return f"sha256:{digest({each.relative_to(path).as_posix(): sha256_file(each) for each in files})}"


def pretty_json(document: Any) -> str:
    """`document` as sorted and indented JSON: for people, for `diff`, and for equal bytes."""
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    if not _is_text(text):  # the name of a file need not be
        text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False)
    return text + "\n"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_json(path: Path, document: Any) -> None:
    """Write `document` atomically, as `pretty_json` has it."""
    atomic_write(path, pretty_json(document))


def read_json(path: Path) -> Any:
    """The JSON document in `path`.

    Raises:
        DamagedError: the file is there but is not JSON.
        FileNotFoundError: there is no such file.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as JSON ({error})") from error
    except IsADirectoryError as error:
        raise DamagedError(f"{path}: a folder stands where a file should be") from error


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """The JSON document in `path`, whose member `schema` must be `schema`, such as `simpipe.run/1`.

    Raises:
        NewerError: a newer simpipe wrote it; the message names which.
        DamagedError: it cannot be read, or is another kind of document.
        FileNotFoundError: there is no such file.
    """
    document = read_json(path)
    found = document.get("schema") if isinstance(document, dict) else None
    if found == schema:
        return dict(document)
    kind, _, version = str(found).partition("/")
    expected_kind, _, expected = schema.partition("/")
    if kind != expected_kind or not version.isdecimal():
        raise DamagedError(f"{path}: not a {schema} document")
    if int(version) > int(expected):
        raise NewerError(
            f"{path}: simpipe {document.get('simpipe', '?')} wrote it as {found}; this one reads {schema}",
            hint="use the version that wrote it, or start a new run with --name",
        )
    raise DamagedError(f"{path}: written by an older simpipe ({found})")


def readable_size(count: float) -> str:
    """A number of bytes for people: `512 bytes`, `1.5 MB`."""
    if count < 1000:
        return f"{count:.0f} bytes"
    power = next((power for power in (1, 2, 3) if count < 1000 ** (power + 1)), 4)
    return f"{count / 1000**power:.1f} {'kMGT'[power - 1]}B"


def nearest_existing(path: Path) -> Path:
    """`path`, absolute, or the nearest folder above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def disk_error(error: OSError, who: str, where: Path, needed: int = 0) -> DiskError:
    """What the operating system refused, as an error for people, with the bytes that are free.

    Args:
        error: what was raised.
        who: what was being done, or the stage that did it.
        where: a path on the disk in question; it need not exist.
        needed: about how many bytes `who` writes; 0 if that is not known.
    """
    room = f"{readable_size(needed)} needed, " if needed else ""
    free = readable_size(shutil.disk_usage(nearest_existing(where)).free)
    return DiskError(
        f"{who}: {error.strerror}: {error.filename or where} ({room}{free} free)",
        hint="what was there before is untouched; make room or mend the permissions, then run it again",
    )
