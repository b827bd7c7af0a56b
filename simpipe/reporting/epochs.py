"""A chart by epoch: lines and bands of columns of the history, for each repeat of training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from simpipe.reporting.svg import add, drawing, markup, path
from simpipe.reporting.text import is_number, percent

LEFT, TOP, WIDE, HIGH = 46, 10, 322, 140
POINTS = 240
"""Most points of a line; more could not be told apart."""

Series = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """A column of the history, drawn for each repeat; its band goes from column `low` to column `top`."""

    column: str
    name: str = ""
    low: str = ""
    top: str = ""


@dataclass(frozen=True)
class Frame:
    """Where epochs and values lie in the picture."""

    first: float
    last: float
    low: float
    top: float

    def x(self, epochs: Series) -> list[float]:
        return list(LEFT + WIDE * (epochs - self.first) / max(self.last - self.first, 1.0))

    def y(self, heights: Series) -> list[float]:
        return list(TOP + HIGH * (1 - (heights - self.low) / (self.top - self.low)))


def plot(
    runs: list[Rows], title: str, lines: list[Line], zero: bool = False, best: bool = False
) -> Markup | None:
    """One chart by epoch; None if none of the columns holds a number.

    Args:
        runs: the epochs of each repeat.
        title: what is read out, with where it begins and ends.
        lines: what is drawn.
        zero: whether the scale begins at 0.
        best: whether the greatest value of each repeat is marked. Values are then shares, as percentages.
    """
    columns = [name for line in lines for name in (line.column, line.low, line.top) if name]
    every = np.concatenate([values(rows, column) for rows in runs for column in columns])
    every = every[np.isfinite(every)]
    if not len(every):
        return None
    scale = ticks(0.0 if zero else float(every.min()), float(every.max()))
    epochs = [epochs_of(rows) for rows in runs]
    frame = Frame(min(each[0] for each in epochs), max(each[-1] for each in epochs), scale[0], scale[-1])

    known = [value for value in values(runs[0], lines[0].column) if math.isfinite(value)]
    ends = " to ".join(percent(value) if best else f"{value:.3g}" for value in known[:: len(known) - 1 or 1])
    root = drawing(LEFT + WIDE + 12, TOP + HIGH + 46, f"{title} by epoch, from {ends}", "epochs")
    axes(root, frame, scale, best)
    for index, line in enumerate(lines):
        if line.low:
            epoch, low, top = envelope(runs, line)
            band(root, frame.x(epoch), frame.y(low), frame.y(top), f"band{index}")
    marks = []
    for rows, epoch in zip(runs, epochs, strict=True):
        some = thinned(len(rows))
        for index, line in enumerate(lines):
            heights = values(rows, line.column)[some]
            path(root, frame.x(epoch[some]), frame.y(heights), f"line line{index}")
        scores = values(rows, lines[0].column)
        if best and np.isfinite(scores).any():
            marks.append((float(epoch[np.nanargmax(scores)]), float(np.nanmax(scores))))
    for x, y in marks:
        (cx,), (cy,) = frame.x(np.array([x])), frame.y(np.array([y]))
        add(root, "circle", cx=float(cx), cy=float(cy), r=5, class_="best-epoch")
    legend(root, lines, marks)
    return markup(root)


def axes(root: Any, frame: Frame, scale: list[float], shares: bool) -> None:
    """The grid with the values of `scale`, as percentages where they are shares, and the epochs."""
    for tick, y in zip(scale, frame.y(np.array(scale)), strict=True):
        label = f"{100 * tick:g} %" if shares else f"{tick:g}"
        add(root, "line", x1=LEFT, x2=LEFT + WIDE, y1=float(y), y2=float(y), class_="grid")
        add(root, "text", label, x=LEFT - 6, y=float(y) + 4, class_="tick end")
    epochs = epoch_ticks(frame.first, frame.last)
    for epoch, x in zip(epochs, frame.x(np.array(epochs)), strict=True):
        add(root, "text", f"{epoch:g}", x=float(x), y=TOP + HIGH + 16, class_="tick middle")
    add(root, "text", "epoch", x=LEFT + WIDE, y=TOP + HIGH + 36, class_="tick end")


def legend(root: Any, lines: list[Line], marks: list[tuple[float, float]]) -> None:
    """Below the chart: the names of the lines, or where the marks are."""
    at = TOP + HIGH + 36
    if marks:
        scores = [score for _, score in marks]
        most = percent(max(scores))
        text = f"best: {most} after epoch {marks[0][0]:g}"
        if len(marks) > 1:
            text = f"best: {percent(min(scores))} to {most}"
        add(root, "circle", cx=LEFT + 6, cy=at - 4, r=5, class_="best-epoch")
        add(root, "text", text, x=LEFT + 18, y=at)
    for index, line in enumerate(lines):
        if line.name:
            start = LEFT + 130 * index
            add(root, "line", x1=start, x2=start + 22, y1=at - 4, y2=at - 4, class_=f"line line{index}")
            add(root, "text", line.name, x=start + 28, y=at, class_=f"ink{index}")


def envelope(runs: list[Rows], line: Line) -> tuple[Series, Series, Series]:
    """Epochs, and the least and the greatest value of all repeats in each."""
    epoch, low, top = (
        np.concatenate(parts)
        for parts in zip(
            *((epochs_of(rows), values(rows, line.low), values(rows, line.top)) for rows in runs), strict=True
        )
    )
    there = np.isfinite(low) & np.isfinite(top)
    every = np.unique(epoch[there])
    every = every[thinned(len(every))]
    each = [there & (epoch == number) for number in every]
    return every, np.array([low[rows].min() for rows in each]), np.array([top[rows].max() for rows in each])


def thinned(count: int) -> npt.NDArray[np.int64]:
    """At most `POINTS` of `count` positions, evenly, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(np.int64))


def band(root: Any, xs: Sequence[float], low: Sequence[float], top: Sequence[float], class_: str) -> None:
    """The area between two lines."""
    there = [*zip(xs, low, strict=True), *reversed([*zip(xs, top, strict=True)])]
    add(root, "polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in there), class_=class_)


def epochs_of(rows: Rows) -> Series:
    """The numbers of the epochs; counted from 1 where they are not recorded."""
    found = values(rows, "epoch")
    return found if np.isfinite(found).all() else np.arange(1.0, len(rows) + 1)


def epoch_ticks(first: float, last: float) -> list[float]:
    """The first and the last epoch, and round ones between that leave them room."""
    room = 0.09 * (last - first)
    between = [tick for tick in ticks(first, last) if first + room < tick < last - room and tick % 1 == 0]
    return [first, *between, last]


def ticks(low: float, top: float) -> list[float]:
    """Two to seven round values, evenly spaced, that hold [low, top] between the first and the last."""
    span = max(top - low, abs(top) * 1e-3, 1e-9)
    size = 10.0 ** math.floor(math.log10(span / 5))
    step = size * next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 5)
    begin, end = math.floor(low / step + 1e-9), math.ceil(top / step - 1e-9)
    return [round(number * step, 12) for number in range(begin, max(end, begin + 1) + 1)]


def values(rows: Rows, column: str) -> Series:
    """A column of the history, NaN where it holds no number."""
    return np.array([float(row[column]) if is_number(row.get(column)) else np.nan for row in rows])
