"""What the page shows: plain data, filled by the report stage. No paths of a run, no open files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """A map of all n images, and the neighbours that it was drawn from."""

    xy: np.ndarray
    """float32 `(n, 2)`."""
    neighbour_ids: np.ndarray
    """int `(n, k)`: rows, nearest first, own group excluded, -1 where there are fewer."""
    neighbour_distances: np.ndarray
    """float `(n, k)`: cosine distances in [0, 2]."""
    projection: dict[str, Any]
    """What `project` said of the map."""


@dataclass(frozen=True)
class Content:
    """All that the page shows, with n images, C labels, q queries and k neighbours.

    Labels, file names and sample ids are untrusted text. A *row* is an index into the arrays of
    length n; a *label id* is an index into `labels`.
    """

    title: str
    run_name: str

    metrics: dict[str, Any]
    """`metrics.json`; also `with_leaks.metrics`: the seen block's with copies left in the gallery."""
    calibration: dict[str, Any]
    """`calibration.json`. In `on_calibration` and `on_test` the page reads `precision`, `recall`, `f1`,
    `accepted`, `unknown_accept` and `n_unknown`."""
    findings: list[dict[str, Any]]
    """Rows of `findings.csv`. `other` is a path, a sample id or a label, as fits the kind."""
    relations: dict[str, Any]
    """`confused`: `[{"label", "predicted", "count", "share"}]` by name; `labels` and their `similarity`."""
    confusion: np.ndarray
    """int `(C, C)`: true label by predicted label, of the seen block's queries."""
    labels: list[str]

    history: list[dict[str, Any]]
    """One entry per epoch: `epoch`, `loss`, `val_map@r`, `positive_mean` and the like; with several repeats
    also `repeat`. The page draws what is there, see `training.curves`."""
    ingest: dict[str, Any]
    """Numbers of the intake, e.g. files seen, quarantined, ignored; nested keys are shown dotted."""
    sampler: dict[str, Any]
    """What an epoch draws; empty, like `history` and `index_quality`, where its log is lost."""
    encoder: dict[str, Any]
    index_quality: dict[str, Any]
    environment: list[tuple[str, str]]

    sample_id: Sequence[str]
    path: Sequence[str]
    """Relative to the data root, written as in `findings`."""
    label_id: np.ndarray
    """int `(n,)`."""
    split: Sequence[str]
    xy: np.ndarray
    """float32 `(n, 2)`, from `project`."""
    predicted: np.ndarray
    """int `(n,)`: label id; -1 for an image that was no query, or got no answer."""
    correct: np.ndarray
    """int `(n,)`: 1, 0, or -1 for an image that was no query."""
    confidence: np.ndarray
    """float `(n,)` in [0, 1]; NaN where there is none."""
    neighbour_ids: np.ndarray
    """int `(n, k)`: rows, nearest first, own group excluded, -1 where there are fewer."""
    neighbour_distances: np.ndarray
    """float `(n, k)`: cosine distances in [0, 2]."""
    test_rows: np.ndarray
    """int `(q,)`: the rows of the test queries."""
    test_ids: np.ndarray
    """int `(q, k)`: rows of the gallery (train), nearest first, -1 where there are fewer."""
    test_distances: np.ndarray
    """float `(q, k)`."""

    thumbnails: Callable[[Sequence[int]], list[bytes]]
    """JPEG bytes for rows, in their order; empty bytes for an image that has no picture."""

    projection: dict[str, Any] = field(default_factory=dict)
    """What `project` said of its map."""
    before: Layout | None = None
    """The same images by the pretrained features, turned and scaled onto `xy`; None where nothing was trained
    in this run, or the pretrained features are what is shipped, or no second map was asked for."""
    views: bytes | None = None
    """A WebP picture of augmented views; empty where training saw none, None where its log is lost."""
    voters: int = 3
    """How many of the nearest gallery images are shown as the evidence of an answer."""
    match_distances: np.ndarray | None = None
    """float `(q,)`: the distance that a threshold is compared with; default: of the nearest."""
    match_correct: np.ndarray | None = None
    """bool `(q,)`: whether that match has the query's label; default: whether the query is `correct`."""
    unknown_distances: np.ndarray | None = None
    """float `(u,)`: the same, of queries whose label the gallery does not have."""
    probability: np.ndarray | None = None
    """float `(n,)` in [0, 1]: the calibrated probability that the answer is right; NaN where unknown."""
    classes: list[dict[str, str]] = field(default_factory=list)
    """Rows of `classes.csv`; the page reads `block`, `label_id`, `recall_low` and `recall_high`."""
    labelled: bool = True
    """Whether the labels are people's. Else `labels` are the groups that were found, the largest first, and
    at last that of the images in none; no image is a query, and the page leaves out what needs labels."""
    typical: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool `(n,)`: the most typical images of the groups that were found; empty where there are labels."""
