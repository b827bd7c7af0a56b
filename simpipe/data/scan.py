"""What lies in the folder: the list of candidate images with their labels, and its fingerprint."""

import hashlib
import os
import stat
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from simpipe.data.threads import map_ahead
from simpipe.errors import DamagedError, DataError, DiskError, UsageError
from simpipe.files import atomic_write, canonical_json, read_json
from simpipe.progress import Progress, Silent, track

# fmt: off
IMAGE_SUFFIXES = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "avif", "gif", "bmp", "dib", "tif", "tiff",
    "ppm", "pgm", "pbm", "pnm", "heic", "heif", "jxl", "jp2",
))
# fmt: on
SYSTEM_NAMES = frozenset(("Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "lost+found"))
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

CACHE_SCHEMA = "simpipe.stat-cache/2"
RACY_NS = 2_000_000_000  # file systems keep times of 1-2 s; see git's "racily clean" entries
HASH_BATCH = 16  # files a thread takes at once: small images are cheaper than the hand-over


class Found(NamedTuple):
    """A candidate image. `path` is relative, with `/`; bytes that are no UTF-8 are held as surrogates."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    label: str
    split: str | None


@dataclass(frozen=True)
class Listing:
    """The candidate images in the order of their path bytes; how many names were passed over, by reason."""

    files: list[Found]
    ignored: dict[str, int]


class HashedFile(NamedTuple):
    """A candidate image with its content hash; `sha256` is empty if the file could not be read."""

    path: str
    size: int
    sha256: str
    label: str
    split: str | None


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a data set: `digest` depends on paths, sizes and contents, never on times."""

    digest: str
    files: list[HashedFile]
    ignored: dict[str, int]


class _Entry(NamedTuple):
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


_Remembered = tuple[int, int, int, int, str]  # size, mtime_ns, ctime_ns, inode, sha256


def display(path: str) -> str:
    """A file name as valid text: bytes that are no UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def list_files(root: Path) -> Listing:
    """List the candidate images below `root`, one label per first-level folder.

    If the folders that hold images are named only train|training, val|valid|validation|dev and
    test|testing (any case; train and at least one more), they are splits and the labels lie one level below.
    Linked files are followed, linked folders are not. Names that begin with a dot and system files are
    passed over; so are files that do not look like images.

    Raises:
        UsageError: `root` is missing or is no folder.
        DiskError: a folder may not be read.
        DataError: no images, images outside a label folder, label names that differ only in spelling, or
            fewer than two labels.
    """
    if not root.exists():
        raise UsageError(f"no such folder: {root}", hint="Give the folder that has one sub-folder per label.")
    if not root.is_dir():
        raise UsageError(
            f"{root} is a file, not a folder", hint="Give the folder that has one sub-folder per label."
        )
    entries, ignored = _walk(os.fspath(root))
    if not entries:
        raise DataError(
            f"no images in {root}",
            hint="One sub-folder per label is expected, such as cats/1.jpg and dogs/1.jpg.",
        )
    parts = [entry.path.split("/", 2) for entry in entries]
    folders = {part[0] for part in parts if len(part) > 1}
    depth = 1 if _are_splits(folders) else 0
    _refuse_unlabelled(
        root, [e.path for e, part in zip(entries, parts, strict=True) if len(part) < depth + 2]
    )
    labels = _label_names(root, {tuple(part[: depth + 1]) for part in parts})
    files = [
        Found(*entry, labels[part[depth]], SPLIT_NAMES[part[0].lower()] if depth else None)
        for entry, part in zip(entries, parts, strict=True)
    ]
    return Listing(files, ignored)


def fingerprint(
    root: Path,
    cache_file: Path,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    remember: bool = True,
) -> Fingerprint:
    """List and hash the candidate images below `root`; see `list_files` for what is listed and raised.

    Hashes of files whose path, size, times and inode are those of the last time come from `cache_file`,
    which is written only where `remember` is true. The cache is a help only: a damaged one is empty, one
    that cannot be written is let be. Keep one per root. A file that was edited and got its size and its
    time back is still noticed, by the time of its last change of status, which nobody can set.
    """
    progress = progress or Silent()
    started = time.time_ns()
    listing = list_files(root)
    cache = _read_cache(cache_file)
    known = {
        found.path: entry[4]
        for found in listing.files
        if (entry := cache.get(found.path)) and entry[:4] == found[1:5]
    }
    unknown = [found.path for found in listing.files if found.path not in known]
    if unknown:
        batches = _hash_files(os.fspath(root), unknown, workers)
        known |= zip(unknown, track(progress, batches, "hashing", len(unknown), "files"), strict=True)
    files = [HashedFile(f.path, f.size, known[f.path], f.label, f.split) for f in listing.files]

    # A file changed within the tick of its own time stamp would look unchanged: such entries are not kept.
    # The time of the last change of status tells; the other can be set, even into the future.
    trusted = {
        f.path: (f.size, f.mtime_ns, f.ctime_ns, f.inode, known[f.path])
        for f in listing.files
        if known[f.path] and f.ctime_ns < started - RACY_NS
    }
    if remember and trusted != cache:
        _write_cache(cache_file, trusted)
    return Fingerprint(_digest(files), files, listing.ignored)


def _walk(root: str) -> tuple[list[_Entry], dict[str, int]]:
    """Every candidate image below `root`, sorted by path bytes, and the counts of what was passed over."""
    entries: list[_Entry] = []
    ignored: Counter[str] = Counter()
    stack = [""]
    while stack:
        prefix = stack.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as names:  # noqa: PTH118 - no Path per file: this loop is hot
                for name in names:
                    kind, status = _classify(name)
                    path = prefix + name.name
                    if kind == "folder":
                        stack.append(path + "/")
                    elif status is not None:
                        entries.append(
                            _Entry(
                                path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
                            )
                        )
                    else:
                        ignored[kind] += 1
        except PermissionError as error:
            raise DiskError(
                f"no permission to read the folder {display(str(error.filename))}",
                hint="Make it readable, or remove it from the data set.",
            ) from error
        except FileNotFoundError:
            if not prefix:
                raise
            # a folder that vanished since its parent was read holds nothing
    entries.sort(key=lambda entry: os.fsencode(entry.path))
    return entries, dict(sorted(ignored.items()))


def _classify(entry: "os.DirEntry[str]") -> tuple[str, os.stat_result | None]:
    """What a name is: a folder, an image (with its stat) or the reason why it is passed over."""
    name = entry.name
    if name.startswith(".") or name in SYSTEM_NAMES:
        return "hidden", None
    try:
        if entry.is_dir():
            return ("linked_folder", None) if entry.is_symlink() else ("folder", None)
        _, dot, suffix = name.rpartition(".")
        if not dot or suffix.lower() not in IMAGE_SUFFIXES:
            return "not_an_image_name", None
        status = entry.stat()
    except OSError:  # a link to nothing, or to itself
        return "not_a_file", None
    return ("image", status) if stat.S_ISREG(status.st_mode) else ("not_a_file", None)


def _are_splits(folders: set[str]) -> bool:
    splits = {SPLIT_NAMES.get(name.lower()) for name in folders}
    return None not in splits and "train" in splits and len(splits) > 1


def _refuse_unlabelled(root: Path, paths: Sequence[str]) -> None:
    if not paths:
        return
    shown = ", ".join(display(path) for path in paths[:5]) + (", …" if len(paths) > 5 else "")
    noun = "1 image lies" if len(paths) == 1 else f"{len(paths)} images lie"
    raise DataError(
        f"{noun} in {root} outside any label folder: {shown}",
        hint="Move each image into a folder named after its label, or out of the data set.",
    )


def _label_names(root: Path, folders: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Folder name → label, in Unicode normal form C; refuses names that differ only in spelling."""
    labels: dict[str, str] = {}
    spellings: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in sorted(folders):
        name = folder[-1]
        label = unicodedata.normalize("NFC", display(name))
        labels[name] = label
        key = unicodedata.normalize("NFC", label.casefold()).strip()
        spellings[key].setdefault(name, display("/".join(folder)))
    for same in spellings.values():
        if len(same) > 1:
            first, second, *_ = same.values()
            raise DataError(
                f"two label folders in {root} differ only in spelling: {first!r} and {second!r}",
                hint="Merge them into one folder, or give them names that differ.",
            )
    if len(labels) < 2:
        only = next(iter(labels.values()))
        raise DataError(
            f"only one label in {root}: {only!r}",
            hint="At least two label folders with images are needed. Is the right folder given?",
        )
    return labels


def _hash_files(root: str, paths: Sequence[str], workers: int) -> Iterable[str]:
    def hash_batch(batch: list[str]) -> list[str]:
        return [_sha256(f"{root}/{path}") for path in batch]

    names = iter(paths)
    batches = iter(lambda: list(islice(names, HASH_BATCH)), [])
    for hashes in map_ahead(hash_batch, batches, workers):
        yield from hashes


def _sha256(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - no Path per file: this loop is hot
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _digest(files: Iterable[HashedFile]) -> str:
    hasher = hashlib.sha256()
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
