import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simpipe.data.manifest import (
    Manifest,
    ManifestRow,
    Samples,
    manifest_of,
    read_manifest,
    read_samples,
    write_manifest,
    write_samples,
)
from simpipe.errors import DamagedError

SAMPLES = Samples(
    sample_id=np.array(["aa", "aa-2", "cc"]),
    sha256=np.array(["a" * 64, "a" * 64, "c" * 64]),
    label=np.array(["café", "café", "no"]),
    label_id=np.array([0, 0, 1], np.int32),
    split=np.array(["train", "unseen_test", "train"]),
    group=np.array(["aa", "aa", "cc"]),
)


def row(**changes: Any) -> ManifestRow:
    good: ManifestRow = {
        "path": "café/1.jpg",
        "path_bytes": "café/1.jpg".encode(),
        "label": "café",
        "group": "burst 7",
        "split": "train",
        "status": "ok",
        "reason": None,
        "detail": None,
        "sample_id": "aa",
        "sha256": "a" * 64,
        "size": 5_000_000_000,
        "copy": "b" * 64,
        "format": "JPEG",
        "width": 3,
        "height": 4,
        "warnings": ["alpha", "tiny"],
    }
    return {**good, **changes}  # type: ignore[typeddict-item]


BAD = row(
    path="café/\\xff,\n=1.jpg",
    path_bytes=b"caf\xc3\xa9/\xff,\n=1.jpg",
    status="quarantined",
    reason="truncated",
    detail="cut",
    warnings=[],
    **dict.fromkeys(("label", "group", "split", "sample_id", "copy", "format", "width", "height")),
)
OUT = row(status="ignored", reason="excluded", sample_id=None, split=None, copy=None)


def table(rows: list[ManifestRow]) -> Manifest:
    values: list[dict[str, Any]] = [{**each} for each in rows]
    return manifest_of((name, [each[name] for each in values]) for name in ManifestRow.__annotations__)


def test_samples_come_back(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, SAMPLES)
    back = read_samples(path)
    for name in ("sample_id", "sha256", "label", "label_id", "split", "group"):
        assert getattr(back, name).tolist() == getattr(SAMPLES, name).tolist()
        assert getattr(back, name).dtype == getattr(SAMPLES, name).dtype
    assert back.rows("train").tolist() == [0, 2] and back.rows("val").tolist() == []
    assert back.group_id.tolist() == [0, 0, 1] and len(back) == 3


def test_manifest_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    plain = row(sample_id="bb", copy=None)
    write_manifest(path, table([row(), BAD, OUT, plain]))
    back = read_manifest(path)
    assert back.rows == [row(), BAD, OUT, plain]
    assert back.quarantined() == [BAD]
    assert back.paths_by_sample == {"aa": "café/1.jpg", "bb": "café/1.jpg"}
    assert back.copies_by_sample == {"aa": "b" * 64, "bb": None}


def test_a_path_that_is_no_utf8_can_be_opened(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", table([row(path="\\xff.jpg", path_bytes=b"\xff.jpg")]))
    assert os.fsencode(read_manifest(tmp_path / "m").paths_by_sample["aa"]) == b"\xff.jpg"


def test_equal_rows_are_equal_bytes_in_groups_of_ten_thousand(tmp_path: Path) -> None:
    rows = [row(sample_id=f"{k:016x}", size=k) for k in range(10_001)]
    for name in ("one", "two"):
        write_manifest(tmp_path / name, table(rows))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    metadata = pq.read_metadata(tmp_path / "one")
    assert metadata.num_row_groups == 2 and metadata.metadata is None


@pytest.mark.parametrize("name", ["samples", "manifest"])
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.parquet"
    read = read_samples if name == "samples" else read_manifest
    with pytest.raises(DamagedError, match=r"parquet is missing"):
        read(path)
    if name == "samples":
        write_samples(path, SAMPLES)
    else:
        write_manifest(path, table([row(), BAD]))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=rf"{name}\.parquet"):
            read(path)
    path.write_bytes(whole[:20] + bytes([whole[20] ^ 255]) + whole[21:])
    with pytest.raises(DamagedError, match=rf"{name}\.parquet"):
        read(path)


def test_a_table_with_other_columns_is_damaged(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.parquet", SAMPLES)
    with pytest.raises(DamagedError, match="columns"):
        read_manifest(tmp_path / "samples.parquet")
