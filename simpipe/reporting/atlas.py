"""The map as parts of the page: the figure, the data of the script, and which images have a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.reporting import density, findings, mistakes, unlabelled
from simpipe.reporting.content import Content
from simpipe.reporting.drawn import Drawn, drawn
from simpipe.reporting.map import figure, figure_json
from simpipe.reporting.measures import worst_finding
from simpipe.reporting.payload import payload
from simpipe.reporting.sheets import Encoded, choose, encode

MOST_EXPLAINED = 1_000


@dataclass(frozen=True)
class Atlas:
    """The map of a run with n images, of which `shown` are drawn.

    `place` is int `(n,)`: an image's row on the page, -1 without one. `pictured` are the rows of the page
    that get a thumbnail, as far as there is room.
    """

    plot: str
    data: dict[str, Any]
    shown: Content
    place: np.ndarray
    pictured: list[int]


def make_atlas(content: Content, first: Sequence[int], colours: np.ndarray) -> Atlas:
    """The map.

    Args:
        content: the run, with n images.
        first: the rows to draw, and to picture, where not all can be.
        colours: int `(C,)`, the palette's colour of each label.
    """
    sample = drawn(content, first)
    shown = sample.content
    layouts = {"after": content.xy} | ({"before": content.before.xy} if content.before else {})
    limits = density.frame(list(layouts.values()))
    many = len(content.label_id) >= density.FROM
    shades = {name: density.density(xy, limits) for name, xy in layouts.items() if many}
    pictured = rows_pictured(sample, first)
    return Atlas(
        plot=figure_json(figure(len(shown.label_id), limits)),
        data=payload(shown, colours, pictured, limits) | {"density": shades},
        shown=shown,
        place=sample.place,
        pictured=pictured,
    )


def pictures(content: Content, first: Sequence[int]) -> Encoded:
    """The thumbnails of the page, before it is known how much room there is for them. They need no map."""
    sample = drawn(content, first)
    return encode(sample.content.thumbnails, rows_pictured(sample, first))


def rows_pictured(sample: Drawn, first: Sequence[int]) -> list[int]:
    """The rows of the page that get a thumbnail, those of `first` first, as far as there is room."""
    kept = sample.place[np.asarray(first, int)]
    label_id = sample.content.label_id
    return choose(len(label_id), label_id, kept[kept >= 0].tolist())


def wanted(content: Content, found: list[findings.Group], also: list[int]) -> list[int]:
    """The rows to keep where not all can be kept: those that the page talks of, then all with a finding."""
    first = [] if content.labelled else unlabelled.rows_shown(content)
    wrong = mistakes.ranked(content)[: mistakes.MOST].tolist()
    flagged = np.flatnonzero(worst_finding(content)[1] >= 0).tolist()
    return list(
        dict.fromkeys([*wrong, *first, *findings.rows_shown(found), *voters(content), *also, *flagged])
    )


def voters(content: Content) -> list[int]:
    """The images that decided on the first mistakes."""
    asked = {int(row): number for number, row in enumerate(content.test_rows)}
    found = [asked[row] for row in mistakes.ranked(content)[:MOST_EXPLAINED].tolist() if row in asked]
    ids = content.test_ids[found, : content.voters].ravel()
    return list(dict.fromkeys(ids[ids >= 0].tolist()))
