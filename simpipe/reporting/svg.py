"""Inline SVG by ElementTree, which escapes all text; colours come from the page's style sheet by class."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup


def drawing(width: float, height: float, summary: str, kind: str = "") -> ET.Element:
    """An empty picture of `width` × `height` units, read out as `summary`."""
    return ET.Element(
        "svg",
        {
            "viewBox": f"0 0 {width:g} {height:g}",
            "role": "img",
            "aria-label": summary,
            "class": f"chart {kind}".strip(),
        },
    )


def add(parent: ET.Element, tag: str, text: str = "", **attributes: Any) -> ET.Element:
    """A child of `parent`; `class_` is class, other underscores become hyphens, numbers are shortened."""
    named = {
        name.rstrip("_").replace("_", "-"): f"{value:.5g}" if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
    child = ET.SubElement(parent, tag, named)
    child.text = text or None
    return child


def path(parent: ET.Element, xs: Sequence[float], ys: Sequence[float], class_: str) -> None:
    """A line through the points; a point that is no number breaks it."""
    parts, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if x != x or y != y:
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    add(parent, "path", d=" ".join(parts), class_=class_)


def markup(root: ET.Element) -> Markup:
    """The picture as text that a template takes as it is."""
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped it
