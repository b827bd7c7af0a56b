"""What the stages that look at images share: pixels by row, cached features, files for large arrays."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.data.copies import load_pixels
from simpipe.data.manifest import Samples, read_manifest
from simpipe.data.preparation import Preparation
from simpipe.engine.stage import Context
from simpipe.learning.features import Extractor, FeatureCache, Pixels, fill_cache

ID_BYTES = 64
MANIFEST = "ingest/manifest.parquet"
COPIES = "images"
"""The folder of the normalised copies in the cache."""


def pixel_reader(ctx: Context, backbone: dict[str, Any], samples: Samples) -> Pixels:
    """A function from rows of `samples` to their images as `backbone`, a record, takes them.

    They are read from their copies, or else their originals. It raises DataError where an original is not
    any more what ingest read.
    """
    manifest = None

    def pixels(rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal manifest
        manifest = manifest or read_manifest(ctx.path(MANIFEST))
        paths, copies = manifest.paths_by_sample, manifest.copies_by_sample
        ids = samples.sample_id[rows].tolist()
        return load_pixels(
            [ctx.source / paths[sample_id] for sample_id in ids],
            samples.sha256[rows].tolist(),
            [copies[sample_id] for sample_id in ids],
            backbone["input_size"],
            Preparation.of(backbone["preparation"]),
            ctx.cache / COPIES,
        )

    return pixels


def feature_cache(ctx: Context, recipe: dict[str, Any], dtype: str = "<f4") -> FeatureCache:
    """The cache, shared by all runs, of what `recipe` names."""
    return FeatureCache(ctx.cache / "features", recipe, dtype)


def fill(
    ctx: Context,
    caches: Sequence[FeatureCache],
    make_extractor: Callable[[], Extractor],
    ids: Sequence[str],
    inputs: Pixels,
    values: int,
) -> None:
    """`fill_cache`, once there is room for what the caches lack, of `values` bytes each.

    Raises:
        DataError: an original is not any more what ingest read; nothing is cached for it.
        DiskError: a cache cannot be written.
    """
    lacking = max(len(cache.missing(ids)) for cache in caches)
    ctx.require_space(lacking * (values + ID_BYTES * len(caches)))
    fill_cache(caches, make_extractor, ids, inputs, ctx.progress)


def cached_features(
    ctx: Context,
    recipe: dict[str, Any],
    make_extractor: Callable[[], Extractor],
    samples: Samples,
    backbone: dict[str, Any],
    dim: int,
) -> FeatureCache:
    """The cache of `recipe`, filled with the features, `dim` long, of all samples as plain images.

    The extractor is built only if some are missing. Raises what `fill` does.
    """
    cache = feature_cache(ctx, recipe)
    fill(ctx, [cache], make_extractor, samples.sha256.tolist(), pixel_reader(ctx, backbone, samples), 4 * dim)
    return cache


def feature_file(path: Path, cache: FeatureCache, ids: Sequence[str], dim: int) -> npt.NDArray[np.float32]:
    """The features of `ids`, gathered into a memory-mapped file of shape (len(ids), dim)."""
    matrix = new_matrix(path, len(ids), dim)
    cache.read(ids, matrix)
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
