"""The data that the page's script reads: typed arrays in base64, names as plain text."""

import base64
import json
from typing import Any

import numpy as np

from simpipe.reporting.colours import PALETTE, assign, medoids
from simpipe.reporting.content import Content
from simpipe.reporting.text import clean

ALL_NEIGHBOURS = 20_000
NO_GROUP = len(PALETTE)
"""The colour after the last of the palette: `FADED`."""


def script_json(document: Any) -> str:
    """JSON that may stand inside a script element: no `<`, and no character that ends a line of script."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def packed(values: np.ndarray, kind: str) -> str:
    """An array as little-endian bytes of numpy type `kind`, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def packed_distances(distances: np.ndarray) -> str:
    """Distances in [0, 2] as uint16: 65535 is 2."""
    return packed(np.rint(np.clip(np.nan_to_num(distances, nan=2.0), 0, 2) * (65535 / 2)), "u2")


def label_colours(content: Content) -> np.ndarray:
    """A colour for each label, int `(C,)`; labels that meet on the map or are confused differ."""
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
    # who is in no group is grey, unless all are
    colour = np.full(len(content.labels), NO_GROUP if len(present) else 1)
    colour[present] = assign(
        content.xy[rows[present]], [(a, b) for a, b in ends if a is not None and b is not None]
    )
    return colour


def mistakes(content: Content) -> np.ndarray:
    """The rows of wrongly answered queries, the most confident first."""
    rows = np.flatnonzero(content.correct == 0)
    return rows[np.argsort(-np.nan_to_num(content.confidence[rows]), kind="stable")]


def payload(content: Content, colours: np.ndarray, tile: np.ndarray, side: int) -> dict[str, Any]:
    """All that the script needs, with n images; see `templates/data.js` for the reader."""
    n = len(content.label_id)
    splits = list(dict.fromkeys(content.split))
    split_code = {split: code for code, split in enumerate(splits)}
    with_neighbours = np.arange(n) if n <= ALL_NEIGHBOURS else np.flatnonzero(tile >= 0)
    slot = np.full(n, -1)
    slot[with_neighbours] = np.arange(len(with_neighbours))
    heart = medoids(content.xy, content.label_id, len(content.labels))
    if not content.labelled:
        heart[-1] = -1  # no name on the map for those in no group
    return {
        "n": n,
        "labelled": content.labelled,
        "labels": [clean(label) for label in content.labels],
        "colours": colours.tolist(),
        "hearts": heart.tolist(),
        "splits": [clean(split) for split in splits],
        "paths": [clean(path) for path in content.path],
        "label": packed(content.label_id, "i4"),
        "split": packed(np.array([split_code[split] for split in content.split]), "u1"),
        "predicted": packed(content.predicted, "i4"),
        "correct": packed(content.correct, "i1"),
        "confidence": packed(content.confidence, "f4"),
        "tile": packed(tile, "i4"),
        "side": side,
        "neighbours": {
            "k": content.neighbour_ids.shape[1],
            "slot": packed(slot, "i4"),
            "ids": packed(content.neighbour_ids[with_neighbours], "i4"),
            "distances": packed_distances(content.neighbour_distances[with_neighbours]),
        },
        "queries": {
            "k": content.test_ids.shape[1],
            "rows": packed(content.test_rows, "i4"),
            "ids": packed(content.test_ids, "i4"),
            "distances": packed_distances(content.test_distances),
            "voters": content.voters,
        },
        "mistakes": mistakes(content).tolist(),
    }
