"""The identity of a data set: the hash of every file, from a cache where nothing was touched."""

import errno
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from simpipe.data.layout import Rules, list_files
from simpipe.data.scan import Found, Ignored, open_regular
from simpipe.data.threads import map_ahead
from simpipe.errors import DamagedError
from simpipe.files import atomic_write, canonical_json, read_json
from simpipe.progress import Progress, Silent, track

CACHE_SCHEMA = "simpipe.stat-cache/2"
RACY_NS = 2_000_000_000  # file systems keep times of 1-2 s; see git's "racily clean" entries
HASH_BATCH = 16  # files a thread takes at once: small images are cheaper than the hand-over
PAUSES = (0.05, 0.2, 0.8)  # seconds before a file of a troubled disk or network is read again
PASSING = frozenset((errno.EIO, errno.ESTALE))
DEFAULT = Rules()


class HashedFile(NamedTuple):
    """A candidate image with its content hash.

    `sha256` is empty where there is a `fault`: "missing" (listed in a table, or gone since),
    "unreadable" or "too_large".
    """

    path: str
    size: int
    sha256: str
    label: str | None
    split: str | None
    group: str | None
    fault: str | None


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a data set: `digest` depends on paths, sizes and contents, never on times.

    It covers the content of the label table, if there is one. `files`, `ignored` and `notes` are as in
    `Listing`.
    """

    digest: str
    files: list[HashedFile]
    ignored: list[Ignored]
    notes: list[str]


_Remembered = tuple[int, int, int, int, str]  # size, mtime_ns, ctime_ns, inode, sha256
_Hash = tuple[str, str | None]  # sha256, fault
MOST_BYTES = 2 << 30  # of a file; what is larger is no image that could be decoded, and takes long to read


def fingerprint(
    root: Path,
    cache_file: Path,
    rules: Rules = DEFAULT,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    remember: bool = True,
) -> Fingerprint:
    """List and hash the candidate images below `root`; see `list_files` for what is listed and raised.

    Hashes of files whose path, size, times and inode are those of the last time come from `cache_file`,
    which is written only where `remember` is true. The cache is a help only: a damaged one is empty, one
    that cannot be written is let be. Keep one per root. A file that was edited and got its size and its
    time back is still noticed, by the time of its last change of status, which nobody can set.
    A file with several names, by links, is read once.
    """
    progress = progress or Silent()
    started = time.time_ns()
    # Before the rows are read: if the table changes meanwhile, the next digest is another one.
    table = None if rules.table is None else _sha256(os.fspath(rules.table))[0]
    listing = list_files(root, rules)
    cache = _read_cache(cache_file)
    known: dict[str, _Hash] = {}
    unknown: list[Found] = []
    for found in listing.files:
        entry = cache.get(found.path)
        if found.size < 0:
            known[found.path] = ("", "missing")
        elif entry and entry[:4] == found[1:5]:
            known[found.path] = (entry[4], None)
        else:
            unknown.append(found)
    first_name = _first_names(os.fspath(root), unknown)
    to_read = list(dict.fromkeys(first_name.values()))
    if to_read:
        hashes = _hash_files(os.fspath(root), to_read, workers)
        known |= zip(to_read, track(progress, hashes, "hashing", len(to_read), "files"), strict=True)
        known |= {path: known[first] for path, first in first_name.items()}
    files = [
        HashedFile(f.path, f.size, known[f.path][0], f.label, f.split, f.group, known[f.path][1])
        for f in listing.files
    ]

    # A file changed within the tick of its own time stamp would look unchanged: such entries are not kept.
    # The time of the last change of status tells; the other can be set, even into the future.
    trusted = {
        f.path: (f.size, f.mtime_ns, f.ctime_ns, f.inode, known[f.path][0])
        for f in listing.files
        if known[f.path][0] and f.ctime_ns < started - RACY_NS
    }
    if remember and trusted != cache:
        _write_cache(cache_file, trusted)
    return Fingerprint(_digest(files, table), files, listing.ignored, listing.notes)


def _first_names(root: str, files: Sequence[Found]) -> dict[str, str]:
    """Path → the first path of the same file on the disk; most files have one name."""
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for found in files:
        path = first.setdefault(found[1:5], found.path)
        # equal numbers on two disks are two files
        names[found.path] = path if path == found.path or _same(root, path, found.path) else found.path
    return names


def _same(root: str, one: str, other: str) -> bool:
    try:
        return os.path.samefile(f"{root}/{one}", f"{root}/{other}")  # noqa: PTH121
    except OSError:
        return False


def _hash_files(root: str, paths: Sequence[str], workers: int | None) -> Iterator[_Hash]:
    def hash_batch(batch: list[str]) -> list[_Hash]:
        return [_sha256(f"{root}/{path}") for path in batch]

    names = iter(paths)
    batches = iter(lambda: list(islice(names, HASH_BATCH)), [])
    for hashes in map_ahead(hash_batch, batches, workers):
        yield from hashes


def _sha256(path: str) -> _Hash:
    """A file's hash, or its fault; a disk or a network in trouble is asked again."""
    for pause in (*PAUSES, None):
        try:
            with open_regular(path) as stream:
                if os.fstat(stream.fileno()).st_size > MOST_BYTES:
                    return "", "too_large"
                return hashlib.file_digest(stream, "sha256").hexdigest(), None
        except FileNotFoundError:
            return "", "missing"
        except OSError as error:
            if error.errno not in PASSING or pause is None:
                break
            time.sleep(pause)
    return "", "unreadable"


def _digest(files: Iterable[HashedFile], table: str | None) -> str:
    hasher = hashlib.sha256()
    if table is not None:
        hasher.update(f"\0table {table}\n".encode())
    for file in files:
        hasher.update(os.fsencode(file.path) + f"\0{file.size} {file.sha256}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def _read_cache(path: Path) -> dict[str, _Remembered]:
    try:
        document: Any = read_json(path)
        if document["schema"] != CACHE_SCHEMA:
            return {}
        return {
            name: (int(size), int(mtime_ns), int(ctime_ns), int(inode), str(sha256))
            for name, (size, mtime_ns, ctime_ns, inode, sha256) in document["files"].items()
            if len(sha256) == 64
        }
    except (DamagedError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _write_cache(path: Path, entries: dict[str, _Remembered]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, canonical_json({"schema": CACHE_SCHEMA, "files": entries}))
    except OSError:
        pass  # the next call hashes again
