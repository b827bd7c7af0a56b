"""Pooled backbone features: each image goes through a given backbone only once in its life.

The cache is the memo of a pure function, (image content, recipe) → vector. It is never part of a
result's identity: a miss is computed, a lost shard is computed again.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import DiskError
from simpipe.files import digest, sync_folder
from simpipe.learning.backbones import Backbone
from simpipe.progress import Progress, Silent, quiet_stderr

BATCH = 16
"""Images in one pass; short batches are padded."""

SHARD = 2048
"""Vectors in a shard of the cache: what a killed run can lose."""

Pixels = Callable[[npt.NDArray[np.int64]], Iterator[npt.NDArray[np.uint8]]]
"""Rows → their images in that order, each uint8 of shape (input_size, input_size, 3)."""

Extractor = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

_VECTOR_ID = "S64"


class FeatureCache:
    """Immutable shards of (content id, vector) in one folder, one folder for each recipe.

    Shards are written whole under a name of their own, so two processes may use the cache at once;
    at worst both compute the same vectors.

    Args:
        folder: where all recipes live.
        recipe: a JSON document that names everything the vectors depend on but the image.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder / digest(recipe)[:32]
        self._shards: list[npt.NDArray[Any]] = []
        self._where: dict[bytes, tuple[int, int]] = {}
        if self.folder.is_dir():
            for path in sorted(self.folder.glob("*.npy")):
                self._load(path)

    def _load(self, path: Path) -> None:
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
            ids = np.asarray(shard["id"])
        except (ValueError, OSError, IndexError):
            return  # a damaged shard is a miss
        self._where.update((key, (len(self._shards), row)) for row, key in enumerate(ids.tolist()))
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
        """Write one shard: `vectors` of shape (len(ids), d)."""
        shard = np.empty(len(ids), [("id", _VECTOR_ID), ("vector", "<f4", (vectors.shape[1],))])
        shard["id"] = np.array(ids, _VECTOR_ID)
        shard["vector"] = vectors
        path = self.folder / f"{digest(list(ids))[:32]}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as stream:
                np.save(stream, shard, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
            Path(stream.name).replace(path)
        except OSError as error:
            raise DiskError(f"the feature cache {self.folder} cannot be written: {error.strerror}") from error
        sync_folder(self.folder)
        self._load(path)

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
    """Compute what `cache` lacks of `ids`, and return how much; builds an extractor only for that."""
    progress = progress or Silent()
    rows = cache.missing(ids)
    if len(rows) == 0:
        return 0
    extract = make_extractor()
    progress.begin("features", len(rows), "images")
    images = pixels(rows)
    for start in range(0, len(rows), SHARD):
        shard_rows = rows[start : start + SHARD]
        vectors = []
        for batch_start in range(0, len(shard_rows), BATCH):
            count = min(BATCH, len(shard_rows) - batch_start)
            vectors.append(extract(np.stack([next(images) for _ in range(count)])))
            progress.advance(count)
        cache.add([ids[row] for row in shard_rows], np.concatenate(vectors))
    return len(rows)
