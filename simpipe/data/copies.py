"""The normalised copies, `folder/ab/abcd…-RECIPE.jpg`, named by the hash of the file that they are of.

A cache: whoever reads a copy knows its SHA-256, and goes to the original where it is not what it should be.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simpipe.data.decode import BadImage
from simpipe.data.preparation import Preparation, Prepared, pixels, pixels_of_copy, recipe
from simpipe.data.scan import open_regular, shown
from simpipe.data.threads import map_ahead
from simpipe.errors import DataError

SUFFIXES = (".jpg", ".png")
AT_REST = "run the same command again when the data are at rest"


def write_copy(folder: Path, sha256: str, preparation: Preparation, prepared: Prepared) -> str:
    """Put the copy of the file with that hash into `folder`, and give the copy's own SHA-256.

    A reader sees it whole or not at all. It is not flushed to the disk: what a loss of power leaves has
    another hash.

    Raises:
        OSError: it cannot be written.
        ValueError: `prepared` has no copy.
    """
    if prepared.copy is None:
        raise ValueError("there is no copy to write")
    target = _stem(folder, sha256, preparation).with_suffix(f".{prepared.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}@{socket.gethostname()}"  # others may write the same
    temporary = target.with_name(f".{target.name}.{writer}")
    try:
        temporary.write_bytes(prepared.copy)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return hashlib.sha256(prepared.copy).hexdigest()


def has_copy(folder: Path, sha256: str, preparation: Preparation) -> bool:
    """Whether there is a copy of the file with that hash; what is in it, who reads it finds out."""
    stem = os.fspath(_stem(folder, sha256, preparation))
    return any(os.path.exists(f"{stem}{suffix}") for suffix in SUFFIXES)  # noqa: PTH110 - a hot loop


def load_pixels(
    paths: Sequence[Path],
    hashes: Sequence[str],
    copies: Sequence[str | None],
    size: int,
    preparation: Preparation,
    folder: Path,
) -> Iterator[NDArray[np.uint8]]:
    """The images as a backbone sees them, in order, each uint8 of shape (size, size, 3).

    Each comes from its copy in `folder`, or else from its original; they are decoded ahead in threads.

    Args:
        paths: the n originals.
        hashes: the SHA-256 of the files that ingest read; the very bytes that are decoded must fit.
        copies: the SHA-256 of their copies, None where none was kept.
        size: pixels a side.
        preparation: that of ingest.
        folder: where the copies lie.

    Raises:
        DataError: an image without a copy whose original changed, vanished, or cannot be read any more.
    """

    def load(path: Path, sha256: str, copy: str | None) -> NDArray[np.uint8]:
        raw = copy and _read_copy(_stem(folder, sha256, preparation), copy)
        if raw:
            return pixels_of_copy(raw, size, preparation.resize)
        original = _read_original(path, sha256)
        try:
            return pixels(original, size, preparation, np.inf)  # ingest has refused what is too large
        except BadImage as error:
            raise DataError(
                f"{shown(str(path))} could be decoded by ingest, but not now ({error})",
                hint="if Pillow is another one now, `simpipe ingest --force` decides anew what can be used",
            ) from error

    return map_ahead(lambda job: load(*job), zip(paths, hashes, copies, strict=True))


def _stem(folder: Path, sha256: str, preparation: Preparation) -> Path:
    return folder / sha256[:2] / f"{sha256}-{recipe(preparation)}"


def _read_copy(stem: Path, expected: str) -> bytes | None:
    """The copy with that hash, in whatever format it is kept."""
    for suffix in SUFFIXES:
        try:
            raw = stem.with_suffix(suffix).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(raw).hexdigest() == expected:
            return raw
    return None


def _read_original(path: Path, expected: str) -> bytes:
    name = shown(str(path))
    try:
        with open_regular(path) as stream:
            raw = stream.read()
    except OSError as error:
        if not path.parent.is_dir():
            gone = [each for each in (path, *path.parents) if not each.exists()][-1]
            raise DataError(
                f"the folder {shown(str(gone))} is gone, and {name} has no copy in the cache",
                hint="put the folder back; with ingest.cache all, ingest keeps what later stages need",
            ) from error
        raise DataError(f"{name} changed since ingest read it ({error.strerror})", hint=AT_REST) from error
    if hashlib.sha256(raw).hexdigest() != expected:
        raise DataError(f"{name} changed since ingest read it", hint=AT_REST)
    return raw
