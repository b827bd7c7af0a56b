"""Learning curves and augmented views, as the page shows them."""

import io
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_fixture import content
from test_page import Page

from simpipe.reporting import render
from simpipe.reporting.content import Content
from simpipe.reporting.epochs import HIGH, LEFT, TOP, WIDE, ticks
from simpipe.reporting.training import Figure, curves, remark

SCORES = [0.5, 0.7, 0.6, 0.7, 0.65]


def history(scores: list[float] | None = None, repeat: int | None = None) -> list[dict[str, Any]]:
    """Five epochs with every column that training writes."""
    rows = []
    for index, score in enumerate(SCORES if scores is None else scores):
        pull = 0.5 / (index + 1)
        rows.append(
            {"epoch": index + 1.0, "loss": 2.0 - 0.25 * index, "val_map@r": score}
            | {"positive_min": 0.2 * pull, "positive_mean": pull, "positive_max": 2 * pull}
            | {"negative_min": 0.4, "negative_mean": 0.9, "negative_max": 1.4}
            | {"gap": 0.4 - 2 * pull, "effective_rank": 20.0 + index}
            | ({} if repeat is None else {"repeat": float(repeat)})
        )
    return rows


def without(rows: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def captioned(figures: list[Figure], word: str) -> ET.Element:
    (chart,) = (figure.chart for figure in figures if figure.caption.startswith(word))
    return ET.fromstring(chart)  # noqa: S314 - made by the page itself


def points(line: ET.Element) -> np.ndarray:
    return np.array([[float(part) for part in pair.split()] for pair in re.split("[ML]", line.get("d"))[1:]])


def webp(side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2 * side, side), (10, 200, 30)).save(stream, "WEBP")
    return stream.getvalue()


@pytest.fixture(scope="module")
def run() -> Content:
    return replace(content(60, ["a", "b", "c"]), history=history(), views=webp())


# --- the curves


def test_lines_go_through_their_values():
    chart = captioned(curves(history()), "Loss")
    (line,) = chart.findall("path")
    expected = [[LEFT + WIDE * index / 4, TOP + HIGH * (1 - (1 - 0.25 * index))] for index in range(5)]
    np.testing.assert_allclose(points(line), expected, atol=0.06)  # the scale is 1 … 2
    assert chart.get("aria-label") == "loss by epoch, from 2 to 1"


def test_the_first_of_the_best_epochs_is_marked():
    chart = captioned(curves(history()), "MAP@R")
    mark, _ = chart.findall("circle")
    assert float(mark.get("cx")) == pytest.approx(LEFT + WIDE / 4, abs=0.1)
    assert float(mark.get("cy")) == pytest.approx(TOP, abs=0.1)  # 70 % is the greatest of the scale
    assert "best: 70.0 % after epoch 2" in [text.text for text in chart.iter("text")]


def test_bands_go_from_the_least_to_the_greatest_distance():
    chart = captioned(curves(history()), "Cosine distances")
    positive, negative = chart.findall("polygon")
    corners = np.array([[float(part) for part in pair.split(",")] for pair in negative.get("points").split()])
    y = TOP + HIGH * (1 - np.array([0.4, 1.4]) / 1.5)  # the scale is 0 … 1.5
    np.testing.assert_allclose(corners[:5, 1], y[0], atol=0.06)
    np.testing.assert_allclose(corners[5:, 1], y[1], atol=0.06)
    assert positive.get("class") == "band0" and len(chart.findall("path")) == 2
    assert {"positive pairs", "negative pairs"} <= {text.text for text in chart.iter("text")}


def test_each_repeat_has_a_line_and_its_best_epoch():
    rows = history(repeat=0) + history([0.4, 0.5, 0.8], repeat=1)
    figures = curves(rows)
    chart = captioned(figures, "MAP@R")
    assert len(chart.findall("path")) == 2 and len(chart.findall("circle")) == 3
    assert "best: 70.0 % to 80.0 %" in [text.text for text in chart.iter("text")]
    assert len(captioned(figures, "Cosine").findall("polygon")) == 2, "one band over all repeats"
    assert "a line for each repeat" in figures[0].caption


def test_without_labels_there_is_no_map_at_r_and_that_is_said(run):
    rows = without(history(), "val_map@r")
    assert [figure.caption.split()[0] for figure in curves(rows)] == ["Loss", "Cosine", "Effective"]
    assert "MAP@R on val was not measured" in remark(rows)
    text = render(replace(run, history=rows))
    assert "MAP@R on val was not measured" in text and "best-epoch" not in text.split("<main")[1]
    assert "not measured" not in remark(history())


def test_an_old_history_shows_what_it_has():
    rows = [{"epoch": 1.0, "loss": 1.0}, {"epoch": 2.0, "loss": 0.5, "val_map@r": 0.5}]
    assert len(curves(rows)) == 2


def test_a_single_epoch_is_a_sentence():
    assert curves(history()[:1]) == []
    assert remark(history()[:1]) == "A single epoch: loss 2, val_map@r 0.5."
    assert curves([]) == [] and remark([]) == "None was recorded."


def test_long_and_broken_histories_stay_drawable():
    rows = history([0.5] * 3000)
    rows[1]["loss"], rows[2]["loss"] = float("nan"), float("inf")
    chart = captioned(curves(rows), "Loss")
    assert len(chart.find("path").get("d")) < 4000
    flat = captioned(curves(history([0.5, 0.5])), "MAP@R")
    assert "nan" not in ET.tostring(flat, encoding="unicode")


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_are_few_even_and_hold_the_values(low, span):
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 8
    assert found[0] <= low + 1e-6 * max(1, span) and found[-1] >= low + span * (1 - 1e-6) - 1e-6
    np.testing.assert_allclose(np.diff(found), found[1] - found[0], rtol=1e-3)


# --- the views


def test_views_are_in_the_page_with_their_size(run):
    text = render(run)
    assert (
        len(re.findall(r'<img src="data:image/webp;base64,[\w+/=]+" width="16" height="8" alt="', text)) == 1
    )
    page = Page(text)
    assert page.open == [] and "img-src data:" in page.meta["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("views", "said"),
    [(None, False), (b"", True), (b"<script>alert(1)</script>", False), (webp()[:40], False)],
    ids=["lost", "plain", "no picture", "cut off"],
)
def test_without_views_there_is_no_picture(run, views, said):
    text = render(replace(run, views=views))
    assert "<img" not in text.replace("&lt;img", "") and "alert(1)" not in text
    assert ("Training saw the images as they are" in text) == said


def test_where_nothing_was_trained_nothing_was_seen(run):
    assert "Training saw" not in render(replace(run, history=[], views=b""))


def test_views_count_in_the_size_of_the_page(run):
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "WEBP", quality=80)
    heavy = io.BytesIO()
    Image.fromarray(noise[:96, :96]).save(heavy, "JPEG")
    big = replace(
        content(300),
        views=stream.getvalue(),
        thumbnails=lambda rows: [heavy.getvalue()] * len(rows),
    )
    assert len(stream.getvalue()) > 200_000
    assert len(render(big, 2.6).encode()) <= 2.6e6
