import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import write_tree

from simpipe.data.scan import Ignored, walk
from simpipe.data.table import MAX_LINE, Row, locate, read_table
from simpipe.errors import DataError, DiskError, SimpipeError, UsageError


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(file: Path, /, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def labels(path: Path) -> dict[str, str | None]:
    return {row.path: row.label for row in read_table(path, labels=True)[0]}


ODD = [
    "007",
    "NA",
    "null",
    "None",
    "1.0",
    "",
    " x ",
    "1e5",
    "true",
    "=cmd|' /C calc'!A0",
    "a\nb",
    '"',
    "é",
    "-",
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_cell_stays_what_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    expected = {f"{n:02}.jpg": text for n, text in enumerate(ODD) if text.strip()}
    if suffix == ".parquet":
        parquet(path, path=list(expected), label=pa.array(expected.values()).dictionary_encode())
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"label": t, "path": p}) + "\n" for p, t in expected.items()))
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerows([("path", "label"), *expected.items()])
    assert labels(path) == expected


def test_integers_are_labels(tmp_path: Path) -> None:
    numbers = {"1.jpg": "1" + "0" * 5000, "2.jpg": "-7", "3.jpg": "0"}
    lines = "".join(
        f'{{"path": "{path}", "label": {number}, "x": 1.5}}\n' for path, number in numbers.items()
    )
    assert labels(written(tmp_path / "t.jsonl", lines)) == numbers
    assert labels(parquet(tmp_path / "t.parquet", path=["a", "b"], label=pa.array([7, -1], pa.int8()))) == {
        "a": "7",
        "b": "-1",
    }


def test_columns_rows_and_order(tmp_path: Path) -> None:
    table = written(
        tmp_path / "t.CSV",
        '\ufeffGroup, label ,split,extra,path\r\n g1,cat,Validation,"a,b",b//c.jpg\r\n'
        '\r\n"",dog,TRAIN,,./a.jpg\r\n',
    )
    assert read_table(table, labels=True) == (
        [Row(4, "a.jpg", "dog", "train", None), Row(2, "b/c.jpg", "cat", "val", " g1")],
        [],
    )


def test_the_last_line_needs_no_end_and_a_cell_may_have_several(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", 'path,label,note\n1.jpg,a,"one\ntwo"\n2.jpg,b,')
    assert [row.number for row in read_table(table, labels=True)[0]] == [2, 3]


def test_without_labels_the_column_does_not_matter(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", "path,label\n1.jpg,a\n1.jpg,b\n2.jpg,\n")
    rows, notes = read_table(table, labels=False)
    assert [(row.path, row.label) for row in rows] == [("1.jpg", None), ("2.jpg", None)]
    assert notes == ["rows that repeat another row of the table: 1; each counts once"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "./",
        "/etc/passwd",
        "../x.jpg",
        "a/../../x.jpg",
        "a/..",
        "..",
        "file:///x.jpg",
        "https://x/y.jpg",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_paths_stay_in_the_folder(tmp_path: Path, path: str, suffix: str) -> None:
    table = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        written(table, f"path,label\nok.jpg,a\n{path},b\n")
    elif suffix == ".jsonl":
        written(table, f'{{"path": "ok.jpg", "label": "a"}}\n\n{{"path": "{path}", "label": "b"}}\n')
    else:
        parquet(table, path=["ok.jpg", path], label=["a", "b"])
    with pytest.raises(DataError, match=rf"row {2 if suffix == '.parquet' else 3}: the path '.*' (is|leads)"):
        read_table(table, labels=True)


def test_a_backslash_is_a_letter(tmp_path: Path) -> None:
    assert list(labels(written(tmp_path / "t.csv", "path,label\n..\\a.jpg,a\nC:\\b.jpg,b\n"))) == [
        "..\\a.jpg",
        "C:\\b.jpg",
    ]


CSV_FAULTS = {
    "": "no column is called path",
    "\n\n": "no column is called path",
    "file,label\n1.jpg,a\n": "no column is called path; there are: 'file', 'label'",
    "path;label\n1.jpg;a\n": "no column is called path; there are: 'path;label'",
    "path,label\n": "no rows",
    "path,label,Label\n1.jpg,a,b\n": "two columns are called label",
    "path,path\n1.jpg,2.jpg\n": "two columns are called path",
    "path,label\n1.jpg,a\n2.jpg,b,c\n": "row 3: 3 cells, but the header has 2",
    "path,label\n1.jpg,a\n2.jpg\n": "row 3: 1 cells, but the header has 2",
    "path,label\n1.jpg,a\n2.jpg,\n3.jpg, \n": "2 of 3 rows have no label: row 3, 4",
    "path\n1.jpg\n": "1 of 1 rows have no label: row 2",
    "path,label\n1.jpg,a\n2.jpg,b\n./1.jpg,c\n": "row 4: '1.jpg' stands in row 2, too",
    "path,label,split\n1.jpg,a,train\n2.jpg,b,holdout\n": "row 3: 'holdout' is no split",
    "path,label,split\n1.jpg,a,train\n2.jpg,b,\n": "some rows name a split, and 1 do not: row 3",
    'path,label\n1.jpg,"a\n2.jpg,b\n': "row 2: not readable as CSV",
    'path,label\n1.jpg,"a"b\n': "row 2: not readable as CSV",
    "path,label\r1.jpg,a\r2.jpg,b\r": "row 1: not readable as CSV",
    "path,label\n1.jpg,a\0b\n": "line 2 contains a NUL byte",
    "path,label\n1.jpg,a\n1\udcff.jpg,b\n": "line 3 is not UTF-8",
    "path,label\n1.jpg," + "a" * 200_000 + "\n": "row 2: not readable as CSV",
    "path,label\n1.jpg," + "a" * MAX_LINE + "\n": "line 2 is longer than",
    'path,label\n1.jpg,"' + "a\n" * 200_000 + '"\n': "row 2: not readable as CSV",
}


@pytest.mark.parametrize(("content", "message"), CSV_FAULTS.items(), ids=range(len(CSV_FAULTS)))
def test_a_faulty_csv_is_refused(tmp_path: Path, content: str, message: str) -> None:
    table = written(tmp_path / "t.csv", content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_table(table, labels=True)
    assert message in caught.value.message and caught.value.message.startswith(str(table))
    assert len(caught.value.message) < 600 and caught.value.hint


def test_a_table_of_two_byte_letters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1 (contains a NUL byte|is not UTF-8)"):
        read_table(written(tmp_path / "t.csv", "path,label\n1.jpg,a\n".encode("utf-16")), labels=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "2.jpg", "label": 1.5}', "the label is a float"),
        ('{"path": "2.jpg", "label": NaN}', "the label is a float"),
        ('{"path": "2.jpg", "label": true}', "the label is a bool"),
        ('{"path": "2.jpg", "label": ["a", "b"]}', "the label is a list"),
        ('{"path": "2.jpg", "label": "a\\u0000"}', "the label contains a NUL"),
        ('{"path": "2.jpg", "label": "\\udcff"}', "the label is no valid text"),
        ('{"path": "\\ud800.jpg", "label": "a"}', "the path is no valid text"),
        ('{"path": null, "label": "a"}', "the path '' is empty"),
        ('{"label": "a"}', "no path"),
        ('["2.jpg", "a"]', "not a JSON object"),
        ('{"path": "2.jpg", "label": "a", "label": "b"}', "a name stands twice"),
        ('{"path": "2.jpg", "label": ', "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
    ],
)
def test_a_faulty_line_of_json_is_refused(tmp_path: Path, line: str, message: str) -> None:
    table = written(tmp_path / "t.jsonl", f'{{"path": "1.jpg", "label": "a"}}\n{line}\n')
    with pytest.raises(DataError, match="row 2: ") as caught:
        read_table(table, labels=True)
    assert message in caught.value.message


def test_null_is_no_label(tmp_path: Path) -> None:
    table = written(tmp_path / "t.jsonl", '{"path": "1.jpg", "label": null}\n{"path": "2.jpg"}\n')
    with pytest.raises(DataError, match="2 of 2 rows have no label: row 1, 2"):
        read_table(table, labels=True)
    with pytest.raises(DataError, match="1 of 2 rows have no label: row 2"):
        read_table(parquet(tmp_path / "t.parquet", path=["a", "b"], label=["x", None]), labels=True)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1.0, 2.0]), "double"),
        (pa.array([True, False]), "bool"),
        (pa.array([b"a", b"b"]), "binary"),
        (pa.array([["a"], ["b"]]), "list"),
        (pa.array([{"a": "b"}] * 2), "struct"),
        (pa.array([1.0, 2.0]).dictionary_encode(), "double"),
    ],
)
def test_a_column_that_is_no_text_is_refused(tmp_path: Path, column: Any, kind: str) -> None:
    with pytest.raises(DataError, match=f"the column label is {kind}"):
        read_table(parquet(tmp_path / "t.parquet", path=["a", "b"], label=column), labels=True)


def test_other_columns_may_be_anything(tmp_path: Path) -> None:
    table = parquet(
        tmp_path / "t.parquet", path=["a"], label=["x"], box=[[1.5]], seen=[True], split=pa.nulls(1)
    )
    assert read_table(table, labels=True)[0] == [Row(1, "a", "x", None, None)]


def test_a_cut_parquet_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "t.parquet", path=["a", "b"], label=["x", "y"]).read_bytes()
    for end in range(0, len(whole), 7):
        with pytest.raises(DataError, match="not readable as Parquet"):
            read_table(written(tmp_path / "t.parquet", whole[:end]), labels=True)


def test_what_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no table of labels"):
        read_table(written(tmp_path / "labels.xlsx", ""), labels=True)
    with pytest.raises(UsageError, match="no such table"):
        read_table(tmp_path / "absent.csv", labels=True)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="no such table"):
        read_table(tmp_path / "pipe.csv", labels=True)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    for suffix in ("csv", "parquet"):
        table = written(tmp_path / f"t.{suffix}", "path,label\n")
        with monkeypatch.context() as patched, pytest.raises(DiskError, match="Permission denied"):
            patched.setattr(Path, "open", refuse)
            read_table(table, labels=True)


def test_labels_that_look_like_several_are_told(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", "path,label\n1.jpg,a;b\n2.jpg,b|c\n3.jpg,a\n")
    rows, notes = read_table(table, labels=True)
    assert [row.label for row in rows] == ["a;b", "b|c", "a"]
    assert notes == ["2 of 3 labels contain ; or |; each is taken as one label, not as several"]
    assert read_table(written(table, "path,label\n1.jpg,a;b\n2.jpg,b\n"), labels=True)[1] == []


def test_a_link_may_not_lead_out_unless_links_are_followed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", {"cat/1.jpg": b"1"})
    outside = write_tree(tmp_path / "pool", {"1.jpg": b"22", "in/2.jpg": b"333"})
    (root / "cat/out.jpg").symlink_to(outside / "1.jpg")
    (root / "cat/in.jpg").symlink_to("1.jpg")
    (root / "pool").symlink_to(outside)
    table = tmp_path / "t.csv"
    for path, size in {"cat/out.jpg": 2, "pool/in/2.jpg": 3, "cat/in.jpg": 1, "pool/absent.jpg": -1}.items():
        rows = [Row(2, path, "a", None, None)]
        for follow in (False, True):
            walked = walk(os.fspath(root), follow_links=follow)
            if follow or path == "cat/in.jpg":
                [entry], kept, _ = locate(os.fspath(root), table, rows, walked, follow_links=follow)
                assert (entry.path, entry.size, kept) == (path, size, rows)
            else:
                with pytest.raises(DataError, match=r"t\.csv, row 2: .* leads out of the folder"):
                    locate(os.fspath(root), table, rows, walked, follow_links=follow)


def test_what_is_listed_and_no_file_is_not_there(tmp_path: Path) -> None:
    write_tree(tmp_path, {"cat/1.jpg": b"1", "dog.jpg/1.jpg": b"2"})
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = ["cat/1.jpg/x.jpg", "dog.jpg", "pipe.jpg", "x" * 300, "a/" * 3000 + "1.jpg"]
    rows = [Row(n, path, "a", None, None) for n, path in enumerate(paths)]
    entries, _, ignored = locate(
        os.fspath(tmp_path), tmp_path / "t.csv", rows, walk(os.fspath(tmp_path)), follow_links=False
    )
    assert [(entry.path, entry.size) for entry in entries] == [(path, -1) for path in paths]
    assert ignored == [Ignored("cat/1.jpg", "not_in_table"), Ignored("dog.jpg/1.jpg", "not_in_table")]


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=5).map(
            lambda rows: as_csv([["path", "label"], *rows])
        ),
        st.text('pathlbe,"\n\r\t;|{}[]:01.é\0\ufeff', max_size=80).map(
            lambda text: f"path,label\n{text}".encode()
        ),
    ),
    suffix=st.sampled_from((".csv", ".tsv", ".jsonl", ".parquet")),
    needed=st.booleans(),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, needed: bool
) -> None:
    root = tmp_path_factory.mktemp("any")
    table = written(root / f"t{suffix}", content)
    try:
        rows, _ = read_table(table, labels=needed)
        entries, kept, _ = locate(os.fspath(root), table, rows, walk(os.fspath(root)), follow_links=False)
    except SimpipeError:
        return
    assert [entry.path for entry in entries] == [row.path for row in kept] == [row.path for row in rows]
    assert [row.path for row in rows] == sorted({row.path for row in rows}, key=os.fsencode)
    assert all(bool(row.label) == needed for row in rows)


def as_csv(rows: list[list[str]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode("utf-8", "surrogatepass")
