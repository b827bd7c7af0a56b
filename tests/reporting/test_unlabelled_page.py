"""The page of images without labels: what it says, what it leaves out, and that it works in a browser."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import no_faults, turned, window
from report_fixture import content
from test_page import Page

from simpipe.reporting import render, unlabelled
from simpipe.reporting.content import Content
from simpipe.reporting.payload import NO_GROUP, label_colours, uncompressed

ORDER = (
    "verdict", "next", "map", "groups", "neighbours", "duplicates", "other-findings", "thresholds",
    "explorer", "training", "data-and-run",
)  # fmt: skip
NO_LABELS = {"reason": "the images have no labels"}


def without_labels(n: int = 120, groups: int = 4, together: float | None = 0.6) -> Content:
    """A run of n images, of which every third is in no group."""
    made = content(n, [f"x{each}" for each in range(max(groups, 2))], noise=0.4)
    label_id = np.where((np.arange(n) % 3 == 0) | (groups == 0), groups, made.label_id).astype(np.int32)
    inside = label_id < groups
    facts = {
        "images": n,
        "clusters": groups,
        "clustered": float(inside.mean()),
        "largest": int(np.bincount(label_id[inside]).max(initial=0)),
        "smallest": int(np.bincount(label_id[inside]).min(initial=n)) if groups else 0,
        "together": together,
        "neighbours_kept": 0.5,
    }
    nothing = {"distance": None, "on_calibration": None, "on_test": None, **NO_LABELS}
    found = [
        {**line, "kind": kind, "label": "", "other": line["other"] if kind == "duplicate" else ""}
        for line, kind in zip(made.findings, ("duplicate", "outlier", "outlier"), strict=False)
    ]
    return replace(
        made,
        metrics={
            "blocks": dict.fromkeys(("seen", "unseen", "open_set"), NO_LABELS),
            "ladder": [],
            "gain": [],
            "unlabelled": facts,
        },
        calibration={
            **NO_LABELS,
            "thresholds": {
                "optimal": nothing,
                "familiar_0.95": {"distance": 0.4, "on_test": {"accepted": 0.925, "n_known": 40}},
            },
        },
        findings=found,
        relations={"labels": [], "similarity": [], "neighbour_share": [], "confused": []},
        confusion=np.zeros((0, 0), int),
        labels=[*(f"group {each + 1}" for each in range(groups)), "no group"],
        label_id=label_id,
        predicted=np.full(n, -1),
        correct=np.full(n, -1),
        confidence=np.full(n, np.nan),
        test_rows=np.zeros(0, int),
        test_ids=np.zeros((0, 12), int),
        test_distances=np.zeros((0, 12)),
        unknown_distances=np.zeros(0),
        labelled=False,
        typical=inside & (np.arange(n) % 5 == 0),
    )


@pytest.fixture(scope="module")
def run() -> Content:
    return without_labels()


@pytest.fixture(scope="module")
def text(run: Content) -> str:
    return render(run)


def test_it_has_the_sections_that_need_no_labels_and_no_other(text: str) -> None:
    page = Page(text)
    ids = set(page.ids)
    assert page.open == [] and max(Counter(page.ids).values()) == 1
    assert set(ORDER) <= ids
    assert [name for name in page.ids if name in ORDER] == list(ORDER)
    assert not {"ladder", "relations", "mistakes", "label-errors", "confused", "labels"} & ids
    assert {link[1:] for link in page.links if link.startswith("#")} <= ids
    assert "accuracy@1" not in text.split("<script")[0]
    assert "mistakes included" not in text


def test_it_says_what_is_true_and_what_is_left_out(run: Content, text: str) -> None:
    assert unlabelled.verdict(run).startswith("66.7 % of 120 images without labels fall into 4 groups")
    assert unlabelled.LEFT_OUT in text
    said = " ".join(text.split())
    assert "farther than <b>0.400</b> (similarity below 0.600)" in said
    assert 'of the 40 test images <data value="0.925">92.5 %</data> are' in said


@pytest.mark.parametrize(
    ("together", "groups", "said"),
    [
        (0.2, 4, "66.7 % of 120 images without labels fall into 4 loose groups of look-alikes"),
        (None, 4, "fall into 4 loose groups"),
        (0.0, 0, "120 images without labels, and no group of look-alikes among them"),
    ],
)
def test_few_neighbours_together_make_loose_groups(together: float | None, groups: int, said: str) -> None:
    run = without_labels(120, groups, together)
    assert said in unlabelled.verdict(run)
    assert unlabelled.tiles(run)[0].tone == "warn"
    assert ("a loose hold" in render(run)) == (together == 0.2)


def test_each_group_shows_its_typical_images_and_no_other(run: Content) -> None:
    shown = unlabelled.groups(run)
    assert [group.size for group in shown] == np.bincount(run.label_id)[:-1].tolist()
    for group in shown:
        assert group.typical
        assert all(run.typical[row] and run.label_id[row] == group.number for row in group.typical)


def test_examples_are_the_stored_neighbours_nearest_first(run: Content) -> None:
    found = unlabelled.examples(run)
    assert len(found) == unlabelled.EXAMPLES == len({each.row for each in found})
    for each in found:
        assert [row for row, _ in each.nearest] == run.neighbour_ids[each.row, : unlabelled.NEAREST].tolist()
        similarities = [similarity for _, similarity in each.nearest]
        assert similarities == sorted(similarities, reverse=True)


def test_who_is_in_no_group_is_grey_and_has_no_name_on_the_map(run: Content, text: str) -> None:
    colours = label_colours(run)
    assert colours[-1] == NO_GROUP and (colours[:-1] < NO_GROUP).all()
    assert label_colours(without_labels(60, 0))[-1] < NO_GROUP
    data = uncompressed(Page(text).scripts["data"])
    hearts = data["after"]["hearts"]
    assert hearts[-1] == -1 and min(hearts[:-1]) >= 0
    assert data["labelled"] is False


@pytest.mark.parametrize(
    "run",
    [
        without_labels(60, 0),
        without_labels(2, 0, None),
        without_labels(400, 70),
        replace(without_labels(), calibration={"thresholds": {}}),
        replace(without_labels(), findings=[]),
        replace(
            without_labels(), neighbour_ids=np.zeros((120, 0), int), neighbour_distances=np.zeros((120, 0))
        ),
        replace(without_labels(), thumbnails=lambda rows: [b""] * len(rows)),
    ],
    ids=[
        "no group",
        "two images",
        "70 groups",
        "no threshold",
        "no findings",
        "no neighbours",
        "no pictures",
    ],
)
def test_edges_give_a_whole_page(run: Content) -> None:
    page = Page(render(run))
    assert page.open == [] and max(Counter(page.ids).values()) == 1
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_a_threshold_that_could_not_be_chosen_says_why(run: Content) -> None:
    why = "0.95 needs 19 queries; here are 3"
    text = render(
        replace(run, calibration={"thresholds": {"familiar_0.95": {"distance": None, "reason": why}}})
    )
    assert text.count(why) == 2


@pytest.fixture(scope="module")
def shown(browser: Any) -> Iterator[Any]:
    page = window(browser)
    yield page
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1366, 390])
def test_it_works_in_a_browser(shown: Any, text: str, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    shown.set_viewport_size({"width": width, "height": 800})
    page = turned(shown, file)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#legend-list li").last.inner_text().startswith("no group")
    assert page.evaluate("[...document.querySelectorAll('#colour-by option')].map((o) => o.textContent)") == [
        "group",
        "similarity of the nearest",
        "split",
        "finding",
    ]
    page.locator(".groups [data-group='1']").click()
    assert page.locator("#legend-list button[aria-pressed=true]").all_inner_texts()[0].startswith("group 2")
    alone, inside = (f".examples .query [data-row='{row}']" for row in (0, 119))
    page.locator(alone).click()
    assert page.locator("#panel h3").inner_text() == "Nearest in the embedding space"
    page.locator(inside).click()
    assert page.locator("#panel h3").inner_text().endswith("in the same group")
    assert page.locator("#panel li.other").count() == 0
    assert no_faults(page), page.faults
