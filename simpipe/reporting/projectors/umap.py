"""UMAP on neighbours that are already known."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simpipe.reporting.projectors.graph import components, fuzzy_graph, pruned, with_self
from simpipe.reporting.projectors.pca import pca
from simpipe.reporting.projectors.sample import among, chosen, placed

MOST = 100_000
"""More images than these are not laid out, but placed beside their neighbours."""
TOO_MANY_FOR_SPECTRAL = 20_000
WORK = 1_000_000
FEW_EPOCHS, MANY_EPOCHS, DENSITY_EPOCHS = 200, 500, 200
EPOCHS_FROM_A_MAP = 100
NEGATIVES = 5
DENSITY = {"lambda": 2.0, "frac": 0.3, "var_shift": 0.1}
"""densMAP's own defaults: the weight of the densities, the share of the epochs that minds them, a floor."""


@dataclass(frozen=True)
class Settings:
    """UMAP's own parameters.

    Attributes:
        neighbours: how many it looks at, itself included; at least 2.
        min_dist: the least distance of two points on the map, in [0, spread].
        spread: how far the points of a group lie apart; above 0. UMAP's own 1 shrinks well-parted labels to
            dots; at 3 they fill the map, and what lies between two labels lies between them.
        metric: `cosine`, or `euclidean`, which on rows of length 1 is sqrt(2 d) of the cosine distance d.
        densmap: dense groups are drawn dense (Narayan, Berger and Cho 2021). Without effect where all are
            equally dense.
    """

    neighbours: int = 15
    min_dist: float = 1.0
    spread: float = 3.0
    metric: Literal["cosine", "euclidean"] = "cosine"
    densmap: bool = False


def umap(
    embeddings: NDArray[np.float32],
    ids: NDArray[np.integer[Any]],
    distances: NDArray[np.floating[Any]],
    seed: int,
    settings: Settings = Settings(),
    *,
    label_id: NDArray[np.integer[Any]] | None = None,
    start: NDArray[np.float32] | None = None,
    limit: int = MOST,
) -> NDArray[np.float32]:
    """UMAP (McInnes, Healy and Melville 2018): who is near whom, rather than how far apart.

    The same seed gives the same map on the same machine and versions.

    Args:
        embeddings, ids, distances, seed: as every projector gets them; n at least 20, k and d at least 2.
        settings: UMAP's parameters; at most k + 1 neighbours are used.
        label_id: int `(n,)`: where only a sample is laid out, every label is in it.
        start: `(n, 2)`: a map of the same images to begin at, instead of the graph's spectrum.
        limit: of more images than these a sample is laid out, and the others are placed beside it.

    Returns:
        float32 of shape `(n, 2)`, finite.
    """
    n = len(ids)
    if n > limit:
        rows = chosen(n, limit, seed, label_id)
        sample = embeddings[rows]
        part = None if start is None else start[rows]
        xy = umap(sample, *among(ids, distances, rows), seed, settings, start=part, limit=limit)
        return placed(xy, rows, sample, embeddings, ids, distances)

    ids, distances = with_self(ids, distances, embeddings, settings.neighbours)
    if settings.metric == "euclidean":
        distances = np.sqrt(2 * distances)
    epochs = epochs_for(n) if start is None else EPOCHS_FROM_A_MAP
    epochs += DENSITY_EPOCHS * settings.densmap
    graph = pruned(fuzzy_graph(ids, distances), epochs)
    if start is None and n <= TOO_MANY_FOR_SPECTRAL and components(graph) == 1:
        begin = None
    else:
        begin = scattered(pca(embeddings) if start is None else start, seed)
    density = densities(ids, distances) if settings.densmap else None
    return optimised(graph, begin, epochs, settings, seed, density)


def epochs_for(n: int) -> int:
    """UMAP's 500 for few images and 200 for many, and between the two the same work."""
    return int(np.clip(WORK // n, FEW_EPOCHS, MANY_EPOCHS))


def scattered(xy: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """`xy` scaled to ±10 with a little noise, as UMAP wants its start: equal points could never part."""
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=xy.shape)
    start: NDArray[np.float32] = (xy * (10 / max(float(np.abs(xy).max()), 1e-12)) + noise).astype(np.float32)
    return start


def densities(ids: NDArray[np.int32], distances: NDArray[np.float32]) -> dict[str, Any] | None:
    """What densMAP needs to know of the neighbours; None where all are equally far."""
    from scipy.sparse import csr_matrix

    n, k = ids.shape
    if np.ptp(distances[:, 1:]) < 1e-6:
        return None
    rows = np.repeat(np.arange(n), k)
    known = csr_matrix((distances.ravel(), (rows, ids.ravel())), shape=(n, n))
    return {**DENSITY, "n_neighbors": k, "graph_dists": known.maximum(known.T).todok()}


def optimised(
    graph: Any,
    start: NDArray[np.float32] | None,
    epochs: int,
    settings: Settings,
    seed: int,
    density: dict[str, Any] | None = None,
) -> NDArray[np.float32]:
    """UMAP's coordinates, float32 of shape `(n, 2)`, of a fuzzy graph; None begins at its spectrum."""
    with warnings.catch_warnings(), without_tensorflow():
        # It warns that TensorFlow is missing, and where it falls back to a random start.
        warnings.simplefilter("ignore")
        from umap.umap_ import find_ab_params, simplicial_set_embedding

        a, b = find_ab_params(settings.spread, settings.min_dist)
        xy, _ = simplicial_set_embedding(
            data=None,
            graph=graph,
            n_components=2,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=NEGATIVES,
            n_epochs=epochs,
            init="spectral" if start is None else start,
            random_state=np.random.RandomState(seed),
            metric="cosine",
            metric_kwds={},
            densmap=density is not None,
            densmap_kwds=density or {},
            output_dens=False,
            parallel=False,
        )
    return np.asarray(xy, np.float32)


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
