"""A run in the shape of a real one, made in milliseconds: three stages, six files for images, one shard."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from simpipe.cli.rundirs import request_of, save_request
from simpipe.config import load
from simpipe.data import fingerprint
from simpipe.data.layout import Rules, list_files
from simpipe.data.manifest import Manifest, ManifestRow, manifest_of, write_manifest
from simpipe.data.scan import display
from simpipe.engine.rundir import RunDir, commit, new_staging, seal
from simpipe.engine.stage import Context, Stage, stage
from simpipe.files import digest, write_json
from simpipe.learning.encoder import feature_recipe
from simpipe.learning.features import FeatureCache
from simpipe.progress import Silent
from simpipe.runs.memos import copy_names
from simpipe.stages.ingest import fingerprint_of

BACKBONE = {"name": "toy", "weights_id": "0", "input_size": 8, "pooling": "avg", "preparation": {}}
IMAGES = 6


@stage(version=1, outputs=("manifest.parquet", "labels.json"), logs=("speed.json",))
def ingest(ctx: Context) -> None:
    """Never run."""


@stage(version=1, reads=("ingest/labels.json",), outputs=("encoder.json",))
def train(ctx: Context) -> None:
    """Never run."""


@stage(version=1, reads=("train/encoder.json",), outputs=("report.html",))
def report(ctx: Context) -> None:
    """Never run."""


STAGES = (ingest, train, report)


def make_run(root: Path) -> RunDir:
    """A finished run in `root/runs/toy`, about the data in `root/data`."""
    source = root / "data"
    for number in range(IMAGES):
        path = source / f"label{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"image {number}".encode())
        os.utime(path, (1e9, 1e9))
    run = RunDir(root / "runs" / "toy")
    run.path.mkdir(parents=True)
    run.cache.mkdir()
    save_request(run, request_of(source, load("quick"), [each.name for each in STAGES]))
    for each in STAGES:
        commit(run, each.name, staged(run, each))
    shutil.copyfile(run.path / "report" / "report.html", run.path / "report.html")
    features = FeatureCache(run.cache / "features", feature_recipe(BACKBONE))
    features.add(["a" * 64], np.zeros((1, 4), np.float32))
    (run.cache / "pictures").mkdir()
    (run.cache / "images").mkdir()
    for name in copy_names(run):
        copy = run.cache / "images" / name[:2] / f"{name}.jpg"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(b"a copy")
    with patch.object(fingerprint, "RACY_NS", -(10**15)):  # else files so young are not remembered
        fingerprint_of(source, Rules(), run.cache, Silent())
    return run


def staged(run: RunDir, each: Stage, value: int = 0) -> Path:
    """A sealed folder of a stage; another `value` gives another key, and other files."""
    inputs = {}
    for artifact in each.reads:
        name, file = artifact.split("/")
        receipt = run.receipt(name)
        assert receipt is not None
        inputs[artifact] = f"sha256:{receipt['outputs'][file]['sha256']}"
    document = {"stage": each.name, "version": each.version, "inputs": inputs, "config": {"value": value}}
    folder = new_staging(run, each.name)
    for name in (*each.outputs, *each.logs):
        if name == "manifest.parquet":
            write_manifest(folder / name, manifest(run.path.parents[1] / "data"))
        else:
            content = {"value": value, "file": name, "backbone": {**BACKBONE, "weights_id": str(value)}}
            write_json(folder / name, content)
    seal(folder, each, {"key": digest(document), "key_doc": document})
    return folder


def manifest(source: Path) -> Manifest:
    rows: list[dict[str, Any]] = []
    for file in list_files(source).files:
        row: dict[str, Any] = dict.fromkeys(ManifestRow.__annotations__)
        sha256 = hashlib.sha256((source / file.path).read_bytes()).hexdigest()
        row |= {"path": display(file.path), "path_bytes": os.fsencode(file.path), "label": file.label}
        rows.append({**row, "status": "ok", "sha256": sha256, "size": file.size, "warnings": []})
    rows[0]["copy"] = "c" * 64
    return manifest_of((name, [row[name] for row in rows]) for name in ManifestRow.__annotations__)


def tree(root: Path) -> dict[str, str]:
    """Every path below `root`, and what is there, but for the locks."""
    return {
        str(path.relative_to(root)): f"link to {path.readlink()}"
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.name != ".lock"
    }
