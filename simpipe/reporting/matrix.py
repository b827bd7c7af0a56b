"""The confusion matrix as SVG: the diagonal in grey, only mistakes coloured, a cell is a button."""

from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from simpipe.reporting.svg import add, drawing, markup
from simpipe.reporting.text import clean, count, short

LONGEST = 20
LETTER = 6.5


def matrix(confusion: np.ndarray, labels: list[str], shown: np.ndarray) -> Markup | None:
    """Rows are true labels, columns predicted ones, in the order `shown`; None with fewer than two."""
    if len(shown) < 2:
        return None
    names = [clean(labels[label]) for label in shown.tolist()]
    margin = 14 + LETTER * min(LONGEST, max(map(len, names)))
    side = 22 if len(shown) <= 20 else 14
    size = margin + side * len(shown)
    part, queries = confusion[np.ix_(shown, shown)], confusion.sum(axis=1)[shown]
    mistakes = count(int(part.sum() - np.trace(part)), "mistake")
    root = drawing(size + 60, size, f"confusion matrix of {len(shown)} labels, {mistakes}", "matrix")
    root.set("role", "group")
    root.set("style", f"width:{size + 60:g}px")
    add(root, "rect", x=margin, y=margin, width=size - margin, height=size - margin, class_="field")
    for index, name in enumerate(names):
        name_line(root, name, margin, margin + side * (index + 0.5))
    for i, j in np.argwhere(part).tolist():
        cell = add(root, "g", class_="right" if i == j else "wrong")
        box = add(cell, "rect", x=margin + side * j, y=margin + side * i, width=side - 1, height=side - 1)
        share = part[i, j] / queries[i]
        told = f"{short(names[i])} → {short(names[j])}: {part[i, j]} of {queries[i]} ({share:.0%})"
        add(box, "title", told)
        if i != j:
            as_button(box, told, int(shown[i]), int(shown[j]), share)
        if side > 20:
            x, y = margin + side * (j + 0.5) - 0.5, margin + side * (i + 0.5) + 3.5
            add(cell, "text", str(part[i, j]), x=x, y=y, class_="middle")
    return markup(root)


def name_line(root: ET.Element, name: str, margin: float, middle: float) -> None:
    """A label beside its row and above its column, whole in the tooltip."""
    turned = f"translate({middle + 4:g} {margin - 6:g}) rotate(-60)"
    for text in (
        add(root, "text", x=margin - 6, y=middle + 4, class_="tick end"),
        add(root, "text", transform=turned, class_="tick"),
    ):
        add(text, "title", name).tail = short(name, LONGEST)


def as_button(box: ET.Element, told: str, true: int, predicted: int, share: float) -> None:
    """Make a wrong cell choosable by mouse and keyboard, the darker the more of its label it holds."""
    box.attrib |= {
        "fill-opacity": f"{0.25 + 0.75 * share:.2f}",
        "data-true": str(true),
        "data-predicted": str(predicted),
        "role": "button",
        "tabindex": "0",
        "aria-label": f"{told}; show them",
    }
