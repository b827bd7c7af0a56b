import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.data.exclusion import Row, excluded_files, read_exclusion
from simpipe.data.fingerprint import HashedFile
from simpipe.errors import DataError, UsageError
from simpipe.stages.findings import COLUMNS
from simpipe.stages.tables import cell

ID = "0123456789abcdef"
HEADER = "kind,severity,score,sample_id,path,label,other,detail,exclude\n"


def read(tmp_path: Path, content: str | bytes) -> list[Row]:
    path = tmp_path / "list.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_exclusion(path)


def hashed(*paths: str) -> list[HashedFile]:
    return [HashedFile(path, 1, "0" * 64, "a", None, None, None) for path in paths]


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(("", ID, f"{ID}-12")), NAMES, st.sampled_from(("yes", "", "1", "False"))),
        max_size=6,
    ),
    delimiter=st.sampled_from(",;"),
    mark=st.sampled_from((b"", b"\xef\xbb\xbf")),
)
def test_what_simpipe_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], delimiter: str, mark: bytes
) -> None:
    path = tmp_path_factory.mktemp("list") / "findings.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        for sample_id, name, marked in rows:
            record: dict[str, Any] = dict.fromkeys(COLUMNS, 'some; text, of "a kind"')
            about = {"sample_id": sample_id, "path": cell(name), "exclude": marked, "exclude_other": ""}
            writer.writerow({**record, **about})
    path.write_bytes(mark + path.read_bytes())
    guarded = [row for row in rows if row[1][:1] == "'"]  # an apostrophe of the name's own may be lost
    expected = [Row(sample_id, name) for sample_id, name, marked in rows if marked in ("yes", "1")]
    found = read_exclusion(path)
    assert found == expected or (guarded and len(found) == len(expected))


@pytest.mark.parametrize("mark", ["1", "x", "X", "true", "TRUE", "Yes", " x "])
def test_marks(tmp_path: Path, mark: str) -> None:
    assert read(tmp_path, f"path,exclude\na/1.jpg,{mark}\na/2.jpg,\n") == [Row("", "a/1.jpg")]


@pytest.mark.parametrize("blank", ["", " ", "0", "false", "No", "-"])
def test_blanks(tmp_path: Path, blank: str) -> None:
    assert read(tmp_path, f"path,exclude\na/1.jpg,{blank}\n") == []


def test_a_list_without_the_column_is_taken_whole(tmp_path: Path) -> None:
    assert read(tmp_path, "path\na/1.jpg\n\nb/2.jpg\n") == [Row("", "a/1.jpg"), Row("", "b/2.jpg")]
    assert read(tmp_path, f"Sample_ID , note\n{ID},x\n,\n") == [Row(ID, "")]
    assert read(tmp_path, "path") == []


def test_cells_that_a_spreadsheet_left_off_are_empty(tmp_path: Path) -> None:
    short = f"outlier,low,1,{ID},a/1.jpg\n"
    assert read(tmp_path, HEADER + short + short[:-1] + ",a,,,x\n") == [Row(ID, "a/1.jpg")]
    assert read(tmp_path, HEADER + short[:-1] + ",a,,,x,,\n") == [Row(ID, "a/1.jpg")]


PAIRS = "sample_id,path,other,exclude,exclude_other,other_id\n"


def test_the_other_image_of_a_pair_has_a_mark_of_its_own(tmp_path: Path) -> None:
    other = f"{'f' * 16}-2"
    pair = f"{ID},a/1.jpg,'=b/2.jpg,%s,%s,{other}\n"
    assert read(tmp_path, PAIRS + pair % ("yes", "")) == [Row(ID, "a/1.jpg")]
    assert read(tmp_path, PAIRS + pair % ("", "x")) == [Row(other, "=b/2.jpg")]
    assert read(tmp_path, PAIRS + pair % ("1", "Yes")) == [Row(ID, "a/1.jpg"), Row(other, "=b/2.jpg")]
    assert read(tmp_path, PAIRS + f"{ID},a/1.jpg,b/2.jpg,,x,1.2E+15\n") == [Row("", "b/2.jpg")]
    rows = f"a/1.jpg,b/2.jpg,,{other}\na/3.jpg,b/4.jpg,x,{other}\n"
    assert read(tmp_path, "path,other,exclude_other,other_id\n" + rows) == [Row(other, "b/4.jpg")]


def test_an_id_that_a_spreadsheet_took_for_a_number_gives_way_to_the_path(tmp_path: Path) -> None:
    assert read(tmp_path, "sample_id,path\n1.23457E+15,a/1.jpg\n") == [Row("", "a/1.jpg")]


def test_odd_names(tmp_path: Path) -> None:
    raw = 'path,exclude\r\n"a/new\nline.jpg",x\r\n"\'=cmd|\'.jpg",x\r\n<script>.jpg,x\r\n'
    assert [row.path for row in read(tmp_path, raw)] == ["a/new\nline.jpg", "=cmd|'.jpg", "<script>.jpg"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "no column"),
        ("label,exclude\na,x\n", "no column"),
        ("\0\1\2", "no column"),
        (b"path\n\xff\xfe.jpg\n", "UTF-8"),
        ("path\n".encode("utf-16"), "UTF-8"),
        ("path,exclude\na/1.jpg,x\na,b.jpg,x\n", r":3 has more cells"),
        ("path,exclude\na/1.jpg,perhaps\n", r":2: 'perhaps'"),
        ("path,label,exclude\na/1.jpg,a,\n,a,x\n", r":3 is marked, but names no image"),
        ("path,sample_id\n,1.2E+15\n", "names no image"),
        (f"{PAIRS}{ID},a/1.jpg,a label,,x,\n", ":2: exclude_other is marked, but names no image"),
        (f"{PAIRS}{ID},a/1.jpg,b/2.jpg,,b,{ID}\n", ":2: 'b' under exclude_other is neither"),
        ("path\n" + "a" * 200_000 + "\n", r":2 cannot be read as CSV"),
        ('path,exclude\n"' + "a\n" * 100_000, "cannot be read as CSV"),
    ],
)
def test_what_is_no_such_list_is_refused(tmp_path: Path, content: str | bytes, what: str) -> None:
    with pytest.raises(DataError, match=what) as error:
        read(tmp_path, content)
    assert "list.csv" in error.value.message and error.value.hint


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError) as error:
            read_exclusion(path)
        assert str(path) in error.value.message and error.value.hint


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=60), head=st.sampled_from((b"", b"path\n", b"path,exclude\n")))
def test_any_bytes_are_a_list_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bytes
) -> None:
    try:
        rows = read(tmp_path_factory.mktemp("any"), head + content)
    except DataError as error:
        assert error.hint
    else:
        assert all(row.sample_id or row.path for row in rows)


def test_files_are_found_by_content_and_else_by_path() -> None:
    files = hashed("a/1.jpg", "a/2.jpg", "b/\udcff.jpg", "b/4.jpg")
    ids = [ID, f"{ID}-2", "f" * 16, ""]
    rows = [
        Row(f"{ID}-2", "a/1.jpg"),  # of equal bytes the path tells
        Row("", "b/\\xff.jpg"),  # as it is displayed
        Row("", "b/4.jpg"),
        Row("", "b/4.jpg"),
        Row("e" * 16, "a/1.jpg"),  # that path has other content by now
        Row("", "gone.jpg"),
    ]
    assert excluded_files(rows, files, ids) == ({0, 2, 3}, 2)
    assert excluded_files([], files, ids) == (set(), 0)


def test_an_exclusion_does_not_jump_to_a_new_copy_of_the_image() -> None:
    content = "a" * 64
    files = [HashedFile(path, 1, content, path[:2], None, None, None) for path in ("l0/new.jpg", "l1/0.jpg")]
    rows = [Row("a" * 16, "l1/0.jpg")]
    ids = ["a" * 16, "a" * 16 + "-2"]
    assert excluded_files(rows, files, ids) == ({1}, 0)
    renamed = [files[1]._replace(path="l1/renamed.jpg")]
    assert excluded_files(rows, renamed, ids[:1]) == ({0}, 0), "known by its content"
