"""The sample that a large run's page holds, and what the page says of it."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from report_fixture import content

from simpipe.reporting.content import Content
from simpipe.reporting.drawn import ABSENT, PER_IMAGE, PER_QUERY, drawn, left_out
from simpipe.reporting.mistakes import ranked
from simpipe.reporting.sheets import Sheets

N = 301


@pytest.fixture(scope="module")
def run() -> Content:
    return content(N)


def sizes(run: Content) -> dict[str, int]:
    """How many entries each field has, where it has any."""
    values = {field.name: getattr(run, field.name) for field in fields(run)}
    return {name: len(value) for name, value in values.items() if hasattr(value, "__len__")}


def test_few_images_are_all_drawn(run: Content) -> None:
    found = drawn(run, [5], most=N)
    assert found.content is run
    np.testing.assert_array_equal(found.place, np.arange(N))


def test_every_field_with_an_entry_for_each_image_is_sampled(run: Content) -> None:
    full = replace(run, probability=np.zeros(N), typical=np.zeros(N, bool))
    asked = len(run.test_rows)
    full = replace(full, match_distances=np.zeros(asked), match_correct=np.zeros(asked, bool))
    per_image = {name for name, size in sizes(full).items() if size == N}
    assert per_image == {*PER_IMAGE, "neighbour_ids"}
    per_query = {name for name, size in sizes(full).items() if size == asked}
    assert {*PER_QUERY, "test_rows", "test_ids"} == per_query
    part = drawn(full, [], most=100, sample=100).content
    assert {sizes(part)[name] for name in per_image} == {100}


def test_those_that_come_first_are_kept_and_every_label(run: Content) -> None:
    first = [300, 17, 16]
    found = drawn(run, first, most=100, sample=150)
    assert (found.place[first] >= 0).all()
    assert len(found.content.label_id) == 150
    assert set(found.content.label_id.tolist()) == set(run.label_id.tolist())


def test_rows_are_renumbered_everywhere(run: Content) -> None:
    found = drawn(run, ranked(run).tolist(), most=100, sample=150)
    rows, part = np.flatnonzero(found.place >= 0), found.content
    assert part.path == [run.path[row] for row in rows]
    for new in (0, 70, 149):
        old = run.neighbour_ids[rows[new]]
        expected = [ABSENT if found.place[row] < 0 else found.place[row] for row in old]
        assert part.neighbour_ids[new].tolist() == expected
    asked = [row for row in run.test_rows.tolist() if found.place[row] >= 0]
    assert [part.path[row] for row in part.test_rows] == [run.path[row] for row in asked]
    assert part.thumbnails([3, 1]) == run.thumbnails(rows[[3, 1]].tolist())
    assert part.before is not None and run.before is not None
    np.testing.assert_array_equal(part.before.xy, run.before.xy[rows])


def test_no_neighbour_is_not_one_that_is_absent(run: Content) -> None:
    lonely = replace(run, neighbour_ids=np.full_like(run.neighbour_ids, -1))
    assert (drawn(lonely, [], most=100, sample=150).content.neighbour_ids == -1).all()


def said(run: Content, shown: Content, pictured: int, **sheets: Any) -> str:
    tile = np.where(np.arange(len(shown.label_id)) < pictured, np.arange(len(shown.label_id)), -1)
    return left_out(run, shown, Sheets([], 48, tile))


def test_what_is_left_out_is_said(run: Content) -> None:
    wrong = int((run.correct == 0).sum())
    assert said(run, run, N) == "301 images, each with a picture of 48 pixels."
    assert said(run, run, 0) == "301 images; no pictures."
    assert said(run, run, 5) == "301 images, 5 with a picture of 48 pixels, not even all listed mistakes fit."
    whole = drawn(run, ranked(run).tolist(), most=100, sample=150).content
    assert said(run, whole, 0) == (
        f"Showing 150 of 301 images, all {wrong} mistakes included: these are what the legend counts, the "
        "shading shows all; no pictures."
    )
    some = drawn(run, np.flatnonzero(run.correct != 0).tolist(), most=100, sample=150).content
    assert f"{(some.correct == 0).sum()} of {wrong} mistakes included" in said(run, some, 0)
