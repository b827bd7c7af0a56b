"""The page for everyone: dark, small, by keyboard, read aloud, without motion, on paper.

What it looks like is kept in tests/output/.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import PLACE, hover, no_faults, opened
from PIL import Image
from report_fixture import content

from simpipe.reporting import render

pytestmark = pytest.mark.browser

OUTPUT = Path(__file__).parents[1] / "output"
ENOUGH = 4.5

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
FOCUSED = """() => {
  const seen = document.activeElement;
  if (!seen || seen === document.body) return null;
  seen.dataset.reached = "yes";
  let inner = seen;
  while (inner.shadowRoot?.activeElement) inner = inner.shadowRoot.activeElement;
  const style = getComputedStyle(inner), box = seen.getBoundingClientRect();
  const line = seen.getClientRects()[0];
  const hit = document.elementFromPoint(line.x + line.width / 2, line.y + line.height / 2);
  const header = document.querySelector("header");
  return {
    what: `${seen.tagName} ${seen.id} ${seen.getAttribute("aria-label") ?? seen.textContent.slice(0, 40)}`,
    ring: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none",
    onScreen: box.bottom > 0 && box.top < innerHeight,
    covered: header.contains(hit) && !header.contains(seen),
  };
}"""
MISSED = """[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled)
  .filter((each) => each.tabIndex >= 0 && !(each.type === "radio" && !each.checked) && !each.dataset.reached)
  .map((each) => each.outerHTML.slice(0, 120))"""

SCROLL = """async (end) => {
  for (let y = 0; y < Math.min(end, document.body.scrollHeight); y += innerHeight / 2) {
    scrollTo(0, y);
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  }
  scrollTo(0, 0);
}"""
"""Go through the page: pictures and some other parts are only made when they come into view."""

NAMED = {
    "button", "link", "textbox", "searchbox", "combobox", "listbox", "slider", "spinbutton", "checkbox",
    "radio", "tab", "image", "region",
}  # fmt: skip


def opened_wide(page: Any) -> Any:
    """The page with every part shown: details open, a card, an image chosen."""
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    hover(page, 30)
    page.mouse.click(*page.evaluate(PLACE, 30))
    page.wait_for_selector("#panel[data-row='30']")
    return page


def kept(page: Any, name: str) -> None:
    OUTPUT.mkdir(exist_ok=True)
    top = {"x": 0, "y": 0, "height": 3000, "width": page.viewport_size["width"]}
    page.evaluate(SCROLL, top["height"])
    page.screenshot(path=OUTPUT / f"page-{name}.png", full_page=True, clip=top, timeout=60_000)


# check 22
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    kept(opened_wide(page), "desktop" if scheme == "light" else "dark")
    hover(page, 30)
    found = page.evaluate(CONTRAST, ENOUGH)
    assert found["looked"] > 500
    assert found["faint"] == []
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        for name in ("backgroundColor", "color")
    )
    dark = scheme == "dark"
    assert (max(paper) < 60 and min(ink) > 200) == dark and (min(paper) > 240 and max(ink) < 60) != dark
    names = page.evaluate("[...Bokeh.index][0].model.select_one('name_text').glyph.text_color.value")
    assert names == page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    )
    assert no_faults(page), page.faults


# check 23
def test_phone(browser: Any, file: Path) -> None:
    page = opened(browser, file, viewport={"width": 375, "height": 812}, has_touch=True)
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    page.touchscreen.tap(*page.evaluate(PLACE, 150))
    page.wait_for_selector("#panel[data-row='150']")
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    kept(page, "phone")
    page.context.close()


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "report.html"
    path.write_text(render(content(64, ["red", "green", "blue", "grey"], noise=2)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small(browser: Any, small_file: Path) -> Iterator[Any]:
    """A page of few images, so that Tab comes to its end."""
    page = opened(browser, small_file, reduced_motion="reduce")
    page.evaluate(SCROLL, 1e6)
    yield page
    page.context.close()


# check 24
def test_tab_reaches_every_control_and_the_focus_is_seen(small: Any) -> None:
    page = small
    assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0
    for _ in range(1000):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break
        assert focused["ring"] and focused["onScreen"] and not focused["covered"], focused
    assert page.evaluate(MISSED) == []


# check 24
@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_keys_choose_what_the_mouse_chooses(small: Any, key: str) -> None:
    page = small
    for place in (".thumbs .thumb", "#mistake-list .thumb", "#panel li .thumb"):
        thumb = page.locator(place).last
        row = thumb.get_attribute("data-row")
        thumb.focus()
        page.keyboard.press(key)
        assert page.locator("#panel").get_attribute("data-row") == row
    entry = page.locator("#legend-list button").first
    entry.focus()
    page.keyboard.press(key)
    assert entry.get_attribute("aria-pressed") == "true"
    page.locator("#show-all").focus()
    page.keyboard.press(key)
    assert entry.get_attribute("aria-pressed") == "false"


def test_the_focus_goes_where_the_page_goes(small: Any) -> None:
    page = small
    inside = "name => document.getElementById(name).contains(document.activeElement)"
    picture = page.locator("#mistake-list .thumb").last
    picture.scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    picture.press("Enter")
    assert page.evaluate(inside, "panel") and page.evaluate("scrollY") != place
    page.locator("#panel li .thumb").first.press("Enter")
    assert page.evaluate(inside, "panel")
    page.go_back()
    page.wait_for_function("place => Math.abs(scrollY - place) < 2", arg=place)
    page.locator("#relations button[data-true]").first.press("Enter")
    assert page.evaluate(inside, "mistake-list")
    page.locator("#mistake-pair button").press("Enter")
    assert page.evaluate(inside, "mistake-filters")


# check 24
def test_the_matrix_is_one_stop_and_arrows_reach_every_cell(small: Any) -> None:
    page, cells = small, small.locator(".matrix [data-true]")
    pair = """() => {
      const { true: row, predicted } = document.activeElement.dataset;
      return row && [row, predicted].map(Number);
    }"""
    places = [
        [int(cell.get_attribute(f"data-{side}") or -1) for side in ("true", "predicted")]
        for cell in cells.all()
    ]
    assert len(places) > 4 and page.locator(".matrix [tabindex='0']").count() == 1
    page.locator(".pairs button").last.focus()
    page.keyboard.press("Tab")
    seen = [page.evaluate(pair)]
    for _ in places[1:]:
        page.keyboard.press("ArrowRight")
        seen.append(page.evaluate(pair))
    assert seen == places, "line by line"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(pair) == places[-1], "there it ends"
    page.keyboard.press("Control+Home")
    assert page.evaluate(pair) == places[0]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(pair)[0] != places[0][0]
    page.keyboard.press("End")
    last = page.evaluate(pair)
    assert last == [place for place in places if place[0] == last[0]][-1]
    page.keyboard.press("Tab")
    assert not page.evaluate("Boolean(document.activeElement.closest('.matrix'))")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(pair) == last, "Tab comes back to the cell that one was at"
    page.keyboard.press("Enter")
    wrong = page.evaluate("document.querySelectorAll('#mistake-list > li').length")
    assert wrong and page.locator("#mistake-pair").is_visible()
    inside = "document.getElementById('mistake-list').contains(document.activeElement)"
    assert page.evaluate(inside)
    page.go_back()
    page.wait_for_function(f"!({inside})")
    assert page.evaluate(pair) == last, "Back comes back to it, too"
    page.go_forward()
    page.wait_for_function(inside)
    page.locator("#mistake-pair button").click()


BOXES = """[...document.querySelectorAll(".scroll")]
  .filter((box) => box.checkVisibility() && box.clientWidth)
  .map((box) => ({
    name: box.getAttribute("aria-label"),
    scrolls: box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight,
    stop: box.tabIndex === 0,
    more: ["::before", "::after"].map((side) => Number(getComputedStyle(box, side).opacity)),
  }))"""
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def test_what_scrolls_is_a_stop_and_shows_that_it_does(small: Any) -> None:
    page = small
    for width in (1366, 390, 1366):
        page.set_viewport_size({"width": width, "height": 768})
        page.evaluate(TWO_FRAMES)
        boxes = {box["name"]: box for box in page.evaluate(BOXES)}
        assert [name for name, box in boxes.items() if box["stop"] != box["scrolls"]] == []
        assert boxes["All labels"]["more"] == [0, int(width == 390)]
        assert boxes["All labels"]["stop"] == (width == 390) and not boxes["Confusion matrix"]["stop"]
        if width == 390:
            page.locator("#label-table").evaluate("table => table.parentNode.scrollTo(1e6, 0)")
            page.evaluate(TWO_FRAMES)
            boxes = {box["name"]: box for box in page.evaluate(BOXES)}
            assert boxes["All labels"]["more"] == [1, 0], "there is no more on the right"


def test_the_edge_of_a_cut_table_can_be_told_from_the_page(browser: Any, small_file: Path) -> None:
    page = opened(browser, small_file, viewport={"width": 390, "height": 844})
    page.evaluate("document.getElementById('labels').scrollIntoView()")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(TWO_FRAMES)
        box = page.locator(".scroll:has(#label-table)").bounding_box()
        x, y = box["x"] + box["width"], box["y"] + 8
        edge, past = (page.screenshot(clip={"x": x + by, "y": y, "width": 1, "height": 1}) for by in (-1, 2))
        grey = [int(np.asarray(Image.open(io.BytesIO(each)).convert("L"))[0, 0]) for each in (edge, past)]
        assert abs(grey[0] - grey[1]) > 30, scheme
    page.context.close()


# check 24
def test_the_tools_of_the_map_are_buttons_with_names(small: Any) -> None:
    page = small
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    buttons = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "button"]
    names = ["Pan", "Box Zoom", "Wheel Zoom", "Zoom In", "Zoom Out", "Reset", "Save"]
    assert [name for name in buttons if name in names and name != "Reset"] == [*names[:5], "Save"]
    assert buttons.count("Reset") == 2, "the legend's and the map's"
    page.locator("#map-plot").focus()
    tool = "document.activeElement && [...Bokeh.index][0].toolbar_panel.toolbar_view.tool_button_views.find"
    span = "((range) => range.end - range.start)([...Bokeh.index][0].model.x_range)"
    whole, place = page.evaluate(span), page.evaluate("scrollY")
    for name in names:
        page.keyboard.press("Tab")
        assert page.evaluate(f"{tool}(({{ el }}) => el.matches(':focus')).el.ariaLabel") == name
        if name == "Box Zoom":
            on = f"{tool}(({{ el }}) => el.matches(':focus')).el.ariaPressed"
            assert page.evaluate(on) == "false"
            page.keyboard.press("Space")
            assert page.evaluate(on) == "true"
        if name == "Zoom In":
            page.keyboard.press("Enter")
            page.keyboard.press("Space")
            assert page.evaluate(span) < whole / 1.1
        if name == "Reset":
            page.keyboard.press("Space")
            assert page.evaluate(span) == pytest.approx(whole)
    assert page.evaluate("scrollY") == place, "Space is for the tool, not for the page"


# check 24
def test_a_cell_is_read_with_its_labels(small: Any) -> None:
    tree = small.context.new_cdp_session(small).send("Accessibility.getFullAXTree")["nodes"]
    nodes = {node["nodeId"]: node for node in tree}
    told = "red → green: 1 of 3 (33%); show them"
    cells = [node for node in tree if not node["ignored"] and node["name"]["value"] == told]
    cells = [node for node in cells if node["role"]["value"] == "button"]
    (node,) = cells
    above = []
    while node.get("parentId"):
        above.append(node["role"]["value"])
        node = nodes[node["parentId"]]
    assert above[:2] == ["button", "gridcell"] and above.index("row") < above.index("grid")


# check 24
def test_arrows_go_from_image_to_image_on_the_map(small: Any) -> None:
    page, panel = small, small.locator("#panel")
    page.locator("#relations .thumb, #mistakes .thumb").first.click()
    page.locator("#map-plot").focus()
    rows = [panel.get_attribute("data-row")]
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        rows.append(panel.get_attribute("data-row"))
    assert len(set(rows)) > 2


def test_everything_has_a_name_for_a_screen_reader(page: Any) -> None:
    opened_wide(page)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    told = [(node["role"]["value"], node["name"]["value"].strip()) for node in tree if not node["ignored"]]
    roles = {role for role, _ in told}
    assert {"button", "link", "searchbox", "combobox", "image", "region"} <= roles
    assert [role for role, name in told if role in NAMED and not name] == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0


def test_nothing_moves_where_motion_is_reduced(small: Any) -> None:
    page = small
    page.evaluate("scrollTo(0, 0)")
    page.locator("#findings .thumb, #relations .thumb").first.evaluate("(thumb) => thumb.click()")
    assert page.evaluate("document.getAnimations().length") == 0
    moving = """[document.documentElement, ...document.querySelectorAll("*")].filter((element) => {
      const style = getComputedStyle(element);
      return parseFloat(style.transitionDuration) > 0.01 || style.scrollBehavior === "smooth";
    }).length"""
    assert page.evaluate(moving) == 0


# check 25
def test_long_names_fit_on_paper(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    page.emulate_media(media="screen")


# check 25
def test_print_has_everything_and_the_pictures_that_were_not_scrolled_to(
    browser: Any, small_file: Path
) -> None:
    page = opened(browser, small_file)
    page.wait_for_timeout(1500)  # the sheets are loaded a second later
    OUTPUT.mkdir(exist_ok=True)
    printed = page.pdf(path=OUTPUT / "page-print.pdf", tagged=True, outline=True)
    assert printed.count(b"/Subtype /Image") > 40
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    titles = page.locator("main h2").all_text_contents()
    assert len(titles) >= 6 and page.locator("main h2:visible").count() == len(titles)
    assert [title for title in titles if f"({title})".encode() not in printed] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    page.context.close()
