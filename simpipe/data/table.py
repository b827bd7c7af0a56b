"""Labels from a table: a CSV, TSV, JSONL or Parquet file with the columns `path` and `label`.

A cell is text and stays what it is: `007`, `NA` and `null` are labels like any other.
"""

import csv
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from simpipe.data.scan import Entry, Ignored, Walk, lies_in, some
from simpipe.errors import DataError, DiskError, UsageError

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
COLUMNS = ("path", "label", "split", "group")
MAX_LINE = 1_048_576  # bytes; a longer line is no row of labels
MULTI_LABEL = (";", "|")


class Row(NamedTuple):
    """A row as a person counts it (`number`: the header of a CSV is row 1), with a safe relative path."""

    number: int
    path: str
    label: str | None
    split: str | None
    group: str | None


_Cells = tuple[int, dict[str, Any]]  # the row's number, and its cells by column


def read_table(path: Path, *, labels: bool) -> tuple[list[Row], list[str]]:
    """The rows of a label table by path bytes, each path once, and notes for a person.

    Args:
        path: the table; its suffix says what it is.
        labels: whether each row needs a label; if not, the labels are not looked at.

    Raises:
        UsageError: there is no such file, or its suffix is none of a table.
        DiskError: the table may not, or cannot, be read.
        DataError: it is not what its suffix says, a column is missing or there twice, a path leads out of
            the folder, a label is missing or is no text, a path is there with two labels, splits or
            groups, or only some rows name a split.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path} is no table of labels", hint=f"Give a file that ends in {', '.join(_READERS)}."
        )
    if not path.is_file():  # also because opening a pipe would wait for ever
        raise UsageError(f"no such table: {path}", hint="ingest.table is the path of a file.")
    rows: list[Row] = []
    unlabelled: list[int] = []
    try:
        for number, cells in reader(path):
            row = _row(path, number, cells, labels)
            rows.append(row)
            if labels and not (row.label or "").strip():
                unlabelled.append(number)
    except OSError as error:
        raise DiskError(f"cannot read {path} ({error.strerror or error})") from error
    if not rows:
        raise _fault(path, None, "no rows", "Each image needs a row with its path and its label.")
    if unlabelled:
        raise DataError(
            f"{path}: {len(unlabelled):,} of {len(rows):,} rows have no label: row "
            + some(map(str, unlabelled)),
            hint="Give each row a label, in a column called label, or set ingest.labels=none.",
        )
    without = [str(row.number) for row in rows if row.split is None]
    if 0 < len(without) < len(rows):
        raise DataError(
            f"{path}: some rows name a split, and {len(without):,} do not: row {some(without)}",
            hint="Name the split (train, val or test) in every row, or in none.",
        )
    once = _once(path, rows)
    notes = []
    if len(once) < len(rows):
        notes.append(
            f"rows that repeat another row of the table: {len(rows) - len(once):,}; each counts once"
        )
    names = {row.label for row in once if row.label}
    marked = sum(any(mark in name for mark in MULTI_LABEL) for name in names)
    if 2 * marked > len(names):
        notes.append(
            f"{marked:,} of {len(names):,} labels contain ; or |; each is taken as one label, not as several"
        )
    return once, notes


def locate(
    root: str, table: Path, rows: Sequence[Row], walked: Walk, *, follow_links: bool
) -> tuple[list[Entry], list[Row], list[Ignored]]:
    """Where the rows' files are: n entries, their n rows, and what was passed over.

    A table may name what a walk passes over for its name. A file that an ignore rule takes out stays out; one
    that is not there has size -1. Images that the table does not list are passed over as `not_in_table`.

    Raises:
        DataError: a row's file lies outside `root`, by a link, and links are not to be followed.
    """
    real_root = os.path.realpath(root)
    entry_of = {entry.path: entry for entry in walked.entries}
    links = set(walked.links)
    ruled_out = {each.path for each in walked.ignored if each.reason == "ignored_by_rule"}
    entries: list[Entry] = []
    kept: list[Row] = []
    for row in rows:
        if ruled_out and not ruled_out.isdisjoint(_with_folders(row.path)):
            continue
        entry = entry_of.get(row.path)
        if not follow_links and (entry is None or row.path in links):
            _refuse_outside(real_root, f"{root}/{row.path}", table, row)
        entries.append(entry or _entry(root, row.path))
        kept.append(row)
    listed = {row.path for row in kept}
    ignored = [each for each in walked.ignored if each.path not in listed]
    ignored += [Ignored(entry.path, "not_in_table") for entry in walked.entries if entry.path not in listed]
    return entries, kept, sorted(ignored, key=lambda each: os.fsencode(each.path))


def split_of(text: str) -> str | None:
    """train, val or test, for any spelling of it; None for another word."""
    return SPLIT_NAMES.get(text.strip().lower())


def _row(table: Path, number: int, cells: dict[str, Any], labels: bool) -> Row:
    texts = {
        name: _text(table, number, name, cells.get(name)) for name in COLUMNS if labels or name != "label"
    }
    path, split, group = texts["path"] or "", texts["split"] or "", texts["group"] or ""
    if wrong := _wrong_path(path):
        raise _fault(
            table,
            number,
            f"the path {path!r:.200} {wrong}",
            "Paths are relative to the folder of the images.",
        )
    if split.strip() and not split_of(split):
        raise _fault(table, number, f"{split!r:.80} is no split", "A split is train, val or test.")
    return Row(
        number,
        posixpath.normpath(path),
        texts.get("label"),
        split_of(split),
        group if group.strip() else None,
    )


def _text(table: Path, number: int, column: str, value: Any) -> str | None:
    """A cell as text; None where the row has none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _fault(
            table, number, f"the {column} is a {type(value).__name__}, not text", "Write it in quotes."
        )
    try:
        value.encode("utf-8", "surrogateescape" if column == "path" else "strict")
    except UnicodeEncodeError:
        raise _fault(table, number, f"the {column} is no valid text", "Write it as UTF-8.") from None
    if "\0" in value:
        raise _fault(table, number, f"the {column} contains a NUL character", "Is this a table at all?")
    return value


def _wrong_path(path: str) -> str | None:
    """What is wrong with a path that a table names, whatever lies in the folder."""
    if posixpath.normpath(path) == ".":
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if "://" in path:
        return "is an address"
    return "leads out of the folder" if ".." in path.split("/") else None


def _once(table: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows by path bytes, each path once."""
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other[2:] != row[2:]:
            raise _fault(
                table,
                row.number,
                f"{row.path!r:.200} stands in row {other.number}, too, with another label, split or group",
                "Keep one of the two. An image has one label here.",
            )
    return [first[path] for path in sorted(first, key=os.fsencode)]


def _with_folders(path: str) -> Iterator[str]:
    """A path and each folder above it, as a walk spells them."""
    yield path
    for place, letter in enumerate(path):
        if letter == "/":
            yield path[: place + 1]


def _refuse_outside(real_root: str, file: str, table: Path, row: Row) -> None:
    if not lies_in(real_root, file):
        raise _fault(
            table,
            row.number,
            f"{row.path!r:.200} is a link that leads out of the folder",
            "If that is meant, set ingest.follow_links=true.",
        )


def _entry(root: str, path: str) -> Entry:
    """A file that the walk did not take for an image; size -1 if it is not there."""
    try:
        status = os.stat(f"{root}/{path}")  # noqa: PTH116 - a Path would drop nothing, but costs
    except OSError:
        return Entry(path, -1, 0, 0, 0)
    if not stat.S_ISREG(status.st_mode):
        return Entry(path, -1, 0, 0, 0)
    return Entry(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _csv(path: Path) -> Iterator[_Cells]:
    with path.open("rb") as stream:
        lines = (text for _, text in _lines(path, stream))
        rows = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        number = 0
        try:
            header = next(rows, [])
            number = 1
            columns = _columns(path, header)
            for number, cells in enumerate(rows, 2):
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise _fault(
                        path,
                        number,
                        f"{len(cells)} cells, but the header has {len(header)}",
                        "Put a cell that contains the delimiter in double quotes.",
                    )
                yield number, {name: cells[place] for name, place in columns.items()}
        except csv.Error as error:
            raise _fault(path, number + 1, f"not readable as CSV ({error})", SAVE_AS) from error


def _jsonl(path: Path) -> Iterator[_Cells]:
    with path.open("rb") as stream:
        for number, text in _lines(path, stream):
            if not text.strip():
                continue
            try:
                document = json.loads(text, parse_int=str, object_pairs_hook=_pairs)
            except (ValueError, RecursionError) as error:
                raise _fault(path, number, f"not readable as JSON ({error})", SAVE_AS) from error
            if not isinstance(document, dict):
                raise _fault(path, number, "not a JSON object", SAVE_AS)
            if "path" not in document:
                raise _fault(path, number, "no path", "Each row needs a path and a label.")
            yield number, document


def _parquet(path: Path) -> Iterator[_Cells]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        try:
            with pq.ParquetFile(stream) as file:
                stored = _parquet_columns(path, file.schema_arrow)
                number = 0
                for batch in file.iter_batches(columns=list(stored.values())):
                    cells = [batch.column(column).to_pylist() for column in stored.values()]
                    for row in zip(*cells, strict=True):
                        number += 1
                        texts = (str(cell) if isinstance(cell, int) else cell for cell in row)
                        yield number, dict(zip(stored, texts, strict=True))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _fault(
                path, None, f"not readable as Parquet ({error})", "Write the table again."
            ) from error


def _parquet_columns(path: Path, schema: Any) -> dict[str, str]:
    """The columns that count, and how the file spells them; refuses what is neither text nor integer."""
    from pyarrow import types

    readable = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    columns = _columns(path, schema.names)
    for name, place in columns.items():
        kind = schema.field(place).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not any(is_kind(kind) for is_kind in readable):
            raise _fault(path, None, f"the column {name} is {kind}, not text", "Store it as strings.")
    return {name: schema.names[place] for name, place in columns.items()}


_READERS: dict[str, Callable[[Path], Iterator[_Cells]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
SAVE_AS = "Save it as UTF-8, with a header path,label and one row per image, separated by commas."


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """The lines as text, numbered from 1, without the mark that some programs put before UTF-8."""
    for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
        if len(raw) == MAX_LINE:
            raise _fault(path, None, f"line {number} is longer than {MAX_LINE:,} bytes", SAVE_AS)
        if b"\0" in raw:
            raise _fault(path, None, f"line {number} contains a NUL byte", SAVE_AS)
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _fault(path, None, f"line {number} is not UTF-8 ({error.reason})", SAVE_AS) from error


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Where the columns that count stand."""
    names = [name.strip().lower() for name in header]
    for name in COLUMNS:
        if names.count(name) > 1:
            raise _fault(path, None, f"two columns are called {name}", "Delete or rename one of them.")
    if "path" not in names:
        shown = some(repr(f"{name:.40}") for name in header) or "none"
        raise _fault(path, None, f"no column is called path; there are: {shown}", SAVE_AS)
    return {name: names.index(name) for name in COLUMNS if name in names}


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _fault(table: Path, number: int | None, what: str, hint: str) -> DataError:
    where = f"{table}, row {number}" if number else f"{table}"
    return DataError(f"{where}: {what}", hint=hint)
