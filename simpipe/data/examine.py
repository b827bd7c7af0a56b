"""Every content read and decoded once in its life, in processes that may die of it; then looked up."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.data.copies import has_copy, write_copy
from simpipe.data.decode import BadImage
from simpipe.data.fingerprint import HashedFile
from simpipe.data.foreign import heif_reader
from simpipe.data.phash import MINIATURE_SIDE
from simpipe.data.picture import REDUCED, Picture, Refusal, is_misnamed, picture_of
from simpipe.data.pictures import MINIATURE_BYTES, PictureStore
from simpipe.data.preparation import Preparation, prepare
from simpipe.data.scan import open_regular, shown
from simpipe.data.workers import Fault, map_guarded
from simpipe.errors import DataError
from simpipe.progress import Progress, track

ENLARGED = 1.12  # how far a thumbnail may be enlarged where the decoder then leaves out half of each side
BLOCK = 2_048  # most outcomes in a shard of the store
BLOCK_SECONDS = 10.0  # after which a shard is written though it is not full: what a killed ingest can lose
DECODE_SECONDS = 60.0
PAUSE_SECONDS = 0.1  # before a file that changed while it was read is read again

_FAULTS = {
    "missing": "there is no such file",
    "unreadable": "the file could not be opened or read",
    "too_large": "the file has more than 2 GB",
}

Job = tuple[str, str]  # path and SHA-256
Outcome = Picture | Refusal


class Options(NamedTuple):
    """What decides on outcomes, beside the bytes: limits, the thumbnail (0: none), and the copies."""

    max_pixels: int
    min_side: int
    thumbnail_size: int
    preparation: Preparation
    keep: Literal["auto", "all", "none"]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """The options in a flat configuration."""
        preparation = Preparation.of({name: values[f"ingest.{name}"] for name in Preparation._fields})
        return cls(
            values["ingest.max_pixels"],
            values["ingest.min_side"],
            values["ingest.thumbnail_size"],
            preparation,
            values["ingest.cache"],
        )

    @property
    def at_least(self) -> int:
        """The side, in pixels, that an image must keep when it is decoded."""
        return math.ceil(max(REDUCED, self.thumbnail_size) / ENLARGED)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that an outcome depends on, beside the bytes."""
        return {
            **self._asdict(),
            "preparation": self.preparation.to_json(),
            "at_least": self.at_least,
            "decoders": [version("pillow"), heif_reader()],
        }


@dataclass(frozen=True, eq=False)
class Examined:
    """The outcomes of n files, in the files' order, as columns.

    `reason` is None for a usable image; else a `decode.Reason` or one of `missing unreadable too_small
    decoder_hung decoder_died`, and `detail` a sentence. Only usable images have a format, a size, a `phash`
    and a miniature (the others: None and zeros).

    Attributes:
        width, height: int32 of shape (n,).
        warnings: those of `Picture`, and `suffix`: the name says another format.
        phash: uint64 of shape (n,).
        miniatures: uint8 of shape (n, 16, 16, 3), mapped from disk.
        copy: the SHA-256 of the normalised copy as it was written, None where there is none.
        thumbnails: the thumbnails of the usable images `rows`, int64, in that order, read from disk.
    """

    reason: list[str | None]
    detail: list[str | None]
    format: list[str | None]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    warnings: list[tuple[str, ...]]
    phash: NDArray[np.uint64]
    miniatures: NDArray[np.uint8]
    copy: list[str | None]
    thumbnails: Callable[[NDArray[np.int64]], Iterator[bytes]]


def examine(
    root: Path,
    files: Sequence[HashedFile],
    options: Options,
    cache: Path,
    *,
    scratch: Path,
    workers: int = 2,
    seconds: float = DECODE_SECONDS,
    progress: Progress,
) -> Examined:
    """What is to be known of each of `files`; contents that the store in `cache` knows are not opened.

    A pure function of the files' bytes, names and `options`, but for a decoder's chance to hang or die.
    Whatever ends it early, what was decoded is in the store; a kill loses the work of `BLOCK_SECONDS`.

    Args:
        root: the folder of the images.
        files: n files, with their hashes.
        options: see there.
        cache: the folder of the stores: `pictures`, and `images` for normalised copies.
        scratch: a folder with space for 768 bytes a file, until the result is dropped.
        workers: processes that decode.
        seconds: after which a decoder is given up.
        progress: hears of each file that is opened.

    Raises:
        DataError: a file's bytes are not those of its hash, not even at a second look.
        DiskError, OSError: `cache` or `scratch` cannot be written.
    """
    number_of: dict[str, int] = {}
    content = np.array(
        [-1 if file.fault else number_of.setdefault(file.sha256, len(number_of)) for file in files], np.int64
    )
    contents = list(number_of)
    store = PictureStore(cache / "pictures", options.recipe)
    if store.damaged:
        progress.note(f"damaged files in the picture cache, decoded again where needed: {store.damaged}")
    places = store.find(contents)
    if options.keep != "none":
        places = _without_lost_copies(store, places, contents, options.preparation, cache / "images")
    fleeting: dict[str, Refusal] = {}
    if (places < 0).any():
        usable = np.flatnonzero(content >= 0)
        first = usable[np.unique(content[usable], return_index=True)[1]]  # file of each content
        jobs = [(files[row].path, files[row].sha256) for row in first[places < 0].tolist()]
        function = partial(_outcome, os.fspath(root), cache / "images", options)
        outcomes = map_guarded(
            function,
            jobs,
            workers=workers,
            seconds=seconds,
            fault=_fault,
            tick=lambda: progress.advance(0),  # hears of a wish to stop
        )
        with closing(outcomes):
            fleeting = _store(store, jobs, track(progress, outcomes, "reading", len(jobs), "images"))
        places = store.find(contents)
    return _columns(files, store, np.append(places, -1)[content], fleeting, scratch)


def _without_lost_copies(
    store: PictureStore,
    places: NDArray[np.int64],
    contents: Sequence[str],
    preparation: Preparation,
    folder: Path,
) -> NDArray[np.int64]:
    """`places`, -1 where the copy that an outcome tells of is no longer there, so that it is made again."""
    places = places.copy()
    for rows, facts in store.facts(places):
        copied = rows[facts["copy"].is_valid().to_numpy()]
        lost = [row for row in copied.tolist() if not has_copy(folder, contents[row], preparation)]
        places[lost] = -1
    return places


def _outcome(root: str, copies: Path, options: Options, job: Job) -> Outcome:
    """What one file gives; called in a worker."""
    path, sha256 = job
    resize, at_least = options.preparation.resize, options.at_least
    try:
        raw = _read(root, path, sha256)
        prepared = prepare(raw, options.preparation, options.max_pixels, at_least, options.keep)
        width, height = prepared.width, prepared.height
        if min(width, height) < options.min_side:
            return Refusal("too_small", f"{width} x {height} pixels, a side under {options.min_side}")
        copy = None
        if prepared.copy is not None:
            copy = write_copy(copies, sha256, options.preparation, prepared)
        return picture_of(prepared, options.thumbnail_size, resize, copy)
    except BadImage as error:
        return Refusal(error.reason, error.detail)
    except MemoryError:
        return Refusal("too_large", "there was not enough memory to decode it", lasting=False)


def _read(root: str, path: str, sha256: str) -> bytes:
    """The file's bytes, which must have that hash; one that is just being written gets a second chance."""
    why = ""
    for last in (False, True):
        try:
            with open_regular(f"{root}/{path}") as stream:
                raw = stream.read()
            if hashlib.sha256(raw).hexdigest() == sha256:
                return raw
            why = ""
        except OSError as error:
            why = f" ({error.strerror})"
        if not last:
            time.sleep(PAUSE_SECONDS)
    raise DataError(
        f"{shown(path)} changed while it was read{why}",
        hint="Wait until the data are complete, and run the same command again.",
    )


def _fault(job: Job, how: Fault) -> Outcome:
    told = {"hung": "its decoder did not come back in time, twice", "died": "its decoder crashed, twice"}
    return Refusal(f"decoder_{how}", told[how], lasting=False)


def _store(store: PictureStore, jobs: Sequence[Job], outcomes: Iterable[Outcome]) -> dict[str, Refusal]:
    """Put the outcomes of `jobs` into the store in blocks; returns those that are not lasting, by hash."""
    fleeting: dict[str, Refusal] = {}
    waiting: dict[str, Outcome] = {}
    last = time.monotonic()

    def write() -> None:
        nonlocal last
        block = dict(waiting)
        waiting.clear()  # first: what cannot be written is not tried twice
        if block:
            store.add(list(block), list(block.values()))
        last = time.monotonic()

    try:
        for (_, sha256), outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Refusal) and not outcome.lasting:
                fleeting[sha256] = outcome
                continue
            waiting[sha256] = outcome
            if len(waiting) >= BLOCK or time.monotonic() - last >= BLOCK_SECONDS:
                write()
    finally:
        write()
    return fleeting


def _columns(
    files: Sequence[HashedFile],
    store: PictureStore,
    places: NDArray[np.int64],
    fleeting: Mapping[str, Refusal],
    scratch: Path,
) -> Examined:
    """The outcomes of n files: those at `places` (n,) of the store and, where that is -1, the others."""
    n = len(files)
    text = {name: np.full(n, None, object) for name in ("reason", "detail", "format", "warnings", "copy")}
    width, height, phash = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.uint64)
    columns: dict[str, NDArray[Any]] = {**text, "width": width, "height": height, "phash": phash}
    for row in np.flatnonzero(places < 0).tolist():
        fault, sha256 = files[row].fault, files[row].sha256
        refusal = Refusal(fault, _FAULTS[fault]) if fault else fleeting[sha256]
        text["reason"][row], text["detail"][row] = refusal.reason, refusal.detail
    with tempfile.TemporaryFile(dir=scratch) as small:
        small.truncate(n * MINIATURE_BYTES)
        for rows, facts in store.facts(places):
            for name, column in columns.items():
                column[rows] = facts[name].to_numpy()
            # written, not through a map: a full disk is an error there, and the end of the process here
            for row, miniature in zip(rows.tolist(), facts["miniature"].to_pylist(), strict=True):
                os.pwrite(small.fileno(), miniature, row * MINIATURE_BYTES)
        shape = (n, MINIATURE_SIDE, MINIATURE_SIDE, 3)
        miniatures = np.memmap(small, np.uint8, "r", shape=shape) if n else np.zeros(shape, np.uint8)
    return Examined(
        reason=_shared(text["reason"]),
        detail=_shared(text["detail"]),
        format=_shared(text["format"]),
        width=width,
        height=height,
        warnings=_warnings(files, text["format"], text["warnings"]),
        phash=phash,
        miniatures=miniatures,
        copy=text["copy"].tolist(),
        thumbnails=lambda rows: store.thumbnails(places[rows]),
    )


def _warnings(
    files: Sequence[HashedFile], formats: NDArray[np.object_], texts: NDArray[np.object_]
) -> list[tuple[str, ...]]:
    """The warnings of each file: those of its content, and that of its name."""

    @cache
    def parted(text: str, misnamed: bool) -> tuple[str, ...]:
        return tuple(sorted([*text.split(), *["suffix"] * misnamed]))

    return [
        parted(text, is_misnamed(file.path, file_format)) if file_format else ()
        for file, file_format, text in zip(files, formats, texts, strict=True)
    ]


def _shared(values: NDArray[np.object_]) -> list[str | None]:
    """As a list whose equal texts are one object: a million files have a handful of them."""
    same: dict[str | None, str | None] = {}
    return [same.setdefault(value, value) for value in values]
