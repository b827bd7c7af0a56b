"""The two tables of ingest: every candidate (`manifest.parquet`), every usable image (`samples.parquet`).

Equal rows are equal bytes of Parquet: no times, no writer's metadata, fixed compression and row groups.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from simpipe.data.duplicates import dense
from simpipe.errors import DamagedError
from simpipe.files import atomic_write

if TYPE_CHECKING:
    import pyarrow

ROW_GROUP = 10_000
REBUILD = "Run `simpipe ingest` again."


class ManifestRow(TypedDict):
    """A candidate image: `ok`, `quarantined` if it is not usable, `ignored` if the user took it out.

    `sample_id` and `split` are null where it is not ok, the picture's facts where it is quarantined.
    """

    path: str  # for people: bytes that are no UTF-8 are written `\xNN`
    path_bytes: bytes  # for opening
    label: str | None  # null where none are used
    group: str | None  # the user's: images that belong together
    split: str | None
    status: Literal["ok", "quarantined", "ignored"]
    reason: str | None
    detail: str | None
    sample_id: str | None
    sha256: str  # empty if it could not be read
    size: int  # bytes; -1 if a table lists it and it is not there
    copy: str | None  # the SHA-256 of its normalised copy
    format: str | None
    width: int | None
    height: int | None
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Samples:
    """The usable images, n rows sorted by (label_id, sample_id): the row order of every later array.

    `sample_id`, `sha256`, `label`, `split` and `group` are str arrays of shape (n,), `label_id` is int32.
    `group` is the sample_id of the first member of the image's duplicate group, in which the groups of the
    user are joined. Where no labels are used, `label` is "" and `label_id` -1.
    """

    sample_id: NDArray[np.str_]
    sha256: NDArray[np.str_]
    label: NDArray[np.str_]
    label_id: NDArray[np.int32]
    split: NDArray[np.str_]
    group: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.sample_id)

    @cached_property
    def group_id(self) -> NDArray[np.int64]:
        """`group` as codes 0, 1, ... by first member: int64 of shape (n,)."""
        return dense(self.group)

    def rows(self, split: str) -> NDArray[np.int64]:
        """The rows of one split, ascending."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True, eq=False)
class Manifest:
    """`manifest.parquet` in memory, in the order of the paths."""

    table: pyarrow.Table

    @cached_property
    def rows(self) -> list[ManifestRow]:
        """One row per candidate image."""
        rows: list[ManifestRow] = self.table.to_pylist()
        return rows

    @cached_property
    def paths_by_sample(self) -> dict[str, str]:
        """sample_id → path relative to the root, as the file system has it (surrogates for odd bytes)."""
        return {sample: os.fsdecode(path) for sample, path in self._by_sample("path_bytes")}

    @cached_property
    def copies_by_sample(self) -> dict[str, str | None]:
        """sample_id → the SHA-256 of its normalised copy; None where the original is as good."""
        return dict(self._by_sample("copy"))

    def _by_sample(self, name: str) -> Iterator[tuple[str, Any]]:
        samples, values = (self.table.column(each).to_pylist() for each in ("sample_id", name))
        return (pair for pair in zip(samples, values, strict=True) if pair[0] is not None)

    def quarantined(self) -> list[ManifestRow]:
        """The files that could not be used, with `reason` and `detail`."""
        chosen = np.flatnonzero(self.table.column("status").to_numpy() == "quarantined")
        rows: list[ManifestRow] = self.table.take(chosen).to_pylist()
        return rows


def manifest_of(columns: Iterable[tuple[str, Sequence[Any]]]) -> Manifest:
    """A manifest of the columns of `ManifestRow`, by name, each of one value per file."""
    import pyarrow as pa

    schema = _manifest_schema()
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns}
    return Manifest(pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.parquet`, whole or not at all."""
    _write(path, manifest.table)


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.parquet`.

    Raises:
        DamagedError: the file is missing, or is not what `write_manifest` writes.
    """
    return Manifest(_read(path, _manifest_schema()))


def write_samples(path: Path, samples: Samples) -> None:
    """Write `samples.parquet`, whole or not at all."""
    import pyarrow as pa

    schema = _samples_schema()
    columns = [pa.array(getattr(samples, field.name).tolist(), field.type) for field in schema]
    _write(path, pa.Table.from_arrays(columns, schema=schema))


def read_samples(path: Path) -> Samples:
    """Read `samples.parquet`.

    Raises:
        DamagedError: the file is missing, or is not what `write_samples` writes.
    """
    table = _read(path, _samples_schema())

    def text(name: str) -> NDArray[np.str_]:
        return np.array(table.column(name).to_pylist(), np.str_)

    return Samples(
        sample_id=text("sample_id"),
        sha256=text("sha256"),
        label=text("label"),
        label_id=table.column("label_id").to_numpy(),
        split=text("split"),
        group=text("group"),
    )


def _manifest_schema() -> pyarrow.Schema:
    import pyarrow as pa

    types: dict[str, Any] = dict.fromkeys(ManifestRow.__annotations__, pa.string())
    types |= {"path_bytes": pa.binary(), "size": pa.int64(), "warnings": pa.list_(pa.string())}
    types |= {"width": pa.int32(), "height": pa.int32()}
    return pa.schema(types)


def _samples_schema() -> pyarrow.Schema:
    import pyarrow as pa

    names = ("sample_id", "sha256", "label", "label_id", "split", "group")
    return pa.schema([(name, pa.int32() if name == "label_id" else pa.string()) for name in names])


def _write(path: Path, table: pyarrow.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP,
        write_page_checksum=True,
        store_schema=False,
    )
    atomic_write(path, sink.getvalue().to_pybytes())


def _read(path: Path, schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing", hint=REBUILD) from error
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: not readable as Parquet ({error})", hint=REBUILD) from error
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise DamagedError(f"{path}: not the columns that ingest writes", hint=REBUILD)
    return table
