"""Is an embedding healthy: how its similarities spread, how many directions it uses, its hubs."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.metrics.findings import Finding

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

LOOKED_AT = 20_000
BLOCK_ROWS = 4096
COLLAPSED = 0.01  # random directions in 128 dimensions spread by 0.09, pretrained features by 0.12
HUB_NEIGHBOURS = 10
HUB = 10.0  # photos reach 8, random directions 2.5


class Health(NamedTuple):
    """`similarity_mean` and `similarity_std`: of the cosine similarity of two images drawn by lot, in [-1, 1]
    and [0, 1]; NaN for less than two images.

    `effective_rank`: how many directions the embedding uses, from 1; exp of the entropy of the shares of
    variance (Roy and Vetterli, EUSIPCO 2007). 0 where nothing varies.

    `hub_skewness`: of the number of images that an image is a neighbour of (Radovanović, Nanopoulos and
    Ivanović, JMLR 2010, equation 1): 0.2 in random directions, 1 to 2 for photos. 0 where all have the same.
    """

    similarity_mean: float
    similarity_std: float
    effective_rank: float
    hub_skewness: float

    @property
    def collapsed(self) -> bool:
        """Whether all images lie nearly in one point."""
        return self.similarity_std < COLLAPSED


def measure_health(embeddings: Floats, ids: Ints, most: int = LOOKED_AT) -> Health:
    """How healthy an embedding is.

    With mean m and covariance S the similarity of two images drawn by lot has the mean |m|² and the variance
    |S|² + 2 m'Sm, without a look at any pair.

    Args:
        embeddings: float [n, d], L2-normalised; of more than `most` rows `most` evenly spaced ones.
        ids: int [n, k], their neighbours as rows, nearest first, -1 for none.
        most: rows whose spread is measured.
    """
    skewness = _skewness(_popularity(ids))
    if len(embeddings) < 2:
        return Health(np.nan, np.nan, 0.0, skewness)
    rows = np.unique(np.linspace(0, len(embeddings) - 1, min(len(embeddings), most)).astype(np.int64))
    blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
    mean = sum(embeddings[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
    scatter = np.zeros((embeddings.shape[1], embeddings.shape[1]))
    for block in blocks:
        centred = embeddings[block] - mean
        scatter += centred.T @ centred
    scatter /= len(rows)
    spread = np.sqrt(np.sum(scatter**2) + 2.0 * mean @ scatter @ mean)
    return Health(float(mean @ mean), float(spread), _effective_rank(scatter), skewness)


def collapse(health: Health) -> list[Finding]:
    """The finding that an embedding has collapsed, or none."""
    if not health.collapsed:
        return []
    told = f"two images have a similarity of {health.similarity_mean:.4f} ± {health.similarity_std:.4f}"
    return [
        Finding(
            "collapse",
            "high",
            1.0 - 0.5 * health.similarity_std / COLLAPSED,
            f"the embedding puts all images nearly in one point: {told}, whatever they show",
        )
    ]


def hubs(ids: Ints, labels: Ints | None = None) -> list[Finding]:
    """Images that are among the nearest ten of far too many others: `HUB` times as many as is usual.

    With `labels` int [n] the finding says how many of these others carry another label.
    """
    depth = min(HUB_NEIGHBOURS, ids.shape[1])
    popularity = _popularity(ids)
    findings = []
    for row in np.flatnonzero(popularity >= HUB * max(depth, 1)):
        count = int(popularity[row])
        detail = f"among the nearest {depth} of {count} images; {depth} are usual"
        misleading = True
        if labels is not None:
            others = int(np.sum(labels[np.any(ids[:, :depth] == row, axis=1)] != labels[row]))
            detail += f"; {others} of them carry another label"
            misleading = 2 * others > count
        score = 1.0 - HUB * depth / (2.0 * count)
        findings.append(Finding("hub", "medium" if misleading else "low", score, detail, row=int(row)))
    return findings


def _popularity(ids: Ints) -> NDArray[np.int64]:
    """Of how many images each image is one of the nearest `HUB_NEIGHBOURS`: int64 [n]."""
    near = ids[:, :HUB_NEIGHBOURS]
    return np.bincount(near[near >= 0], minlength=len(ids))


def _skewness(counts: NDArray[np.int64]) -> float:
    if not len(counts):
        return 0.0
    centred = counts - counts.mean()
    variance = np.mean(centred**2)
    return float(np.mean(centred**3) / variance**1.5) if variance > 0 else 0.0


def _effective_rank(scatter: NDArray[np.float64]) -> float:
    variances = np.linalg.eigvalsh(scatter)
    variances = variances[variances > 1e-12]
    if not len(variances):
        return 0.0
    shares = variances / variances.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
