"""The picker of a threshold: what every distance does on test as a drawing, and the numbers behind it."""

import json
import math
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from simpipe.metrics.intervals import wilson
from simpipe.reporting.content import Content
from simpipe.reporting.svg import add, drawing, markup, path
from simpipe.reporting.thresholds import (
    COLUMNS,
    Answers,
    Curve,
    Threshold,
    answers,
    curve,
    curve_at,
    is_whole,
    table,
)
from simpipe.wording import count

LEFT, WIDE, HIGH, TOP = 88, 580, 210, 36
STRIP, GAP = 44, 24
WIDTH, BASE = LEFT + WIDE + 20, TOP + HIGH
FLOOR = BASE + 3 * (STRIP + GAP)
POINTS, BINS, POSITIONS = 201, 60, 300


def section(content: Content) -> dict[str, Any]:
    """What the template shows: the table, and the picker or None."""
    rows = table(content.calibration)
    return {
        "thresholds": rows,
        "threshold_columns": list(COLUMNS.values()),
        "threshold_picker": picker(content, rows),
    }


def picker(content: Content, rows: list[Threshold]) -> dict[str, Any] | None:
    """The drawing, the slider's range, and for the script every number; None without test images."""
    found, steps = answers(content), curve(content)
    if found is None or steps is None:
        return None
    usable = [row for row in rows if row.distance is not None]
    step, end = axis(float(steps.distance[-1]))
    digits = max(3, decimals(step) + 1)
    start = next((row.distance for row in usable if row.working), end)
    counts = (content.metrics.get("blocks") or {}).get("seen", {}).get("counts") or {}
    data = {
        "distance": steps.distance.tolist(),
        **{name: getattr(steps, name).tolist() for name in ("right", "wrong", "let_in")},
        "known": steps.known,
        "strangers": steps.strangers,
        "whole": is_whole(found),
        "start": start,
        "working": any(row.working for row in rows),
        "end": end,
        "digits": digits,
        "left": LEFT,
        "wide": WIDE,
        "top": TOP,
        "high": HIGH,
        "targets": [row.key.removeprefix("precision_") for row in rows if row.key.startswith("precision_")],
    }
    return {
        "chart": chart(found, usable_marks(rows), end),
        "data": json.dumps(data, separators=(",", ":")),
        "step": f"{step:.10g}",
        "end": f"{end:.10g}",
        "margin": f"{100 * LEFT / WIDTH:.3f}%",
        "width": f"{100 * WIDE / WIDTH:.3f}%",
        "known": steps.known,
        "strangers": steps.strangers,
        "sampled": counts.get("sampled"),
        "queries": counts.get("queries"),
        "whole": data["whole"],
    }


def usable_marks(rows: list[Threshold]) -> list[tuple[int, str, float]]:
    """Number in the table, name and distance of the thresholds that could be chosen."""
    return [(place, row.name, row.distance) for place, row in enumerate(rows, 1) if row.distance is not None]


def axis(longest: float) -> tuple[float, float]:
    """The slider's step, 1, 2 or 5 at some decimal, and the end of the axis, a multiple of it."""
    longest = longest if longest > 0 else 1.0
    step = round_up(longest / POSITIONS)
    return step, step * math.ceil(longest / step - 1e-6)


def round_up(value: float) -> float:
    """The next number that is 1, 2 or 5 at some decimal."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{times * unit:.6g}") for times in (1, 2, 5, 10) if times * unit >= value * (1 - 1e-9))


def decimals(step: float) -> int:
    """How many decimals tell two multiples of `step` apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def chart(found: Answers, marks: list[tuple[int, str, float]], end: float) -> Markup:
    """Shares by distance, and below on the same axis how many of each kind lie where."""
    told = (
        f"what a threshold at each distance from 0 to {end:.3g} does to {count(found.known, 'known image')}"
    )
    root = drawing(WIDTH, FLOOR + 52, told, "curve")
    _axes(root, end)
    for place, name, distance in marks:
        x = _x(distance, end)
        mark = add(root, "line", x1=x, x2=x, y1=TOP, y2=FLOOR, class_="mark")
        add(mark, "title", f"{name}: distance {distance:.4g}")
        add(root, "text", str(place), x=x + 3, y=TOP + 14, class_="tick")
    _shares(root, curve_at(found, np.linspace(0, end, POINTS)), end)
    kinds = {"right answers": found.right, "wrong answers": found.wrong, "unknown images": found.unknown}
    for index, (name, distances) in enumerate(kinds.items()):
        _strip(root, name, distances, index, end)
    faded = add(root, "rect", x=LEFT, y=BASE, width=0, height=FLOOR - BASE, class_="declined")
    faded.set("id", "threshold-declined")
    for index, (name, distances) in enumerate(kinds.items()):
        y = BASE + index * (STRIP + GAP) + GAP - 4
        add(root, "text", f"{name}: {len(distances):,}", x=LEFT + WIDE, y=y, class_="tick end")
    add(root, "line", x1=LEFT, x2=LEFT, y1=TOP - 4, y2=FLOOR, class_="chosen", id="threshold-line")
    for index in range(3):
        add(root, "circle", cx=LEFT, cy=BASE, r=0, class_=f"dot{index}", id=f"threshold-dot{index}")
    return markup(root)


def _x(distance: float, end: float) -> float:
    return LEFT + WIDE * distance / end


def _axes(root: ET.Element, end: float) -> None:
    for tick in range(0, 101, 25):
        y = BASE - HIGH * tick / 100
        add(root, "line", x1=LEFT, x2=LEFT + WIDE, y1=y, y2=y, class_="grid")
        add(root, "text", f"{tick} %", x=LEFT - 6, y=y + 4, class_="tick end")
    step = round_up(end / 5)
    places = max(2, decimals(step))
    for tick in np.arange(0, end * (1 + 1e-9), step).tolist():
        x = _x(tick, end)
        add(root, "line", x1=x, x2=x, y1=FLOOR, y2=FLOOR + 5, class_="axis")
        kind = "tick middle" if tick else "tick"  # the first leaves room for the names of the rows
        add(root, "text", f"{tick:.{places}f}", x=x, y=FLOOR + 22, class_=kind)
        add(root, "text", f"{1 - tick:.{places}f}", x=x, y=FLOOR + 43, class_=kind)
    for name, y in (("distance", 22), ("similarity", 43)):
        add(root, "text", name, x=0, y=FLOOR + y, class_="tick")


def _shares(root: ET.Element, shown: Curve, end: float) -> None:
    """Three lines with their names, and the 95 % interval of the precision as a band."""
    xs = [_x(value, end) for value in shown.distance.tolist()]
    pairs = zip(shown.right.tolist(), (shown.right + shown.wrong).tolist(), strict=True)
    band = [(x, bounds) for x, pair in zip(xs, pairs, strict=True) if (bounds := wilson(*pair))]
    if band:
        lower = [(x, BASE - HIGH * low) for x, (low, _) in band]
        upper = [(x, BASE - HIGH * high) for x, (_, high) in band]
        outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*lower, *upper[::-1]])
        add(root, "path", d=f"M{outline}Z", class_="band1")
    lines = {"answered": shown.answered, "precision": shown.precision, "unknown let in": shown.unknown}
    for index, (name, values) in enumerate(lines.items()):
        if values is not None:
            x = LEFT + 180 * index
            path(root, xs, [BASE - HIGH * value for value in values.tolist()], f"line line{index}")
            add(root, "line", x1=x, x2=x + 30, y1=14, y2=14, class_=f"line line{index}")
            add(root, "text", name, x=x + 36, y=19, class_=f"ink{index}")


def _strip(root: ET.Element, name: str, distances: np.ndarray, index: int, end: float) -> None:
    """How many lie where, as bars of one kind; the highest bar fills the strip."""
    floor = BASE + (index + 1) * (STRIP + GAP)
    places = np.minimum((distances.astype(float) / end * BINS).astype(int), BINS - 1)
    sizes = np.bincount(np.maximum(places, 0), minlength=BINS)
    add(root, "line", x1=LEFT, x2=LEFT + WIDE, y1=floor, y2=floor, class_="axis")
    for place in np.flatnonzero(sizes).tolist():
        high = max(1.5, STRIP * float(sizes[place] / sizes.max()))
        x = LEFT + WIDE * place / BINS
        bar = add(
            root, "rect", x=x, y=floor - high, width=WIDE / BINS - 1.5, height=high, class_=f"bar{index}"
        )
        low, top = end * place / BINS, end * (place + 1) / BINS
        add(bar, "title", f"{name}, distance {low:.3g} to {top:.3g}: {sizes[place]:,}")
