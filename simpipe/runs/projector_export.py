"""Hand a finished run to TensorBoard's Embedding Projector, or to the one at projector.tensorflow.org.

What they read, by their sources (TensorBoard 2.21, `plugins/projector`):

- TensorBoard reads `projector_config.pbtxt` in its log directory; all paths are relative to it. It shows the
  first 100,000 rows of a tensor.
- The page takes the same as JSON (`?config=`), with the addresses of the files; a file that ends with
  `.bytes` is float32, any other is TSV. By hand it takes TSV alone, vectors and metadata, and no sprite.
- Metadata has one line for each vector, below a header; a blank cell is a missing value.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simpipe.engine.rundir import RunDir, damage
from simpipe.errors import DamagedError, UpstreamError
from simpipe.files import pretty_json, read_json
from simpipe.progress import Progress, Silent
from simpipe.runs.export_folder import MARK, SCHEMA, new_folder

if TYPE_CHECKING:
    from simpipe.data.manifest import Samples

MOST_IMAGES = 100_000
"""TensorBoard leaves out the rows after these, which would be whole labels: so a sample is taken here."""

BLOCK = 8_192
CONFIG = "projector_config"
METADATA = "metadata.tsv"
SPRITE = "sprite.jpg"
VECTORS, BEFORE = "embedding", "embedding_before_training"
"""The tensors. TensorBoard opens the first by name, and puts names into addresses without quoting them."""

Rows = npt.NDArray[np.int64]


def export(run: RunDir, folder: Path, progress: Progress | None = None) -> int:
    """Write the embeddings, those before training, metadata, thumbnails and the two configurations.

    To be called under the run's lock. Vectors are as the run has them: float32, L2-normalised.

    Args:
        run: a run that is evaluated.
        folder: where to; it must not exist, or be empty, or an earlier export.
        progress: hears how far it is; its notes say what was left out.

    Returns:
        How many images there are in it.

    Raises:
        UpstreamError: the run has not come so far.
        DamagedError: an artifact is not what its receipt says.
        UsageError: something else lies in `folder`.
        DiskError: no room, or no permission.
    """
    from simpipe.data.manifest import read_samples
    from simpipe.data.sprite import tile_side, write_sprite
    from simpipe.data.thumbnails import has_thumbnails

    progress = progress or Silent()
    samples = read_samples(_artifact(run, "ingest/samples.parquet"))
    thumbnails = _artifact(run, "ingest/thumbnails.parquet")
    columns = _columns(run, samples)
    rows = _chosen(samples, columns)
    if len(rows) < len(samples):
        progress.note(
            f"the projector shows {len(rows):,} of {len(samples):,} images: mistakes and findings, and some "
            "of every label"
        )
    with new_folder(folder) as place:
        shapes = {}
        for name, artifact in _tensors(run).items():
            matrix = np.load(_artifact(run, artifact), mmap_mode="r", allow_pickle=False)
            _write_bytes(place / f"{name}.bytes", matrix, rows, progress)
            shapes[name] = [len(rows), matrix.shape[1]]
            if name == VECTORS:
                _write_tsv(place / f"{name}.tsv", matrix, rows, progress)
        _write_metadata(place / METADATA, columns, rows)
        tile = tile_side(len(rows)) if has_thumbnails(thumbnails) else None
        if tile is None:
            progress.note("the projector shows points, no pictures: ingest.thumbnail_size is 0")
        else:
            progress.begin(SPRITE, len(rows), "images")
            write_sprite(place / SPRITE, thumbnails, rows, progress)
        config = _config(shapes, tile)
        (place / f"{CONFIG}.pbtxt").write_text(_text_format(config))
        (place / f"{CONFIG}.json").write_text(pretty_json(config))
        mark = {"schema": SCHEMA, "images": len(rows), "files": sorted(path.name for path in place.iterdir())}
        (place / MARK).write_text(pretty_json(mark))
    return len(rows)


def _artifact(run: RunDir, artifact: str) -> Path:
    """Where an artifact lies, whole."""
    stage, _, name = artifact.partition("/")
    hint = run.command(Path(run.describe()["source"]))
    receipt = run.receipt(stage)
    if receipt is None or name not in receipt["outputs"]:
        raise UpstreamError(f"{run.path} has no {artifact}", hint=hint)
    for problem in damage(run.standing(stage), {name: receipt["outputs"][name]}):
        raise DamagedError(problem, hint=f"rebuild it: {hint}")
    return run.standing(stage) / name


def _tensors(run: RunDir) -> dict[str, str]:
    """The artifact of each tensor; an encoder that ships the pretrained features has no two."""
    shipped = read_json(_artifact(run, "train/encoder.json"))["shipped"]
    return {
        VECTORS: "index/embeddings.npy",
        **({BEFORE: "index/pretrained.npy"} if shipped == "trained" else {}),
    }


def _columns(run: RunDir, samples: "Samples") -> dict[str, list[str]]:
    """The metadata of all n images: a text for each image, none of them blank, by the name of the column."""
    import pandas as pd

    from simpipe.data.manifest import read_manifest
    from simpipe.data.scan import display
    from simpipe.reporting.text import clean

    located = read_manifest(_artifact(run, "ingest/manifest.parquet")).paths_by_sample
    names = [label["name"] for label in read_json(_artifact(run, "ingest/labels.json"))["labels"]]
    queries = pd.read_parquet(_artifact(run, "evaluate/per_query.parquet"))
    queries = queries[queries["block"] == "seen"]
    if names:
        columns = {"label": samples.label.tolist(), "split": samples.split.tolist()}
        predicted, outcome = (["not tested"] * len(samples) for _ in range(2))
        for row, label, right in zip(
            *(queries[name].tolist() for name in ("row", "predicted", "accuracy@1")), strict=True
        ):
            predicted[row] = names[label] if label >= 0 else "no answer"
            outcome[row] = "right" if right else "wrong"
        columns |= {"predicted": predicted, "outcome": outcome}
    else:
        groups = pd.read_parquet(_artifact(run, "evaluate/clusters.parquet"))["cluster"].tolist()
        columns = {
            "group": [f"group {number + 1}" if number >= 0 else "no group" for number in groups],
            "split": samples.split.tolist(),
        }
    paths = {sample_id: display(located[sample_id]) for sample_id in samples.sample_id.tolist()}
    kinds = _finding_kinds(_artifact(run, "evaluate/findings.csv"), paths)
    columns["finding"] = [kinds.get(sample_id, "none") for sample_id in paths]
    columns["path"] = list(paths.values())
    return {name: [clean(each) for each in column] for name, column in columns.items()}


def _finding_kinds(path: Path, paths: dict[str, str]) -> dict[str, str]:
    """The gravest kind of finding by sample id, of both images of a pair. The file has the gravest first.

    Args:
        path: of findings.csv, which names the second image of a pair by its path.
        paths: by sample id.
    """
    from simpipe.data.exclusion import unguarded
    from simpipe.reporting.findings import PAIRED

    named = {path: sample_id for sample_id, path in paths.items()}
    kinds: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            kinds.setdefault(row["sample_id"], row["kind"])
            if row["kind"] in PAIRED:
                kinds.setdefault(named.get(unguarded(row["other"]), ""), row["kind"])
    return kinds


def _chosen(samples: "Samples", columns: dict[str, list[str]]) -> Rows:
    """The rows that are exported, ascending: all, or mistakes and findings and some of every label."""
    from simpipe.reporting.sheets import choose

    flagged = [row for row, kind in enumerate(columns["finding"]) if kind != "none"]
    flagged += [row for row, outcome in enumerate(columns.get("outcome", [])) if outcome == "wrong"]
    return np.array(sorted(choose(len(samples), samples.label_id, flagged, MOST_IMAGES)), np.int64)


def _write_bytes(path: Path, matrix: npt.NDArray[np.float32], rows: Rows, progress: Progress) -> None:
    progress.begin(path.name, len(rows), "images")
    with path.open("wb") as stream:
        for block in _blocks(matrix, rows):
            if not stream.tell():
                # TensorBoard reads every tensor as text, and as bytes only where it is no UTF-8. Where chance
                # makes a line of text of the first bytes it fails; with this one that cannot be. It is the
                # lowest byte of a number, which changes by less than 0.00004 of itself.
                block.view(np.uint8)[0, 0] = 0xFF
            stream.write(block.data)
            progress.advance(len(block))


def _write_tsv(path: Path, matrix: npt.NDArray[np.float32], rows: Rows, progress: Progress) -> None:
    """Every number in the fewest digits that give it back."""
    import pyarrow as pa
    from pyarrow.csv import CSVWriter, WriteOptions

    schema = pa.schema([(str(column), pa.float32()) for column in range(matrix.shape[1])])
    options = WriteOptions(include_header=False, delimiter="\t")
    progress.begin(path.name, len(rows), "images")
    with CSVWriter(path, schema, write_options=options) as writer:
        for block in _blocks(matrix, rows):
            writer.write_batch(pa.record_batch([pa.array(column) for column in block.T], schema=schema))
            progress.advance(len(block))


def _blocks(matrix: npt.NDArray[np.float32], rows: Rows) -> Iterator[npt.NDArray[Any]]:
    """The vectors of `rows`, a few at a time: copies, little-endian and contiguous."""
    for start in range(0, len(rows), BLOCK):
        yield np.ascontiguousarray(matrix[rows[start : start + BLOCK]], "<f4")


def _write_metadata(path: Path, columns: dict[str, list[str]], rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write("\t".join(columns) + "\n")
        for row in rows.tolist():
            stream.write("\t".join(column[row] for column in columns.values()) + "\n")


def _config(shapes: dict[str, list[int]], tile: int | None) -> dict[str, Any]:
    """The `ProjectorConfig` of TensorBoard, as protobuf's JSON spells it."""
    sprite = {"sprite": {"imagePath": SPRITE, "singleImageDim": [tile, tile]}} if tile else {}
    return {
        "embeddings": [
            {
                "tensorName": name,
                "tensorShape": shape,
                "tensorPath": f"{name}.bytes",
                "metadataPath": METADATA,
                **sprite,
            }
            for name, shape in shapes.items()
        ]
    }


def _text_format(message: dict[str, Any], indent: str = "") -> str:
    """The same message in protobuf's text format."""
    lines = []
    for key, value in message.items():
        name = re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                lines.append(f"{indent}{name} {{\n{_text_format(each, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {json.dumps(each)}\n")
    return "".join(lines)
