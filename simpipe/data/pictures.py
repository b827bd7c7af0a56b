"""Pictures that need not be made again: each content is decoded once in its life, under one recipe.

The memo of a pure function, (a file's bytes, recipe) → picture or refusal. It is never part of a result's
identity: a miss is decoded, a lost shard is decoded again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simpipe.data.phash import MINIATURE_SIDE
from simpipe.data.picture import Picture, Refusal
from simpipe.data.threads import map_ahead
from simpipe.errors import DamagedError
from simpipe.files import atomic_write, digest, disk_error, sha256_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1  # of a shard; part of every recipe
MINIATURE_BYTES = MINIATURE_SIDE**2 * 3
AT_ONCE = 4_096  # thumbnails in memory

Places = NDArray[np.int64]


def store_folder(folder: Path, recipe: dict[str, Any]) -> Path:
    """Where a recipe's shards lie below the folder of all of them."""
    return folder / digest({**recipe, "format": FORMAT})[:32]


class PictureStore:
    """Immutable shards of outcomes in one folder, one folder for each recipe; read by row, from disk.

    A shard is an Arrow file named by the hash of its bytes, which are all checked before it is used. Shards
    appear whole, so two processes may use the store at once; at worst both make the same pictures. What a
    killed writer left is a hidden file. Only hashes are held in memory, and one shard mapped at a time.
    Whoever opens a recipe touches its folder, so that it can be told which are in use.

    An outcome has a place: its number among all outcomes, as long as this object lives.

    Args:
        folder: where all recipes live.
        recipe: a JSON document that names everything the outcomes depend on but the bytes.

    Attributes:
        damaged: shards that were found not to be what their name says; they are misses, and deleted.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        import pyarrow as pa

        self.folder = store_folder(folder, recipe)
        self.damaged = 0
        self._paths: list[Path] = []
        self._hashes: list[NDArray[np.bytes_]] = []
        self._starts = [0]
        with suppress(OSError):
            os.utime(self.folder)
        paths = sorted(self.folder.glob("?" * 64 + ".arrow"))
        for path, found in zip(paths, map_ahead(_sha256, paths), strict=True):
            with suppress(OSError, pa.ArrowInvalid):  # it vanished, or is nobody's shard under its own hash
                if found == path.stem:
                    self._include(path, _mapped(path)["sha256"].to_pylist())
                elif found:
                    self.damaged += 1
                    path.unlink()

    def _include(self, path: Path, sha256: Sequence[str]) -> None:
        self._paths.append(path)
        self._hashes.append(np.array(sha256, "S64"))
        self._starts.append(self._starts[-1] + len(sha256))

    def find(self, sha256: Sequence[str]) -> Places:
        """The places of the contents with these hashes: int64 of shape (len(sha256),), -1 where not known."""
        wanted = np.array(sha256, "S64")
        known = np.concatenate([np.empty(0, "S64"), *self._hashes])
        if not len(known):
            return np.full(len(wanted), -1)
        order = np.argsort(known, kind="stable")
        nearest = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
        return np.where(known[nearest] == wanted, nearest, -1)

    def add(self, sha256: Sequence[str], outcomes: Sequence[Picture | Refusal]) -> None:
        """Write one shard of outcomes.

        Raises:
            DiskError: the folder cannot be written.
        """
        import pyarrow as pa

        shard = _table(sha256, outcomes)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, shard.schema) as writer:
            writer.write_table(shard)
        raw = sink.getvalue().to_pybytes()
        path = self.folder / f"{hashlib.sha256(raw).hexdigest()}.arrow"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, raw)
        except OSError as error:
            raise disk_error(error, "the picture cache", self.folder) from error
        self._include(path, sha256)

    def facts(self, places: Places) -> Iterator[tuple[Places, pa.Table]]:
        """All but thumbnails of the outcomes at `places`, shard by shard; a place of -1 is passed over.

        Yields (rows, table): the table's rows are the outcomes at `places[rows]`.

        Raises:
            DamagedError: a shard vanished meanwhile.
        """
        for rows, shard, inside in self._parts(places):
            yield rows, shard.drop_columns(["sha256", "thumbnail"]).take(inside)

    def thumbnails(self, places: Places) -> Iterator[bytes]:
        """The thumbnails at `places`, in that order; empty where there is none.

        Raises:
            DamagedError: a shard vanished meanwhile.
        """
        for start in range(0, len(places), AT_ONCE):
            block = places[start : start + AT_ONCE]
            found = [b""] * len(block)
            for rows, shard, inside in self._parts(block):
                taken = shard["thumbnail"].take(inside).to_pylist()
                for row, thumbnail in zip(rows.tolist(), taken, strict=True):
                    found[row] = thumbnail
            yield from found

    def _parts(self, places: Places) -> Iterator[tuple[Places, pa.Table, Places]]:
        """For each shard that holds some of `places`: which of them, the shard, and their rows in it."""
        import pyarrow as pa

        order = np.argsort(places, kind="stable")
        edges = np.searchsorted(places[order], self._starts)
        for number, (low, high) in enumerate(pairwise(edges)):
            if low < high:
                path, rows = self._paths[number], order[low:high]
                try:
                    shard = _mapped(path)
                except (OSError, pa.ArrowInvalid) as error:
                    raise DamagedError(
                        f"{path}: vanished while it was in use", hint="Run the same command again."
                    ) from error
                yield rows, shard, places[rows] - self._starts[number]


def _sha256(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _mapped(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(os.fsencode(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _table(sha256: Sequence[str], outcomes: Sequence[Picture | Refusal]) -> pa.Table:
    """One row for each outcome. A refusal has no texts and bytes of a picture, and its numbers are 0."""
    import pyarrow as pa

    def column(name: str, kind: pa.DataType, otherwise: Any = None) -> pa.Array:
        return pa.array([getattr(each, name, otherwise) for each in outcomes], kind)

    warnings = [" ".join(each.warnings) if isinstance(each, Picture) else None for each in outcomes]
    return pa.table(
        {
            "sha256": pa.array(sha256, pa.string()),
            "reason": column("reason", pa.string()),
            "detail": column("detail", pa.string()),
            "format": column("format", pa.string()),
            "width": column("width", pa.int32(), 0),
            "height": column("height", pa.int32(), 0),
            "warnings": pa.array(warnings, pa.string()),
            "phash": column("phash", pa.uint64(), 0),
            "miniature": column("miniature", pa.binary(MINIATURE_BYTES), bytes(MINIATURE_BYTES)),
            "thumbnail": column("thumbnail", pa.binary(), b""),
            "copy": column("copy", pa.string()),
        }
    )
