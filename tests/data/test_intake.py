import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, labelled, photo, write_tree
from PIL import Image, ImageOps

from simpipe.data.decode import decode, resize
from simpipe.data.intake import Intake, Settings, build, examine
from simpipe.data.manifest import write_manifest, write_samples
from simpipe.data.scan import Fingerprint, fingerprint
from simpipe.errors import DataError
from simpipe.progress import Silent

SETTINGS = Settings(max_bad=0.5, near_duplicate_bits=4, val=0.1, test=0.2, unseen=0.2, split_seed=0)


def look(root: Path, found: Fingerprint) -> list[Any]:
    return examine(
        root,
        found.files,
        max_pixels=10**6,
        thumbnail_size=48,
        resize_rule="squash",
        progress=Silent(),
    )


def take_in(root: Path, settings: Settings = SETTINGS) -> Intake:
    found = fingerprint(root, root / ".cache.json")
    return build(found, look(root, found), settings)


def by_path(intake: Intake) -> dict[str, Any]:
    return {row["path"]: row for row in intake.manifest}


def test_a_plain_folder(tmp_path: Path) -> None:
    intake = take_in(labelled(tmp_path, {"b": 10, "a": 5}))
    samples = intake.samples
    assert [(label["id"], label["name"], label["count"]) for label in intake.labels] == [
        (0, "a", 5),
        (1, "b", 10),
    ]
    assert intake.labels[1]["splits"] == {"train": 7, "val": 1, "test": 2}
    assert samples.label.tolist() == ["a"] * 5 + ["b"] * 10
    keys = list(zip(samples.label_id.tolist(), samples.sample_id.tolist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == 15
    assert all(sha.startswith(sample) for sha, sample in zip(samples.sha256, samples.sample_id, strict=True))
    assert samples.group.tolist() == samples.sample_id.tolist() and intake.pairs == []
    assert not intake.predefined_splits and intake.oversized_groups == 0

    for row in intake.manifest:
        at = samples.sample_id.tolist().index(str(row["sample_id"]))
        raw = (tmp_path / row["path"]).read_bytes()
        assert (row["status"], row["split"], row["size"]) == ("ok", samples.split[at], len(raw))
        assert (row["format"], row["width"], row["height"], row["warnings"]) == ("JPEG", 64, 48, [])
        thumbnail = decode(intake.thumbnails[at], 10**6)
        expected = resize(decode(raw, 10**6), 48, "squash")
        assert np.abs(np.asarray(thumbnail).astype(int) - expected).mean() < 8


def test_bad_files_are_rows_with_a_reason(tmp_path: Path) -> None:
    good = encoded(photo(100))
    bad = {
        "a/empty.jpg": b"",
        "a/half.jpg": good[: len(good) // 2],
        "a/text.jpg": b"not a picture at all",
        "a/large.png": encoded(Image.new("1", (2000, 2000)), "PNG"),
        "b/phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }
    intake = take_in(write_tree(labelled(tmp_path, {"a": 5, "b": 5}), bad))
    rows = by_path(intake)
    reasons = {path: rows[path]["reason"] for path in bad}
    assert reasons == dict(
        zip(bad, ("empty", "truncated", "not_an_image", "too_large", "unsupported"), strict=True)
    )
    for path in bad:
        assert rows[path]["status"] == "quarantined" and rows[path]["detail"]
        assert rows[path]["sample_id"] is rows[path]["split"] is rows[path]["width"] is None
    assert len(intake.samples) == len(intake.thumbnails) == 10
    assert len(intake.manifest) == 15


def test_warnings(tmp_path: Path) -> None:
    odd = {
        "a/named.jpg": encoded(photo(100), "PNG"),
        "a/gif.jpg": encoded(photo(101), "GIF"),
        "a/tiny.png": encoded(photo(102, 20, 31), "PNG"),
        "a/long.png": encoded(photo(103, 660, 60), "PNG"),
        "a/blank.png": encoded(Image.new("RGB", (50, 50), "white"), "PNG"),
        "a/clear.png": encoded(photo(104).convert("RGBA"), "PNG"),
    }
    rows = by_path(take_in(write_tree(labelled(tmp_path, {"a": 2, "b": 2}), odd)))
    expected = (["suffix"], ["suffix"], ["tiny"], ["long"], ["flat"], ["alpha"])
    assert [rows[path]["warnings"] for path in odd] == list(expected)


def test_copies_are_one_group_and_one_split(tmp_path: Path) -> None:
    root = labelled(tmp_path, {"a": 12, "b": 12})
    first = (root / "a/000.jpg").read_bytes()
    again = encoded(photo(5, 64, 48).resize((128, 96), Image.Resampling.BICUBIC), quality=85)
    write_tree(root, {"a/same.jpg": first, "b/same.jpg": first, "b/near_of_a5.jpg": again})
    intake = take_in(root)
    rows = by_path(intake)
    ids = [rows[path]["sample_id"] for path in ("a/000.jpg", "a/same.jpg", "b/same.jpg")]
    stem = rows["a/000.jpg"]["sha256"][:16]
    assert ids == [stem, f"{stem}-2", f"{stem}-3"]
    row_of = {sample: row for row, sample in enumerate(intake.samples.sample_id.tolist())}
    one, two, three = (row_of[sample] for sample in ids)
    a5, near = (row_of[rows[path]["sample_id"]] for path in ("a/005.jpg", "b/near_of_a5.jpg"))
    assert sorted(intake.pairs) == sorted([(one, two, "exact"), (one, three, "exact"), (a5, near, "near")])
    samples = intake.samples
    assert samples.group[[one, two, three]].tolist() == [stem] * 3
    assert samples.group[near] == samples.sample_id[a5]
    for group in set(samples.group.tolist()):
        assert len(set(samples.split[samples.group == group].tolist())) == 1
    assert (
        samples.group_id.tolist()[0] == 0 and samples.group_id.max() == len(set(samples.group.tolist())) - 1
    )


def test_predefined_splits_and_a_leak(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("valid", 100), ("test", 200)):
        labelled(tmp_path / split, {"a": 4, "b": 4}, first_seed=seed)
    shutil.copy(tmp_path / "train/a/000.jpg", tmp_path / "test/a/leak.jpg")
    write_tree(tmp_path, {"test/new/1.jpg": encoded(photo(300))})
    intake = take_in(tmp_path)
    rows = by_path(intake)
    assert intake.predefined_splits
    assert rows["train/a/000.jpg"]["split"] == "train" and rows["test/a/leak.jpg"]["split"] == "test"
    assert rows["valid/b/001.jpg"]["split"] == "val" and rows["test/new/1.jpg"]["split"] == "unseen_test"
    assert [kind for _, _, kind in intake.pairs] == ["exact"]
    assert intake.labels[2] == {"id": 2, "name": "new", "count": 1, "splits": {"unseen_test": 1}}


def test_names_and_times_do_not_matter(tmp_path: Path) -> None:
    root = labelled(tmp_path / "one", {"a": 8, "b": 8})
    shutil.copy(root / "a/000.jpg", root / "a/twin.jpg")
    before = take_in(root)
    names = [f"{k}.jpg" for k in np.random.default_rng(1).permutation(20)]
    for label in ("a", "b"):
        for path in list((root / label).iterdir()):
            target = root / label / "deep" / names.pop()
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            os.utime(target, (1, 1))
    after = take_in(root)
    write_samples(tmp_path / "before", before.samples)
    write_samples(tmp_path / "after", after.samples)
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert before.thumbnails == after.thumbnails and before.labels == after.labels
    assert before.pairs == after.pairs


def test_the_order_of_the_folder_and_the_threads_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelled(tmp_path / "one", {"a": 8, "b": 8})
    write_manifest(tmp_path / "before", take_in(root).manifest)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: Any) -> None:
            self.names = scandir(path)

        def __enter__(self) -> list[Any]:
            return sorted(self.names, key=lambda entry: entry.name, reverse=True)

        def __exit__(self, *_: object) -> None:
            self.names.close()

    monkeypatch.setattr(os, "scandir", Reversed)
    write_manifest(tmp_path / "after", take_in(root).manifest)
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_too_many_bad_files(tmp_path: Path) -> None:
    root = write_tree(
        labelled(tmp_path, {"a": 5, "b": 5}),
        {"a/x.jpg": b"", "b/y.jpg": b"", "b/z.jpg": b"rubbish, not a picture"},
    )
    with pytest.raises(DataError, match=r"3 of 13 .*10\.0%: 2 empty, 1 not_an_image\. a/x\.jpg"):
        take_in(root, Settings(**{**SETTINGS.__dict__, "max_bad": 0.1}))
    assert len(take_in(root, Settings(**{**SETTINGS.__dict__, "max_bad": 0.25})).samples) == 10


def test_a_label_without_a_usable_image(tmp_path: Path) -> None:
    root = write_tree(labelled(tmp_path, {"a": 9, "b": 9}), {"c/x.jpg": b"", "c/y.jpg": b""})
    with pytest.raises(DataError, match=r"label 'c' is usable: 2 empty\. c/x\.jpg"):
        take_in(root)


def test_a_file_that_changes_is_an_error_and_one_unreadable_before_a_row(tmp_path: Path) -> None:
    root = labelled(tmp_path, {"a": 4, "b": 4})
    found = fingerprint(root, root / ".cache")
    lost = [f._replace(sha256="") if f.path == "a/001.jpg" else f for f in found.files]
    without = Fingerprint(found.digest, lost, found.ignored)
    row = by_path(build(without, look(root, without), SETTINGS))["a/001.jpg"]
    assert (row["status"], row["reason"], row["sha256"]) == ("quarantined", "unreadable", "")

    ImageOps.mirror(Image.open(root / "b/002.jpg")).save(root / "b/002.jpg")
    with pytest.raises(DataError, match=r"b/002\.jpg changed while it was read"):
        look(root, found)
    (root / "b/002.jpg").unlink()
    with pytest.raises(DataError, match=r"b/002\.jpg changed .*No such file"):
        look(root, found)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    root = labelled(tmp_path, {"a": 3, "b": 3})
    seen: list[Any] = []

    class Listener(Silent):
        def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
            seen.append(total)

        def advance(self, count: int = 1, detail: str = "") -> None:
            seen.append(count)

    found = fingerprint(root, root / ".cache", progress=Listener())
    examine(root, found.files, max_pixels=10**6, thumbnail_size=48, resize_rule="crop", progress=Listener())
    assert seen == [6, *[1] * 6] * 2
