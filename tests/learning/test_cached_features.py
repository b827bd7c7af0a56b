"""The vector under an image's hash is that of these very bytes."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simpipe.data.manifest import ManifestRow, Samples, manifest_of, write_manifest
from simpipe.errors import DataError
from simpipe.learning.encoder import feature_recipe
from simpipe.progress import Silent
from simpipe.stages.features import MANIFEST, cached_features

RECORD = {
    "name": "toy",
    "weights_id": "w",
    "input_size": 8,
    "pooling": "avg",
    "preparation": {"resize": "squash", "copy_side": 64, "background": "#ffffff", "grey_range": None},
}
COUNT = 40


@pytest.fixture
def room(tmp_path):
    """A context with `COUNT` images of one colour each, ingested, and their samples."""
    source = tmp_path / "data"
    source.mkdir()
    hashes = []
    for number in range(COUNT):
        name = f"{number:02d}.png"
        Image.new("RGB", (9, 9), (number, 0, 0)).save(source / name)
        hashes.append(hashlib.sha256((source / name).read_bytes()).hexdigest())
    sha256 = np.array(hashes)
    ids = np.array([each[:16] for each in hashes])
    names = [f"{number:02d}.png" for number in range(COUNT)]
    columns = {name: [None] * COUNT for name in ManifestRow.__annotations__}
    columns |= {"path": names, "path_bytes": [name.encode() for name in names], "status": ["ok"] * COUNT}
    columns |= {"sample_id": ids.tolist(), "sha256": hashes, "size": [0] * COUNT, "warnings": [[]] * COUNT}
    write_manifest(tmp_path / "manifest.parquet", manifest_of(columns.items()))
    text = np.full(COUNT, "a")
    samples = Samples(ids, sha256, text, np.zeros(COUNT, np.int32), text, ids)
    ctx = SimpleNamespace(
        cache=tmp_path / "cache",
        source=source,
        path=lambda artifact: tmp_path / "manifest.parquet" if artifact == MANIFEST else None,
        progress=Silent(),
        require_space=lambda needed: None,
    )
    return ctx, samples


class Backbone:
    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen += images[:, 0, 0, 0].tolist()
        return (images[:, 0, 0].astype(np.float32),)


def reds(ctx, samples, backbone):
    cache = cached_features(ctx, feature_recipe(RECORD), lambda: backbone, samples, RECORD, 3)
    out = np.empty((len(samples), 3), np.float32)
    cache.read(samples.sha256.tolist(), out)
    return out[:, 0].tolist()


@pytest.mark.parametrize("change", ["edited", "emptied", "removed", "a folder"])
def test_a_file_that_changed_is_named_and_nothing_is_cached_for_it(room, change):
    ctx, samples = room
    path = ctx.source / "35.png"
    original = path.read_bytes()
    if change == "edited":
        Image.new("RGB", (9, 9), (200, 0, 0)).save(path)
    elif change == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    if change == "a folder":
        path.mkdir()
    backbone = Backbone()
    with pytest.raises(DataError, match=r"35\.png changed since ingest read it") as error:
        reds(ctx, samples, backbone)
    assert "at rest" in error.value.hint
    if change == "a folder":
        path.rmdir()
    path.write_bytes(original)
    assert reds(ctx, samples, backbone) == list(range(COUNT))
    assert sorted(backbone.seen) == list(range(COUNT)), "none twice, and none of other bytes"


def test_originals_may_be_gone_once_all_is_cached(room):
    ctx, samples = room
    first = reds(ctx, samples, Backbone())
    for path in ctx.source.iterdir():
        path.unlink()
    assert reds(ctx, samples, None) == first == list(range(COUNT))
