"""The map's coordinates, and how much of the neighbourhoods they keep."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simpipe.errors import StageError
from simpipe.reporting.projectors import projector as find
from simpipe.reporting.projectors.umap import MOST, Settings, umap

TOO_FEW_FOR_UMAP = 20
PRESERVED_K = 15


def project(
    embeddings: NDArray[np.float32],
    ids: NDArray[np.integer[Any]],
    distances: NDArray[np.floating[Any]],
    seed: int,
    projector: str = "umap",
    settings: Settings = Settings(),  # noqa: B008  (it is frozen)
    *,
    label_id: NDArray[np.integer[Any]] | None = None,
    start: NDArray[np.float32] | None = None,
    limit: int = MOST,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Two coordinates for each image.

    Args:
        embeddings: float32 of shape `(n, d)`, L2-normalised.
        ids: int `(n, k)`, the rows of the nearest neighbours, nearest first, self excluded, -1 where
            there are fewer than k.
        distances: float `(n, k)`, cosine distances in [0, 2].
        seed: of every random choice.
        projector: `umap`, `pca`, or one of an installed package, see `projectors`. For UMAP fewer than 20
            images, or images without neighbours, are too few: PCA lays them out.
        settings: UMAP's parameters.
        label_id: int `(n,)`, see `limit`.
        start: `(n, 2)`, a map of the same images by other embeddings: UMAP begins at it, with fewer epochs,
            and every map is moved, turned and scaled onto it, so that the two can be compared.
        limit: UMAP lays out no more images than these, of every label some, and places the others.

    Returns:
        float32 of shape `(n, 2)`, and what was done: `method`, `preserved`, the mean share in [0, 1] of an
        image's `preserved_k` nearest neighbours that are among its `preserved_k` nearest on the map (None
        where there are no neighbours); but for PCA `seed`; and for UMAP `n_neighbors`, `min_dist`, `spread`,
        `metric`, `densmap` and `placed`, the number of images that were placed beside their neighbours.

    Raises:
        StageError: there is no such projector, or it gave something else than coordinates.
    """
    n = len(ids)
    if projector == "umap" and (n < TOO_FEW_FOR_UMAP or ids.shape[1] < 2 or embeddings.shape[1] < 2):
        projector = "pca"
    info: dict[str, Any] = {"method": projector}
    if projector == "umap":
        xy = umap(embeddings, ids, distances, seed, settings, label_id=label_id, start=start, limit=limit)
        info |= {
            "seed": seed,
            "n_neighbors": min(settings.neighbours, ids.shape[1] + 1, min(n, limit)),
            "min_dist": settings.min_dist,
            "spread": settings.spread,
            "metric": settings.metric,
            "densmap": settings.densmap,
            "placed": max(0, n - limit),
        }
    else:
        xy = _coordinates(find(projector)(embeddings, ids, distances, seed), n, projector)
        info |= {} if projector == "pca" else {"seed": seed}
    if start is not None:
        xy = aligned(xy, start)
    share, k = preserved(xy, ids, seed)
    return xy, info | {"preserved": share, "preserved_k": k}


def _coordinates(found: Any, n: int, projector: str) -> NDArray[np.float32]:
    """What a projector gave, if it is coordinates."""
    try:
        xy = np.asarray(found, np.float32)
    except (TypeError, ValueError):
        xy = np.zeros(0, np.float32)
    if xy.shape != (n, 2):
        got = f"shape {xy.shape}" if xy.ndim and xy.size else type(found).__name__
        raise StageError(f"report.projector: {projector} gave {got}, not two numbers for each of {n} images")
    if not np.isfinite(xy).all():
        wrong = int((~np.isfinite(xy)).any(axis=1).sum())
        raise StageError(f"report.projector: {projector} gave no finite numbers for {wrong} of {n} images")
    return xy


def aligned(xy: NDArray[np.float32], onto: NDArray[np.float32]) -> NDArray[np.float32]:
    """`xy` moved and scaled to the place and extent of `onto`, and turned, mirrored too, to lie as near to it
    as it can (Procrustes). Where either is one point, `xy` as it is."""
    middle, target = xy.mean(axis=0, dtype=np.float64), onto.mean(axis=0, dtype=np.float64)
    centred, wanted = xy - middle, onto - target
    extent, wide = np.linalg.norm(centred), np.linalg.norm(wanted)
    if not extent or not wide:
        return xy
    u, _, vt = np.linalg.svd(centred.T @ wanted)
    found: NDArray[np.float32] = (wide / extent * centred @ (u @ vt) + target).astype(np.float32)
    return found


def preserved(
    xy: NDArray[np.floating[Any]], ids: NDArray[np.integer[Any]], seed: int, sample: int = 2_000
) -> tuple[float | None, int]:
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
