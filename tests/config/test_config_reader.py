"""The YAML reader: the core schema of YAML 1.2, lines, and everything that must be refused."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.config.reader import MAX_BYTES, dump, parse_value, read
from simpipe.errors import ConfigError, DiskError, SimpipeError, UsageError


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "my.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


SCALARS = {
    "1e-3": 0.001,
    "1E5": 1e5,
    "-.5": -0.5,
    "1.": 1.0,
    "9" * 5000: float("inf"),
    "0x" + "f" * 17: "0x" + "f" * 17,
    "010": 10,
    "-7": -7,
    "0o17": 15,
    "0x1F": 31,
    "no": "no",
    "yes": "yes",
    "on": "on",
    "Off": "Off",
    "n": "n",
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "12:30:45": "12:30:45",
    "2024-01-01": "2024-01-01",
    "1_000": "1_000",
    "0b11": "0b11",
    "1e": "1e",
    "<<": "<<",
    "=": "=",
    ".inf": float("inf"),
    "-.Inf": float("-inf"),
    "'1e-3'": "1e-3",
    '"no"': "no",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars(tmp_path: Path, text: str, value: object) -> None:
    in_file = read(write(tmp_path, f"key: {text}\n")).tree["key"]
    in_override = parse_value(text)
    assert (in_file, type(in_file)) == (value, type(value))
    assert (in_override, type(in_override)) == (value, type(value))


def test_not_a_number(tmp_path: Path) -> None:
    value = read(write(tmp_path, "key: .nan\n")).tree["key"]
    assert isinstance(value, float)
    assert math.isnan(value)


def test_tags_of_the_core_schema(tmp_path: Path) -> None:
    document = read(write(tmp_path, "a: !!str 1e-3\nb: !!float 1\nc: !!int x\n"))
    assert document.tree == {"a": "1e-3", "b": 1.0}
    assert [(problem.key, problem.line) for problem in document.problems] == [("c", 3)]


def test_lines_of_nested_keys_and_list_items(tmp_path: Path) -> None:
    document = read(write(tmp_path, "# first\n\ntrain:\n  lr: 1\n\n  list:\n    - 1\n    - 2\nseed: 0\n"))
    assert document.lines == {
        "train": 3,
        "train.lr": 4,
        "train.list": 6,
        "train.list.0": 7,
        "train.list.1": 8,
        "seed": 9,
    }


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_byte_order_mark(tmp_path: Path, ending: str, mark: bytes) -> None:
    document = read(write(tmp_path, mark + ending.join(["train:", "  lr: 1e-3", "seed: 3", ""]).encode()))
    assert document.tree == {"train": {"lr": 0.001}, "seed": 3}
    assert document.lines["seed"] == 3
    assert document.text[2] == "seed: 3"


@pytest.mark.parametrize(
    "content", ["", "\n\n", "# nothing\n", "---\n", "null\n", b"\xef\xbb\xbf", "--- {}\n...\n"]
)
def test_an_empty_file_is_an_empty_tree(tmp_path: Path, content: str | bytes) -> None:
    document = read(write(tmp_path, content))
    assert (document.tree, document.problems) == ({}, [])


@pytest.mark.parametrize(
    ("content", "key", "line", "words"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "a.b", 4, "line 2 and on line 4"),
        ("a: 1\nb: 2\na: 3\n", "a", 3, "line 1 and on line 3"),
        ("a: {b: 1, b: 2}\n", "a.b", 1, "given twice"),
        ("a: 1\nb: !!python/object/apply:os.system [echo]\n", "b", 2, "!!python/object/apply:os.system"),
        ("a: 1\nb: !!python/name:os.system x\n", "b", 2, "!!python/name:os.system"),
        ("a: 1\nb: [1, !!binary aGk=]\n", "b.1", 2, "!!binary"),
        ("a: !!set {x}\n", "a", 1, "!!set"),
        ("a: !mine 3\n", "a", 1, "!mine"),
        ("!!python/dict {a: 1}\n", "", 1, "!!python/dict"),
        ("- a\n- b\n", "", 1, "a list"),
        ("\n\nhello\n", "", 3, "one value"),
        ("a: 1\n? [b, c]\n: 3\n", "", 2, "one word"),
        ("a: 1\n? {b: c}\n: 3\n", "", 2, "one word"),
        ("a b: 1\n", "", 1, "one word"),
        ("'': 1\n", "", 1, "one word"),
        ("a.b-c: 1\n", "a.b-c", 1, "one word"),
        ("train.lr: 1\n", "train.lr", 1, "write `train:`"),
        (f"a: !!int {'9' * 5000}\n", "a", 1, "cannot be read"),
    ],
)
def test_problems_of_single_keys(tmp_path: Path, content: str, key: str, line: int, words: str) -> None:
    [problem] = read(write(tmp_path, content)).problems
    assert (problem.key, problem.line) == (key, line)
    assert words in problem.message


def test_an_unreadable_value_leaves_the_others(tmp_path: Path) -> None:
    document = read(write(tmp_path, "a: !x 1\nb:\n  c: !y 2\n  d: 3\nb: 4\n"))
    assert document.tree == {"b": {"d": 3}}
    assert [problem.line for problem in document.problems] == [1, 3, 5]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("train:\n\tlr: 1\n", 2, "a tab"),
        ("train:\n  lr: 1\n \tmargin: 1\n", 3, "a tab"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a: 1\nb: 'open\n", 3, "not YAML"),
        ("a: 1\n   b: 2\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: &x [*x]\n", 1, "alias"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n", 2, "merge"),
        ("a: 1\nb: x\0y\n", 2, "U+0000"),
        (b"a: 1\nb: \xff\n", 2, "UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "UTF-8"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), 1, "1 MB"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str | bytes, line: int, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    first, second, *_ = caught.value.message.splitlines()
    assert first == f"{path}: 1 problem"
    assert second.startswith(f"  line {line}  ")
    assert words in second


def test_every_conflict_marker_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "<<<<<<< a\n=======\n>>>>>>> b\nx: 1\n<<<<<<< a\n")
    with pytest.raises(ConfigError, match=r"2 problems\n  line 1 (.|\n)*\n  line 5 "):
        read(path)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a: 1\n#" + "x" * (MAX_BYTES - 6))).tree == {"a": 1}


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="folder"):
        read(tmp_path)
    with pytest.raises(DiskError, match="cannot be read"):
        read(Path("/proc/self/mem"))


@pytest.mark.parametrize(
    "text", ["[0.9", "[*a]", "'open", "[!!python/name:os.system x]", "['a', !x 1]", '"a" b']
)
def test_broken_override_values(text: str) -> None:
    with pytest.raises(ValueError, match=r"value"):
        parse_value(text)


def test_override_values_are_texts_where_yaml_would_see_more() -> None:
    assert parse_value("[0.9, 1e-2, no]") == [0.9, 0.01, "no"]
    assert parse_value(" Birds: a first look #3 ") == "Birds: a first look #3"
    assert parse_value("!!python/name:os.system") == "!!python/name:os.system"
    assert parse_value("{a: 1}") == "{a: 1}"
    assert parse_value("*x") == "*x"


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(list(SCALARS))
values = texts | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
trees = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values | st.lists(values, max_size=4), min_size=1
    )
    | values,
    max_size=4,
)


@settings(deadline=None, max_examples=50)
@given(tree=trees)
def test_what_is_dumped_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), dump(tree))
    document = read(path)
    assert (document.tree, document.problems) == (tree, [])
    assert str(document.tree) == str(tree)  # 1 == 1.0 == True


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=60) | st.text("ab:-[]{}!&*#'\"|>%@,? \n\t.0", max_size=40))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        document = read(path)
    except SimpipeError as error:
        assert error.message.startswith(str(path))
    else:
        assert all(1 <= problem.line <= len(document.text) for problem in document.problems)
