"""Would another score tell known from unknown better than the distance of the nearest? And is rare "novel"?

Every score is large where an image looks new. Scores are compared on the same queries and the same draws.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.intervals import (
    MIN_CLASSES,
    RESAMPLES,
    Estimate,
    bootstrap_classes,
    bootstrap_groups,
    only_these,
    percentiles,
)
from simpipe.metrics.open_set import Curve, Sides

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

COMPARED = ("auroc", "fpr95")
TERCILES = ("small", "medium", "large")
MAX_K = 10
BLOCK_ROWS = 4096


def neighbour_rank(train_labels: Ints, most: int = MAX_K) -> int:
    """The k of `kth_distance`: the root of the smallest class's size, rounded, from 1 to `most`.

    A k beyond the size of a class would call its every image novel.
    """
    sizes = np.unique(train_labels, return_counts=True)[1]
    return int(np.clip(np.rint(np.sqrt(sizes.min(initial=len(train_labels)))), 1, most))


def kth_distance(distances: Floats, k: int) -> Floats:
    """The distance of the k-th nearest (Sun et al. 2022, eq. 4): [nq] of ascending distances [nq, >=k].

    Where fewer than k are visible the farthest of them counts; inf where there is none.
    """
    seen = np.isfinite(distances[:, :k]).sum(axis=1)
    return np.asarray(distances[np.arange(len(distances)), np.maximum(seen, 1) - 1])


class Gaussians(NamedTuple):
    """A Gaussian for each class with one covariance, and one for all: whitened means, and what whitens.

    `within` and `overall` float64 [d, d] whiten from the right; `means` float64 [C, d] and `mean`
    float64 [d] are whitened already.
    """

    within: Array
    means: Array
    overall: Array
    mean: Array


def fit_gaussians(train: Floats, labels: Ints) -> Gaussians | str:
    """Fit on the train embeddings [n, d] with their `labels` [n]; or why that cannot be.

    Both covariances are shrunk after Ledoit & Wolf (2004), so that there may be fewer images than
    dimensions. The one within classes is of the residuals from class means, with n - C degrees of freedom.
    Takes O(block + d^2 + C d) memory.
    """
    classes, code, counts = np.unique(labels, return_inverse=True, return_counts=True)
    spare = len(labels) - len(classes)
    if spare < 1:
        return "no label has two train images"
    sums = np.zeros((len(classes), train.shape[1]))
    for start, block in _blocks(train):
        np.add.at(sums, code[start : start + len(block)], block)
    means, mean = sums / counts[:, None], sums.sum(axis=0) / len(train)
    within = _shrunk(
        (block - means[code[start : start + len(block)]] for start, block in _blocks(train)), len(train)
    )
    overall = _shrunk((block - mean for _, block in _blocks(train)), len(train))
    if np.trace(within) < 1e-12:
        return "all train images of a label have the same embedding"
    whiten, whiten_all = _whitening(within * len(train) / spare), _whitening(overall)
    return Gaussians(whiten, means @ whiten, whiten_all, mean @ whiten_all)


def relative_mahalanobis(gaussians: Gaussians, queries: Floats) -> Array:
    """`min_c MD_c - MD_0` (Ren et al. 2021, arXiv:2106.09022, eq. 3): float64 [nq] of `queries` [nq, d].

    `MD_c` is the squared Mahalanobis distance from class c, `MD_0` that from all of train.
    """
    scores = np.zeros(len(queries))
    squares = np.einsum("cd,cd->c", gaussians.means, gaussians.means)
    for start, block in _blocks(queries):
        z = block @ gaussians.within
        nearest = np.min(squares - 2.0 * z @ gaussians.means.T, axis=1) + np.einsum("qd,qd->q", z, z)
        scores[start : start + len(block)] = nearest - np.sum(
            np.square(block @ gaussians.overall - gaussians.mean), axis=1
        )
    return scores


class Novelty(NamedTuple):
    """What one score does: `auroc` and `fpr95`, and how much more AUROC than the first score."""

    auroc: Estimate
    fpr95: Estimate
    gain: Estimate | None


def compare_scores(
    scores: Mapping[str, tuple[Floats, Floats]], sides: Sides, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Novelty]:
    """AUROC and FPR95 of each score, given as its values for the known [n] and the unknown queries [m].

    `gain` is the paired difference in AUROC to the first, None for that one. Intervals as in
    `open_set.open_set_estimates`. Both sides must have a query.
    """
    curves = [Curve.of(known, np.ones(len(known), bool), unknown) for known, unknown in scores.values()]

    def values(weights: tuple[Array, Array]) -> Array:
        """[b, scores, 3]: auroc, fpr95, gain."""
        found = np.stack([curve.separation(*weights) for curve in curves], axis=1)
        return np.concatenate([found, found[:, :, :1] - found[:, :1, :1]], axis=2)

    point = values(sides.once())[0]
    draws = np.concatenate([values(weights) for weights in sides.weights(resamples, seed)])
    low, high = (each.reshape(point.shape) for each in percentiles(draws.reshape(len(draws), -1)))
    n = len(sides.known_classes) + len(sides.unknown_classes)

    def estimate(i: int, j: int) -> Estimate:
        return Estimate(float(point[i, j]), float(low[i, j]), float(high[i, j]), n, sides.reason)

    return {
        name: Novelty(estimate(i, 0), estimate(i, 1), estimate(i, 2) if i else None)
        for i, name in enumerate(scores)
    }


class SizeBand(NamedTuple):
    """Known classes of about one size in train, at the threshold that accepts 95 % of all known queries.

    `images`: the fewest and the most of a class; `classes`: how many classes. `accepted`: the share of
    their queries that is accepted. `fpr`: the share accepted of the unknown queries whose nearest is one of
    them. `auroc`: that of their queries against all unknown ones.
    """

    name: str
    images: tuple[int, int]
    classes: int
    accepted: Estimate
    fpr: Estimate
    auroc: Estimate


def by_class_size(
    known: Floats,
    known_sizes: Ints,
    unknown: Floats,
    unknown_sizes: Ints,
    sides: Sides,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[SizeBand] | str:
    """Is rare taken for novel? The known queries of small classes and those of large ones; or why not told.

    `known` [n] and `unknown` [m] are scores, `known_sizes` [n] the number of train images of each query's
    class, `unknown_sizes` [m] that of the class of its nearest. Terciles are of the classes that the known
    queries have; classes of one size stay together, where their middle is, and an empty one is left out.
    The threshold is not drawn again for the intervals.
    """
    first = np.unique(sides.known_classes, return_index=True)[1]
    sizes = known_sizes[first]
    ascending = np.sort(sizes)

    def tercile(of: Ints) -> Ints:
        place = sum(np.searchsorted(ascending, of, side) for side in ("left", "right"))
        return np.minimum(3 * place // max(1, 2 * len(ascending)), 2)

    band, near, far = (tercile(each) for each in (sizes, known_sizes, unknown_sizes))
    if len(np.unique(band)) < 2:
        return "the labels have about equally many train images"
    threshold = np.sort(known)[int(np.ceil(0.95 * len(known) - 1e-9)) - 1]
    bands = []
    for at in np.unique(band).tolist():
        mine, theirs = near == at, far == at
        part = Sides(sides.known_classes[mine], sides.known_groups[mine], *sides[2:])
        held = sizes[band == at]
        inside = known[mine] <= threshold
        bands.append(
            SizeBand(
                TERCILES[at],
                (int(held.min()), int(held.max())),
                len(held),
                _share(inside, part.known_classes, part.known_groups, resamples, seed),
                _share(
                    unknown[theirs] <= threshold,
                    *(sides.unknown_classes[theirs], sides.unknown_groups[theirs], resamples, seed),
                    held_out=True,
                ),
                compare_scores({"": (known[mine], unknown)}, part, resamples, seed)[""].auroc,
            )
        )
    return bands


def _share(
    which: NDArray[np.bool_],
    classes: Ints,
    groups: Ints,
    resamples: int,
    seed: int,
    held_out: bool = False,
) -> Estimate:
    """The share of True; groups are resampled, or classes where they are held out and enough."""
    values = which.astype(np.float64)[:, None]
    count = len(np.unique(classes))
    if held_out and count >= MIN_CLASSES:
        return bootstrap_classes(values, classes, resamples, seed)[0]
    found = bootstrap_groups(values, classes, groups, resamples, seed)[0]
    reason = only_these(count, "unknown classes")
    return found._replace(reason=reason) if held_out and found.n else found


def _blocks(vectors: Floats) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(vectors), BLOCK_ROWS):
        yield start, np.asarray(vectors[start : start + BLOCK_ROWS], np.float64)


def _shrunk(blocks: Iterator[Array], n: int) -> Array:
    """The covariance of centred rows, shrunk after Ledoit & Wolf (2004): float64 [d, d]."""
    total, fourth = np.zeros((0, 0)), 0.0
    for block in blocks:
        product = block.T @ block
        total = total + product if total.size else product
        fourth += float(np.sum(np.square(np.einsum("nd,nd->n", block, block))))
    covariance = total / n
    level = np.trace(covariance) / len(covariance)
    distance = np.sum(np.square(covariance)) - len(covariance) * level**2
    noise = (fourth / n - np.sum(np.square(covariance))) / n
    share = np.clip(noise / distance, 0.0, 1.0) if distance > 0 else 0.0
    return np.asarray((1 - share) * covariance + share * level * np.eye(len(covariance)))


def _whitening(covariance: Array) -> Array:
    """[d, d] such that `x @ whitening` has covariance one; directions without any are held down."""
    variance, directions = np.linalg.eigh(covariance)
    floor = 1e-9 * float(variance[-1])
    return np.asarray(directions / np.sqrt(np.maximum(variance, floor)))
