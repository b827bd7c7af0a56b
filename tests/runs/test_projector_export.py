"""What the Embedding Projector is given, read back as it reads it: by TensorBoard itself where it is."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format
from PIL import Image

from simpipe.data import sprite
from simpipe.data.manifest import ManifestRow, Samples, manifest_of, write_manifest, write_samples
from simpipe.data.scan import display
from simpipe.data.thumbnails import encode_jpeg, write_thumbnails
from simpipe.engine.rundir import RunDir, commit, new_staging, seal
from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError, DiskError, UpstreamError, UsageError
from simpipe.files import digest, write_json
from simpipe.progress import Silent
from simpipe.runs import projector_export
from simpipe.runs.export_folder import MARK
from simpipe.runs.projector_export import BEFORE, MOST_IMAGES, VECTORS, export

LABELS = ["plain", "tab\there", "two\nlines\r", "\u2028\u202eeman", "Größe"]
DIM, WIDE, THUMBNAIL = 8, 12, 40
WRONG, PAIR = 3, (5, 17)
FILES = {"embedding.bytes", "embedding.tsv", "metadata.tsv", f"{projector_export.CONFIG}.json"}
FILES |= {"embedding_before_training.bytes", "sprite.jpg", MARK, f"{projector_export.CONFIG}.pbtxt"}


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def colour(row: int) -> tuple[int, int, int]:
    return row * 37 % 256, row * 91 % 256, row * 53 % 256


def make_run(
    root: Path,
    count: int = 25,
    labels: list[str] = LABELS,
    *,
    thumbnails: bool = True,
    dims: tuple[int, int] = (DIM, WIDE),
    **encoder: str,
) -> RunDir:
    """A run of `count` images, with all that an export reads, made up; without `labels`, of two groups."""
    run = RunDir(root / "runs/made")
    run.path.mkdir(parents=True)
    write_json(
        run.path / "run.json",
        {"schema": "simpipe.run/1", "source": str(root / "data"), "config": {"sha256": "", "values": {}}},
    )
    rows = np.arange(count)
    ids = np.array([f"{row:016x}" for row in rows])
    paths = [os.fsdecode(b"a\tb/\xff%d.jpg" % row) for row in rows]
    label_id = np.sort(rows % len(labels)).astype(np.int32) if labels else np.full(count, -1, np.int32)
    names = np.array([labels[each] for each in label_id] if labels else [""] * count)
    split = np.where(rows % 5 == WRONG, "test", "train")
    samples = Samples(sample_id=ids, sha256=ids, label=names, label_id=label_id, split=split, group=ids)
    table: list[dict[str, Any]] = [
        {**dict.fromkeys(ManifestRow.__annotations__), "path": display(path), "path_bytes": os.fsencode(path)}
        | {"status": "ok", "sample_id": sample_id, "sha256": "", "size": 1, "warnings": []}
        for path, sample_id in zip(paths, ids.tolist(), strict=True)
    ]
    queries = rows[split == "test"] if labels else rows[:0]
    answers = pd.DataFrame({"row": queries, "block": "seen", "accuracy@1": (queries != WRONG).astype(float)})
    answers["predicted"] = np.where(queries == WRONG, 2, label_id[queries])
    findings = [{"kind": "duplicate", "sample_id": ids[PAIR[0]], "other": display(paths[PAIR[1]])}]
    findings += [
        {"kind": "outlier", "sample_id": ids[each], "other": display(paths[0])} for each in (PAIR[0], 7)
    ]

    def committed(name: str, **write: Any) -> None:
        outputs = tuple(each.replace("__", ".") for each in write)
        document = {"stage": name, "version": 1, "inputs": {}, "config": {}}
        folder = new_staging(run, name)
        for each, how in zip(outputs, write.values(), strict=True):
            how(folder / each)
        kind = Stage(**{each.name: None for each in fields(Stage)} | {"outputs": outputs, "logs": ()})
        seal(folder, kind, {"key": digest(document), "key_doc": document})
        commit(run, name, folder)

    jpegs = [
        encode_jpeg(Image.new("RGB", (THUMBNAIL,) * 2, colour(row))) if thumbnails else b"" for row in rows
    ]
    committed(
        "ingest",
        samples__parquet=lambda path: write_samples(path, samples),
        manifest__parquet=lambda path: write_manifest(
            path, manifest_of((name, [row[name] for row in table]) for name in ManifestRow.__annotations__)
        ),
        labels__json=lambda path: write_json(path, {"labels": [{"name": label} for label in labels]}),
        thumbnails__parquet=lambda path: write_thumbnails(path, jpegs),
    )
    committed("train", encoder__json=lambda path: write_json(path, {"shipped": "trained", **encoder}))
    committed(
        "index",
        embeddings__npy=lambda path: np.save(path, unit_vectors(count, dims[0], 0)),
        pretrained__npy=lambda path: np.save(path, unit_vectors(count, dims[1], 1)),
    )
    committed(
        "evaluate",
        per_query__parquet=lambda path: answers.to_parquet(path),
        findings__csv=lambda path: pd.DataFrame(findings).to_csv(path, index=False),
        clusters__parquet=lambda path: pd.DataFrame({"cluster": [] if labels else rows % 3 - 1}).to_parquet(
            path
        ),
    )
    return run


def unit_vectors(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def metadata(folder: Path) -> list[dict[str, str]]:
    """The rows, cut where the projector cuts: at the newline and the tab and nowhere else."""
    header, *lines = (folder / "metadata.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {len(header.split("\t"))}
    assert all(cell.strip() for row in rows for cell in row), "a blank cell is a missing value"
    return [dict(zip(header.split("\t"), row, strict=True)) for row in rows]


def vectors(folder: Path, name: str) -> np.ndarray:
    return np.fromfile(folder / f"{name}.bytes", "<f4").reshape(len(metadata(folder)), -1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def exported(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "projector"
    assert export(run, folder) == 25
    return folder


# what is in it


def test_the_files(exported):
    assert {path.name for path in exported.iterdir()} == FILES
    assert [path.name for path in exported.parent.iterdir()] == ["projector"]


def test_vectors_are_those_of_the_run_but_for_one_bit_of_noise(run, exported):
    for name, artifact in ((VECTORS, "embeddings"), (BEFORE, "pretrained")):
        expected, found = np.load(run.path / f"index/{artifact}.npy"), vectors(exported, name)
        np.testing.assert_array_equal(found.ravel()[1:], expected.ravel()[1:])
        np.testing.assert_allclose(found[0, 0], expected[0, 0], rtol=4e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    by_hand = [line.split("\t") for line in (exported / "embedding.tsv").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(by_hand, np.float32), np.load(run.path / "index/embeddings.npy"))


def test_bytes_that_would_pass_for_text_do_not(run, tmp_path, monkeypatch):
    """TensorBoard would try, and fail, to read numbers from such a file."""
    words = np.frombuffer(b"no numbers\n".ljust(DIM * 4, b"x"), "<f4")
    path = tmp_path / "text.bytes"
    projector_export._write_bytes(path, words[None].repeat(3, 0), np.arange(3), Silent())
    assert path.read_bytes()[1:11] == b"o numbers\n"
    with pytest.raises(UnicodeDecodeError):
        path.read_bytes()[:1].decode()


def test_metadata_tells_each_image_in_its_row(exported):
    rows = metadata(exported)
    assert list(rows[0]) == ["label", "split", "predicted", "outcome", "finding", "path"]
    assert [row["label"] for row in rows[::5]] == ["plain", "tab�here", "two�lines�", "��eman", "Größe"]
    assert (rows[WRONG]["outcome"], rows[WRONG]["predicted"]) == ("wrong", "two�lines�")
    assert (rows[8]["outcome"], rows[8]["predicted"]) == ("right", "tab�here")
    assert (rows[0]["outcome"], rows[0]["predicted"]) == ("not tested", "not tested")
    assert {row: each["finding"] for row, each in enumerate(rows) if each["finding"] != "none"} == {
        **{PAIR[0]: "duplicate", PAIR[1]: "duplicate", 7: "outlier"}
    }
    assert rows[4]["path"] == "a�b/\\xff4.jpg"


def test_the_gravest_finding_counts_also_for_the_second_of_a_pair_and_after_a_guarded_path(tmp_path):
    paths = {"id1": "=1+1/a.jpg", "id2": "b/b.jpg"}
    (tmp_path / "findings.csv").write_text(
        "kind,sample_id,other\nleak,id2,'=1+1/a.jpg\nduplicate,id1,b/b.jpg\nunreadable,,\n"
    )
    found = projector_export._finding_kinds(tmp_path / "findings.csv", paths)
    assert {found[each] for each in paths} == {"leak"}


def test_each_tile_of_the_sprite_is_the_picture_of_its_row(exported):
    config = json.loads((exported / "projector_config.json").read_text())
    [side, height] = config["embeddings"][0]["sprite"]["singleImageDim"]
    picture = np.asarray(Image.open(exported / "sprite.jpg")).astype(int)
    across = picture.shape[1] // side
    assert side == height and picture.shape[1] % side == 0
    for row in range(25):
        y, x = (row // across + 0.5) * side, (row % across + 0.5) * side
        np.testing.assert_allclose(picture[int(y), int(x)], colour(row), atol=12)


@pytest.mark.parametrize("count", [1, 2, 25, 3_781, 16_384, MOST_IMAGES])
def test_a_sprite_fits_and_its_tiles_can_be_seen(count):
    side, across = sprite.tile_side(count), sprite._across(count)
    assert 25 <= side <= sprite.LARGEST_TILE
    assert across**2 >= count
    assert across * side <= sprite.MOST_PIXELS


PROTO = {
    "ProjectorConfig": {"embeddings": "EmbeddingInfo*"},
    "EmbeddingInfo": {
        **{"tensor_name": "str", "metadata_path": "str", "tensor_shape": "int*"},
        **{"sprite": "SpriteMetadata", "tensor_path": "str"},
    },
    "SpriteMetadata": {"image_path": "str", "single_image_dim": "int*"},
}
"""The fields of TensorBoard's projector_config.proto that are used here."""


def projector_config() -> Any:
    """An empty `ProjectorConfig`, made of PROTO."""
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"str": field.TYPE_STRING, "int": field.TYPE_UINT32}
    file = descriptor_pb2.FileDescriptorProto(name="projector.proto", package="projector", syntax="proto3")
    for name, members in PROTO.items():
        message = file.message_type.add(name=name)
        for number, (each, kind) in enumerate(members.items(), 1):
            label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.removesuffix("*")
            known = {"type": scalars[kind]} if kind in scalars else {"type_name": f".projector.{kind}"}
            message.field.add(name=each, number=number, label=label, **known)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("projector.ProjectorConfig"))()


def test_both_configurations_are_the_message_that_tensorboard_defines(exported):
    config = text_format.Parse((exported / "projector_config.pbtxt").read_text(), projector_config())
    assert json_format.MessageToDict(config) == json.loads((exported / "projector_config.json").read_text())
    names = [tensor.tensor_name for tensor in config.embeddings]
    assert names == sorted(names) == [VECTORS, BEFORE], "the first by name is shown first"
    for tensor, dim in zip(config.embeddings, (DIM, WIDE), strict=True):
        assert list(tensor.tensor_shape) == [25, dim]
        assert (exported / tensor.tensor_path).stat().st_size == 25 * dim * 4
        assert {tensor.metadata_path, tensor.sprite.image_path} <= FILES
        assert re.fullmatch(r"\w+", tensor.tensor_name), "it goes unquoted into an address"


# TensorBoard itself


def test_tensorboard_serves_all_of_it(exported):
    """Its plugin, as its own page asks it."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    runs = SimpleNamespace(list_runs=lambda *arguments, **named: [])
    plugin = ProjectorPlugin(SimpleNamespace(data_provider=runs, logdir=str(exported)))
    apps = plugin.get_plugin_apps()

    def answer(route: str, **query: Any) -> Any:
        response = Client(apps[route]).get("/", query_string={"run": ".", **query})
        assert response.status_code == 200, response.data
        return response

    assert answer("/runs").json == ["."]
    config = answer("/info").json
    assert config == json.loads((exported / "projector_config.json").read_text())
    for tensor in config["embeddings"]:
        asked = {"name": tensor["tensorName"], "num_rows": MOST_IMAGES}
        served = np.frombuffer(answer("/tensor", **asked).data, np.float32)
        np.testing.assert_array_equal(
            served.reshape(tensor["tensorShape"]), vectors(exported, tensor["tensorName"])
        )
        assert answer("/metadata", **asked).data == (exported / "metadata.tsv").read_bytes()
        sprite = answer("/sprite_image", **asked)
        assert sprite.mimetype == "image/jpeg"
        assert Image.open(io.BytesIO(sprite.data)).size == Image.open(exported / "sprite.jpg").size


# runs of other kinds


def test_more_images_than_can_be_shown(run, tmp_path, monkeypatch):
    monkeypatch.setattr(projector_export, "MOST_IMAGES", 12)
    monkeypatch.setattr("simpipe.reporting.sheets.AT_LEAST_PER_LABEL", 1)
    heard = Heard()
    assert export(run, tmp_path / "out", heard) == 12
    rows = metadata(tmp_path / "out")
    assert sum(row["outcome"] == "wrong" for row in rows) == 1
    assert sum(row["finding"] != "none" for row in rows) == 3
    assert len({row["label"] for row in rows}) == len(LABELS)
    assert heard.notes == [
        "the projector shows 12 of 25 images: mistakes and findings, and some of every label"
    ]
    kept = [int(re.findall(r"ff(\d+)", row["path"])[0]) for row in rows]
    assert kept == sorted(kept)
    everything = np.load(run.path / "index/embeddings.npy")
    np.testing.assert_allclose(vectors(tmp_path / "out", VECTORS), everything[kept], rtol=4e-5)
    picture = np.asarray(Image.open(tmp_path / "out/sprite.jpg")).astype(int)
    np.testing.assert_allclose(picture[32, 64 + 32], colour(kept[1]), atol=12)


def test_without_thumbnails(tmp_path):
    heard = Heard()
    export(make_run(tmp_path, thumbnails=False), tmp_path / "out", heard)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"sprite.jpg"}
    assert "sprite" not in (tmp_path / "out/projector_config.pbtxt").read_text()
    assert heard.notes == ["the projector shows points, no pictures: ingest.thumbnail_size is 0"]


def test_without_labels(tmp_path):
    export(make_run(tmp_path, labels=[]), tmp_path / "out")
    rows = metadata(tmp_path / "out")
    assert list(rows[0]) == ["group", "split", "finding", "path"]
    assert [row["group"] for row in rows[:3]] == ["no group", "group 1", "group 2"]


def test_an_encoder_that_ships_the_pretrained_features_has_nothing_before(tmp_path):
    export(make_run(tmp_path, shipped="pretrained"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"embedding_before_training.bytes"}
    assert "before" not in (tmp_path / "out/projector_config.pbtxt").read_text()


def test_an_artifact_that_is_damaged_or_missing(tmp_path):
    run = make_run(tmp_path)
    (run.path / "index/pretrained.npy").write_bytes(b"rubbish")
    with pytest.raises(DamagedError, match=r"pretrained\.npy has 7 bytes") as told:
        export(run, tmp_path / "out")
    assert "simpipe run" in str(told.value.hint)
    (run.path / "evaluate").rename(tmp_path / "gone")
    with pytest.raises(UpstreamError, match="has no evaluate/"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# where it goes


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_export_is_replaced_and_equal_runs_give_equal_bytes(run, exported, tmp_path):
    folder = tmp_path / "new/out"
    export(run, folder)
    assert content(folder) == content(exported)
    (folder / "sprite.jpg").unlink()
    export(run, folder)
    assert content(folder) == content(exported)
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_a_link_stays_a_link_and_an_empty_folder_is_taken(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    export(run, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "real").iterdir()} == FILES


def full_of_other_things(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("all my work")


def of_another_kind(folder: Path) -> None:
    folder.mkdir()
    (folder / MARK).write_text('{"schema": "other/1", "files": []}')


def with_an_own_file(folder: Path) -> None:
    export(make_run(folder.parent), folder)
    (folder / "bookmarks.txt").write_text("[]")


def a_file(folder: Path) -> None:
    folder.write_text("all my work")


@pytest.mark.parametrize("occupy", [full_of_other_things, of_another_kind, with_an_own_file, a_file])
def test_what_is_not_of_an_export_stays(run, tmp_path, occupy):
    occupy(tmp_path / "out")
    before = content(tmp_path)
    with pytest.raises(UsageError) as told:
        export(run, tmp_path / "out")
    assert told.value.hint
    assert content(tmp_path) == before


def test_a_failure_in_the_middle_leaves_the_earlier_export(run, tmp_path, monkeypatch):
    export(run, tmp_path / "out")
    before = content(tmp_path)

    def fails(path: Path, *arguments: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(sprite, "write_sprite", fails)
    with pytest.raises(DiskError, match="No space left on device") as told:
        export(run, tmp_path / "out")
    assert "untouched" in str(told.value.hint)
    assert content(tmp_path) == before
    with pytest.raises(DiskError, match=r"File exists|Not a directory"):
        export(run, tmp_path / "out/metadata.tsv/below")


def test_what_a_killed_export_left_is_deleted_by_the_next(run, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftovers = [tmp_path / f".out.{dead.pid}{suffix}@{socket.gethostname()}" for suffix in ("", "-0")]
    others = [tmp_path / f".out.{os.getppid()}@{socket.gethostname()}", tmp_path / ".out.1@elsewhere"]
    for folder in (*leftovers, *others):
        folder.mkdir()
        (folder / "embedding.bytes").write_bytes(b"half")
    export(run, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *(path.name for path in others)}
