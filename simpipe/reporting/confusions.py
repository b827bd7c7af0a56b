"""Which labels are taken for which: the pairs with their pictures, the matrix, one row per label."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.reporting.content import Content

MATRIX_MOST = 60
MATRIX_PART = 40
PAIRS = 10
SIDE = 3


@dataclass(frozen=True)
class Pair:
    """Images of one label that were taken for another, and the images that they were taken for."""

    label: str
    predicted: str
    ids: tuple[int, int]
    """The two label ids; -1 for a label that the run does not have."""
    count: int
    share: float | None
    similarity: float | None
    mistaken: list[int]
    """Rows of the queries."""
    attracted: list[int]
    """Rows of the gallery images of the other label, nearest to those queries."""


@dataclass(frozen=True)
class LabelRow:
    """One label in the table: images to train and test on, and how well it is recognised."""

    label_id: int
    name: str
    train: int
    test: int
    held_out: bool
    recall: float | None
    precision: float | None
    f1: float | None
    nearest: str
    similarity: float | None
    picture: int | None = None
    """The row of its exemplar."""
    recall_interval: tuple[float, float] | None = None
    cohesion: float | None = None
    """The mean share of the label among the neighbours of its images."""


def pairs(content: Content) -> list[Pair]:
    """The most frequent confusions."""
    entries = sorted(content.relations.get("confused") or [], key=lambda entry: -entry["count"])
    number_of = {name: index for index, name in enumerate(content.labels)}
    similarity = label_similarity(content)
    found = []
    for entry in entries[:PAIRS]:
        a, b = number_of.get(entry["label"], -1), number_of.get(entry["predicted"], -1)
        mistaken, attracted = sides(content, a, b)
        close = None if similarity is None or a < 0 or b < 0 else finite(similarity[a, b])
        found.append(
            Pair(
                entry["label"],
                entry["predicted"],
                (a, b),
                entry["count"],
                entry.get("share"),
                close,
                mistaken,
                attracted,
            )
        )
    return found


def sides(content: Content, label: int, predicted: int) -> tuple[list[int], list[int]]:
    """Rows of queries of `label` taken for `predicted`, and of the images of `predicted` nearest to them."""
    asked = (content.label_id == label) & (content.predicted == predicted) & (content.correct == 0)
    mistaken = np.flatnonzero(asked)
    near = content.test_ids[np.isin(content.test_rows, mistaken)].ravel()
    near = near[near >= 0]
    near = near[content.label_id[near] == predicted]
    own = np.flatnonzero(content.label_id == label)
    other = np.flatnonzero(content.label_id == predicted)
    attracted = list(dict.fromkeys([*near.tolist(), *other[:SIDE].tolist()]))
    return (mistaken if len(mistaken) else own)[:SIDE].tolist(), attracted[:SIDE]


def label_similarity(content: Content) -> np.ndarray | None:
    """The mean similarity of every two labels, float `(C, C)` in the order of `labels`; NaN where unknown."""
    return label_table(content, "similarity")


def label_table(content: Content, key: str) -> np.ndarray | None:
    """A table of relations.json, float `(C, C)` in the order of `labels`; NaN where unknown."""
    names, table = content.relations.get("labels"), content.relations.get(key)
    if not names or not table:
        return None
    known = np.array([[np.nan if value is None else value for value in row] for row in table], float)
    number_of = {name: index for index, name in enumerate(names)}
    index = np.array([number_of.get(name, -1) for name in content.labels])
    full: np.ndarray = known[np.ix_(index, index)]
    full[index < 0, :] = full[:, index < 0] = np.nan
    return full


def matrix_labels(content: Content) -> np.ndarray:
    """The label ids that the matrix shows, similar labels side by side; only the most confused of many."""
    shown = met(content)
    if is_part(content):
        off = content.confusion * (1 - np.eye(len(content.confusion), dtype=int))
        errors = off.sum(axis=0) + off.sum(axis=1)
        shown = np.sort(np.argsort(-errors, kind="stable")[:MATRIX_PART])
        shown = shown[errors[shown] > 0]
    ordered: np.ndarray = shown[similar_order(content, shown)]
    return ordered


def met(content: Content) -> np.ndarray:
    """The label ids that are the truth or the answer of some query."""
    return np.flatnonzero(content.confusion.sum(axis=0) + content.confusion.sum(axis=1))


def is_part(content: Content) -> bool:
    """Whether there are too many labels for a whole matrix."""
    return len(met(content)) > MATRIX_MOST


def similar_order(content: Content, shown: np.ndarray) -> np.ndarray:
    """The order of average linkage with optimal leaves, so that confusions form blocks."""
    similarity = label_similarity(content)
    if similarity is None or len(shown) < 3:
        return np.arange(len(shown))
    from scipy.cluster.hierarchy import leaves_list, linkage

    distance = 1 - similarity[np.ix_(shown, shown)]
    distance = np.nan_to_num((distance + distance.T) / 2, nan=2.0)
    condensed = distance[np.triu_indices(len(shown), 1)]
    order: np.ndarray = leaves_list(linkage(condensed, "average", optimal_ordering=True))
    return order


def label_rows(content: Content) -> list[LabelRow]:
    """One row per label: the least recognised first, labels without queries last."""
    splits = np.asarray(content.split, dtype=object)
    size = len(content.labels)

    def sizes(mask: np.ndarray) -> np.ndarray:
        return np.bincount(content.label_id[mask], minlength=size)

    train = sizes(np.array(splits == "train", bool))
    test = sizes(np.array([split in ("test", "unseen_test") for split in content.split], bool))
    unseen = sizes(np.array([split.startswith("unseen") for split in content.split], bool))
    hits, truth, answers = (
        np.diag(content.confusion),
        content.confusion.sum(axis=1),
        content.confusion.sum(axis=0),
    )
    similarity = label_similarity(content)
    cohesive = label_table(content, "neighbour_share")
    pictured = exemplars(content)
    recalls = recall_intervals(content)
    rows = []
    for label, name in enumerate(content.labels):
        asked = truth[label] > 0
        nearest, close = nearest_label(content.labels, similarity, label)
        row = LabelRow(
            label_id=label,
            name=name,
            train=int(train[label]),
            test=int(test[label]),
            held_out=bool(unseen[label]),
            recall=ratio(hits[label], truth[label]),
            precision=ratio(hits[label], answers[label]) if asked else None,
            f1=ratio(2 * hits[label], truth[label] + answers[label]) if asked else None,
            nearest=nearest,
            similarity=close,
            picture=int(pictured[label]) if pictured[label] >= 0 else None,
            recall_interval=recalls.get(label),
            cohesion=None if cohesive is None else finite(cohesive[label, label]),
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (row.recall is None, row.recall or 0.0, -row.test, row.label_id))


def recall_intervals(content: Content) -> dict[int, tuple[float, float]]:
    """The 95 % interval of the recall of each label of the seen block, by label id, from classes.csv."""
    return {
        int(row["label_id"]): (float(row["recall_low"]), float(row["recall_high"]))
        for row in content.classes
        if row["block"] == "seen" and row["recall_low"] and row["recall_high"]
    }


def rows_shown(content: Content) -> list[int]:
    """The rows of the exemplars and of the pictures of both sides of the confused pairs."""
    sides = [row for pair in pairs(content) for row in (*pair.mistaken, *pair.attracted)]
    shown = exemplars(content)
    return [*sides, *shown[shown >= 0].tolist()]


def exemplars(content: Content) -> np.ndarray:
    """For each label the image that most others of it have among their neighbours, int `(C,)`; -1 without."""
    ids, label_id = content.neighbour_ids, content.label_id
    own = (ids >= 0) & (label_id[ids] == label_id[:, None])
    asked = np.bincount(ids[own], minlength=len(label_id))
    order = np.lexsort((-asked, label_id))
    labels, starts = np.unique(label_id[order], return_index=True)
    rows = np.full(len(content.labels), -1)
    rows[labels] = order[starts]
    return rows


def nearest_label(labels: list[str], similarity: np.ndarray | None, label: int) -> tuple[str, float | None]:
    """The other label with the highest mean similarity, and that similarity."""
    if similarity is None:
        return "", None
    row = np.where(np.isnan(similarity[label]), -np.inf, similarity[label])
    row[label] = -np.inf
    best = int(row.argmax())
    return (labels[best], float(row[best])) if np.isfinite(row[best]) else ("", None)


def ratio(part: Any, whole: Any) -> float | None:
    """`part / whole`, None where `whole` is 0."""
    return float(part) / float(whole) if whole else None


def finite(value: float) -> float | None:
    """`value`, None where it is no number."""
    return float(value) if np.isfinite(value) else None
