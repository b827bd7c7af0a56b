"""What a person can ask of the map: colourings, focus, names, before and after, keys, a part of much data."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import PLACE, hover, no_faults, opened
from report_fixture import content

from simpipe.reporting import atlas, render
from simpipe.reporting.colours import FADED, PALETTE
from simpipe.reporting.content import Content
from simpipe.reporting.drawn import drawn
from simpipe.reporting.payload import NO_GROUP
from simpipe.reporting.text import clean

pytestmark = pytest.mark.browser

SOURCE = "name => [...Bokeh.index][0].model.document.get_model_by_name(name).data"
"""The columns of a layer of the map."""


def rings(page: Any) -> int:
    return int(page.evaluate(f"({SOURCE})('mistakes').x.length"))


def colours(page: Any) -> np.ndarray:
    return np.array(page.evaluate(f"[...({SOURCE})('points').code]"))


def labels_of(buttons: Any) -> list[str]:
    found: list[str] = buttons.evaluate_all("all => all.map((each) => each.getAttribute('aria-label'))")
    return found


def texts(page: Any) -> list[str]:
    found: list[str] = page.evaluate(f"[...({SOURCE})('names').text]")
    return found


@pytest.fixture(autouse=True)
def as_it_was(page: Any) -> Iterator[None]:
    """Every test finds the map as it is when the page is opened."""
    yield
    page.locator("#colour-by").select_option("label")
    if page.locator("#show-all").is_enabled():
        page.locator("#show-all").click()
    page.locator("#rings").check()
    page.locator("[data-to=after]").click()


def test_the_card_tells_the_similarity_of_the_nearest(page: Any, run: Content) -> None:
    query = int(run.test_rows[3])
    text = hover(page, query).inner_text()
    assert f"nearest in train: similarity {1 - run.test_distances[3, 0]:.3f}" in text
    assert f"{run.confidence[query]:.1%}".replace("%", " % of the vote") in text
    other = run.split.index("train")
    assert (
        f"nearest: similarity {1 - run.neighbour_distances[other, 0]:.3f}" in hover(page, other).inner_text()
    )


def test_every_colouring_counts_every_image_and_rings_mistakes(page: Any, run: Content) -> None:
    names = page.evaluate("[...document.querySelectorAll('#colour-by option')].map((option) => option.value)")
    assert names == [
        "label", "prediction", "outcome", "confidence", "agreement", "similarity", "split", "finding",
    ]  # fmt: skip
    wrong = int((run.correct == 0).sum())
    for name in names:
        page.locator("#colour-by").select_option(name)
        counts = page.locator("#legend-list small").all_text_contents()
        assert sum(int(text.split(" ")[0]) for text in counts) == 300, name
        told = re.findall(r"· (\d+)(?: of \d+)? wrong", "\n".join(counts))
        assert sum(map(int, told)) == (0 if name == "outcome" else wrong), name
        assert rings(page) == wrong, name
    page.locator("#rings").uncheck()
    assert rings(page) == 0
    assert no_faults(page), page.faults


def test_shares_are_coloured_by_amount_with_a_legend_to_read(page: Any, run: Content) -> None:
    page.locator("#colour-by").select_option("confidence")
    found, asked = colours(page), run.correct >= 0
    assert (found[~asked] == NO_GROUP).all()
    sure = run.confidence[asked]
    assert (np.diff(found[asked][np.argsort(sure)]) >= 0).all(), "more is a later colour"
    entry = page.locator("#legend-list li", has_text="100 %").locator(".swatch")
    assert f"colour{found[asked].max()}" in entry.get_attribute("class")


def test_others_are_grey_or_gone(page: Any, run: Content) -> None:
    gala = run.labels.index("Royal Gala")
    page.locator("#legend-list button", has_text="Royal Gala").click()
    grey = next(row for row in range(20, 300) if run.label_id[row] != gala and row not in (200, 201, 202))
    assert hover(page, grey).is_visible()
    page.locator("[data-others=hidden]").click()
    assert page.locator("[data-others=hidden]").get_attribute("aria-pressed") == "true"
    page.mouse.move(5, 5)
    page.mouse.move(*page.evaluate(PLACE, grey))
    page.wait_for_timeout(100)
    assert page.locator("#card").get_attribute("data-row") != str(grey) or page.locator("#card").is_hidden()
    kept = np.array(page.evaluate("[...Bokeh.index][0].model.document.get_model_by_name('bright').booleans"))
    np.testing.assert_array_equal(kept, run.label_id == gala)
    assert hover(page, int(np.flatnonzero(run.label_id == gala)[2])).is_visible()
    page.locator("#show-all").click()
    assert page.locator("#legend-list [aria-pressed=true]").count() == 0 and NO_GROUP not in colours(page)
    assert page.locator("[data-others=grey]").get_attribute("aria-pressed") == "true"


def test_before_and_after_training(page: Any, run: Content) -> None:
    assert run.before is not None
    hover(page, 123)
    page.mouse.click(*page.evaluate(PLACE, 123))
    page.locator("[data-to=before]").click()
    page.wait_for_selector("#panel h3:has-text('before training')")
    assert page.locator("[data-to=before]").get_attribute("aria-pressed") == "true"
    assert page.locator("#panel").get_attribute("data-row") == "123"
    rows = page.evaluate("[...document.querySelectorAll('#panel li')].map((li) => Number(li.dataset.row))")
    assert rows == run.before.neighbour_ids[123, :10].tolist()
    both = len(set(rows) & set(run.neighbour_ids[123, :10].tolist()))
    assert page.locator(".kept").inner_text().startswith(f"{both} of 10 also nearest after")
    caption = page.locator("#map .caption")
    assert "42.0 %" in caption.inner_text() and "61.0 %" not in caption.inner_text()
    place = np.column_stack([page.evaluate(f"[...({SOURCE})('points').{axis}]") for axis in "xy"])
    np.testing.assert_allclose(place, run.before.xy, atol=2e-3)
    np.testing.assert_allclose(page.evaluate(f"({SOURCE})('chosen').x[0]"), run.before.xy[123, 0], atol=2e-3)
    page.locator("#explorer").scroll_into_view_if_needed()
    page.wait_for_selector("#explorer[data-row='123']")
    for name, distances in (("before", run.before.neighbour_distances), ("after", run.neighbour_distances)):
        page.locator(f"[data-to={name}]").click()
        told = "before training" if name == "before" else "in the embedding space"
        page.wait_for_selector(f"#panel h3:has-text('{told}')")
        page.locator("#explorer").scroll_into_view_if_needed()
        page.wait_for_selector(f"#explorer-told:has-text('{told}')")
        shown = [float(text) for text in page.locator("#explorer-near small").all_text_contents()]
        np.testing.assert_allclose(shown, 1 - distances[123, :10], atol=6e-4)
    assert page.locator("#explorer").get_attribute("data-row") == "123"
    assert "61.0 %" in caption.inner_text()
    assert no_faults(page), page.faults


def test_each_layout_fills_the_map(page: Any) -> None:
    spans = f"""() => {{
      const {{ x_range, y_range }} = [...Bokeh.index][0].model, {{ x, y }} = ({SOURCE})("points");
      return [[x_range, x], [y_range, y]].map(([range, values]) =>
        [Math.min(...values), Math.max(...values)]
          .map((at) => (at - range.start) / (range.end - range.start)));
    }}"""
    for layout in ("before", "after"):
        page.locator(f"[data-to={layout}]").click()
        page.wait_for_timeout(500)
        for low, high in page.evaluate(spans):
            assert 0 < low < 0.1 and 0.9 < high < 1


def test_to_and_fro_in_haste_ends_where_it_says(page: Any, run: Content) -> None:
    page.evaluate("""for (const name of ["before", "after", "before"])
      document.querySelector(`[data-to=${name}]`).click()""")
    page.wait_for_timeout(500)
    assert run.before is not None
    place = np.column_stack([page.evaluate(f"[...({SOURCE})('points').{axis}]") for axis in "xy"])
    np.testing.assert_allclose(place, run.before.xy, atol=2e-3)


def test_a_picture_from_elsewhere_comes_into_view(page: Any) -> None:
    page.locator("#map-plot").focus()
    for _ in range(6):
        page.keyboard.press("+")
    for thumb in (page.locator("#mistake-list .thumb").first, page.locator("#label-table .thumb").last):
        thumb.click()
        page.wait_for_function(
            f"""row => {{
              const box = document.getElementById("map-plot").getBoundingClientRect();
              const [x, y] = ({PLACE})(row);
              return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
            }}""",
            arg=int(thumb.get_attribute("data-row")),
        )
    for _ in range(6):
        page.keyboard.press("-")


def test_without_motion_the_points_jump(page: Any) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.locator("[data-to=before]").click()
    jumped = page.evaluate(f"row => ({SOURCE})('points').x[row]", 0)
    page.wait_for_timeout(500)
    assert page.evaluate(f"row => ({SOURCE})('points').x[row]", 0) == jumped
    page.emulate_media(reduced_motion="no-preference")


def test_the_keyboard_walks_zooms_and_clears(page: Any, run: Content) -> None:
    plot = page.locator("#map-plot")
    plot.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")  # to the middle
    start = int(page.locator("#panel").get_attribute("data-row"))
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel").get_attribute("data-row") == str(start + 1)
    page.keyboard.press("ArrowUp")
    assert page.locator("#panel").get_attribute("data-row") == str(start + 21)
    assert "Nearest in the embedding space" in page.locator("#said").text_content()
    span = "((range) => range.end - range.start)([...Bokeh.index][0].model.x_range)"
    whole = page.evaluate(span)
    page.keyboard.press("+")
    assert page.evaluate(span) < whole
    page.keyboard.press("-")
    assert page.evaluate(span) == pytest.approx(whole)
    page.keyboard.press("Escape")
    assert page.locator("#panel").get_attribute("data-row") is None
    assert page.evaluate(f"({SOURCE})('chosen').x.length + ({SOURCE})('near').x.length") == 0
    assert plot.get_attribute("aria-describedby") == "map-keys" and page.locator("#map-keys").is_visible()


def test_the_choice_stays_in_view(page: Any) -> None:
    page.locator("#map-plot").focus()
    for _ in range(5):
        page.keyboard.press("+")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    row = int(page.locator("#panel").get_attribute("data-row"))
    x, y = page.evaluate(PLACE, row)
    box = page.locator("#map-plot").bounding_box()
    assert box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"]
    for _ in range(5):
        page.keyboard.press("-")
    page.keyboard.press("Escape")


def test_to_zoom_in_shows_names_that_had_no_room(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = content(400, [f"label {number}" for number in range(200)])
    many = replace(many, xy=rng.normal(size=(200, 2))[many.label_id].astype(np.float32), before=None)
    file = tmp_path / "names.html"
    file.write_text(render(many), encoding="utf-8")
    page = opened(browser, file)
    first = texts(page)
    assert len(first) <= 60
    page.locator("#map-plot").focus()
    for _ in range(5):
        page.keyboard.press("+")
    zoomed = texts(page)
    assert set(zoomed) - set(first), "names that had no room, though larger labels are out of view"
    page.locator("#names").uncheck()
    assert texts(page) == []
    page.context.close()


def test_a_part_of_much_data(
    browser: Any, run: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas, "drawn", partial(drawn, most=200, sample=150))
    monkeypatch.setattr("simpipe.reporting.density.FROM", 200)
    file = tmp_path / "part.html"
    file.write_text(render(run), encoding="utf-8")
    page = opened(browser, file)
    wrong = int((run.correct == 0).sum())
    caption = page.locator("#map .caption").inner_text()
    assert f"Showing 150 of 300 images, all {wrong} mistakes included" in caption
    assert page.evaluate(f"({SOURCE})('points').x.length") == 150
    assert page.evaluate(f"({SOURCE})('density').url.length") == 1
    rows = page.evaluate("[...document.querySelectorAll('.thumb')].map((thumb) => Number(thumb.dataset.row))")
    assert rows and min(rows) >= 0 and max(rows) < 150
    # the first mistake of the list is the same image as in the whole page
    page.locator("#mistake-list .query .thumb").first.click()
    path = page.locator("#panel .subject code").text_content()
    assert path in [run.path[row] for row in np.flatnonzero(run.correct == 0)]
    assert "more are not on this page" in page.locator("#panel h3").text_content()
    page.locator("#explorer").scroll_into_view_if_needed()
    page.wait_for_selector("#explorer-near li")
    whole = run.path.index(page.locator("#explorer-chosen code").text_content())
    near = page.locator("#explorer-near button")
    ranks = [int(re.findall(r"nearest (\d+)", text)[0]) for text in labels_of(near)]
    assert len(ranks) < 10, "some are not on the page, and the others keep their rank"
    for rank, path in zip(ranks, near.evaluate_all("all => all.map((each) => each.title)"), strict=True):
        assert path == clean(run.path[run.neighbour_ids[whole, rank - 1]])
    assert no_faults(page), page.faults
    page.context.close()


PIXELS = """palette => {
  const find = (name) => [...Bokeh.index][0].model.document.get_model_by_name(name).data;
  const {x, y} = find("points"), {image, x: [left], y: [bottom], dw: [wide], dh: [high]} = find("raster");
  const [up, right] = image[0].shape;
  const code = new Map([[0, -1], ...palette.map((colour, place) => [colour, place])]);
  return [...x].map((_, row) => {
    const across = Math.floor(((x[row] - left) / wide) * right);
    const above = Math.floor(((y[row] - bottom) / high) * up);
    const inView = across >= 0 && across < right && above >= 0 && above < up;
    return inView ? code.get(image[0][above * right + across]) : null;
  });
}"""
"""For each row the colour code of the picture where its point lies; -1: none, null: not in view."""


def test_many_points_are_one_picture(
    browser: Any, run: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simpipe.reporting.map.MOST_MARKERS", 200)
    grid = np.column_stack([np.arange(300) % 20, np.arange(300) // 20]).astype(np.float32)
    file = tmp_path / "many.html"
    file.write_text(render(replace(run, xy=grid, before=None)), encoding="utf-8")
    page = opened(browser, file)
    palette = [int.from_bytes(bytes.fromhex(each[1:].ljust(8, "F")), "little") for each in (*PALETTE, FADED)]

    def pixels() -> list[Any]:
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
        found: list[Any] = page.evaluate(PIXELS, palette)
        return found

    assert pixels() == colours(page).tolist()
    page.locator("#legend-list button").first.click()
    shown = colours(page) != NO_GROUP
    assert pixels() == colours(page).tolist() and 0 < shown.sum() < 300
    page.locator("[data-others=hidden]").click()
    assert pixels() == np.where(shown, colours(page), -1).tolist()
    page.locator("#show-all").click()
    page.locator("#map-plot").focus()
    for _ in range(3):
        page.keyboard.press("+")
    zoomed = pixels()
    seen = [row for row, each in enumerate(zoomed) if each is not None]
    assert 0 < len(seen) < 300 and [zoomed[row] for row in seen] == colours(page)[seen].tolist()
    hover(page, seen[len(seen) // 2])
    assert no_faults(page), page.faults
    page.context.close()
