"""The data that the page's script reads: arrays in base64 inside JSON, and the whole compressed."""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from simpipe.reporting.colours import PALETTE, assign, medoids, neighbours_on_map
from simpipe.reporting.content import Content, Layout
from simpipe.reporting.density import Frame, framed
from simpipe.reporting.measures import NEAREST, agreement, nearest_similarity, worst_finding
from simpipe.reporting.mistakes import MOST, chance, ranked
from simpipe.reporting.text import clean

ALL_NEIGHBOURS = 20_000
NO_GROUP = len(PALETTE)
"""The colour after the last of the palette: `FADED`."""


def compressed(document: Any) -> str:
    """JSON in gzip in base64: nothing in it can end a script element. Equal documents give equal text."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), 6, mtime=0)).decode()


def uncompressed(text: str) -> Any:
    """The document of `compressed`."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def packed(values: np.ndarray, kind: str) -> str:
    """An array as little-endian bytes of numpy type `kind`, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def packed_distances(distances: np.ndarray) -> str:
    """Distances in [0, 2] as uint16: 65535 is 2, and none."""
    return packed(np.rint(np.clip(np.nan_to_num(distances, nan=2.0), 0, 2) * (65535 / 2)), "u2")


def label_colours(content: Content) -> np.ndarray:
    """A colour for each label, int `(C,)`; labels that meet on a map or are confused differ."""
    rows = medoids(content.xy, content.label_id, len(content.labels))
    present = np.flatnonzero(rows >= 0)
    if not content.labelled:
        present = present[present < len(content.labels) - 1]
    place = {int(label): index for index, label in enumerate(present)}
    name = {label: index for index, label in enumerate(content.labels)}
    ends = [
        (place.get(name.get(pair["label"], -1)), place.get(name.get(pair["predicted"], -1)))
        for pair in content.relations.get("confused") or []
    ]
    if content.before is not None:
        before = content.before.xy[medoids(content.before.xy, content.label_id, len(content.labels))[present]]
        ends += neighbours_on_map(before)
    # who is in no group is grey, unless all are
    colour = np.full(len(content.labels), NO_GROUP if len(present) else 1)
    colour[present] = assign(
        content.xy[rows[present]], [(a, b) for a, b in ends if a is not None and b is not None]
    )
    return colour


def payload(content: Content, colours: np.ndarray, pictured: Sequence[int], limits: Frame) -> dict[str, Any]:
    """All that the script needs, with n images, but for the thumbnails; `templates/data.js` reads it.

    `limits` is the frame of the map. Of more than 20,000 images, only the `pictured` rows come with their
    neighbours, and only they and the listed mistakes with what was found in the gallery.
    """
    n = len(content.label_id)
    splits = list(dict.fromkeys(content.split))
    split_code = {split: code for code, split in enumerate(splits)}
    listed = ranked(content)[:MOST]
    known = np.isin(np.arange(n), pictured) if n > ALL_NEIGHBOURS else np.ones(n, bool)
    asked = np.flatnonzero(known[content.test_rows] | np.isin(content.test_rows, listed))
    finding_kinds, finding = worst_finding(content)
    return {
        "n": n,
        "labelled": content.labelled,
        "labels": [clean(label) for label in content.labels],
        "colours": colours.tolist(),
        "splits": [clean(split) for split in splits],
        "paths": [clean(path) for path in content.path],
        "findings": [clean(kind) for kind in finding_kinds],
        "label": packed(content.label_id, "i4"),
        "split": packed(np.array([split_code[split] for split in content.split]), "u1"),
        "predicted": packed(content.predicted, "i4"),
        "correct": packed(content.correct, "i1"),
        "confidence": packed(content.confidence, "f4"),
        "probability": packed(chance(content), "f4"),
        "agreement": packed(agreement(content), "f4"),
        "nearest": packed_distances(1 - nearest_similarity(content)),
        "finding": packed(finding, "i1"),
        "after": layout(content, as_layout(content), known, limits),
        "before": content.before and layout(content, content.before, known, limits),
        "queries": {
            "rows": packed(content.test_rows[asked], "i4"),
            "voters": content.voters,
            **nearest(content.test_ids[asked], content.test_distances[asked], max(NEAREST, content.voters)),
        },
        "mistakes": listed.tolist(),
    }


def tiles(tile: np.ndarray, side: int) -> dict[str, Any]:
    """What the payload says of the thumbnails."""
    return {"tile": packed(tile, "i4"), "side": side}


def size(data: dict[str, Any], pictured: Sequence[int]) -> int:
    """How many bytes of the page the data take, when so many images have a thumbnail."""
    tile = np.full(data["n"], -1)
    tile[pictured] = np.arange(len(pictured))
    return len(compressed(data | tiles(tile, 0)))


def as_layout(content: Content) -> Layout:
    """The layout by the embeddings."""
    return Layout(content.xy, content.neighbour_ids, content.neighbour_distances, content.projection)


def layout(content: Content, found: Layout, known: np.ndarray, limits: Frame) -> dict[str, Any]:
    """One layout of the map: places, the middle image of each label, and the neighbours of the `known`."""
    hearts = medoids(found.xy, content.label_id, len(content.labels))
    if not content.labelled:
        hearts[-1] = -1  # no name on the map for those in no group
    rows = np.flatnonzero(known)
    near = nearest(found.neighbour_ids[rows], found.neighbour_distances[rows])
    return {
        "place": packed(framed(found.xy, limits), "u2"),
        "hearts": hearts.tolist(),
        "neighbours": {"rows": packed(rows, "i4"), **near},
    }


def nearest(ids: np.ndarray, distances: np.ndarray, most: int = NEAREST) -> dict[str, Any]:
    """The nearest neighbours of some rows, at most `most` of each."""
    return {
        "k": min(most, ids.shape[1]),
        "ids": packed(ids[:, :most], "i4"),
        "distances": packed_distances(distances[:, :most]),
    }
