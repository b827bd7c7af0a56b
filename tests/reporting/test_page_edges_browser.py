"""Runs that are small, huge or lack something: each still opens, and its map answers."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import PLACE, hover, no_faults, turned, window
from PIL import Image
from report_fixture import colour, content
from test_page import EDGES
from test_unlabelled_page import without_labels

from simpipe.reporting import render
from simpipe.reporting.content import Content

pytestmark = pytest.mark.browser


def in_mode(row: int) -> bytes:
    """A picture in grey, with alpha, with a palette or in CMYK: as a JPEG where it can be one."""
    mode = ("L", "RGBA", "P", "CMYK", "LA", "1")[row % 6]
    stream = io.BytesIO()
    picture = Image.new("RGB", (96, 96), colour(row)).convert(mode)
    picture.save(stream, "JPEG" if mode in ("L", "CMYK") else "PNG")
    return stream.getvalue()


def without_baseline(run: Content) -> Content:
    """Also laid out by PCA, and with pictures of every mode: none has to do with another."""
    blocks = {"seen": run.metrics["blocks"]["seen"], "unseen": {}, "open_set": {}}
    return replace(
        run,
        metrics={"blocks": blocks, "ladder": [], "gain": []},
        projection={"method": "pca", "preserved": 0.2, "preserved_k": 15},
        thumbnails=lambda rows: [in_mode(row) for row in rows],
    )


SHARED = (
    "no test queries",
    "no mistakes",
    "no neighbours",
    "some pictures missing",
    "no pictures",
    "one label",
    "two images",
)
MORE: dict[str, Callable[[Content], Content]] = {
    "one image": lambda run: content(1, ["only"]),
    "300 labels": lambda run: content(600, [f"label {number}" for number in range(300)]),
    "no baseline, PCA, grey and alpha": without_baseline,
    "no labels": lambda run: without_labels(),
}
HERE = {**{name: EDGES[name] for name in SHARED}, **MORE}


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    shown = window(browser)
    yield shown
    shown.context.close()


# check 27
@pytest.mark.parametrize("edge", HERE)
def test_edges_open_without_a_fault(page: Any, run: Content, tmp_path: Path, edge: str) -> None:
    path = tmp_path / "edge.html"
    path.write_text(render(HERE[edge](run)), encoding="utf-8")
    turned(page, path)
    card = hover(page, 0)
    assert card.locator(".picture.missing").count() == (edge == "no pictures")
    page.mouse.click(*page.evaluate(PLACE, 0))
    page.wait_for_selector("#panel[data-row='0']")
    assert no_faults(page), page.faults
