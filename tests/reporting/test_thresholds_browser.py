"""The picker of a threshold as a person uses it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import no_faults, opened, turned
from report_fixture import content
from test_threshold_picker import calibrated, counted, edges

from simpipe.reporting import render
from simpipe.reporting.content import Content

pytestmark = pytest.mark.browser

MOVE = """distance => {
  const slider = document.getElementById("threshold-slider");
  slider.value = distance;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
}"""


@pytest.fixture(scope="module")
def run() -> Content:
    return calibrated(content())


@pytest.fixture(scope="module")
def page(browser: Any, run: Content, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("thresholds") / "report.html"
    file.write_text(render(run), encoding="utf-8")
    return opened(browser, file)


def said(page: Any, part: str) -> str:
    text: str = page.locator(f"#threshold-{part}").text_content()
    return text


def at(page: Any) -> float:
    return float(page.locator("#threshold-picker").get_attribute("data-at"))


def percent(hits: int, of: int) -> str:
    return f"{100 * hits / of:.1f} %"


def tells(page: Any, run: Content) -> bool:
    """Whether the page says, of the distance at which it stands, what a loop over the images finds."""
    right, wrong, unknown = counted(run, at(page))
    known, strangers = len(run.test_rows), len(run.unknown_distances)
    rights, mistakes, _ = counted(run, np.inf)
    given = right + wrong
    assert said(page, "answered") == percent(given, known)
    assert said(page, "answered-note") == f"{given} of {known} known images"
    assert said(page, "precision") == (percent(right, given) if given else "–")
    assert said(page, "precision-note").startswith(f"{right} of {given} answer" if given else "Nothing")
    assert said(page, "unknown") == percent(unknown, strangers)
    assert said(page, "unknown-note").startswith(f"{unknown} of {strangers} unknown images")
    assert f"avoids {mistakes - wrong} of {mistakes} mistakes" in said(page, "bargain")
    assert f"loses {rights - right} of {rights} right answers" in said(page, "bargain")
    spoken = page.locator("#threshold-slider").get_attribute("aria-valuetext")
    assert f"{percent(given, known)} of known images answered" in spoken
    assert f"{percent(unknown, strangers)} of unknown images let in" in spoken
    return True


def test_it_starts_where_query_works_and_says_so(page: Any, run: Content) -> None:
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert at(page) == run.calibration["thresholds"]["precision_0.80"]["distance"]
    assert "what simpipe query uses" in said(page, "which")
    assert tells(page, run)
    assert said(page, "command") == "simpipe query IMAGE --threshold precision_0.80"


@pytest.mark.parametrize("distance", [0.0, 0.14, 0.2, 0.3, 0.4, 0.62, 2.0])
def test_the_slider_moves_line_and_numbers(page: Any, run: Content, distance: float) -> None:
    page.evaluate(MOVE, distance)
    assert at(page) == pytest.approx(min(distance, 0.9), abs=0.01)
    assert tells(page, run)
    slider, line = (page.locator(f"#threshold-{part}").bounding_box() for part in ("slider", "line"))
    share = at(page) / float(page.locator("#threshold-slider").get_attribute("max"))
    thumb = slider["x"] + 8 + (slider["width"] - 16) * share
    assert line["x"] + line["width"] / 2 == pytest.approx(thumb, abs=3)


def test_the_keyboard_moves_it(page: Any, run: Content) -> None:
    page.evaluate(MOVE, 0.3)
    page.locator("#threshold-slider").focus()
    page.keyboard.press("ArrowRight")
    step = float(page.locator("#threshold-slider").get_attribute("step"))
    assert at(page) == pytest.approx(0.3 + step, abs=step / 10) and tells(page, run)
    page.keyboard.press("Home")
    assert (
        at(page) == 0 and said(page, "precision") == "–" and not page.locator("#threshold-use").is_visible()
    )
    page.keyboard.press("End")
    assert said(page, "answered") == "100.0 %" and "Every image is answered." in said(page, "which")


def test_a_distance_and_a_similarity_can_be_typed(page: Any, run: Content) -> None:
    page.locator("#threshold-distance").fill("0.3123")
    page.keyboard.press("Enter")
    assert at(page) == np.float32(0.3123) and tells(page, run)
    assert page.locator("#threshold-similarity").input_value() == "0.6877"
    page.locator("#threshold-similarity").fill("0.75")
    page.keyboard.press("Enter")
    assert at(page) == 0.25 and tells(page, run)
    assert page.locator("#threshold-distance").input_value() == "0.2500"
    assert "by eye" in said(page, "which")
    page.locator("#threshold-distance").fill("")
    page.keyboard.press("Enter")
    assert at(page) == 0.25


@pytest.mark.parametrize("name", ["optimal", "precision_0.80", "precision_0.90", "unknown_accept_0.30"])
def test_a_button_sets_exactly_the_threshold(page: Any, run: Content, name: str) -> None:
    page.locator(f"#threshold-picker [data-key='{name}']").click()
    entry = run.calibration["thresholds"][name]
    assert at(page) == entry["distance"] and tells(page, run)
    for part, key in (
        ("answered", "accepted"),
        ("precision", "precision"),
        ("unknown", "unknown_accept"),
    ):
        assert said(page, part) == f"{100 * entry['on_test'][key]:.1f} %"
    bounds = (
        f"{100 * entry['on_test']['precision_low']:.1f} to {100 * entry['on_test']['precision_high']:.1f}"
    )
    assert bounds in said(page, "precision-note")
    assert said(page, "command").endswith(f"--threshold {name}")
    pressed = page.locator("#threshold-picker [data-key][aria-pressed=true]")
    assert pressed.count() == 1 and pressed.get_attribute("data-key") == name


def test_by_eye_it_offers_a_target_that_is_chosen_elsewhere(page: Any, run: Content) -> None:
    page.evaluate(MOVE, 0.25)
    right, wrong, _ = counted(run, at(page))
    asked = min(0.99, np.floor(100 * right / (right + wrong)) / 100)
    targets = [f"{asked:.2f}", *(each for each in ("0.80", "0.90", "0.999") if float(each) != asked)]
    line = f'simpipe calibrate --set "calibrate.precision=[{", ".join(targets)}]"'
    line += " && simpipe evaluate && simpipe report"
    assert said(page, "command") == line
    page.locator("#threshold-copy").click()
    assert page.evaluate("getSelection().toString()") == line
    page.wait_for_function("document.getElementById('threshold-copied').textContent !== ''")


def test_a_click_into_the_drawing_sets_it(page: Any, run: Content) -> None:
    box = page.locator("#threshold-chart svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 100)
    assert 0.2 < at(page) < 0.6 and tells(page, run)
    assert no_faults(page), page.faults


def test_the_section_fits_a_phone(page: Any) -> None:
    wide = page.viewport_size
    page.set_viewport_size({"width": 375, "height": 812})
    assert page.evaluate("document.getElementById('thresholds').scrollWidth") <= 375
    for part in ("#threshold-table", "#threshold-chart svg", "#threshold-slider", ".bargain"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 375
    page.set_viewport_size(wide)


@pytest.mark.parametrize("edge", ["no unknown", "all right", "all wrong", "one test image", "all copies"])
def test_edges_stay_true(page: Any, run: Content, tmp_path: Path, edge: str) -> None:
    """These come last, for they turn the page."""
    given = edges(run)[edge]
    file = tmp_path / "edge.html"
    file.write_text(render(given), encoding="utf-8")
    turned(page, file)
    texts = {
        "no unknown": ("unknown-note", "Not measured: no test image has an unknown label."),
        "all right": ("bargain", "it has no mistake to avoid and loses"),
        "all wrong": ("bargain", "and has no right answer to lose."),
        "one test image": ("answered-note", "of 1 known image"),
        "all copies": ("which", "as simpipe query does where no threshold could be chosen."),
    }
    part, text = texts[edge]
    assert text in said(page, part)
    page.evaluate(MOVE, 0)
    page.evaluate(MOVE, 2)
    assert "NaN" not in page.locator("#thresholds").text_content()
    assert no_faults(page), page.faults
