"""Features of frozen layers: each image goes through a given layer only once in its life.

The cache is the memo of a pure function, (image content, recipe) → vector. It is never part of a
result's identity: a miss is computed, a lost shard is computed again.
"""

import errno
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
from simpipe.learning.pooling import pool
from simpipe.progress import Progress, Silent, quiet_stderr

BATCH = 16
"""Images in one pass; short batches are padded."""

SHARD_BYTES = 64 << 20
"""A shard of the cache is written when it has so many."""

SECONDS = 10.0
"""After which a shard is written though it is not full: the work that a killed run can lose."""

Pixels = Callable[[npt.NDArray[np.int64]], Iterator[npt.NDArray[Any]]]
"""Rows → their images in that order, each uint8 of shape (input_size, input_size, 3)."""

Extractor = Callable[[npt.NDArray[Any]], tuple[npt.NDArray[np.float32], ...]]

_VECTOR_ID = "S64"


class FeatureCache:
    """Immutable shards of (content id, vector) in one folder, one folder for each recipe.

    A shard's name is the hash of its bytes, which are all checked before one is used. Shards appear whole,
    so two processes may use the cache at once; at worst both compute the same vectors. What a killed
    writer left is a hidden file.

    Args:
        folder: where all recipes live.
        recipe: a JSON document that names everything the vectors depend on but the image.
        dtype: of the vectors.

    Attributes:
        damaged: shards that were found not to be what their name says; they are misses.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], dtype: str = "<f4") -> None:
        self.folder, self.dtype = folder / digest(recipe)[:32], dtype
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
        except OSError as error:
            if error.errno == errno.EMFILE:  # no miss: to compute it all again would not help
                raise disk_error(error, "the feature cache", self.folder) from error
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
        """Write one shard: `vectors` of shape (len(ids), …), kept as `dtype`; those it has are left out.

        Raises:
            DiskError: the folder cannot be written.
        """
        fresh = [row for row, key in enumerate(map(str.encode, ids)) if key not in self._where]
        if not fresh:
            return
        shard = np.empty(len(fresh), [("id", _VECTOR_ID), ("vector", self.dtype, vectors.shape[1:])])
        shard["id"] = np.array(ids, _VECTOR_ID)[fresh]
        shard["vector"] = within_float16(vectors[fresh]) if self.dtype == "<f2" else vectors[fresh]
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

    def read(self, ids: Sequence[str], out: npt.NDArray[Any]) -> None:
        """Copy the vectors of `ids`, which must be cached, into `out` of shape (len(ids), …)."""
        self.gather(self.locate(ids), out)

    def locate(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Where the vectors of `ids`, which must be cached, lie: (len(ids), 2), for `gather`."""
        return np.array([self._where[key.encode()] for key in ids], np.int64).reshape(-1, 2)

    def gather(self, where: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the vectors at `where`, from `locate`, into `out` of shape (len(where), …)."""
        for shard in np.unique(where[:, 0]):
            rows = np.flatnonzero(where[:, 0] == shard)
            out[rows] = self._shards[shard]["vector"][where[rows, 1]]


def extractor(backbone: Backbone, pooling: str, gem_p: float = 3.0) -> Extractor:
    """A function from images, uint8 (n, s, s, 3) with n ≤ `BATCH`, to one array: pooled features (n, c)."""
    size = backbone.input_size

    def forward(images: Any) -> Any:
        return pool(backbone.model(images, training=False), pooling, gem_p)

    return compiled(forward, (size, size, 3))


def compiled(forward: Callable[[Any], Any], shape: tuple[int, ...]) -> Extractor:
    """A function from n ≤ `BATCH` arrays of `shape`, of any number type, to what `forward` gives for them.

    `forward` maps a float32 tensor (`BATCH`, *shape) to one tensor or a tuple of them. Its graph becomes a
    TensorFlow Lite model, with the variables as they are now: batch normalisation is folded into the
    convolutions, and XNNPACK gives each row the same bits whatever its batch and the number of threads.
    On a CPU without AVX-512 it costs a third of the Keras model. What TensorFlow Lite has no operation for,
    as a network of a user's own may, runs in TensorFlow.
    """
    import tensorflow as tf

    def outputs(inputs: Any) -> list[Any]:
        found = forward(inputs)
        return [tf.cast(each, tf.float32) for each in (found if isinstance(found, tuple) else (found,))]

    signature = [tf.TensorSpec((BATCH, *shape), tf.float32)]
    whole = tf.function(outputs, input_signature=signature, autograph=False)

    try:
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf.lite announces its move to another package
            run = _interpreted(whole.get_concrete_function())
    except Exception:  # the converter raises whatever it comes across
        run = whole
    batch = np.zeros((BATCH, *shape), np.float32)

    def extract(inputs: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        batch[: len(inputs)] = inputs
        return tuple(np.array(output)[: len(inputs)] for output in run(batch))

    return extract


def _interpreted(function: Any) -> Callable[[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
    """A concrete function of one input as a TensorFlow Lite model, its variables as constants."""
    import tensorflow as tf

    model = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    interpreter = tf.lite.Interpreter(model_content=model, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    targets = [output["index"] for output in interpreter.get_output_details()]

    def run(batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        interpreter.set_tensor(source, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(target) for target in targets]

    return run


def within_float16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """`values` as float16, those beyond its range at its ends: activations of random weights can be large."""
    return np.clip(values, -65504, 65504).astype(np.float16)


def in_batches(extract: Extractor, inputs: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
    """What `extract` makes of any number of inputs."""
    parts = [extract(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def fill_cache(
    caches: Sequence["FeatureCache"],
    make_extractor: Callable[[], Extractor],
    ids: Sequence[str],
    inputs: Pixels,
    progress: Progress | None = None,
) -> int:
    """Compute what `caches` lack of `ids`, and return how much; builds an extractor only for that.

    The extractor has one output for each cache. `inputs` are images, or whatever it takes. Whatever ends it
    early — a stop, a bad image — what was computed is in the caches. A kill loses the vectors of `SECONDS`,
    or of one shard if that is less.
    """
    progress = progress or Silent()
    if damaged := sum(cache.damaged for cache in caches):
        progress.note(f"damaged files in the feature cache, computed again where needed: {damaged}")
    rows = np.unique(np.concatenate([cache.missing(ids) for cache in caches]))
    if len(rows) == 0:
        return 0
    extract = make_extractor()
    progress.begin("features", len(rows), "images")
    given = inputs(rows)
    waiting: list[tuple[npt.NDArray[np.float32], ...]] = []
    stored, last, held = 0, time.monotonic(), 0

    def store() -> None:
        nonlocal stored, last, held
        if waiting:
            outputs = [np.concatenate(each) for each in zip(*waiting, strict=True)]
            waiting.clear()  # first: what cannot be written is not tried twice
            done = [ids[row] for row in rows[stored : stored + len(outputs[0])]]
            for cache, vectors in zip(caches, outputs, strict=True):
                cache.add(done, vectors)
            stored, last, held = stored + len(done), time.monotonic(), 0

    try:
        for start in range(0, len(rows), BATCH):
            count = min(BATCH, len(rows) - start)
            waiting.append(extract(np.stack([next(given) for _ in range(count)])))
            held += sum(each.nbytes for each in waiting[-1])
            if held >= SHARD_BYTES or time.monotonic() - last >= SECONDS:
                store()
            progress.advance(count)
    finally:
        store()
    return len(rows)
