"""The bar of sections, the mistakes and the neighbour explorer, as a person uses them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import MEAN, PLACE, hover, no_faults, opened, turned
from report_fixture import PLAIN, colour, content
from test_unlabelled_page import without_labels

from simpipe.reporting import mistakes, render
from simpipe.reporting.content import Content
from simpipe.reporting.text import percent

pytestmark = pytest.mark.browser

EXTREMES = [1, 0.9996, 0.0004, 0]


@pytest.fixture(scope="module")
def run() -> Content:
    """600 images on a grid, with mistakes of every kind and a probability for each answer.

    Of the right answers, the first are all but sure, and all but hopeless.
    """
    made = content(600, PLAIN, noise=1.5)
    chance = np.where(made.correct >= 0, np.linspace(0.3, 0.8, 600), np.nan)
    chance[np.flatnonzero(made.correct == 1)[: len(EXTREMES)]] = EXTREMES
    grid = np.column_stack([np.arange(600) % 30, np.arange(600) // 30]).astype(np.float32)
    return replace(made, xy=grid, before=None, probability=chance)


@pytest.fixture(scope="module")
def file(run: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("order") / "report.html"
    path.write_text(render(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(browser: Any, file: Path) -> Any:
    return opened(browser, file)


def listed(page: Any) -> list[int]:
    found: list[int] = page.evaluate(
        "[...document.querySelectorAll('#mistake-list > li')].map((item) => Number(item.dataset.row))"
    )
    return found


def explored(page: Any) -> int:
    """The image that the explorer shows, once it has been drawn."""
    page.locator("#explorer").scroll_into_view_if_needed()
    page.wait_for_selector("#explorer[data-row] #explorer-near li")
    return int(page.locator("#explorer").get_attribute("data-row"))


def test_the_bar_says_where_one_is(page: Any) -> None:
    for section in ("mistakes", "explorer", "verdict"):
        page.evaluate("name => document.getElementById(name).scrollIntoView()", section)
        page.wait_for_selector(f"#sections a[href='#{section}'][aria-current]")
        assert page.locator("#sections [aria-current]").count() == 1
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_selector("#sections a[href='#data-and-run'][aria-current]")
    assert page.locator("#sections").bounding_box()["y"] == 0


def test_each_kind_of_mistake_is_listed_in_order(page: Any, run: Content) -> None:
    for kind, rows in mistakes.kinds(run).items():
        page.locator(f"#mistake-filters [data-show={kind}]").click()
        assert listed(page) == rows[:20].tolist()
        assert page.locator(f"#about-{kind}").is_visible()
    page.locator("#mistake-filters [data-show=rejected]").click()
    right = next(row for row in mistakes.kinds(run)["rejected"].tolist() if run.correct[row] == 1)
    assert (
        "would be right, and is called unknown"
        in page.locator(f"#mistake-list [data-row='{right}'] p").inner_text()
    )
    page.locator("#mistake-filters [data-show=all]").click()
    assert listed(page) == mistakes.ranked(run)[:20].tolist()


def test_a_mistake_says_how_sure_it_was(page: Any, run: Content) -> None:
    row = int(mistakes.ranked(run)[0])
    query = run.test_rows.tolist().index(row)
    agree = int((run.label_id[run.test_ids[query, : run.voters]] == run.predicted[row]).sum())
    assert run.probability is not None
    told = page.locator(f"#mistake-list [data-row='{row}'] p").inner_text()
    assert f"{100 * run.probability[row]:.1f} % sure · {agree} of {run.voters} nearest agree" in told


def test_the_card_says_how_sure_it_was(page: Any, run: Content) -> None:
    row = int(np.flatnonzero(run.correct == 0)[0])
    assert run.probability is not None
    text = hover(page, row).inner_text()
    assert f"{100 * run.probability[row]:.1f} % sure" in text and "of the vote" not in text
    for row, share in zip(np.flatnonzero(run.correct == 1).tolist(), EXTREMES, strict=False):
        assert f" {percent(share)} sure" in hover(page, row).inner_text(), "as text.py writes it"
    other = run.split.index("train")
    assert "sure" not in hover(page, other).inner_text(), "nothing was asked of it"


def test_the_arrow_keys_step_through_the_mistakes(page: Any, run: Content) -> None:
    page.locator("#mistake-filters [data-show=all]").click()
    assert page.locator("#more-mistakes").text_content() == f"Show {len(mistakes.ranked(run)) - 20} more"
    page.locator("#more-mistakes").press("Enter")
    assert page.evaluate("document.activeElement === document.getElementById('mistake-list').children[20]")
    page.locator("#mistake-filters [data-show=all]").click()
    page.locator("#mistake-list > li").first.focus()
    order = mistakes.ranked(run).tolist()
    focused = "Number(document.activeElement.dataset.row)"
    for _ in range(min(20, len(order) - 1)):
        page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == order[min(20, len(order) - 1)]
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == order[min(20, len(order) - 1) - 1]
    assert page.locator("#mistake-list > li[tabindex='0']").count() == 1


def test_a_confused_pair_shows_its_mistakes(page: Any, run: Content) -> None:
    button = page.locator("#relations button[data-true]").first
    true, predicted = (int(button.get_attribute(f"data-{side}")) for side in ("true", "predicted"))
    button.click()
    assert len(listed(page)) == run.confusion[true, predicted]
    page.locator("#mistake-pair button").click()


def test_the_explorer_follows_the_map_and_compares(page: Any, run: Content) -> None:
    hover(page, 123)
    page.mouse.click(*page.evaluate(PLACE, 123))
    page.wait_for_selector("#panel[data-row='123']")
    page.locator("#explorer").scroll_into_view_if_needed()
    page.wait_for_selector("#explorer[data-row='123']")
    near = page.locator("#explorer-near button")
    assert near.count() == 10
    shown = [float(text) for text in page.locator("#explorer-near small").all_text_contents()]
    np.testing.assert_allclose(shown, 1 - run.neighbour_distances[123, :10], atol=6e-4)
    alike = (run.label_id[run.neighbour_ids[123, :10]] == run.label_id[123]).tolist()
    assert [text.startswith("= ") for text in near.locator("span:nth-child(2)").all_text_contents()] == alike
    near.nth(3).click()
    other = int(run.neighbour_ids[123, 3])
    picture = page.locator("#explorer-other .picture").element_handle()
    np.testing.assert_allclose(page.evaluate(MEAN, picture), colour(other), atol=16)
    assert f"distance {run.neighbour_distances[123, 3]:.3f}" in page.locator("#explorer-other").inner_text()
    page.locator("#explorer-other button").click()
    assert explored(page) == other


def test_the_explorer_goes_through_a_label_and_finds_a_file(page: Any, run: Content) -> None:
    explored(page)
    page.locator("#explorer-label").select_option(label="Zucchini")
    rows = np.flatnonzero(run.label_id == run.labels.index("Zucchini")).tolist()
    start = rows.index(explored(page))
    page.locator("#explorer-next").click()
    assert explored(page) == rows[(start + 1) % len(rows)]
    page.locator("#explorer-previous").click()
    page.locator("#explorer-previous").click()
    assert explored(page) == rows[start - 1]
    assert page.locator("#explorer-place").text_content().endswith(f"of {len(rows)} images")
    page.locator("#explorer-label").select_option("-1")
    page.locator("#explorer-name").fill("PHOTO 77.")
    page.wait_for_selector("#explorer[data-row='77']")
    assert page.locator("#explorer-place").text_content() == "1 of 1 image"
    page.locator("#explorer-name").fill("no such file")
    page.wait_for_selector("#explorer-next:disabled")
    assert page.locator("#explorer-place").text_content() == "0 images found"
    assert page.locator("#explorer-told").inner_text().startswith("No image fits")
    assert page.locator("#explorer .picture:visible").count() == 0, "the last image is no answer"
    # what is chosen elsewhere is shown all the same, and said to be
    page.locator("#panel .thumb").first.click()
    explored(page)
    assert "chosen elsewhere" in page.locator("#explorer-place").text_content()
    page.locator("#explorer-name").fill("")
    assert no_faults(page), page.faults


def test_the_bar_scrolls_on_a_phone_and_shows_it(browser: Any, file: Path) -> None:
    page = opened(browser, file, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = "getComputedStyle(document.getElementById('sections'), '::after').opacity"
    assert page.evaluate(shown) == "1"
    page.evaluate("document.getElementById('data-and-run').scrollIntoView()")
    page.wait_for_selector("#sections [aria-current][href='#data-and-run']")
    page.wait_for_function(f"{shown} === '0'")
    box = page.locator("#sections [aria-current]").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] >= 0
    page.context.close()


def test_without_labels_the_explorer_goes_by_groups(page: Any, tmp_path: Path) -> None:
    """This comes last, for it turns the page."""
    run = without_labels()
    path = tmp_path / "report.html"
    path.write_text(render(run), encoding="utf-8")
    turned(page, path)
    assert explored(page) == 0
    page.locator("#explorer-label").select_option(label="group 2")
    assert run.label_id[explored(page)] == 1
    assert "≠" not in page.locator("#explorer").inner_text()
    assert no_faults(page), page.faults
