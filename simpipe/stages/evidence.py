"""What stands behind the page, for other programs: how sure each answer was, and tables of what is shown."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Samples
from simpipe.data.scan import display
from simpipe.stages.tables import cell

if TYPE_CHECKING:
    from simpipe.reporting.content import Content

CURVE_COLUMNS = (
    *("distance", "similarity", "answered", "precision", "unknown_accept"),
    *("right", "wrong", "unknown_accepted"),
)
MAP_COLUMNS = (
    *("sample_id", "path", "label", "split", "x", "y", "before_x", "before_y"),
    *("predicted", "correct", "confidence", "probability"),
)


class Matched(NamedTuple):
    """What calibration calls the match of each query in the train gallery.

    `distance` float32 (q,), inf without one; `label` int32 (q,), -1 without one; `probability` float64 (q,)
    that its label is right, NaN where there is none.
    """

    distance: npt.NDArray[np.float32]
    label: npt.NDArray[np.int32]
    probability: npt.NDArray[np.float64]


def matches(
    embeddings: npt.NDArray[np.float32],
    samples: Samples,
    rows: npt.NDArray[np.integer[Any]],
    calibration: Mapping[str, Any],
) -> Matched:
    """The matches of the images `rows`, (q,), by the rule of calibration.json; the own group left out."""
    from simpipe.metrics.probability import Calibrated
    from simpipe.search.matching import find_matches

    gallery = samples.rows("train")
    if not len(gallery):
        n = len(rows)
        return Matched(np.full(n, np.inf, np.float32), np.full(n, -1, np.int32), np.full(n, np.nan))
    labels, groups = samples.label_id, samples.group_id
    found, margin = find_matches(
        embeddings[rows],
        embeddings[gallery],
        labels[gallery],
        calibration["match"],
        calibration["k"],
        groups[rows],
        groups[gallery],
    )
    fitted = calibration.get("probability") or {}
    probability = np.full(len(rows), np.nan)
    if fitted.get("knots"):
        scores, shares = (np.array(fitted["knots"][name], np.float64) for name in ("score", "probability"))
        probability = Calibrated(fitted["margin_weight"], scores, shares).of(found.distances, margin)
    return Matched(found.distances, found.labels, probability)


def write_map(path: Path, content: "Content") -> None:
    """One row for each image, in the order of samples.parquet: where it is on the map, and its answer.

    `before_x` and `before_y` are its place on the map of the pretrained features, where there is one.
    What follows is empty where an image was no query; `confidence` is the share of the vote.
    """
    before, chance = content.before, content.probability

    def line(row: int) -> dict[str, Any]:
        answer = content.predicted[row]
        return {
            "sample_id": content.sample_id[row],
            "path": content.path[row],
            "label": content.labels[content.label_id[row]],
            "split": content.split[row],
            "x": float(content.xy[row, 0]),
            "y": float(content.xy[row, 1]),
            "before_x": None if before is None else float(before.xy[row, 0]),
            "before_y": None if before is None else float(before.xy[row, 1]),
            "predicted": content.labels[answer] if answer >= 0 else "",
            "correct": None if content.correct[row] < 0 else bool(content.correct[row]),
            "confidence": float(content.confidence[row]),
            "probability": None if chance is None else float(chance[row]),
        }

    write_table(path, MAP_COLUMNS, map(line, range(len(content.label_id))))


def write_mistakes(path: Path, content: "Content") -> None:
    """One row for each wrong answer and for each known image that the working threshold turns away.

    The surest answer first. `vote` is the share of the vote, `probability` that of being right as calibration
    has it; `unanimous`, `tie`, `far` and `rejected` are the kinds of the page; `true_label_rank` counts from
    1, and is empty where the label is not among the stored neighbours.
    """
    from simpipe.reporting.mistakes import columns, table

    write_table(path, columns(content), table(content))


def write_curve(path: Path, content: "Content") -> None:
    """What every threshold does to the test images: shares, and the counts that they come from.

    `answered` and `precision` are of images of known labels, `unknown_accept` of images of unknown ones.
    """
    from simpipe.reporting.thresholds import curve

    found = curve(content)
    lines = []
    if found is not None:
        lets_in = found.unknown if found.unknown is not None else np.full(len(found.distance), np.nan)
        values = (found.distance, 1 - found.distance, found.answered, found.precision, lets_in)
        counts = (found.right, found.wrong, found.let_in)
        lines = [
            dict(zip(CURVE_COLUMNS, line, strict=True))
            for line in zip(*(each.tolist() for each in (*values, *counts)), strict=True)
        ]
    write_table(path, CURVE_COLUMNS, lines)


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file: a truth is yes or no, a number that is none and nothing are an empty cell.

    A number has the fewest digits that give it back as a float32, such as distances and thresholds are.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({name: plain(value) for name, value in line.items()} for line in lines)


def plain(value: Any) -> str:
    """A value as it stands in a cell; a name is never taken for a formula, and always valid text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(np.float32(value))
    return str(value) if isinstance(value, int) else cell(display(str(value)))
