"""What train and index share: the pooled features of some images, from the cache or from their pixels."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.data.copies import load_pixels
from simpipe.data.manifest import Samples, read_manifest
from simpipe.data.preparation import Preparation
from simpipe.engine.stage import Context
from simpipe.learning.encoder import feature_recipe
from simpipe.learning.features import Extractor, FeatureCache, fill_cache

ID_BYTES = 64
MANIFEST = "ingest/manifest.parquet"
COPIES = "images"
"""The folder of the normalised copies in the cache."""


def cached_features(
    ctx: Context,
    backbone: dict[str, Any],
    make_extractor: Callable[[], Extractor],
    samples: Samples,
    rows: npt.NDArray[np.int64],
    dim: int,
) -> FeatureCache:
    """The feature cache of a backbone, filled with the vectors, `dim` long, of the images of `rows`.

    The images that it lacks are read from their copies, or else their originals, and the backbone is built
    only if there are any.

    Raises:
        DataError: an original is not any more what ingest read; nothing is cached for it.
        DiskError: the cache cannot be written.
    """
    cache = FeatureCache(ctx.cache / "features", feature_recipe(backbone))

    def pixels(missing: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
        wanted = rows[missing]
        manifest = read_manifest(ctx.path(MANIFEST))
        ids = samples.sample_id[wanted].tolist()
        return load_pixels(
            [ctx.source / manifest.paths_by_sample[sample_id] for sample_id in ids],
            samples.sha256[wanted].tolist(),
            [manifest.copies_by_sample[sample_id] for sample_id in ids],
            backbone["input_size"],
            Preparation.of(backbone["preparation"]),
            ctx.cache / COPIES,
        )

    ctx.require_space(len(cache.missing(samples.sha256[rows].tolist())) * (4 * dim + ID_BYTES))
    fill_cache(cache, make_extractor, samples.sha256[rows].tolist(), pixels, ctx.progress)
    return cache


def feature_file(
    path: Path, cache: FeatureCache, samples: Samples, rows: npt.NDArray[np.int64], dim: int
) -> npt.NDArray[np.float32]:
    """The features of `rows`, gathered into a memory-mapped file of shape (len(rows), dim)."""
    matrix = new_matrix(path, len(rows), dim)
    cache.read(samples.sha256[rows].tolist(), matrix)
    return matrix


def new_matrix(path: Path, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """A new memory-mapped .npy file of shape (rows, columns).

    Its room on the disk is taken at once: a process that writes into a mapping of a full disk is killed.

    Raises:
        OSError: there is no room.
    """
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (rows, columns))
    if matrix.nbytes and hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return matrix
