"""What lies in the folder: every name below it, as a candidate image or as passed over for a reason."""

import errno
import fnmatch
import heapq
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from simpipe.errors import DiskError

# fmt: off
IMAGE_SUFFIXES = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "avif", "gif", "bmp", "dib", "tif", "tiff",
    "ppm", "pgm", "pbm", "pnm", "heic", "heif", "jxl", "jp2",
))
SYSTEM_NAMES = frozenset((  # in lower case
    "thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin",
    "system volume information",
))
# fmt: on
MAX_DEPTH = 64  # folders below one another; more is a loop that no link shows, or an attack
EXAMPLES = 5  # names in an error or a note


class Found(NamedTuple):
    """A candidate image. `path` is relative, with `/`; bytes that are no UTF-8 are held as surrogates.

    `size` is -1 for a file that a table lists and that is not there. `label` is None where none are used.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    label: str | None
    split: str | None
    group: str | None


class Ignored(NamedTuple):
    """A name that was passed over, and why. A folder ends with `/` and stands for all that is in it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The candidate images and what was passed over, each by path bytes, and sentences for a person."""

    files: list[Found]
    ignored: list[Ignored]
    notes: list[str]


class Entry(NamedTuple):
    """A regular file with an image's name; the first five fields of `Found`."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Walk(NamedTuple):
    """What a walk saw; each list is sorted by path bytes.

    `folders` are those that were looked into, with a trailing `/`. `links` are the links that were
    followed: those among the entries, and the linked folders, with a trailing `/`.
    """

    entries: list[Entry]
    ignored: list[Ignored]
    folders: list[str]
    links: list[str]


def display(path: str) -> str:
    """A file name as valid text: bytes that are no UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shown(path: str) -> str:
    """A file name for a terminal: what could move the cursor or begin a line is escaped, too."""
    return printable(display(path))


def printable(text: str) -> str:
    """`text` with its control characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def open_regular(path: str | Path) -> FileIO:
    """Open a file to read it; a pipe that took its place would have no writer, and is refused at once.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    stream = FileIO(path, "r", opener=_at_once)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return stream


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def some(names: Iterable[str]) -> str:
    """The first few of `names` as one text, with an ellipsis where there are more."""
    first = list(islice(names, EXAMPLES + 1))
    return ", ".join(first[:EXAMPLES]) + ", …" * (len(first) > EXAMPLES)


def walk(root: str, *, follow_links: bool = False, ignore: Sequence[str] = ()) -> Walk:
    """Every candidate image below `root`, and every name that was passed over.

    Linked files are followed. Linked folders are followed if asked: after all others, in the order of their
    paths, and each folder of the disk once, so that the outcome does not depend on the order of listing.
    `ignore` holds wildcards as of `fnmatch`, for a name or a whole relative path; `*` matches `/`, too.
    A folder that vanishes meanwhile holds nothing.

    Raises:
        DiskError: a folder or a file's status may not, or cannot, be read.
    """
    unwanted = _matcher(ignore)
    seen = Walk([], [], [], [])
    met: dict[tuple[int, int], str] = {}  # the folders of the disk, and where each was met first
    waiting: list[tuple[bytes, str]] = []  # linked folders
    stack = [""]
    while stack or waiting:
        by_link = not stack
        prefix = heapq.heappop(waiting)[1] if by_link else stack.pop()
        folder = os.path.join(root, prefix)  # noqa: PTH118 - no Path per file: this loop is hot
        try:
            reason = _why_not_enter(folder, prefix, met if follow_links else None)
            if reason:
                seen.ignored.append(Ignored(prefix, reason))
                continue
            below, linked = _read_folder(folder, prefix, unwanted, seen)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                seen.ignored.append(Ignored(prefix, "too_deep"))
                continue
            what = "no permission to read" if isinstance(error, PermissionError) else "cannot read"
            raise DiskError(
                f"{what} the folder {shown(folder)} ({error.strerror})",
                hint="Make it readable, or remove it from the data set.",
            ) from error
        stack += below
        if by_link:
            seen.links.append(prefix)
        if follow_links:
            for path in linked:
                heapq.heappush(waiting, (os.fsencode(path), path))
        else:
            seen.ignored.extend(Ignored(path, "linked_folder") for path in linked)
    seen.entries.sort(key=_path_bytes)
    seen.ignored.sort(key=_path_bytes)
    seen.folders.sort(key=os.fsencode)
    seen.links.sort(key=os.fsencode)
    return seen


def lies_in(real_root: str, path: str) -> bool:
    """Whether `path`, with all links followed, lies below `real_root`, a path without links."""
    return os.path.realpath(path).startswith(os.path.join(real_root, ""))  # noqa: PTH118


def _path_bytes(each: Entry | Ignored) -> bytes:
    return os.fsencode(each.path)


def _why_not_enter(folder: str, prefix: str, met: dict[tuple[int, int], str] | None) -> str | None:
    """The reason to pass over a folder, or None; `met` remembers it if links are followed."""
    if prefix.count("/") > MAX_DEPTH:
        return "too_deep"
    if met is None:
        return None
    status = os.stat(folder)  # noqa: PTH116
    first = met.setdefault((status.st_dev, status.st_ino), prefix)
    if first == prefix:
        return None
    return "link_loop" if prefix.startswith(first) else "linked_twice"


def _read_folder(
    folder: str, prefix: str, unwanted: Callable[[str], object] | None, seen: Walk
) -> tuple[list[str], list[str]]:
    """Add the names in one folder to `seen`; its folders and its linked folders, not yet looked into."""
    below: list[str] = []
    linked: list[str] = []
    with os.scandir(folder) as names:
        seen.folders.append(prefix)
        for name in names:
            path = prefix + name.name
            kind, status = _classify(name, path, unwanted)
            if status is not None:
                seen.entries.append(
                    Entry(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                )
                if name.is_symlink():
                    seen.links.append(path)
            elif kind == "folder":
                below.append(path + "/")
            elif kind == "linked_folder":
                linked.append(path + "/")
            else:
                seen.ignored.append(Ignored(path + "/" * _is_folder(name), kind))
    return below, linked


def _classify(
    entry: "os.DirEntry[str]", path: str, unwanted: Callable[[str], object] | None
) -> tuple[str, os.stat_result | None]:
    """What a name is: "folder", "linked_folder", an image (with its stat), or why it is passed over."""
    name = entry.name
    if name.startswith("."):
        return "hidden", None
    if name.lower() in SYSTEM_NAMES:
        return "system", None
    if unwanted and (unwanted(name) or unwanted(path)):
        return "ignored_by_rule", None
    if _is_folder(entry):
        return "linked_folder" if entry.is_symlink() else "folder", None
    _, dot, suffix = name.rpartition(".")
    if not dot or suffix.lower() not in IMAGE_SUFFIXES:
        return "not_an_image_name", None
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link to nothing, or a file that vanished
        return "not_a_file", None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "too_deep", None
        if not entry.is_symlink():
            raise
        return "not_a_file", None  # a link to itself, or to where nobody may look
    return ("image", status) if stat.S_ISREG(status.st_mode) else ("not_a_file", None)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _matcher(globs: Sequence[str]) -> Callable[[str], object] | None:
    """A test for names and paths that match one of `globs`; a trailing `/` is for the eye only."""
    patterns = [fnmatch.translate(each.rstrip("/")) for each in globs if each.rstrip("/")]
    return re.compile("|".join(patterns)).match if patterns else None
