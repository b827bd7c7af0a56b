"""The confusion matrix as SVG: the diagonal in grey, only mistakes coloured, such a cell is a button.

To a screen reader it is a grid. Of its buttons only the first is in the order of the tab key; `matrix.js`
takes the arrow keys to the others.
"""

from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from simpipe.reporting.svg import add, drawing, markup
from simpipe.reporting.text import clean, short
from simpipe.wording import count, figure

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
    root.attrib |= {
        "role": "grid",
        "aria-colcount": str(len(shown) + 1),
        "aria-describedby": "matrix-keys",
        "style": f"width:{size + 60:g}px",
    }
    add(root, "rect", x=margin, y=margin, width=size - margin, height=size - margin, class_="field")
    head = add(root, "g", role="row")
    lines = [add(root, "g", role="row") for _ in names]
    for index, name in enumerate(names):
        name_line(head, lines[index], name, index, margin, side)
    for i, j in np.argwhere(part).tolist():
        kind = "right" if i == j else "wrong"
        cell = add(lines[i], "g", class_=kind, role="gridcell", aria_colindex=j + 2)
        box = add(cell, "rect", x=margin + side * j, y=margin + side * i, width=side - 1, height=side - 1)
        share = part[i, j] / queries[i]
        told = f"{short(names[i])} → {short(names[j])}: {part[i, j]} of {queries[i]} ({figure(share, 0)}%)"
        add(box, "title", told)
        if i != j:
            as_button(box, told, int(shown[i]), int(shown[j]), share)
        if side > 20:
            x, y = margin + side * (j + 0.5) - 0.5, margin + side * (i + 0.5) + 3.5
            add(cell, "text", str(part[i, j]), x=x, y=y, class_="middle")
    first = root.find(".//rect[@tabindex]")
    if first is not None:
        first.set("tabindex", "0")
    return markup(root)


def name_line(head: ET.Element, line: ET.Element, name: str, index: int, margin: float, side: float) -> None:
    """A label beside its row and above its column, whole in the tooltip."""
    middle = margin + side * (index + 0.5)
    turned = f"translate({middle + 4:g} {margin - 6:g}) rotate(-60)"
    for text in (
        add(line, "text", x=margin - 6, y=middle + 4, class_="tick end", role="rowheader", aria_colindex=1),
        add(head, "text", transform=turned, class_="tick", role="columnheader", aria_colindex=index + 2),
    ):
        add(text, "title", name).tail = short(name, LONGEST)


def as_button(box: ET.Element, told: str, true: int, predicted: int, share: float) -> None:
    """Make a wrong cell choosable by mouse and keyboard, the darker the more of its label it holds."""
    box.attrib |= {
        "fill-opacity": f"{0.25 + 0.75 * share:.2f}",
        "data-true": str(true),
        "data-predicted": str(predicted),
        "role": "button",
        "tabindex": "-1",
        "aria-label": f"{told}; show them",
    }
