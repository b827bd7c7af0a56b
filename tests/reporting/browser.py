"""What the browser tests share: a page that is open, and what a person does to its map.

The fixture `browser` is in conftest.py: a test asks for it by name and imports nothing.
"""

from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"
]  # fmt: skip
"""WebGL without a GPU, for the map alone: to put the page together in it, too, costs as much again."""
PLACE = """row => {
  const view = [...Bokeh.index][0], box = view.el.getBoundingClientRect();
  const {x, y} = view.model.document.get_model_by_name("points").data;
  return [box.left + view.frame.x_scale.compute(x[row]), box.top + view.frame.y_scale.compute(y[row])];
}"""
"""Where the point of a row is on the screen, in pixels."""
MEAN = """async picture => {
  const style = getComputedStyle(picture), image = new Image();
  image.src = style.backgroundImage.slice(5, -2);
  await image.decode();
  const scale = image.naturalWidth / parseFloat(style.backgroundSize);
  const [left, top] = style.backgroundPosition.split(" ").map((part) => -parseFloat(part) * scale);
  const side = parseFloat(style.width) * scale, canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, left + side / 4, top + side / 4, side / 2, side / 2, 0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""
"""The mean colour of a picture as it is shown, 0…255."""


def window(browser: Any, **options: Any) -> Any:
    """A window without a page; what goes wrong in it is in `faults`, what is asked for in `asked`."""
    page = browser.new_context(
        offline=True, **{"viewport": {"width": 1366, "height": 768}, **options}
    ).new_page()
    page.set_default_timeout(10_000)
    page.faults, page.asked = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "console", lambda message: message.type in ("error", "warning") and page.faults.append(message.text)
    )
    page.on("request", lambda request: page.asked.append(request.url))
    return page


def opened(browser: Any, file: Path, **options: Any) -> Any:
    """The page, ready, in a window of its own."""
    return turned(window(browser, **options), file)


def turned(page: Any, file: Path) -> Any:
    """The window, with this page in it, ready: cheaper than a window of its own."""
    page.faults.clear()
    page.asked.clear()
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=20_000)
    return page


def no_faults(page: Any) -> bool:
    """Software WebGL warns of its slowness; nothing else may be said."""
    return [fault for fault in page.faults if "GL Driver Message" not in fault] == []


def hover(page: Any, row: int) -> Any:
    """The card of a row, after the mouse moved to its point."""
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    page.mouse.move(5, 5)
    page.mouse.move(*page.evaluate(PLACE, row))
    page.wait_for_selector(f"#card[data-row='{row}']:not([hidden])")
    return page.locator("#card")
