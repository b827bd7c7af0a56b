"""Pooled backbone features: each image goes through a given backbone only once in its life.

The cache is the memo of a pure function, (image content, recipe) → vector. It is never part of a
result's identity: a miss is computed, a lost shard is computed again.
"""

import hashlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.files import atomic_write, digest, disk_error, sha256_file
from simpipe.learning.backbones import Backbone
from simpipe.progress import Progress, Silent, quiet_stderr

BATCH = 16
"""Images in one pass; short batches are padded."""

SHARD = 2048
"""Most vectors in a shard of the cache."""

SECONDS = 10.0
"""After which a shard is written though it is not full: the work that a killed run can lose."""

Pixels = Callable[[npt.NDArray[np.int64]], Iterator[npt.NDArray[np.uint8]]]
"""Rows → their images in that order, each uint8 of shape (input_size, input_size, 3)."""

Extractor = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

_VECTOR_ID = "S64"


class FeatureCache:
    """Immutable shards of (content id, vector) in one folder, one folder for each recipe.

    A shard's name is the hash of its bytes, which are all checked before one is used. Shards appear whole,
    so two processes may use the cache at once; at worst both compute the same vectors. What a killed
    writer left is a hidden file.

    Args:
        folder: where all recipes live.
        recipe: a JSON document that names everything the vectors depend on but the image.

    Attributes:
        damaged: shards that were found not to be what their name says; they are misses.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder / digest(recipe)[:32]
        self.damaged = 0
        self._shards: list[npt.NDArray[Any]] = []
        self._where: dict[bytes, tuple[int, int]] = {}
        for path in sorted(self.folder.glob("?" * 64 + ".npy")):
            shard = self._open(path)
            if shard is not None:
                self._include(shard)

    def _open(self, path: Path) -> npt.NDArray[Any] | None:
        """The shard at `path`, memory-mapped; None if it is damaged, or vanished meanwhile."""
        try:
            if sha256_file(path) == path.stem:
                shard: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
                return shard
            self.damaged += 1
            path.unlink()
        except OSError:
            pass
        return None

    def _include(self, shard: npt.NDArray[Any]) -> None:
        self._where.update((key, (len(self._shards), row)) for row, key in enumerate(shard["id"].tolist()))
        self._shards.append(shard)

    def missing(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The positions in `ids` of contents that are not cached, the first of each only."""
        seen: set[bytes] = set()
        rows = []
        for row, key in enumerate(map(str.encode, ids)):
            if key not in self._where and key not in seen:
                seen.add(key)
                rows.append(row)
        return np.array(rows, np.int64)

    def add(self, ids: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Write one shard: `vectors` of shape (len(ids), d).

        Raises:
            DiskError: the folder cannot be written.
        """
        shard = np.empty(len(ids), [("id", _VECTOR_ID), ("vector", "<f4", (vectors.shape[1],))])
        shard["id"] = np.array(ids, _VECTOR_ID)
        shard["vector"] = vectors
        content = io.BytesIO()
        np.save(content, shard, allow_pickle=False)
        raw = content.getvalue()
        path = self.folder / f"{hashlib.sha256(raw).hexdigest()}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, raw)
        except OSError as error:
            raise disk_error(error, "the feature cache", self.folder) from error
        stored = self._open(path)
        self._include(shard if stored is None else stored)

    def read(self, ids: Sequence[str], out: npt.NDArray[np.float32]) -> None:
        """Copy the vectors of `ids`, which must be cached, into `out` of shape (len(ids), d)."""
        for row, key in enumerate(map(str.encode, ids)):
            shard, position = self._where[key]
            out[row] = self._shards[shard][position]["vector"]


def extractor(backbone: Backbone, pooling: str) -> Extractor:
    """A function from images, uint8 (n, s, s, 3) with n ≤ `BATCH`, to pooled features, float32 (n, channels).

    The variables are frozen to constants and the graph becomes a TensorFlow Lite model: batch
    normalisation is folded into the convolutions, and XNNPACK gives each image the same bits whatever
    its batch and the number of threads. On a CPU without AVX-512 it costs a third of the Keras model.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    size = backbone.input_size

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((BATCH, size, size, 3), tf.float32)]
    )
    def forward(images: Any) -> Any:
        return pool(backbone.model(images, training=False), pooling)

    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf.lite announces its move to another package
        frozen = convert_variables_to_constants_v2(forward.get_concrete_function())
        model = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
        interpreter = tf.lite.Interpreter(model_content=model, num_threads=os.cpu_count())
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    batch = np.zeros((BATCH, size, size, 3), np.float32)

    def extract(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        batch[: len(images)] = images
        interpreter.set_tensor(source, batch)
        interpreter.invoke()
        vectors: npt.NDArray[np.float32] = interpreter.get_tensor(target)[: len(images)]
        return vectors

    return extract


def pool(activations: Any, pooling: str, p: float = 3.0) -> Any:
    """Pool activations (n, h, w, c) to (n, c) by `avg`, `max` or `gem` (arXiv:1711.02512, eq. 3, fixed p)."""
    from keras import ops

    if pooling == "avg":
        return ops.mean(activations, axis=(1, 2))
    if pooling == "max":
        return ops.max(activations, axis=(1, 2))
    return ops.mean(ops.maximum(activations, 1e-6) ** p, axis=(1, 2)) ** (1 / p)


def fill_cache(
    cache: FeatureCache,
    make_extractor: Callable[[], Extractor],
    ids: Sequence[str],
    pixels: Pixels,
    progress: Progress | None = None,
) -> int:
    """Compute what `cache` lacks of `ids`, and return how much; builds an extractor only for that.

    Whatever ends it early — a stop, a bad image — what was computed is in the cache. A kill loses the
    vectors of `SECONDS`, or of one shard if that is less.
    """
    progress = progress or Silent()
    if cache.damaged:
        progress.note(f"damaged files in the feature cache, computed again where needed: {cache.damaged}")
    rows = cache.missing(ids)
    if len(rows) == 0:
        return 0
    extract = make_extractor()
    progress.begin("features", len(rows), "images")
    images = pixels(rows)
    waiting: list[npt.NDArray[np.float32]] = []
    stored, last = 0, time.monotonic()

    def store() -> None:
        nonlocal stored, last
        if waiting:
            vectors = np.concatenate(waiting)
            waiting.clear()  # first: what cannot be written is not tried twice
            cache.add([ids[row] for row in rows[stored : stored + len(vectors)]], vectors)
            stored, last = stored + len(vectors), time.monotonic()

    try:
        for start in range(0, len(rows), BATCH):
            count = min(BATCH, len(rows) - start)
            waiting.append(extract(np.stack([next(images) for _ in range(count)])))
            if len(waiting) * BATCH >= SHARD or time.monotonic() - last >= SECONDS:
                store()
            progress.advance(count)
    finally:
        store()
    return len(rows)
