import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from report_fixture import content, picture

from simpipe.reporting import render
from simpipe.reporting.content import Content
from simpipe.reporting.map import bokeh_js
from simpipe.reporting.mistakes import ranked
from simpipe.reporting.page import thumbnails
from simpipe.reporting.payload import uncompressed

ORDER = (
    "verdict", "next", "map", "relations", "mistakes", "label-errors", "duplicates", "other-findings",
    "thresholds", "explorer", "ladder", "training", "data-and-run",
)  # fmt: skip
VOID = {"meta", "link", "input", "br", "img", "hr"}
SVG_VOID = {"line", "circle", "path", "rect"}


class Page(HTMLParser):
    """What a page holds: ids, attributes that can load something, scripts, and whether its tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.scripts: dict[str, str] = {}
        self.data: list[float] = []
        self.meta: dict[str, str] = {}
        self.open: list[str] = []
        self.script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs), f"an attribute twice: {attrs}"
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href", "action", "data", "poster") if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        if tag == "script":
            self.script = given.get("id", f"script{len(self.scripts)}")
            self.scripts[self.script] = ""
        if tag == "data":
            self.data.append(float(given["value"]))
        if tag == "meta" and "http-equiv" in given:
            self.meta[given["http-equiv"]] = given["content"]

    def handle_endtag(self, tag: str) -> None:
        self.script = None
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.scripts[self.script] += data


@pytest.fixture(scope="module")
def run() -> Content:
    return content()


@pytest.fixture(scope="module")
def text(run: Content) -> str:
    return render(run)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


# check 3
def test_well_formed_with_unique_ids_and_one_heading(text: str, page: Page) -> None:
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert page.open == []
    assert [name for name, number_of in Counter(page.ids).items() if number_of > 1] == []
    assert page.tags["h1"] == page.tags["main"] == 1


def test_links_stay_inside_the_page(page: Page) -> None:
    assert page.links and all(link.startswith("#") or link == "data:," for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert page.handlers == []


def test_the_sections_stand_in_their_order(page: Page) -> None:
    assert [name for name in page.ids if name in ORDER] == list(ORDER)


# check 2
def test_nothing_outside_is_named(text: str) -> None:
    own = text.replace(bokeh_js(), "")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w{2,}|@import|url\((?!\$)", own) == []
    assert "/home/" not in own


def test_no_folder_of_its_author_is_told(run: Content) -> None:
    paths = (
        "/home/secret/data/w.h5", "C:\\Users\\Jo secret\\w.h5", "\\\\server\\secret\\w.h5", "~/secret/w.h5",
        "file:///home/secret/w.h5", "/secret/run/encoder.json", "--config=/mnt/secret/w.yaml",
        "cannot read '/mnt/my own secret/1.jpg'",
    )  # fmt: skip
    text = "; ".join(paths)
    document = {f"key {path}": {"value": path, "list": list(paths)} for path in paths} | {"reason": text}
    thresholds = {"precision_0.95": {"distance": None, "reason": text}}
    told = replace(
        run, title=paths[0], metrics=run.metrics | {"blocks": {"seen": {"reason": text}}}, sampler=document,
        calibration={"thresholds": thresholds, "probability": {"knots": None, "reason": text}},
        ingest=document, encoder=document, index_quality=document, projection=run.projection | document,
        environment=[("command", text), *((path, path) for path in paths)],
        findings=[{**finding, "detail": text} for finding in run.findings],
    )  # fmt: skip
    assert "secret" not in render(told).replace(bokeh_js(), "")


def test_the_files_beside_it_are_named_from_the_run_folder(text: str) -> None:
    assert "<code>report/mistakes.csv</code>" in text and "<code>report/map.csv</code>" in text
    assert 'href="report/' not in text and 'href="evaluate/' not in text


# check 6
def test_the_policy_allows_its_own_scripts_and_no_network(page: Page) -> None:
    policy = page.meta["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert "'unsafe-inline'" not in directives["script-src"] and "connect-src" not in directives
    code = [body for name, body in page.scripts.items() if name.startswith("script")]
    hashes = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in code]
    assert len(code) == 2
    assert re.findall(r"'sha256-([^']+)'", directives["script-src"]) == hashes


def test_the_script_never_writes_markup(page: Page) -> None:
    own = page.scripts["script" + str(len(page.scripts) - 1)]
    assert '"use strict"' in own
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(", own
    )


def test_names_reach_neither_markup_nor_bokeh(text: str, page: Page) -> None:
    assert "<img" not in text.replace(bokeh_js(), "")
    assert "__xss=1</script>" not in text
    assert page.tags["script"] == page.tags["style"] + 3 + text.count('type="text/plain"')
    assert "xss" not in page.scripts["plot"] and "Gala" not in page.scripts["plot"]
    assert "\u202e" not in text and "\\u202e" not in text


# check 4
def test_numbers_are_those_of_the_metrics(run: Content, page: Page) -> None:
    seen = run.metrics["blocks"]["seen"]["metrics"]
    assert page.data[:3] == [seen["accuracy@1"]["value"], 0.079, seen["macro_accuracy@1"]["value"]]
    for rung in run.metrics["ladder"]:
        assert rung["metrics"]["map@r"]["value"] in page.data


def test_the_script_gets_the_whole_run(run: Content, page: Page) -> None:
    data = uncompressed(page.scripts["data"])

    def array(text: str, kind: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(text), kind)

    assert data["n"] == 300 and data["labels"][8] == "007" and data["labels"][9] == "__proto__"
    np.testing.assert_array_equal(array(data["label"], "<i4"), run.label_id)
    np.testing.assert_array_equal(array(data["correct"], "i1"), run.correct)
    near = data["after"]["neighbours"]
    np.testing.assert_array_equal(array(near["ids"], "<i4").reshape(300, -1), run.neighbour_ids[:, :10])
    far = array(near["distances"], "<u2").reshape(300, -1) * (2 / 65535)
    np.testing.assert_allclose(far, run.neighbour_distances[:, :10], atol=2e-5)
    assert data["mistakes"] == ranked(run).tolist()
    wrong = run.confidence[data["mistakes"]]
    assert (np.diff(wrong) <= 0).all() and len(wrong) == (run.correct == 0).sum()


# check 5
def test_equal_content_gives_equal_bytes(run: Content, text: str) -> None:
    assert render(run) == text


# check 1
def test_the_budget_holds_and_what_was_left_out_is_said(run: Content) -> None:
    rng = np.random.default_rng(0)
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(stream, "JPEG")
    heavy = replace(run, thumbnails=lambda rows: [stream.getvalue()] * len(rows))
    encoded = thumbnails(heavy)
    for budget in (2.0, 2.6, 15.0):
        text = render(heavy, budget, encoded)
        assert len(text.encode()) <= budget * 1e6
        drawn = int(
            (
                np.frombuffer(base64.b64decode(uncompressed(Page(text).scripts["data"])["tile"]), "<i4") >= 0
            ).sum()
        )
        assert (f"{drawn} with a picture" in text) == (0 < drawn < 300)
    assert "300 images, each with a picture of 96 pixels" in text


def without_tests(run: Content) -> Content:
    no = np.full(300, -1)
    none = {"blocks": {"seen": {"reason": "there are no test images"}}, "ladder": [], "gain": []}
    return replace(
        run, split=["train"] * 300, predicted=no, correct=no, test_rows=np.zeros(0, int), metrics=none,
        test_ids=np.zeros((0, 12), int), test_distances=np.zeros((0, 12)), confusion=run.confusion * 0,
        relations={}, calibration={}, unknown_distances=None, history=[], findings=[],
    )  # fmt: skip


def unseen_only(run: Content) -> Content:
    blocks = run.metrics["blocks"] | {"seen": {"reason": "no label has two images"}}
    ladder = [rung for rung in run.metrics["ladder"] if rung["block"] == "unseen"]
    return replace(without_tests(run), metrics={"blocks": blocks, "ladder": ladder, "gain": []})


def no_mistakes(run: Content) -> Content:
    size = len(run.labels)
    return replace(
        run,
        correct=np.where(run.correct >= 0, 1, -1),
        confusion=np.eye(size, dtype=int),
        relations={"confused": []},
    )


EDGES: dict[str, Callable[[Content], Content]] = {
    "no test queries": without_tests,
    "unseen labels only": unseen_only,
    "no mistakes": no_mistakes,
    "one kind of finding": lambda run: replace(run, findings=run.findings[:1]),
    "no neighbours": lambda run: replace(
        run, neighbour_ids=np.zeros((300, 0), int), neighbour_distances=np.zeros((300, 0)), projection={}
    ),
    "padded neighbours": lambda run: replace(
        run, neighbour_ids=np.full((300, 5), -1), neighbour_distances=np.full((300, 5), np.inf)
    ),
    "some pictures missing": lambda run: replace(
        run, thumbnails=lambda rows: [b"" if row % 2 else picture(row) for row in rows]
    ),
    "no pictures": lambda run: replace(run, thumbnails=lambda rows: [b""] * len(rows)),
    "logs lost": lambda run: replace(run, history=[], sampler={}, index_quality={}),
    "two images": lambda run: content(2, ["a", "b"]),
    "one label": lambda run: content(30, ["only"]),
    "200 labels": lambda run: content(800, [f"label {i}" for i in range(200)]),
}


@pytest.fixture(scope="module")
def texts(run: Content) -> Callable[[str], str]:
    """The page of an edge."""
    return cache(lambda edge: render(EDGES[edge](run)))


@pytest.mark.parametrize("edge", EDGES)
def test_edges_give_a_whole_page(texts: Callable[[str], str], edge: str) -> None:
    page = Page(texts(edge))
    assert page.open == [] and max(Counter(page.ids).values()) == 1
    assert set(ORDER) <= set(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_a_missing_block_says_why(texts: Callable[[str], str]) -> None:
    assert "there are no test images" in texts("no test queries")
    assert "no label has two images" in texts("unseen labels only")


def test_what_was_not_recorded_is_said(texts: Callable[[str], str], text: str) -> None:
    lost = texts("logs lost")
    for title in ("Sampler", "Index"):
        pattern = rf"<summary>{title}</summary>\s*<p class=\"empty\">Not recorded.</p>"
        assert re.search(pattern, lost) and not re.search(pattern, text)
    assert "None was recorded." in lost and "None was recorded." not in text


def test_only_the_head_and_one_element_hold_what_varies_between_equal_runs(run: Content, text: str) -> None:
    other = render(
        replace(run, title="t", run_name="n", index_quality={"bytes": 1}, environment=[("host", "elsewhere")])
    )
    varying = re.compile(
        r'<title>[^<]*</title>\n<link|<header>.*?</header>|<aside [^>]*id="measured".*?</aside>', re.DOTALL
    )
    assert other != text
    assert varying.sub("", other) == varying.sub("", text)


def test_held_out_labels_are_named(run: Content, text: str) -> None:
    assert re.search(r"Held out, never trained on \(2\):\s*<bdi class=\"name\">Red Beet</bdi>", text)
    small = content(60, ["a", "b", "c"])
    assert "No labels were held out" in render(small)
