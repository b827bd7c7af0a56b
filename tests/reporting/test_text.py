import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpipe.reporting.text import (
    clean,
    interval,
    number,
    percent,
    quoted,
    rows_of,
    short,
    without_folders,
)
from simpipe.wording import figure


@given(st.text(st.characters(), max_size=30))
def test_cleaned_text_can_be_written_and_keeps_its_length(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert len(shown) == len(text) if text else shown == "(empty)"
    assert not any(c < " " or "\u202a" <= c <= "\u202e" or c in "\u2028\u2029\x7f" for c in shown)


def test_clean_marks_what_hides() -> None:
    assert clean("a\u202eb\udcffc\n") == "a�b�c�"
    assert clean("007") == "007" and clean("👩‍🔬 תפוח") == "👩‍🔬 תפוח"


def test_names_in_sentences_are_short_and_isolated() -> None:
    assert quoted("x" * 99) == "“\u2068" + "x" * 39 + "…\u2069”"
    assert short("abc", 3) == "abc" and short("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("simpipe run /home/me/data --config a.yaml", "simpipe run …/data --config a.yaml"),
        ("C:\\Users\\me\\data", "…/data"),
        ("~/data/apples", "…/apples"),
        ("root=/srv/x", "root=…/x"),
        ("/home/Jo Ann/my own data/w.h5", "…/w.h5"),
        ("/home/Jo Ann/w.h5 is not /srv/my run/w.h5", "…/w.h5 is not …/w.h5"),
        ("no image '/mnt/my own data/1.jpg' in C:\\Users\\Jo Ann\\x", "no image '…/1.jpg' in …/x"),
        ("file:///home/me/w.h5 \\\\server\\share\\w.h5", "…/w.h5 …/w.h5"),
        ("see train/a/1.jpg and train/b/2.jpg", "see train/a/1.jpg and train/b/2.jpg"),
        ("train/apple/1.jpg", "train/apple/1.jpg"),
        ("2.1 images/s", "2.1 images/s"),
        ("Apples & <i>pears</i>", "Apples & <i>pears</i>"),
    ],
)
def test_no_absolute_folder_is_shown(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_numbers() -> None:
    assert percent(0.9184) == "91.8 %" and percent(None) == "–"
    assert interval({"value": 0.1, "low": 0.064, "high": 0.095}, signed=True) == "[+6.4, +9.5]"
    assert interval({"value": 0.1, "low": None, "high": None}) == "" and interval(None) == ""
    assert number({"value": 0.5}) == number(0.5) == 0.5
    assert number(None) is number(float("nan")) is number("0.5") is number({"reason": "x"}) is None


SHARES = {
    1: "100.0", 0.9996: "> 99.9", 0.9995: "> 99.9", 0.9994: "99.9", 1 - 6e-8: "100.0",
    0: "0.0", 0.0004: "< 0.1", 0.0006: "0.1", 6e-8: "0.0",
}  # fmt: skip


@pytest.mark.parametrize(("share", "shown"), SHARES.items())
def test_only_all_is_100_percent_and_only_nothing_is_0(share: float, shown: str) -> None:
    assert figure(share) == shown and percent(share) == f"{shown} %"
    assert interval({"value": share, "low": share, "high": 1.0}) == f"[{shown}, 100.0]"


def test_whole_percents_keep_to_it_too() -> None:
    assert [figure(share, 0) for share in (1, 0.996, 0.994, 0.004, 0)] == ["100", "> 99", "99", "< 1", "0"]


def test_documents_become_rows() -> None:
    document = {"a": {"b": 1234, "c": None}, "d": [1, 2.5], "e": True}
    assert rows_of(document) == [("a.b", "1,234"), ("a.c", "–"), ("d", "1, 2.5"), ("e", "True")]
    assert rows_of({str(i): i for i in range(50)}, 10)[-1] == ("…", "40 more")
