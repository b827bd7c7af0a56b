"""The images that a person took out: the marked rows of a findings.csv, or of any list of paths or ids."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simpipe.data.scan import display
from simpipe.errors import DataError, UsageError

if TYPE_CHECKING:
    from simpipe.data.fingerprint import HashedFile

MARKS = ("1", "x", "true", "yes")
BLANKS = ("", "0", "-", "false", "no")

_SAMPLE_ID = re.compile(r"[0-9a-f]{16}(-[0-9]+)?")
_HINT = "Give a findings.csv of simpipe, or a CSV with a column sample_id or path; see ingest.exclude."


class Row(NamedTuple):
    """An image to leave out, by its content, or by its path if `sample_id` is empty."""

    sample_id: str
    path: str


def read_exclusion(path: Path) -> list[Row]:
    """The marked images of a CSV with the columns sample_id or path, and exclude.

    A row is marked by 1, x, true or yes under `exclude`, in any case. Under `exclude_other` the image of
    `other_id` and `other` is marked, which a finding sets against its own. Without both columns every row is.
    The delimiter is a semicolon if the header has one. What a spreadsheet made of an id that looks like a
    number is no id: then the path counts.

    Raises:
        UsageError: there is no such file, or it may not be read.
        DataError: it is no such CSV, or a marked row names no image.
    """
    reader = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            reader = csv.reader(chain([head], stream), delimiter=";" if ";" in head else ",")
            names = [name.strip().lower() for name in next(reader, [])]
            if not {"sample_id", "path"} & set(names):
                raise DataError(f"{path} has no column sample_id or path", hint=_HINT)
            return [row for cells in reader for row in _rows(names, cells, f"{path}:{reader.line_num}")]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="ingest.exclude names a file to read.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", hint="Save it as CSV in UTF-8.") from error
    except csv.Error as error:
        where = f"{path}:{reader.line_num}" if reader else path
        raise DataError(f"{where} cannot be read as CSV: {error}", hint=_HINT) from error


def excluded_files(
    rows: Sequence[Row], files: Sequence["HashedFile"], sample_ids: Sequence[str]
) -> tuple[set[int], int]:
    """Which of n files, by their numbers, `rows` take out, and how many rows match none.

    Args:
        rows: as of `read_exclusion`.
        files: n files.
        sample_ids: the id of each, as of `intake.sample_ids`.
    """
    by_id = {sample_id: number for number, sample_id in enumerate(sample_ids) if sample_id}
    by_path = {display(file.path): number for number, file in enumerate(files)}

    def number_of(row: Row) -> int | None:
        there = by_path.get(row.path)
        if not row.sample_id:
            return there
        # images of equal bytes have ids that change as others come: of these the path tells, if it still fits
        if there is not None and _content(sample_ids[there]) == _content(row.sample_id):
            return there
        return by_id.get(row.sample_id)

    found = list(map(number_of, rows))
    return {number for number in found if number is not None}, found.count(None)


def _content(sample_id: str) -> str:
    """The part of an id that images of equal bytes share."""
    return sample_id.partition("-")[0]


def _rows(names: list[str], cells: list[str], where: str) -> Iterator[Row]:
    """The images of a row that are marked. Cells that a spreadsheet left off at the end are empty."""
    if any(cells[len(names) :]):
        raise DataError(
            f"{where} has more cells than the header",
            hint="Put quotes around cells that contain the delimiter.",
        )
    values = dict.fromkeys(("sample_id", "path", "other_id", "other"), "")
    values |= zip(names, cells, strict=False)
    marks = {"exclude", "exclude_other"} & set(names)
    if _marked(values, "exclude", where) if marks else any(cells):
        yield _row(values["sample_id"], values["path"], where)
    if _marked(values, "exclude_other", where):
        other = values["other"] if values["other_id"].strip() else ""  # else it is a label
        yield _row(values["other_id"], other, f"{where}: exclude_other")


def _marked(values: dict[str, str], column: str, where: str) -> bool:
    given = values.get(column, "")
    mark = given.strip().lower()
    if mark not in (*MARKS, *BLANKS):
        raise DataError(
            f"{where}: {given!r} under {column} is neither a mark nor empty",
            hint=f"Mark a row with {', '.join(MARKS[:-1])} or {MARKS[-1]}.",
        )
    return mark in MARKS


def _row(given_id: str, given_path: str, where: str) -> Row:
    sample_id, path = given_id.strip(), unguarded(given_path)
    if not _SAMPLE_ID.fullmatch(sample_id):
        sample_id = ""
    if not sample_id and not path:
        raise DataError(f"{where} is marked, but names no image", hint="Mark images only: they have a path.")
    return Row(sample_id, path)


def unguarded(text: str) -> str:
    """A cell without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return text[1:] if text[:2] in {"'=", "'+", "'-", "'@", "'\t", "'\r"} else text
