"""How training went: loss, MAP@R on val, distances and effective rank by epoch, and the views that it saw."""

import base64
import io
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from simpipe.reporting.epochs import Line, Rows, plot
from simpipe.reporting.text import is_number

VAL = "val_map@r"


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    caption: str
    chart: Markup


def repeats(history: Rows) -> list[Rows]:
    """The epochs of each repeat; one entry where the history has no column `repeat`."""
    found: dict[Any, Rows] = {}
    for row in history:
        found.setdefault(row.get("repeat"), []).append(row)
    return list(found.values())


def curves(history: Rows) -> list[Figure]:
    """What the history has of the four charts; none below two epochs."""
    runs = repeats(history)
    if max(map(len, runs), default=0) < 2:
        return []
    each = "; a line for each repeat" if len(runs) > 1 else ""
    distances = [
        Line(f"{kind}_mean", f"{kind} pairs", f"{kind}_min", f"{kind}_max")
        for kind in ("positive", "negative")
    ]
    charts = {
        f"Loss{each}": plot(runs, "loss", [Line("loss")]),
        f"MAP@R on val; the best epoch is marked{each}": plot(runs, "MAP@R on val", [Line(VAL)], best=True),
        "Cosine distances in the batches, as a line their mean, as a band from the least to the greatest. "
        "Positive: of one label, or two views of one image; negative: of two": plot(
            runs, "distances", distances, zero=True
        ),
        "Effective rank: how many directions the embeddings use. A fall to 1 is a collapse": plot(
            runs, "effective rank", [Line("effective_rank")], zero=True
        ),
    }
    return [Figure(caption, chart) for caption, chart in charts.items() if chart is not None]


def remark(history: Rows) -> str:
    """What the charts do not show, in a sentence or none."""
    if not history:
        return "None was recorded."
    if all(len(run) < 2 for run in repeats(history)):
        facts = [
            f"{name} {history[-1][name]:.4g}" for name in ("loss", VAL) if is_number(history[-1].get(name))
        ]
        return f"A single epoch{': ' if facts else ''}{', '.join(facts)}."
    if not any(is_number(row.get(VAL)) for row in history):
        return "MAP@R on val was not measured: it needs labels, and val images whose label training has."
    return ""


@dataclass(frozen=True)
class Picture:
    """A WebP picture as base64, with its size in pixels."""

    data: str
    width: int
    height: int


def picture(raw: bytes | None) -> Picture | None:
    """`raw` for the page; None if it is no WebP picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(raw or b"")) as image:
            image.load()
            if image.format == "WEBP":
                return Picture(base64.b64encode(raw or b"").decode(), image.width, image.height)
    except (UnidentifiedImageError, OSError, ValueError):
        pass
    return None


def section(history: Rows, views: bytes | None) -> dict[str, Any]:
    """What the template `training.html` shows. `views` is empty where training saw no augmented ones."""
    return {
        "curves": curves(history),
        "training_remark": remark(history),
        "views": picture(views),
        "views_plain": bool(history) and views == b"",
    }
