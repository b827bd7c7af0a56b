"""What the page costs its reader, at 1,000, 10,000 and 100,000 images, beside what it may cost.

    python -m tests.benchmarks.page [IMAGES ...]

Each page is opened from its file in a Chromium of its own that draws in software. "load" ends when the page
is ready and idle. "hover" is from the mouse's event to the frame that shows the card of another image,
"click" to the frame that shows its neighbours: median and 95th percentile. "heap" is after all of that.
Pictures have the texture of photos, so that the file is as large as a real one. At last the map and the page
of 5,000 images in a process that has loaded nothing yet, and the same with the map before training as well.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simpipe.reporting.content import Content, Layout
from simpipe.reporting.projectors.umap import Settings
from tests.reporting.browser import ARGUMENTS, CHROMIUM, PLACE
from tests.reporting.report_fixture import large, vectors

COUNTS = (1_000, 10_000, 100_000)
HOVERS, CLICKS = 60, 20
PAUSE = 350  # milliseconds: sooner, a second click is a double click
COLD, LABELS, DIM, K = 5_000, 80, 128, 15
BUDGET = {"file MB": 15.0, "load s": 2.0, "hover ms": 100.0, "click ms": 100.0, "cold s": 12.0}

WATCH = """
window.bench = { idle: null, taken: null };
new MutationObserver((_, self) => {
  self.disconnect();
  requestIdleCallback(() => { bench.idle = performance.now(); });
}).observe(document, { subtree: true, attributeFilter: ["data-ready"] });
"""
ARM = """([selector, kind]) => {
  let began = null;
  addEventListener(kind, (event) => { began = event.timeStamp; }, { capture: true, once: true });
  bench.taken = new Promise((done) => {
    new MutationObserver((_, self) => {
      self.disconnect();
      const after = new MessageChannel();  // what is posted in a frame arrives after it
      after.port1.onmessage = () => done(performance.now() - began);
      requestAnimationFrame(() => after.port2.postMessage(null));
    }).observe(document.querySelector(selector), { attributeFilter: ["data-row"] });
    setTimeout(() => done(null), 10_000);
  });
}"""


def opened(file: Path, playwright: Any) -> dict[str, float]:
    """Seconds, milliseconds and megabytes of one page."""
    chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
    page = chromium.new_context(offline=True, viewport={"width": 1366, "height": 768}).new_page()
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH)
    page.goto(file.as_uri())
    page.wait_for_function("bench.idle !== null")
    load = page.evaluate("bench.idle") / 1000
    page.evaluate("document.getElementById('map-plot').scrollIntoView({block: 'center'})")
    count = page.evaluate("[...Bokeh.index][0].model.document.get_model_by_name('points').data.x.length")
    rows = np.random.default_rng(0).choice(count, HOVERS + CLICKS, replace=False).tolist()

    def taken(selector: str, kind: str, row: int) -> float:
        place, clicked = page.evaluate(PLACE, row), kind == "pointerup"
        page.mouse.move(*(place if clicked else (5, 5)))
        page.wait_for_timeout(PAUSE if clicked else 0)
        page.evaluate(ARM, [selector, kind])
        (page.mouse.click if clicked else page.mouse.move)(*place)
        milliseconds = page.evaluate("bench.taken")
        return np.inf if milliseconds is None else float(milliseconds)

    hover = [taken("#card", "pointermove", row) for row in rows[:HOVERS]]
    click = [taken("#panel", "pointerup", row) for row in rows[HOVERS:]]
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")
    chromium.close()
    return {
        "file MB": file.stat().st_size / 1e6,
        "load s": load,
        "hover": float(np.median(hover)),
        "hover ms": float(np.percentile(hover, 95)),
        "click": float(np.median(click)),
        "click ms": float(np.percentile(click, 95)),
        "heap MB": (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 1e6,
    }


def cold_seconds(maps: int) -> tuple[float, float]:
    """One map or two, and the page, in a new process: seconds of clock and of processor, but for the data."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "tests.benchmarks.page", "--cold", str(maps)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    made, processor = map(float, done.stdout.split()[-2:])
    return time.perf_counter() - started - made, processor


def cold(count: int) -> None:
    """Draw one page, with one map or two, from embeddings and their neighbours.

    Print how long it took to make those, and the processor time of all the rest.
    """
    started, working = time.perf_counter(), time.process_time()
    content = large(COLD, LABELS, K)
    rng = np.random.default_rng(0)
    trained, pretrained = (vectors(rng, content.label_id, noise, DIM) for noise in (0.8, 1.6))
    known = [(each, *exact(each)) for each in (trained, pretrained)]
    names = ("after", "before")[:count]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in names}
        stored = Path(folder) / "neighbours.npz"
        parts = {}
        for name, (embeddings, ids, distances) in zip(names, known, strict=False):
            np.save(files[name], embeddings)
            parts |= {f"{name}_ids": ids, f"{name}_distances": distances}
        np.savez(stored, **parts)
        made, spent = time.perf_counter() - started, time.process_time() - working
        draw(content, files, stored, parts)
    children = os.times()
    print(made, time.process_time() - spent + children.children_user + children.children_system)


def draw(content: Content, files: dict[str, Path], stored: Path, parts: dict[str, Any]) -> None:
    """What the report stage does of it."""
    from simpipe.engine.child import beside
    from simpipe.reporting.map import load_bokeh
    from simpipe.reporting.page import render, thumbnails
    from simpipe.stages.maps import draw_maps

    nowhere = np.zeros((COLD, 2), np.float32)
    after, *others = (Layout(nowhere, parts[f"{name}_ids"], parts[f"{name}_distances"], {}) for name in files)
    content = replace(
        content,
        neighbour_ids=after.neighbour_ids,
        neighbour_distances=after.neighbour_distances,
        before=others[0] if others else None,
    )
    with beside(draw_maps, files, stored, content.label_id, "umap", Settings(), 0) as maps:
        pictures = thumbnails(content)
        load_bokeh()
        (xy, said), *later = maps()
        content = replace(content, xy=xy, projection=said)
        if content.before:
            content = replace(content, before=replace(content.before, xy=later[0][0], projection=later[0][1]))
        render(content, encoded=pictures)


def exact(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The K nearest of every row, itself left out, and their distances."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -2)
    ids = np.argsort(-similarity, axis=1)[:, :K].astype(np.int32)
    return ids, 1 - np.take_along_axis(similarity, ids, axis=1)


def told(found: dict[str, float], name: str, digits: int) -> str:
    """A number, with a mark where it is over the budget."""
    return f"{found[name]:.{digits}f}{'!' if found[name] > BUDGET.get(name, np.inf) else ' '}"


def main(counts: list[int]) -> None:
    from playwright.sync_api import sync_playwright

    from simpipe.reporting import render

    render(large(1000))  # the imports
    print(f"{'images':>9} {'file':>9} {'drawn in':>9} {'load':>9} {'hover':>16} {'click':>16} {'heap':>9}")
    limits = [
        f"{BUDGET[name]:.0f} {name.split()[1]}" for name in ("file MB", "load s", "hover ms", "click ms")
    ]
    print(f"{'budget':>9} {limits[0]:>9} {'':>9} {limits[1]:>9} {limits[2]:>16} {limits[3]:>16}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for count in counts:
            content = large(count)
            started = time.perf_counter()
            text = render(content)
            drawn = time.perf_counter() - started
            file = Path(folder) / "report.html"
            file.write_text(text, encoding="utf-8")
            found = opened(file, playwright)
            hover, click = (f"{found[w]:.0f}, {told(found, f'{w} ms', 0)}" for w in ("hover", "click"))
            size, load = told(found, "file MB", 1), told(found, "load s", 1)
            print(
                f"{count:9,} {size:>6} MB {drawn:7.1f} s {load:>7} s {hover:>13} ms {click:>13} ms "
                f"{found['heap MB']:6.0f} MB",
                flush=True,
            )
    for maps, what in ((1, "the map"), (2, "both maps")):
        clock, processor = cold_seconds(maps)
        seconds = f"{told({'cold s': clock}, 'cold s', 1)}s of {BUDGET['cold s']:.0f} s"
        print(f"{what} and the page of {COLD:,} images, cold: {seconds}; {processor:.1f} s of processor")
    print("! is over the budget; of hover and click the 95th percentile counts")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cold"]:
        cold(int(sys.argv[2]))
    else:
        main([int(count) for count in sys.argv[1:]] or list(COUNTS))
