"""Numbers and kinds of each image, for the colourings of the map."""

import numpy as np

from simpipe.reporting.content import Content
from simpipe.reporting.findings import TITLES, WITHOUT_LABELS, Rows, resolve

NEAREST = 10
SEVERITIES = ("high", "medium", "low")


def agreement(content: Content) -> np.ndarray:
    """The share of the ten nearest neighbours with an image's own label, float `(n,)`; NaN without any."""
    ids = content.neighbour_ids[:, :NEAREST]
    known = ids >= 0
    same = known & (content.label_id[np.maximum(ids, 0)] == content.label_id[:, None])
    share: np.ndarray = np.where(known.any(axis=1), same.sum(axis=1), np.nan) / np.maximum(
        known.sum(axis=1), 1
    )
    return share


def nearest_similarity(content: Content) -> np.ndarray:
    """The similarity of the nearest image, float `(n,)`, of a query: in the gallery; NaN without any."""
    found = np.full(len(content.label_id), np.nan)
    every = np.arange(len(found))
    for rows, ids, distances in (
        (every, content.neighbour_ids, content.neighbour_distances),
        (content.test_rows, content.test_ids, content.test_distances),
    ):
        if ids.shape[1]:
            there = ids[:, 0] != -1
            found[rows[there]] = 1 - distances[there, 0]
    return found


def worst_finding(content: Content) -> tuple[list[str], np.ndarray]:
    """The titles of the kinds of findings that images have, and each image's most severe as index, -1: none.

    Of two equally severe kinds, the one that calls for action first.
    """
    titles = {
        kind: title for kind, (title, _) in (TITLES | ({} if content.labelled else WITHOUT_LABELS)).items()
    }
    kinds = list(dict.fromkeys([*titles, *sorted({str(line["kind"]) for line in content.findings})]))
    severity = {name: place for place, name in enumerate(SEVERITIES)}
    none = len(SEVERITIES) * len(kinds)
    worst = np.full(len(content.label_id), none)
    rows = Rows(content)
    for line in content.findings:
        rank = severity.get(str(line.get("severity")), len(SEVERITIES) - 1)
        code = rank * len(kinds) + kinds.index(str(line["kind"]))
        found = resolve(line, rows, content)
        for row in (found.row, found.other_row):
            if row is not None:
                worst[row] = min(worst[row], code)
    kind = np.where(worst < none, worst % len(kinds), -1)
    present = np.unique(kind[kind >= 0])
    place = np.full(len(kinds) + 1, -1)
    place[present] = np.arange(len(present))
    return [titles.get(kinds[each], kinds[each]) for each in present], place[kind]
