"""The charts: the ladder, the sizes of the labels."""

from typing import Any

import numpy as np
from markupsafe import Markup

from simpipe.reporting.svg import add, drawing, markup
from simpipe.reporting.text import clean, interval, number, percent, short

RUNGS = ("chance", "thumbnail", "pretrained", "untrained", "whitened", "lda", "trained")


def ladder(rungs: list[dict[str, Any]], block: str, name: str) -> Markup | None:
    """One metric of one block for every rung, with intervals, from 0 to 100 %; None where none has it."""
    entries = [(clean(rung["rung"]), rung["metrics"].get(name)) for rung in rungs if rung["block"] == block]
    entries = [(rung, metric) for rung, metric in entries if number(metric) is not None]
    if not entries:
        return None
    entries.sort(key=lambda entry: RUNGS.index(entry[0]) if entry[0] in RUNGS else len(RUNGS))
    left, wide, step = 80, 240, 26
    height = step * len(entries) + 26
    told = ", ".join(f"{rung} {percent(number(metric))}" for rung, metric in entries)
    root = drawing(left + wide + 178, height, f"{name} by rung: {told}", "ladder")
    for tick in range(0, 101, 25):
        x = left + wide * tick / 100
        add(root, "line", x1=x, x2=x, y1=4, y2=height - 22, class_="grid")
        add(root, "text", f"{tick} %", x=x, y=height - 6, class_="tick middle")
    for index, (rung, metric) in enumerate(entries):
        y = step * index + 16
        value = number(metric)
        assert value is not None and metric is not None  # noqa: S101 - filtered above
        kind = "rung best" if rung == "trained" else "rung"
        add(root, "text", rung, x=left - 10, y=y + 4, class_="end")
        low, high = number(metric.get("low")), number(metric.get("high"))
        if low is not None and high is not None:
            add(
                root,
                "line",
                x1=left + wide * low,
                x2=left + wide * high,
                y1=y,
                y2=y,
                class_=f"{kind} whisker",
            )
        add(root, "circle", cx=left + wide * value, cy=y, r=5, class_=kind)
        add(root, "text", f"{percent(value)} {interval(metric)}", x=left + wide + 16, y=y + 4, class_="value")
    return markup(root)


def label_sizes(labels: list[str], counts: dict[str, np.ndarray], most: int = 60) -> Markup:
    """Images per label as bars, stacked by split, largest first; only the `most` largest of many."""
    total = np.sum(list(counts.values()), axis=0)
    order = np.argsort(-total, kind="stable")[:most].tolist()
    wide, step, left = 520, 16, 150
    root = drawing(left + wide + 50, step * len(order) + 8, f"images per label, {len(order)} labels", "sizes")
    scale = wide / max(int(total.max(initial=0)), 1)
    for index, label in enumerate(order):
        y, x = step * index + 4, float(left)
        add(root, "text", short(clean(labels[label]), 20), x=left - 8, y=y + 10, class_="tick end")
        for kind, (split, sizes) in enumerate(counts.items()):
            width = float(sizes[label] * scale)
            if width:
                bar = add(root, "rect", x=x, y=y, width=width, height=step - 4, class_=f"split{kind % 8}")
                add(bar, "title", f"{split}: {sizes[label]:,}")
            x += width
        add(root, "text", f"{total[label]:,}", x=x + 6, y=y + 10, class_="tick")
    return markup(root)
