"""Groups of look-alikes in a set without labels: HDBSCAN on a spectral map of the neighbour graph.

Density is hard to see in 128 dimensions, and a whitened embedding has no short axes to leave out. The graph
of nearest neighbours says who belongs together in either case: its first eigenvectors, weighted as in a
diffusion map (Coifman and Lafon 2006) and scaled to rows of length 1 (Ng, Jordan and Weiss, NIPS 2001), are a
map of few dimensions, in which HDBSCAN (Campello, Moulavi and Sander, PAKDD 2013) finds what is dense and
leaves the rest out. On photos of clothing it groups twice as many images as HDBSCAN on the vectors or on
their principal components, as purely.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.similarity import nearest, neighbour_vote

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

MOST = 5_000
"""Images that the groups are found on; the others join the groups of their neighbours."""
FEWEST = 20
LINKS = 10
DIMENSIONS = 10
STEPS = 2
SMALLEST = 5
VOTERS = 5
REPRESENTATIVES = 12
BLOCK_ROWS = 65_536
CLEAR = 1 / 3
"""The share `together` of `structure` below which groups are loose: random directions in ten and more
dimensions reach 0.3, photos of clothing 0.3 to 0.5, islands 1."""
NONE = -1


class Clusters(NamedTuple):
    """For each of n images its group, and how sure that is.

    `cluster` int32 [n]: 0 is the largest, −1 is in none. `probability` float32 [n] in [0, 1], 0 for −1: how
    deep inside its group HDBSCAN sees it, or the share of its neighbours that are in it. `representative`
    bool [n]: the most typical images of each group among those looked at, at most `REPRESENTATIVES`, of
    different duplicate groups.
    """

    cluster: NDArray[np.int32]
    probability: NDArray[np.float32]
    representative: NDArray[np.bool_]


def find_clusters(embeddings: Floats, groups: Ints, seed: int, most: int = MOST) -> Clusters:
    """The groups that the images themselves form.

    A group has at least `SMALLEST` images, and more in larger sets: a quarter of the square root of the
    images looked at. Fewer than `FEWEST` images form none. A set without any structure gives groups, too,
    but few neighbours are together in them: see `CLEAR`.

    Args:
        embeddings: float [n, d], L2-normalised.
        groups: int [n], the duplicate group of each; copies are no neighbours of each other.
        seed: of the sample, and of the start of the eigenvectors.
        most: images that are looked at; the others take the vote of their nearest five among these, and
            join if they are no farther from one of the group than its own members from each other.
    """
    n = len(embeddings)
    cluster, probability = np.full(n, NONE, np.int32), np.zeros(n, np.float32)
    if min(n, most) < FEWEST:
        return Clusters(cluster, probability, np.zeros(n, bool))
    generator = np.random.default_rng(seed)
    rows = np.arange(n) if n <= most else np.sort(generator.choice(n, most, replace=False))
    sample = np.asarray(embeddings[rows])
    found = nearest(sample, sample, LINKS, groups[rows], groups[rows])
    cluster[rows], probability[rows] = _hdbscan(_spectral_map(found.ids, generator))
    known, reach = cluster[rows], found.distances[:, 0]
    others = np.setdiff1d(np.arange(n), rows)
    for start in range(0, len(others), BLOCK_ROWS):
        block = others[start : start + BLOCK_ROWS]
        cluster[block], probability[block] = _join(np.asarray(embeddings[block]), sample, known, reach)
    cluster = _by_size(cluster)
    representative = np.zeros(n, bool)
    representative[rows] = _representatives(sample, groups[rows], cluster[rows])
    return Clusters(cluster, probability, representative)


def structure(clusters: Clusters, before: Ints, after: Ints) -> dict[str, Any]:
    """What can be said of n images without labels, for `metrics.json`.

    `before` and `after` int [n, k] are the nearest neighbours in the pretrained features and in the
    embedding, padded with −1. `neighbours_kept` is the share of the former that are among the latter;
    `together` the share of the nearest ten of all images that are in the image's own group. Both are in
    [0, 1], and None without neighbours.
    """
    inside, near = clusters.cluster >= 0, after[:, :LINKS]
    same = (clusters.cluster[near] == clusters.cluster[:, None]) & inside[:, None] & (near >= 0)
    sizes = np.bincount(clusters.cluster[inside])
    seen = before >= 0
    kept = sum(((after == before[:, [at]]).any(axis=1) & seen[:, at]).sum() for at in range(before.shape[1]))
    return {
        "images": len(inside),
        "clusters": len(sizes),
        "clustered": float(inside.mean()) if len(inside) else 0.0,
        "largest": int(sizes.max(initial=0)),
        "smallest": int(sizes.min(initial=len(inside))) if len(sizes) else 0,
        "together": float(same.sum() / (near >= 0).sum()) if (near >= 0).any() else None,
        "neighbours_kept": float(kept / seen.sum()) if seen.any() else None,
    }


def _spectral_map(ids: Ints, generator: np.random.Generator) -> Array:
    """Rows of length 1 [n, DIMENSIONS + 1]: where `STEPS` steps of a random walk on the graph lead."""
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import eigsh

    n, k = ids.shape
    seen = ids.ravel() >= 0
    start, end = np.repeat(np.arange(n), k)[seen], ids.ravel()[seen]
    links = coo_array((np.ones(len(end)), (start, end)), (n, n)).tocsr()
    # an image without any neighbour is tied to itself
    graph = links + links.T + diags_array(np.full(n, 1e-6))
    scale = 1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    walk = diags_array(scale) @ graph @ diags_array(scale)
    # a start without symmetry, so that parts that are not connected get directions of their own
    begin = generator.normal(size=n)
    values, vectors = eigsh(walk, min(DIMENSIONS + 1, n - 2), which="LA", v0=begin, tol=1e-6)
    place = vectors * scale[:, None] * np.maximum(values, 0.0) ** STEPS
    return np.asarray(place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12))


def _hdbscan(place: Array) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    from sklearn.cluster import HDBSCAN

    smallest = max(SMALLEST, round(np.sqrt(len(place)) / 4))
    model = HDBSCAN(min_cluster_size=smallest, n_jobs=1, copy=True).fit(place)
    return model.labels_.astype(np.int32), model.probabilities_.astype(np.float32)


def _join(
    vectors: Floats, sample: Floats, known: Ints, reach: Floats
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The groups of `vectors` [m, d] by those `known` of the sample [s, d]; being in none is a vote, too.

    `reach` [s] is how far each of the sample is from its nearest.
    """
    found = nearest(vectors, sample, VOTERS)
    winner, share = neighbour_vote(*found, known, VOTERS, "majority")
    limit = np.zeros(int(known.max(initial=0)) + 1)
    inside = (known >= 0) & np.isfinite(reach)
    np.maximum.at(limit, known[inside], reach[inside])
    closest = np.where(known[found.ids] == winner[:, None], found.distances, np.inf).min(axis=1)
    joins = (winner >= 0) & (closest <= limit[winner])
    return np.where(joins, winner, NONE).astype(np.int32), np.where(joins, share, 0).astype(np.float32)


def _by_size(cluster: Ints) -> NDArray[np.int32]:
    """The groups numbered by size, the largest 0; of equal ones the one with the first row."""
    names, first, inverse, size = np.unique(
        cluster, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -size))
    order = order[names[order] >= 0]
    number = np.full(len(names), NONE, np.int32)
    number[order] = np.arange(len(order))
    return number[inverse]


def _representatives(embeddings: Floats, groups: Ints, cluster: Ints) -> NDArray[np.bool_]:
    """The images nearest to the mean of their group, one of each duplicate group."""
    chosen = np.zeros(len(cluster), bool)
    for each in range(int(cluster.max(initial=NONE)) + 1):
        members = np.flatnonzero(cluster == each)
        vectors = np.asarray(embeddings[members], np.float64)
        typical = members[np.argsort(-(vectors @ vectors.mean(axis=0)), kind="stable")]
        _, first = np.unique(groups[typical], return_index=True)
        chosen[typical[np.sort(first)[:REPRESENTATIVES]]] = True
    return chosen
