"""The map's coordinates: UMAP on neighbours that are already known, PCA where there are too few images."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

TOO_FEW_FOR_UMAP = 20
TOO_MANY_FOR_SPECTRAL = 20_000
PRESERVED_K = 15


def project(
    ids: np.ndarray,
    distances: np.ndarray,
    n: int,
    seed: int,
    n_neighbors: int,
    min_dist: float,
    method: str = "umap",
    *,
    embeddings: np.ndarray,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Two coordinates for each image.

    UMAP (McInnes, Healy and Melville 2018) with cosine distance. The neighbours are given, so the slow
    search for them is skipped; the same seed gives the same map on the same machine and versions.

    Args:
        ids: int array of shape `(n, k)`, the rows of the nearest neighbours, nearest first, self excluded,
            -1 where there are fewer than k.
        distances: float array of shape `(n, k)`, cosine distances in [0, 2].
        n: the number of images.
        seed: for the layout.
        n_neighbors: UMAP's `n_neighbors`, self included; at most `k + 1` are used.
        min_dist: UMAP's `min_dist`.
        method: `umap` or `pca`; fewer than 20 images, or no neighbours, are always laid out by PCA.
        embeddings: float array of shape `(n, d)`.

    Returns:
        float32 array of shape `(n, 2)`, and what was done: `method`, `seed`, `n_neighbors`, `min_dist`,
        `init`, and `preserved`, the mean share in [0, 1] of an image's `preserved_k` nearest neighbours
        that are among its `preserved_k` nearest on the map (None where there are no neighbours).

    Raises:
        ValueError: `method` is neither.
    """
    if method not in ("umap", "pca"):
        raise ValueError(f"method must be 'umap' or 'pca', got {method!r}")
    if method == "umap" and n >= TOO_FEW_FOR_UMAP and ids.shape[1] > 1 and embeddings.shape[1] > 1:
        graph_ids, graph_distances = with_self(ids, distances, embeddings, n_neighbors)
        connected = components(graph_ids) == 1 and n <= TOO_MANY_FOR_SPECTRAL
        start: str | np.ndarray = "spectral" if connected else scattered(pca(embeddings), seed)
        xy = umap_layout(graph_ids, graph_distances, embeddings, start, seed, min_dist)
        info: dict[str, Any] = {
            "method": "umap",
            "seed": seed,
            "n_neighbors": graph_ids.shape[1],
            "min_dist": min_dist,
            "init": "spectral" if connected else "pca",
        }
    else:
        xy = pca(embeddings)
        info = {"method": "pca"}
    share, k = preserved(xy, ids, seed)
    return xy, info | {"preserved": share, "preserved_k": k}


def pca(embeddings: np.ndarray) -> np.ndarray:
    """The first two principal components, float32 of shape `(n, 2)`; a missing component is 0."""
    centred = np.asarray(embeddings, np.float64) - np.mean(embeddings, axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    xy = centred @ axes
    return np.pad(xy, ((0, 0), (0, 2 - xy.shape[1]))).astype(np.float32)


def scattered(xy: np.ndarray, seed: int) -> np.ndarray:
    """`xy` scaled to ±10 with a little noise, as UMAP wants its start: equal points could never part."""
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=xy.shape)
    start: np.ndarray = (xy * (10 / max(float(np.abs(xy).max()), 1e-12)) + noise).astype(np.float32)
    return start


def with_self(
    ids: np.ndarray, distances: np.ndarray, embeddings: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours in UMAP's form: self in column 0, no gaps, exactly the columns that are used.

    UMAP ignores neighbours of too few columns and, below 4,096 images, builds a far denser graph from
    too many. Rows with gaps (images whose duplicate group is most of the data) get their nearest by
    the embeddings, the group included.
    """
    n, width = len(ids), min(n_neighbors - 1, ids.shape[1])
    ids, distances = ids[:, :width].astype(np.int32), distances[:, :width].astype(np.float32)
    gaps = np.flatnonzero((ids < 0).any(axis=1))
    if len(gaps):
        found = 1 - embeddings[gaps] @ embeddings.T
        found[np.arange(len(gaps)), gaps] = np.inf
        ids[gaps] = np.argsort(found, axis=1, kind="stable")[:, :width]
        distances[gaps] = np.take_along_axis(found, ids[gaps].astype(np.int64), axis=1)
    own = np.arange(n, dtype=np.int32)[:, None]
    return np.hstack([own, ids]), np.hstack([np.zeros((n, 1), np.float32), np.clip(distances, 0, None)])


def components(ids: np.ndarray) -> int:
    """The number of connected components of the neighbour graph."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n, k = ids.shape
    graph = csr_array((np.ones(n * k, np.int8), (np.repeat(np.arange(n), k), ids.ravel())), shape=(n, n))
    return int(connected_components(graph, directed=False, return_labels=False))


def umap_layout(
    ids: np.ndarray,
    distances: np.ndarray,
    embeddings: np.ndarray,
    init: str | np.ndarray,
    seed: int,
    min_dist: float,
) -> np.ndarray:
    """UMAP's coordinates, float32 of shape `(n, 2)`, of a neighbour graph with self in column 0."""
    with warnings.catch_warnings(), without_tensorflow():
        # It warns that TensorFlow is missing, that new points cannot be placed, that a seed means one thread.
        warnings.simplefilter("ignore")
        from umap import UMAP

        compile_serially()
        layout = UMAP(
            n_neighbors=ids.shape[1],
            min_dist=min_dist,
            metric="cosine",
            init=init,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(ids, distances),
        )
        return np.asarray(layout.fit_transform(embeddings), np.float32)


def compile_serially() -> None:
    """Compile umap's two parallel functions for one thread, which a seed means anyway.

    The result is the same to the bit, and the compilation takes 5 s less.
    """
    import numba
    from umap import umap_

    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        function = getattr(umap_, name)
        if function.targetoptions.get("parallel"):
            setattr(umap_, name, numba.njit(function.py_func, fastmath=True))


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Hide TensorFlow while umap is imported: umap loads it, 3 s and 500 MB, for a part not used here."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("tensorflow", None)


def preserved(xy: np.ndarray, ids: np.ndarray, seed: int, sample: int = 2_000) -> tuple[float | None, int]:
    """The share of each image's nearest neighbours that the map keeps, and of how many neighbours.

    Measured on at most `sample` images that have all their neighbours.
    """
    from scipy.spatial import cKDTree

    k = min(PRESERVED_K, ids.shape[1], len(xy) - 1)
    rows = np.flatnonzero((ids[:, :k] >= 0).all(axis=1)) if k > 0 else np.zeros(0, int)
    if not len(rows):
        return None, k
    if len(rows) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    _, near = cKDTree(xy).query(xy[rows], k=k + 1)
    kept = [
        len(set(found[found != row][:k].tolist()) & set(ids[row, :k].tolist()))
        for row, found in zip(rows, near, strict=True)
    ]
    return float(np.mean(kept) / k), k
