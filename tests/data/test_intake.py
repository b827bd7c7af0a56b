import csv
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, labelled, photo, write_tree
from PIL import Image

from simpipe.data.equality import pixel_digests
from simpipe.data.examine import Examined, Options, examine
from simpipe.data.exclusion import excluded_files, read_exclusion
from simpipe.data.fingerprint import Fingerprint, HashedFile, fingerprint
from simpipe.data.intake import Intake, Settings, build, sample_ids
from simpipe.data.manifest import write_manifest, write_samples
from simpipe.data.preparation import Preparation
from simpipe.errors import DataError
from simpipe.progress import Silent

SETTINGS = Settings(max_bad=0.5, near_duplicate_bits=4, val=0.1, test=0.2, unseen=0.2, split_seed=0)
OPTIONS = Options(10**6, 1, 48, Preparation("squash", 384, "#ffffff", None), "auto")


def take_in(root: Path, work: Path, settings: Settings = SETTINGS) -> Intake:
    """A folder of pictures, by way of all that comes before."""
    work.mkdir(exist_ok=True)
    found = fingerprint(root, work / "stat.json")
    examined = examine(root, found.files, OPTIONS, work, scratch=work, progress=Silent())

    def digests(numbers: list[int]) -> list[str]:
        return pixel_digests(root, found.files, numbers, OPTIONS.preparation)

    return build(found, examined, settings, digests, set())


class Made:
    """Files that are nowhere: what was found of them and seen in them, by path."""

    def __init__(self, contents: dict[str, Any]) -> None:
        """`contents`: path → the content, a text, or a dict with `content` and fields of the file or
        of the outcome. The label is the first folder."""
        self.files: list[HashedFile] = []
        self.facts: list[dict[str, Any]] = []
        for path, given_facts in contents.items():
            facts = {"content": given_facts} if isinstance(given_facts, str) else dict(given_facts)
            sha256 = hashlib.sha256(facts["content"].encode()).hexdigest()
            label = facts.get("label", path.split("/")[0])
            sha256 = "" if facts.get("reason") in ("missing", "unreadable") else sha256
            self.files.append(
                HashedFile(path, 9, sha256, label, facts.get("split"), facts.get("group"), None)
            )
            self.facts.append(facts)

    def shuffled(self, order: list[int]) -> "Made":
        other = Made({})
        other.files = [self.files[k] for k in order]
        other.facts = [self.facts[k] for k in order]
        return other

    def examined(self) -> Examined:
        def column(name: str, default: Any = None) -> list[Any]:
            return [None if "reason" in facts else facts.get(name, default) for facts in self.facts]

        def look(content: str) -> Any:
            return np.random.default_rng(list(content.encode()))

        seen = [facts.get("look", facts["content"]) for facts in self.facts]
        minis = [look(each).integers(0, 256, (16, 16, 3), dtype=np.uint8) for each in seen]
        return Examined(
            reason=[facts.get("reason") for facts in self.facts],
            detail=[f"it is {facts['reason']}" if "reason" in facts else None for facts in self.facts],
            format=column("format", "JPEG"),
            width=np.array([each or 0 for each in column("width", 64)], np.int32),
            height=np.array([each or 0 for each in column("height", 48)], np.int32),
            warnings=[each or () for each in column("warnings")],
            phash=np.array([look(each).integers(0, 2**64, dtype=np.uint64) for each in seen], np.uint64),
            miniatures=np.stack([*minis, np.zeros((16, 16, 3), np.uint8)])[: len(minis)],
            copy=column("copy"),
            thumbnails=lambda rows: iter([]),
        )

    def build(self, settings: Settings = SETTINGS, excluded: Any = ()) -> Intake:
        """The intake; pixels are equal where `pixels` (or else the content) is."""

        def digests(numbers: list[int]) -> list[str]:
            return [self.facts[k].get("pixels", self.facts[k]["content"]) for k in numbers]

        numbers = {k for k, file in enumerate(self.files) if file.path in excluded}
        found = Fingerprint("sha256:0", self.files, [], [])
        return build(found, self.examined(), settings, digests, numbers)


def plain(**counts: int) -> dict[str, Any]:
    return {f"{label}/{k:03}.jpg": f"{label} {k}" for label, count in counts.items() for k in range(count)}


def by_path(intake: Intake) -> dict[str, Any]:
    return {row["path"]: row for row in intake.manifest.rows}


def tables(intake: Intake, folder: Path) -> tuple[bytes, bytes]:
    write_manifest(folder / "manifest", intake.manifest)
    write_samples(folder / "samples", intake.samples)
    return (folder / "manifest").read_bytes(), (folder / "samples").read_bytes()


def test_a_plain_folder(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", {"b": 10, "a": 5})
    write_tree(
        root,
        {"b/named.jpg": encoded(photo(100).convert("RGBA"), "PNG"), "a/half.jpg": encoded(photo(1))[:-99]},
    )
    intake = take_in(root, tmp_path / "work")
    samples = intake.samples
    assert [(label["id"], label["name"], label["count"]) for label in intake.labels] == [
        (0, "a", 5),
        (1, "b", 11),
    ]
    assert intake.labels[1]["splits"] == {"train": 8, "val": 1, "test": 2}
    assert samples.label.tolist() == ["a"] * 5 + ["b"] * 11
    keys = list(zip(samples.label_id.tolist(), samples.sample_id.tolist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == 16
    assert all(sha.startswith(sample) for sha, sample in zip(samples.sha256, samples.sample_id, strict=True))
    assert samples.group.tolist() == samples.sample_id.tolist() and intake.pairs == []
    assert not intake.predefined_splits and intake.oversized_groups == 0

    rows = by_path(intake)
    assert list(rows) == sorted(rows)
    odd, bad = rows.pop("b/named.jpg"), rows.pop("a/half.jpg")
    assert (odd["format"], odd["warnings"]) == ("PNG", ["alpha", "suffix"]) and len(odd["copy"]) == 64
    assert (bad["status"], bad["reason"], bad["size"] > 0) == ("quarantined", "truncated", True)
    facts = ("label", "split", "sample_id", "copy", "format", "width", "height", "warnings")
    assert [bad[name] for name in facts] == ["a", *[None] * 6, []]
    assert intake.quarantined == [("a/half.jpg", "a", "truncated", bad["detail"])]
    for number, row in enumerate(intake.rows.tolist()):
        assert intake.manifest.rows[row]["sample_id"] == samples.sample_id[number]
    for path, row in rows.items():
        at = samples.sample_id.tolist().index(str(row["sample_id"]))
        raw = (root / path).read_bytes()
        assert (row["status"], row["split"], row["size"]) == ("ok", samples.split[at], len(raw))
        assert [row[name] for name in facts[3:]] == [None, "JPEG", 64, 48, []]
        assert (row["sha256"], row["path_bytes"]) == (hashlib.sha256(raw).hexdigest(), path.encode())


def test_copies_are_one_group_and_one_split(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", {"a": 12, "b": 12})
    first = (root / "a/000.jpg").read_bytes()
    near = encoded(photo(5, 64, 48).resize((128, 96), Image.Resampling.BICUBIC), quality=85)
    again = encoded(Image.open(root / "b/003.jpg"), "PNG")
    write_tree(
        root, {"a/same.jpg": first, "b/same.jpg": first, "b/near_of_a5.jpg": near, "a/again.png": again}
    )
    intake = take_in(root, tmp_path / "work")
    rows = by_path(intake)
    stem = rows["a/000.jpg"]["sha256"][:16]
    ids = [rows[path]["sample_id"] for path in ("a/000.jpg", "a/same.jpg", "b/same.jpg")]
    assert ids == [stem, f"{stem}-2", f"{stem}-3"]
    row_of = {sample: row for row, sample in enumerate(intake.samples.sample_id.tolist())}

    def row(path: str) -> int:
        return row_of[rows[path]["sample_id"]]

    one, two, three = (row_of[sample] for sample in ids)
    assert sorted(intake.pairs) == sorted(
        [
            (one, two, "exact"),
            (one, three, "exact"),
            (row("a/005.jpg"), row("b/near_of_a5.jpg"), "near"),
            (row("a/again.png"), row("b/003.jpg"), "pixels"),
        ]
    )
    samples = intake.samples
    assert samples.group[[one, two, three]].tolist() == [stem] * 3
    assert samples.group[row("b/003.jpg")] == samples.sample_id[row("a/again.png")]
    for group in set(samples.group.tolist()):
        assert len(set(samples.split[samples.group == group].tolist())) == 1
    assert samples.group_id.tolist()[0] == 0
    assert samples.group_id.max() == len(set(samples.group.tolist())) - 1
    assert "2 pairs of images of equal bytes or pixels under two labels: 'a' and 'b'" in intake.notes


def test_predefined_splits_and_a_leak(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, seed in (("train", 0), ("valid", 100), ("test", 200)):
        labelled(root / split, {"a": 4, "b": 4}, first_seed=seed)
    shutil.copy(root / "train/a/000.jpg", root / "test/a/leak.jpg")
    write_tree(root, {"test/new/1.jpg": encoded(photo(300))})
    intake = take_in(root, tmp_path / "work", replace(SETTINGS, split_by="label"))
    rows = by_path(intake)
    assert intake.predefined_splits
    assert rows["train/a/000.jpg"]["split"] == "train" and rows["test/a/leak.jpg"]["split"] == "test"
    assert rows["valid/b/001.jpg"]["split"] == "val" and rows["test/new/1.jpg"]["split"] == "unseen_test"
    assert [kind for _, _, kind in intake.pairs] == ["exact"]
    assert intake.labels[2] == {"id": 2, "name": "new", "count": 1, "splits": {"unseen_test": 1}}
    assert intake.notes[-3:] == [
        "held out as unknown: 1 label ('new') for the test",
        "the splits are those of the data set, ingest.split_by is not used",
        "groups of duplicates, or of ingest.group_from, that the given splits part: 1",
    ]


def test_names_and_times_do_not_matter(tmp_path: Path) -> None:
    root = labelled(tmp_path / "one", {"a": 8, "b": 8})
    shutil.copy(root / "a/000.jpg", root / "a/twin.jpg")
    before = take_in(root, tmp_path / "work")
    names = [f"{k}.jpg" for k in np.random.default_rng(1).permutation(20)]
    for label in ("a", "b"):
        for path in list((root / label).iterdir()):
            target = root / label / "deep" / names.pop()
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            os.utime(target, (1, 1))
    after = take_in(root, tmp_path / "work")
    assert tables(before, tmp_path)[1] == tables(after, tmp_path)[1]
    assert before.labels == after.labels and before.pairs == after.pairs and before.notes == after.notes


@st.composite
def folders(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """Files with copies of all kinds, bad ones and groups; and some that are excluded."""
    contents: dict[str, Any] = plain(a=6, b=6, c=6)
    unlabelled = draw(st.booleans())
    predefined = draw(st.booleans())
    for path in contents:
        facts: dict[str, Any] = {"content": draw(st.sampled_from((path, path, "1", "2", "3")))}
        facts |= {"look": "1", "pixels": "p"} if facts["content"] in "12" else {}
        facts |= {"look": "1"} if facts["content"] == "3" else {}
        facts |= {"group": draw(st.sampled_from((None, None, "x", "y")))}
        facts |= {"label": None} if unlabelled else {}
        facts |= {"split": draw(st.sampled_from(("train", "val")))} if predefined else {}
        if facts["content"] == path and draw(st.integers(0, 9)) == 0:
            facts["reason"] = draw(st.sampled_from(("truncated", "missing")))
        contents[path] = facts
    return contents, draw(st.lists(st.sampled_from(sorted(contents)), max_size=4))


@settings(max_examples=60, deadline=None)
@given(data=folders(), order=st.permutations(range(18)))
def test_the_order_of_the_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[dict[str, Any], list[str]], order: list[int]
) -> None:
    contents, excluded = data
    made, folder = Made(contents), tmp_path_factory.mktemp("order")
    try:
        intake = made.build(excluded=excluded)
    except DataError as error:
        with pytest.raises(DataError) as other:
            made.shuffled(order).build(excluded=excluded)
        assert other.value.message == error.message
        return
    shuffled = made.shuffled(order).build(excluded=excluded)
    assert tables(shuffled, folder) == tables(intake, folder)
    assert (shuffled.labels, shuffled.pairs, shuffled.notes) == (intake.labels, intake.pairs, intake.notes)
    assert [order[k] for k in shuffled.rows.tolist()] == intake.rows.tolist()

    rows = intake.manifest.rows
    status = {
        path: "ignored" if path in excluded else "quarantined" if "reason" in facts else "ok"
        for path, facts in contents.items()
    }
    assert {row["path"]: row["status"] for row in rows} == status
    used = [row for row in rows if row["status"] == "ok"]
    assert sorted(row["sample_id"] for row in used) == sorted(intake.samples.sample_id.tolist())
    assert all(row["sample_id"] is row["split"] is None for row in rows if row["status"] != "ok")
    group_of = dict(zip(intake.samples.sample_id.tolist(), intake.samples.group.tolist(), strict=True))
    for name in {row["group"] for row in used} - {None}:
        assert len({group_of[row["sample_id"]] for row in used if row["group"] == name}) == 1


def test_ids_do_not_depend_on_what_is_excluded() -> None:
    made = Made(plain(a=5, b=5) | {"a/copy.jpg": "a 0", "b/copy.jpg": "a 0"})
    all_ids = dict(zip([file.path for file in made.files], sample_ids(made.files), strict=True))
    assert [all_ids[path][16:] for path in ("a/000.jpg", "a/copy.jpg", "b/copy.jpg")] == ["", "-2", "-3"]
    one = {"content": "a 0", "label": "b"}, {"content": "a 0", "label": "a", "split": "val"}
    other = {"content": "a 0", "label": "a", "split": "train"}
    ids = sample_ids(Made({"1.jpg": one[0], "2.jpg": one[1], "3.jpg": other}).files)
    assert [each[16:] for each in ids] == ["-3", "-2", ""], "by label, then split, then path"
    left = by_path(made.build(excluded=["a/000.jpg", "b/003.jpg"]))
    assert left["b/copy.jpg"]["sample_id"] == all_ids["b/copy.jpg"]
    assert left["a/000.jpg"]["sample_id"] is None


def test_exclusion_by_the_findings_of_a_run(tmp_path: Path) -> None:
    made = Made(
        plain(a=8, b=8) | {"a/copy.jpg": "a 0", "b/=bad.jpg": {"content": "?", "reason": "truncated"}}
    )
    rows = by_path(made.build())
    marked = [(rows["a/copy.jpg"]["sample_id"], "a/copy.jpg"), ("", "b/=bad.jpg"), ("f" * 16, "a/gone.jpg")]
    with (tmp_path / "findings.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("kind", "sample_id", "path", "exclude"))
        writer.writeheader()
        for sample_id, path in marked:
            writer.writerow({"kind": "leak", "sample_id": sample_id, "path": path, "exclude": "yes"})
        writer.writerow({"kind": "outlier", "sample_id": rows["a/001.jpg"]["sample_id"], "path": "a/001.jpg"})
    listed = read_exclusion(tmp_path / "findings.csv")
    numbers, unmatched = excluded_files(listed, made.files, sample_ids(made.files))
    assert {made.files[k].path for k in numbers} == {"a/copy.jpg", "b/=bad.jpg"} and unmatched == 1
    intake = made.build(excluded=["a/copy.jpg", "b/=bad.jpg"])
    again = by_path(intake)
    for path in ("a/copy.jpg", "b/=bad.jpg"):
        assert (again[path]["status"], again[path]["reason"]) == ("ignored", "excluded")
    assert again["a/copy.jpg"]["format"] == "JPEG" and again["b/=bad.jpg"]["format"] is None
    assert len(intake.samples) == 16 and intake.quarantined == [] and intake.pairs == []
    assert again["a/000.jpg"]["sample_id"] == rows["a/000.jpg"]["sample_id"]


def test_too_many_bad_files() -> None:
    bad = {"a/x.jpg": "empty", "b/y.jpg": "empty", "b/z.jpg": "not_an_image"}
    made = Made(plain(a=5, b=5) | {p: {"content": p, "reason": why} for p, why in bad.items()})
    with pytest.raises(
        DataError, match=r"3 of 13 .*10\.0%: 2 empty, 1 not_an_image\. a/x\.jpg \(it is empty\)"
    ):
        made.build(replace(SETTINGS, max_bad=0.1))
    assert len(made.build(replace(SETTINGS, max_bad=0.25)).samples) == 10
    assert len(made.build(replace(SETTINGS, max_bad=0.1), excluded=["b/y.jpg", "b/z.jpg"]).samples) == 10
    with pytest.raises(DataError, match=r"3 of 8 "):
        made.build(replace(SETTINGS, max_bad=0.3), excluded=[f"a/00{k}.jpg" for k in range(5)])


def test_a_label_without_a_usable_image() -> None:
    lost = {f"{label}/{k}.jpg": {"content": f"{label}{k}", "reason": "empty"} for label in "cd" for k in "xy"}
    made = Made(plain(a=9, b=9) | lost)
    with pytest.raises(DataError, match=r"label 'c' is usable \(and of 1 more labels\): 2 empty\. c/x\.jpg"):
        made.build()
    with pytest.raises(DataError, match=r"label 'd' is usable: 2 empty"):
        made.build(excluded=["c/x.jpg", "c/y.jpg"])
    intake = made.build(excluded=lost)
    assert [label["name"] for label in intake.labels] == ["a", "b"]
    assert "2 labels ('c', 'd') left out whole: all images are excluded" in intake.notes


def test_nothing_or_one_label_left() -> None:
    made = Made(plain(a=3, b=3))
    with pytest.raises(DataError, match="only the label 'a' is left of 6 files") as error:
        made.build(excluded=[f"b/00{k}.jpg" for k in range(3)])
    assert error.value.hint and "exclude" in error.value.hint
    with pytest.raises(DataError, match="no image is left"):
        made.build(excluded=plain(a=3, b=3))
    bad = Made({"x.jpg": {"content": "x", "label": None, "reason": "empty"}})
    with pytest.raises(DataError, match="no image is left of 1 files"):
        bad.build(replace(SETTINGS, max_bad=1.0))


def test_given_splits_without_train() -> None:
    made = Made({path: {"content": path, "split": "val"} for path in plain(a=3, b=3)})
    with pytest.raises(DataError, match="no usable image is in the split train") as error:
        made.build()
    assert error.value.hint


def test_images_without_labels() -> None:
    contents = {
        f"{k:03}.jpg": {"content": str(k), "label": None, "group": f"burst {k // 4}" if k < 40 else None}
        for k in range(100)
    }
    intake = Made(contents).build()
    samples = intake.samples
    assert set(samples.label.tolist()) == {""} and set(samples.label_id.tolist()) == {-1}
    assert samples.sample_id.tolist() == sorted(samples.sample_id.tolist()) and intake.labels == []
    count = {split: int((samples.split == split).sum()) for split in ("train", "val", "test")}
    assert sum(count.values()) == 100 and abs(count["val"] - 10) <= 2 and abs(count["test"] - 20) <= 2
    assert intake.notes == []
    rows = by_path(intake)
    assert rows["000.jpg"]["label"] is None and rows["000.jpg"]["group"] == "burst 0"
    for k in range(0, 40, 4):
        assert len({rows[f"{k + more:03}.jpg"]["split"] for more in range(4)}) == 1
    with pytest.raises(DataError, match="by label needs at least 4 labels"):
        Made(contents).build(replace(SETTINGS, split_by="label"))
    given_splits = {path: {**facts, "split": "train"} for path, facts in contents.items()}
    given_splits["test.jpg"] = {"content": "t", "label": None, "split": "test"}
    of_test = by_path(Made(given_splits).build())["test.jpg"]
    assert of_test["split"] == "test"


def test_a_split_by_label() -> None:
    counts = {f"label {k}": 10 for k in range(8)}
    intake = Made(plain(**counts)).build(replace(SETTINGS, split_by="label"))
    splits = [set(label["splits"]) for label in intake.labels]
    assert splits.count({"unseen_calib"}) == 1 and splits.count({"unseen_test"}) == 2
    assert splits.count({"train", "val", "test"}) == 5
    (note,) = intake.notes
    assert note.startswith("held out as unknown: 1 label ('label ") and "2 labels" in note


def test_notes() -> None:
    small = {f"s{k}": 1 + k % 3 for k in range(7)}
    contents = plain(big=40, **small) | {f"t/{k}.jpg": {"content": f"t{k}", "look": "tee"} for k in range(60)}
    contents |= {"big/copy.jpg": "s0 0", "t/odd.jpg": {"content": "?", "look": "tee", "width": 65}}
    assert Made(contents).build().notes == [
        "7 labels ('s0', 's1', 's2', 's3', 's4', …) of fewer than 4 images: numbers about them are guesses",
        "labels are of very unequal size, from 1 images ('s0') to 61 ('t'): see sampler.balance",
        "1 pair of images of equal bytes or pixels under two labels: 'big' and 's0'",
        "1 set of more than 50 images that look alike: only equal bytes and pixels of it are kept together",
    ]
    ten = plain(**{f"n{k}": 5 for k in range(10)})
    shared = {path: {"content": text, "group": text[-1]} for path, text in ten.items()}
    assert Made(shared).build().notes == [
        "no label is held out as unknown: nearly all share duplicates or groups with one another"
    ]
    assert Made(shared).build(replace(SETTINGS, unseen=0)).notes == []
