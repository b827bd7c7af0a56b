import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import write_tree

from simpipe.data.layout import Rules, list_files
from simpipe.errors import DataError, SimpipeError, UsageError

RULES = Rules()


def touch(root: Path, *paths: str) -> Path:
    return write_tree(root, dict.fromkeys(paths, b""))


def labels(root: Path, rules: Rules = RULES) -> dict[str, str | None]:
    return {found.path: found.label for found in list_files(root, rules).files}


def test_label_is_the_first_folder(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/deep/er/2.PNG", "dog/deep/3.jpg")
    listing = list_files(tmp_path)
    assert [(f.path, f.label, f.split, f.group) for f in listing.files] == [
        ("cat/1.jpg", "cat", None, None),
        ("dog/deep/3.jpg", "dog", None, None),
        ("dog/deep/er/2.PNG", "dog", None, None),
    ]
    [note] = listing.notes
    assert "1 at depth 0, 1 at depth 1, 1 at depth 2" in note


def test_a_plain_folder_needs_no_note(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/README", "dog/1.jpg")
    assert list_files(tmp_path).notes == []


def test_other_rules_for_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat/1.jpg", "a/dog/2.jpg", "b/3.jpg", "b/x/y/4.jpg")
    assert list(labels(tmp_path, Rules(label_from="leaf")).values()) == ["cat", "dog", "b", "y"]
    assert list(labels(tmp_path, Rules(label_from="path")).values()) == ["a/cat", "a/dog", "b", "b/x/y"]
    assert list_files(tmp_path, Rules(label_from="path")).notes == []
    with pytest.raises(UsageError, match="'last'"):
        list_files(tmp_path, Rules(label_from="last"))


def test_one_leaf_under_two_parents_is_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "audi/front/1.jpg", "bmw/front/1.jpg", "bmw/rear/1.jpg")
    with pytest.raises(DataError, match="'audi/front' and 'bmw/front'") as caught:
        list_files(tmp_path, Rules(label_from="leaf"))
    assert "label_from=path" in str(caught.value.hint)


def test_a_leaf_in_two_splits_has_one_parent(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/front/1.jpg", "train/a/rear/1.jpg", "test/a/front/1.jpg")
    assert set(labels(tmp_path, Rules(label_from="leaf")).values()) == {"front", "rear"}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "test"), ("train", "test")),
        (("Training", "DEV", "testing"), ("train", "val", "test")),
        (("train", "valid"), ("train", "val")),
        (("TRAIN", "Validation"), ("train", "val")),
    ],
)
@pytest.mark.parametrize("label_from", ["first", "path"])
def test_predefined_splits(
    tmp_path: Path, folders: tuple[str, ...], splits: tuple[str, ...], label_from: str
) -> None:
    for folder in folders:
        touch(tmp_path, f"{folder}/cat/1.jpg", f"{folder}/dog/2.jpg")
    touch(tmp_path, "docs/readme.txt", "readme.md")
    listing = list_files(tmp_path, Rules(label_from=label_from))
    assert {(f.path, f.label, f.split) for f in listing.files} == {
        (f"{folder}/{rest}", label, split)
        for folder, split in zip(folders, splits, strict=True)
        for rest, label in (("cat/1.jpg", "cat"), ("dog/2.jpg", "dog"))
    }
    assert any("splits" in note and "ingest.layout=labels" in note for note in listing.notes)
    as_labels = list_files(tmp_path, Rules(layout="labels"))
    assert {f.label for f in as_labels.files} == set(folders)
    assert {f.split for f in as_labels.files} == {None}


@pytest.mark.parametrize("folders", [("train", "other"), ("val", "test"), ("train", "Train")])
def test_other_folders_are_labels(tmp_path: Path, folders: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{folder}/cat/1.jpg" for folder in folders))
    if folders == ("train", "Train"):
        with pytest.raises(DataError, match="spelling"):
            list_files(tmp_path)
    else:
        assert {(f.label, f.split) for f in list_files(tmp_path).files} == {(name, None) for name in folders}


TWINS = [("Cat", "cat"), ("cat ", "cat"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301")]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_labels_that_differ_only_in_spelling_are_refused(tmp_path: Path, one: str, other: str) -> None:
    touch(tmp_path, f"{one}/1.jpg", f"{other}/2.jpg", "dog/3.jpg")
    with pytest.raises(DataError) as caught:
        list_files(tmp_path)
    written = repr if unicodedata.normalize("NFC", other) != one else ascii
    assert written(one) in caught.value.message and written(other) in caught.value.message
    assert f"{one}/1.jpg" in caught.value.message and f"{other}/2.jpg" in caught.value.message
    assert "ingest.label_twins" in str(caught.value.hint)


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_twins_are_merged_or_kept_on_request(tmp_path: Path, one: str, other: str) -> None:
    touch(tmp_path, f"{one}/1.jpg", f"{other}/2.jpg", f"{other}/3.jpg", "dog/3.jpg")
    merged = list_files(tmp_path, Rules(label_twins="merge"))
    normal = unicodedata.normalize("NFC", other)
    assert Counter(f.label for f in merged.files) == {normal: 3, "dog": 1}
    assert any("merged" in note and repr(normal) in note for note in merged.notes)
    kept = Counter(f.label for f in list_files(tmp_path, Rules(label_twins="keep")).files)
    assert kept == Counter({"dog": 1} | ({normal: 3} if one == normal else {one: 1, normal: 2}))


def test_a_tie_of_twins_goes_to_the_smaller_bytes(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "Cat/2.jpg", "CAT /3.jpg", "dog/4.jpg")
    assert set(labels(tmp_path, Rules(label_twins="merge")).values()) == {"CAT ", "dog"}


def test_the_same_label_in_two_splits_is_one_label_but_not_in_two_spellings(tmp_path: Path) -> None:
    touch(tmp_path, "train/Cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg")
    with pytest.raises(DataError, match=r"'Cat' \(train/Cat/1.jpg\) and 'cat' \(test/cat/1.jpg\)"):
        list_files(tmp_path)


def test_a_name_that_is_no_utf8_and_its_picture_are_twins(tmp_path: Path) -> None:
    try:
        touch(tmp_path, "bad\udcff/1.jpg", "bad\\xff/1.jpg", "dog/1.jpg")
    except OSError:
        pytest.skip("this file system takes valid names only")
    with pytest.raises(DataError, match="spelling"):
        list_files(tmp_path)


def test_labels_are_in_normal_form_c_and_paths_as_they_are(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    touch(tmp_path, f"{decomposed}/1.jpg", "tea/2.jpg")
    file = list_files(tmp_path).files[0]
    assert (file.label, file.path) == ("café", f"{decomposed}/1.jpg")


def test_odd_names_are_names(tmp_path: Path) -> None:
    odd = [
        "<script>",
        "=cmd|'calc'!A0",
        "-rf",
        "new\nline",
        "tab\t",
        "🐈",
        "a,b",
        '"q"',
        "@x",
        "x.",
        "CON",
    ]
    touch(tmp_path, *(f"{name}/{name}.jpg" for name in odd))
    assert labels(tmp_path) == {f"{name}/{name}.jpg": name for name in odd}


def test_images_without_a_label_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", *(f"{n}.jpg" for n in range(7)))
    with pytest.raises(
        DataError, match=r"7 images lie .* 0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg, …"
    ) as caught:
        list_files(tmp_path)
    assert "ingest.labels=none" in str(caught.value.hint)


def test_images_in_a_split_without_a_label_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/lost.jpg")
    with pytest.raises(DataError, match=r"1 image lies .* test/lost\.jpg") as caught:
        list_files(tmp_path)
    assert "ingest.layout=labels" in str(caught.value.hint)


def test_without_labels_images_may_lie_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "train/2.jpg", "test/3.jpg", "Cat/4.jpg", "cat/5.jpg")
    rules = Rules(labels="none", label_from="regex:(no)(?P<label>)")
    assert set(labels(tmp_path, rules).values()) == {None} and len(labels(tmp_path, rules)) == 5
    for name in ("1.jpg", "Cat/4.jpg", "cat/5.jpg"):
        (tmp_path / name).unlink()
    assert [(f.path, f.label, f.split) for f in list_files(tmp_path, rules).files] == [
        ("test/3.jpg", None, "test"),
        ("train/2.jpg", None, "train"),
    ]


def test_labels_split_and_group_by_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "x/train_cat_p1_1.jpg", "x/test_dog_p2_1.jpg", "Validation_cat__2.jpg")
    pattern = r"regex:(^|/)(?P<split>[^_/]+)_(?P<label>[^_/]+)_(?P<group>[^_/]*)_"
    found = list_files(tmp_path, Rules(label_from=pattern))
    assert {f.path: (f.label, f.split, f.group) for f in found.files} == {
        "x/train_cat_p1_1.jpg": ("cat", "train", "p1"),
        "x/test_dog_p2_1.jpg": ("dog", "test", "p2"),
        "Validation_cat__2.jpg": ("cat", "val", None),
    }
    assert found.notes == ["1 of 3 images have no group; each counts as its own"]


def test_a_pattern_leaves_the_folders_of_splits_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat_1.jpg", "train/dog_1.jpg", "test/cat_2.jpg")
    found = list_files(tmp_path, Rules(label_from=r"regex:/(?P<label>[^_/]+)_")).files
    assert [(f.label, f.split) for f in found] == [("cat", "test"), ("cat", "train"), ("dog", "train")]


def test_a_pattern_must_find_every_label(tmp_path: Path) -> None:
    touch(tmp_path, "cat_1.jpg", "dog_1.jpg", "_1.jpg", *(f"{n}.jpg" for n in range(6)))
    with pytest.raises(DataError, match=r"no label in 7 of 9 paths .*: 0.jpg, 1.jpg, .*, …"):
        list_files(tmp_path, Rules(label_from="regex:^(?P<label>[^_/]*)_"))
    with pytest.raises(DataError, match=r"no split .* in 9 of 9 paths"):
        list_files(tmp_path, Rules(label_from="regex:(?P<label>.)(?P<split>.)"))


@pytest.mark.parametrize(
    "rules",
    [
        Rules(label_from="regex:(?P<label>"),
        Rules(label_from="regex:.*"),
        Rules(group_from="("),
        Rules(group_from="a{99999999999999}"),
    ],
)
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, rules: Rules) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    with pytest.raises(UsageError, match=r"ingest\.(label|group)_from"):
        list_files(tmp_path, rules)


def test_groups_by_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "cat/p1_1.jpg", "cat/p1_2.jpg", "dog/p2_1.jpg", "dog/none.jpg")
    for pattern, one, two in ((r"p(?P<group>\d)_", "1", "2"), (r"p\d", "p1", "p2")):
        found = list_files(tmp_path, Rules(group_from=pattern))
        assert [f.group for f in found.files] == [one, one, None, two]
        assert found.notes == ["1 of 4 images have no group; each counts as its own"]
    with pytest.raises(DataError, match="group_from matches no path"):
        list_files(tmp_path, Rules(group_from="patient"))


def test_empty_label_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", "notes/readme.txt", ".git/x")
    for name in "abcdef":
        (tmp_path / name).mkdir()
    assert list_files(tmp_path).notes == ["label folders without an image: 7 (a/, b/, c/, d/, e/, …)"]


def test_empty_label_folders_in_splits_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "docs/a/1.txt", "test/dog/x.txt")
    assert list_files(tmp_path).notes[1:] == ["label folders without an image: 1 (test/dog/)"]


def test_ten_thousand_labels(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/1.jpg").touch()
    listing = list_files(tmp_path)
    assert len({f.label for f in listing.files}) == 10_000
    assert listing.notes == ["10,000 labels for 10,000 images: these look like ids, not labels"]


def test_links_that_lead_out_are_counted(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "cat/1.jpg", "dog/1.jpg")
    touch(tmp_path / "pool", "1.jpg", "birds/1.jpg")
    (root / "cat/in.jpg").symlink_to("1.jpg")
    (root / "cat/out.jpg").symlink_to(tmp_path / "pool/1.jpg")
    (root / "birds").symlink_to(tmp_path / "pool/birds")
    assert list_files(root).notes == ["links that lead out of the folder and are followed: 1"]
    followed = list_files(root, Rules(follow_links=True))
    assert followed.notes == ["links that lead out of the folder and are followed: 2"]
    assert [f.label for f in followed.files] == ["birds", "cat", "cat", "cat", "dog"]


def test_wrong_roots(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        list_files(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        list_files(tmp_path / "file")
    with pytest.raises(DataError, match=r"no images .*passed over: 1 not_an_image_name\)"):
        list_files(tmp_path)
    touch(tmp_path, "cat/1.jpg")
    with pytest.raises(DataError, match=r"only one label .*'cat'"):
        list_files(tmp_path)


def test_a_table_takes_the_place_of_the_folders(tmp_path: Path) -> None:
    root = touch(tmp_path, "x/1.jpg", "x/2.jpg", "3.jpg", "4.jpg", "deep/.hidden.jpg", "noname")
    table = root / "labels.csv"
    table.write_text(
        "label,path,who,group\n007,x/1.jpg,me,p1\nNA,./x//2.jpg,me,\nnull,3.jpg,you,p1\n"
        "NA,noname,,\nNA,deep/.hidden.jpg,,\nNA,gone\\1.jpg,,\n"
    )
    listing = list_files(root, Rules(table=table))
    assert [(f.path, f.label, f.split, f.group, f.size) for f in listing.files] == [
        ("3.jpg", "null", None, "p1", 0),
        ("deep/.hidden.jpg", "NA", None, None, 0),
        ("gone\\1.jpg", "NA", None, None, -1),
        ("noname", "NA", None, None, 0),
        ("x/1.jpg", "007", None, "p1", 0),
        ("x/2.jpg", "NA", None, None, 0),
    ]
    assert listing.ignored == [("4.jpg", "not_in_table"), ("labels.csv", "not_an_image_name")]
    assert listing.notes == [
        "4 of 6 images have no group; each counts as its own",
        "files that the table lists and that are not there: 1; write / for \\ in paths",
    ]
    grouped = list_files(root, Rules(table=table, group_from="^x"))
    assert [f.group for f in grouped.files] == ["p1", None, None, None, "p1", "x"]


def test_an_ignore_rule_goes_before_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "c/d/1.jpg")
    (tmp_path / "t.csv").write_text("path,label\na/1.jpg,a\nb/1.jpg,b\nc/d/1.jpg,c\n")
    listing = list_files(tmp_path, Rules(table=tmp_path / "t.csv", ignore=("c", "t.csv")))
    assert [f.label for f in listing.files] == ["a", "b"]
    assert listing.ignored == [("c/", "ignored_by_rule"), ("t.csv", "ignored_by_rule")]


def test_splits_of_a_table_go_before_those_of_the_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "test/2.jpg")
    table = tmp_path / "t.csv"
    table.write_text("path,label\ntrain/1.jpg,a\ntest/2.jpg,b\n")
    assert [f.split for f in list_files(tmp_path, Rules(table=table)).files] == ["test", "train"]
    table.write_text("path,label,split\ntrain/1.jpg,a,dev\ntest/2.jpg,b,Training\n")
    assert [f.split for f in list_files(tmp_path, Rules(table=table)).files] == ["train", "val"]
    table.write_text("path\ntrain/1.jpg\ntest/2.jpg\n")
    without = list_files(tmp_path, Rules(table=table, labels="none", layout="labels"))
    assert [(f.label, f.split) for f in without.files] == [(None, None)] * 2


def test_labels_of_a_table_have_twins_too(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table = tmp_path / "t.csv"
    table.write_text("path,label\n1.jpg,Cat\n2.jpg,cat\n3.jpg,dog\n")
    with pytest.raises(DataError, match=r"'Cat' \(1.jpg\) and 'cat' \(2.jpg\)"):
        list_files(tmp_path, Rules(table=table))


names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."} and len(name.encode()) < 100)
folders = st.one_of(
    names, st.sampled_from(("train", "Test", "cat", "Cat", "cat ", ".x", "@eaDir", "\u00e9", "e\u0301"))
)
files = st.builds("{}{}".format, names, st.sampled_from((".jpg", ".JPEG", ".png", ".txt", "")))
trees = st.sets(
    st.builds(lambda folders, file: "/".join((*folders, file)), st.lists(folders, max_size=4), files),
    max_size=8,
)
any_rules = st.builds(
    Rules,
    labels=st.sampled_from(("required", "required", "none")),
    label_from=st.sampled_from(("first", "leaf", "path", r"regex:(?P<label>\w)[^/]*$")),
    label_twins=st.sampled_from(("refuse", "merge", "keep")),
    layout=st.sampled_from(("auto", "labels")),
    group_from=st.sampled_from((None, r"\w")),
    ignore=st.sampled_from(((), ("cat*",), ("*.png", "é"))),
    follow_links=st.booleans(),
)


def plant(root: Path, tree: list[str]) -> None:
    """Make the files, but for those whose folder is a file already, or the other way round."""
    for path in tree:
        try:
            touch(root, path)
        except OSError:
            continue


def seen_by_a_plain_walk(root: Path, ignored: set[str]) -> set[str]:
    """Every file, or the ignored folder that stands for it."""
    seen = set()
    for folder, below, files in os.walk(root):
        prefix = os.path.relpath(folder, root) + "/"
        prefix = "" if prefix == "./" else prefix
        seen |= {prefix + name for name in files}
        seen |= {f"{prefix}{name}/" for name in below if f"{prefix}{name}/" in ignored}
        below[:] = [name for name in below if f"{prefix}{name}/" not in ignored]
    return seen


@settings(max_examples=150, deadline=None)
@given(tree=trees, rules=any_rules, seed=st.integers(0, 9))
@example(tree={"a/1.jpg", "b/1.jpg"}, rules=Rules(), seed=0)
def test_any_tree_is_listed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tree: set[str], rules: Rules, seed: int
) -> None:
    root, again = tmp_path_factory.mktemp("any"), tmp_path_factory.mktemp("again")
    plant(root, sorted(tree))
    made = sorted(os.path.relpath(p, root) for p in root.rglob("*") if p.is_file())
    plant(again, [made[place] for place in np.random.default_rng(seed).permutation(len(made))])
    told = []
    for place in (root, again):
        try:
            listing = list_files(place, rules)
        except SimpipeError as error:
            told.append(error.message.replace(str(place), "ROOT"))
            continue
        told.append([(f.path, f.label, f.split, f.group) for f in listing.files])
        told.append((listing.ignored, listing.notes))
        paths = [f.path for f in listing.files]
        assert paths == sorted(paths, key=os.fsencode)
        passed_over = {each.path for each in listing.ignored}
        assert len(paths) + len(listing.ignored) == len(set(paths) | passed_over)
        assert set(paths) | passed_over == seen_by_a_plain_walk(place, passed_over)
        assert all((f.label is None) == (rules.labels == "none") for f in listing.files)
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def test_split_names_beside_others_are_labels_and_this_is_told(tmp_path: Path) -> None:
    for path in ("train/1.jpg", "test/1.jpg", "unlabeled/1.jpg"):
        write_tree(tmp_path, {path: b"x"})
    listing = list_files(tmp_path)
    assert {file.label for file in listing.files} == {"train", "test", "unlabeled"}
    assert any("test, train are labels here, not splits" in note for note in listing.notes)
    passed_over = list_files(tmp_path, Rules(ignore=("unlabeled",), labels="none"))
    assert {file.split for file in passed_over.files} == {"train", "test"}
