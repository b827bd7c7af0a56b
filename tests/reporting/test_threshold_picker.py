"""The threshold curve, its picker and its CSV file count what a loop over the test images counts."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixture import content

from simpipe.metrics.calibration import choose_thresholds, operating_point
from simpipe.reporting import render
from simpipe.reporting.content import Content
from simpipe.reporting.threshold_picker import axis, section
from simpipe.reporting.thresholds import MOST, answers, curve, table
from simpipe.stages.evidence import write_curve


def calibrated(run: Content) -> Content:
    """The run with thresholds chosen on its own test images, so that table and curve are to agree."""
    known = np.r_[np.ones(len(run.test_rows), bool), np.zeros(len(run.unknown_distances), bool)]
    distance = np.r_[run.test_distances[:, 0], run.unknown_distances].astype(np.float32)
    correct = np.r_[run.correct[run.test_rows] == 1, np.zeros(len(run.unknown_distances), bool)]
    alone = np.arange(len(known))
    chosen = choose_thresholds(
        distance, correct, known, ["optimal", "precision_0.80", "precision_0.90", "unknown_accept_0.30"]
    )
    thresholds: dict[str, Any] = {}
    for name, each in chosen.items():
        point = operating_point(distance, correct, known, each.distance or 0.0, alone, alone)
        thresholds[name] = {"distance": each.distance, "on_calibration": point, "on_test": point}
    unmet = {"distance": None, "reason": "asks too much", "on_calibration": None, "on_test": None}
    return replace(run, calibration={"thresholds": thresholds | {"precision_0.999": unmet}})


def counted(run: Content, distance: float) -> tuple[int, int, int]:
    """Right and wrong answers and unknown images within a distance, one by one."""
    limit, right, wrong = np.float32(distance), 0, 0
    for row, far in zip(run.test_rows.tolist(), run.test_distances[:, 0], strict=True):
        right += far <= limit and run.correct[row] == 1
        wrong += far <= limit and run.correct[row] == 0
    return right, wrong, sum(far <= limit for far in run.unknown_distances)


@pytest.fixture(scope="module")
def run() -> Content:
    return calibrated(content())


def test_every_step_counts_what_a_loop_counts(run: Content) -> None:
    found = curve(run)
    assert found is not None and len(found.distance) > 80
    steps = zip(found.distance, found.right, found.wrong, found.let_in, strict=True)
    for distance, *counts in steps:
        assert tuple(counts) == counted(run, distance)
    assert found.distance[0] == 0 and (np.diff(found.distance) > 0).all()


def test_a_threshold_of_the_table_has_its_numbers_on_the_curve(run: Content) -> None:
    found = curve(run)
    assert found is not None and found.unknown is not None
    for entry in run.calibration["thresholds"].values():
        if entry["distance"] is not None:
            (place,) = np.flatnonzero(found.distance == np.float32(entry["distance"]))
            told = entry["on_test"]
            assert found.answered[place] == pytest.approx(told["accepted"])
            assert found.precision[place] == pytest.approx(told["precision"])
            assert found.unknown[place] == pytest.approx(told["unknown_accept"])


def test_the_csv_file_is_the_curve(run: Content, tmp_path: Path) -> None:
    write_curve(tmp_path / "curve.csv", run)
    with (tmp_path / "curve.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = curve(run)
    assert found is not None and len(rows) == len(found.distance)
    for row, distance in zip(rows, found.distance.tolist(), strict=True):
        right, wrong, unknown = counted(run, distance)
        expected = {
            "distance": distance,
            "similarity": 1 - distance,
            "answered": (right + wrong) / len(run.test_rows),
            "precision": right / (right + wrong) if right + wrong else None,
            "unknown_accept": unknown / len(run.unknown_distances),
        }
        for name, value in expected.items():
            told = float(row[name]) if row[name] else None
            assert told == (value if value is None else pytest.approx(value, abs=1e-5)), name
    write_curve(tmp_path / "none.csv", edges(run)["no test"])
    assert (
        (tmp_path / "none.csv").read_text().startswith("distance,similarity,answered,precision,unknown_acc")
    )
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_a_million_queries_are_some_hundred_points() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    few = content(60, ["a", "b", "c"])
    far = rng.gamma(2.0, 0.05, n).astype(np.float32)
    many = replace(
        few,
        test_rows=np.arange(n) % 60,
        test_ids=np.zeros((n, 1), np.int32),
        test_distances=far[:, None],
        match_distances=far,
        match_correct=rng.random(n) < np.exp(-5 * far),
        unknown_distances=rng.uniform(0, 1, 50_000).astype(np.float32),
        calibration={"thresholds": {"optimal": {"distance": 0.1234}}},
    )
    found = curve(many)
    assert found is not None and len(found.distance) <= MOST + 3 and np.float32(0.1234) in found.distance
    for place in range(0, len(found.distance), 29):
        within = far <= found.distance[place]
        assert found.right[place] + found.wrong[place] == within.sum()
        assert found.right[place] == (within & many.match_correct).sum()
    assert np.diff(found.answered).max() < 0.02
    picker = section(many)["threshold_picker"]
    assert not picker["whole"] and len(picker["data"]) + len(picker["chart"]) < 60_000


def test_a_test_image_whose_label_has_no_train_image_is_unknown() -> None:
    run = content(60, ["a", "b", "c"])
    without = [
        "val" if part == "train" and label == 2 else part
        for part, label in zip(run.split, run.label_id.tolist(), strict=True)
    ]
    whole, less = answers(run), answers(replace(run, split=without))
    of_label = int((run.label_id[run.test_rows] == 2).sum())
    assert whole is not None and less is not None and of_label
    assert (less.known, less.strangers) == (whole.known - of_label, whole.strangers + of_label)


def test_another_rule_of_the_match_is_followed(run: Content) -> None:
    far = np.linspace(0.1, 0.2, len(run.test_rows), dtype=np.float32)
    far[-1] = np.inf
    right = np.arange(len(far)) % 3 > 0
    found = curve(replace(run, match_distances=far, match_correct=right, calibration={}))
    assert found is not None
    assert (found.right[-1], found.wrong[-1]) == (right[:-1].sum(), (~right[:-1]).sum())
    assert found.answered[-1] == pytest.approx(1 - 1 / len(far))


def edges(run: Content) -> dict[str, Content]:
    known = run.correct >= 0
    return {
        "no thresholds": replace(run, calibration={}),
        "none can be met": replace(run, calibration={"thresholds": {"optimal": {"distance": None}}}),
        "no unknown": replace(run, unknown_distances=None),
        "all right": replace(run, correct=np.where(known, 1, -1)),
        "all wrong": replace(run, correct=np.where(known, 0, -1)),
        "one test image": replace(
            run, test_rows=run.test_rows[:1], test_ids=run.test_ids[:1], test_distances=run.test_distances[:1]
        ),
        "all copies": replace(
            run, test_distances=np.zeros_like(run.test_distances), unknown_distances=None, calibration={}
        ),
        "no gallery": replace(run, test_ids=run.test_ids[:, :0], test_distances=run.test_distances[:, :0]),
        "no test": replace(
            run, test_rows=run.test_rows[:0], test_ids=run.test_ids[:0], test_distances=run.test_distances[:0]
        ),
    }


@pytest.mark.parametrize("edge", edges(content()))
def test_edges_have_a_picker_or_say_why_not(run: Content, edge: str) -> None:
    found = section(edges(run)[edge])
    picker = found["threshold_picker"]
    assert (picker is None) == (edge in ("no gallery", "no test"))
    if picker is None:
        assert "There are no test images" in render(edges(run)[edge])
    else:
        data = json.loads(picker["data"])
        assert data["start"] <= data["end"] and "nan" not in picker["chart"].lower()


def test_the_picker_starts_at_the_working_threshold(run: Content) -> None:
    working = run.calibration["thresholds"]["precision_0.80"]["distance"]
    text = render(run)
    found = re.search(r'data-curve="([^"]*)"', text)
    assert found is not None and json.loads(html.unescape(found[1]))["start"] == working
    assert [row.key for row in table(run.calibration) if row.working] == ["precision_0.80"]
    assert text.count("used by simpipe query") == 1 and "asks too much" in text


@pytest.mark.parametrize("longest", [1e-5, 0.0312, 0.27, 0.9, 2.0, 0.0])
def test_the_axis_holds_the_farthest_in_round_steps(longest: float) -> None:
    step, end = axis(longest)
    assert longest <= end * (1 + 1e-9) < longest + 1.001 * step or longest == 0
    assert 99 <= round(end / step) <= 301 and round(end / step) == pytest.approx(end / step)
    assert f"{step:e}"[0] in "125"
