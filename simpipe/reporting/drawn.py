"""The images that the page holds: all of up to 100,000, else a sample with everything that is talked of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simpipe.reporting.content import Content
from simpipe.reporting.mistakes import MOST, ranked
from simpipe.reporting.sheets import Sheets, choose
from simpipe.wording import count

ALL = 100_000
SAMPLE = 50_000
PER_IMAGE = (
    "sample_id", "path", "split", "label_id", "xy", "predicted", "correct", "confidence", "probability",
    "neighbour_distances", "typical",
)  # fmt: skip
PER_QUERY = ("test_distances", "match_distances", "match_correct")
ABSENT = -2
"""The id of a neighbour that there is, but not on the page."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a run with n images.

    `content` has the arrays of m images, in the order of the n, and its rows are counted anew; labels,
    numbers and tables in it are still those of all. `place` is int `(n,)`: the new row of an old one, -1
    without one.
    """

    content: Content
    place: np.ndarray


def drawn(content: Content, first: Sequence[int], most: int = ALL, sample: int = SAMPLE) -> Drawn:
    """All images, or of more than `most` a sample of `sample`: those of `first`, then evenly by label."""
    n = len(content.label_id)
    place = np.arange(n)
    if n <= most:
        return Drawn(content, place)
    rows = np.sort(choose(n, content.label_id, first, sample))
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    asked = np.flatnonzero(place[content.test_rows] >= 0)
    before = content.before
    part = replace(
        content,
        **{name: at(getattr(content, name), rows) for name in PER_IMAGE},
        **{name: at(getattr(content, name), asked) for name in PER_QUERY},
        neighbour_ids=renumbered(content.neighbour_ids[rows], place),
        test_rows=place[content.test_rows[asked]],
        test_ids=renumbered(content.test_ids[asked], place),
        thumbnails=lambda wanted: content.thumbnails([int(rows[row]) for row in wanted]),
        before=before
        and replace(
            before,
            xy=before.xy[rows],
            neighbour_ids=renumbered(before.neighbour_ids[rows], place),
            neighbour_distances=before.neighbour_distances[rows],
        ),
    )
    return Drawn(part, place)


def at(values: Any, rows: np.ndarray) -> Any:
    """The values at `rows`; what has no values stays as it is."""
    if values is None or not len(values):
        return values
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def renumbered(ids: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Neighbour ids by their new rows: `ABSENT` for one that is not drawn, -1 stays."""
    new = place[np.maximum(ids, 0)]
    found: np.ndarray = np.where(ids < 0, -1, np.where(new < 0, ABSENT, new))
    return found


def left_out(content: Content, shown: Content, sheets: Sheets) -> str:
    """What the page leaves out of the run, in a few plain sentences."""
    n, points, pictured = len(content.label_id), len(shown.label_id), int((sheets.tile >= 0).sum())
    wrong, drawn_wrong = (int((each.correct == 0).sum()) for each in (content, shown))
    first = count(n, "image")
    if points < n:
        part = "all" if drawn_wrong == wrong else f"{drawn_wrong:,} of"
        included = f", {part} {count(wrong, 'mistake')} included" if wrong else ""
        first = f"Showing {points:,} of {first}{included}: these are what the legend counts"
        first += ", the shading shows all"
    if not pictured:
        first += "; no pictures."
    elif pictured == points:
        first += f", each with a picture of {sheets.side} pixels."
    else:
        fit = (sheets.tile[ranked(shown)[:MOST]] >= 0).all()
        listed = ", all listed mistakes included" if fit else ", not even all listed mistakes fit"
        first += f", {pictured:,} with a picture of {sheets.side} pixels{listed if wrong else ''}."
    rest = f" Of {wrong:,} mistakes, the {MOST:,} most confident are listed." if wrong > MOST else ""
    return first + rest
