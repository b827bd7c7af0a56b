"""The table beside the headline and the reliability chart say what the documents say, and nothing else."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from report_fixture import content, metric

from simpipe.reporting.next_steps import next_steps
from simpipe.reporting.numbers import probability, reliability, rows
from simpipe.reporting.page import render
from simpipe.reporting.thresholds import table

HOSTILE = "<script>alert(1)</script>"


def documents() -> dict[str, Any]:
    """metrics.json, in as far as the table reads it."""
    return {
        "blocks": {"seen": {"counts": {"queries": 90_000, "sampled": 20_000}}, "unseen": {"reason": "no"}},
        "with_leaks": {"leaking_queries": 3, "metrics": {"accuracy@1": metric(0.91, 90)}},
        "after_cleaning": {
            "removed": {"queries": 2, "gallery": 5},
            "metrics": {"accuracy@1": metric(0.93, 88)},
        },
        "matched": {"classes": 6, "blocks": {n: {"recall@1": metric(0.8, 60)} for n in ("seen", "unseen")}},
        "verification": {
            "seen": {
                "metrics": {"eer": metric(0.06, 900), "fnmr@fmr=1e-2": metric(0.215, 900)},
                "by_class": {"worst": [HOSTILE, "b", "c", "d"]},
            },
            "unseen": {"reason": "no"},
        },
    }


def calibrated(**more: Any) -> dict[str, Any]:
    bins = [
        {"predicted": 0.3, "observed": 0.5, "low": 0.33, "high": 0.67, "n": 30},
        {"predicted": 0.95, "observed": 1.0, "low": 0.9, "high": 1.0, "n": 60},
    ]
    test = {"reliability": bins, "ece": {"value": 0.04, "by_chance": 0.029}}
    test["brier"] = {"value": 0.1, "constant": 0.2}
    return {"probability": {"knots": {"score": [0.0], "probability": [0.5]}, "on_test": test} | more}


def test_each_number_stands_with_what_it_means() -> None:
    told = {row.question: (row.answer, row.note) for row in rows(documents())}
    assert told["Queries of seen labels that were asked"][0] == "20,000 of 90,000"
    assert told["accuracy@1 if copies in train counted"][0].startswith("91.0 %")
    assert "7 images" in told["accuracy@1 after cleaning"][1]
    assert {name for name in told if "6 labels at a time" in name} == {
        "recall@1 of seen labels, 6 labels at a time",
        "recall@1 of unseen labels, 6 labels at a time",
    }
    error = told["Equal error rate of pairs of images, seen labels"]
    assert (
        error[0].startswith("6.0 %")
        and "21.5 % of like ones" in error[1]
        and "d" not in error[1].split("c”")[1]
    )


def test_what_was_not_measured_has_no_row() -> None:
    assert rows({}) == []
    nothing = {"with_leaks": {"leaking_queries": 0}, "after_cleaning": {}, "matched": {}}
    assert rows(nothing | {"verification": {"seen": {"reason": "no labels"}}}) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "off by 0.040 on average, of which 0.029"),
        ({"on_test": None}, "not verified: there are no test images"),
        ({"knots": None, "reason": "12 answers are too few"}, "12 answers are too few"),
    ],
)
def test_a_probability_is_told_with_its_worth(more: dict[str, Any], told: str) -> None:
    assert told in probability(calibrated(**more))
    assert probability({}) == ""


def test_the_chart_has_a_point_for_each_bin_where_its_numbers_are() -> None:
    chart = reliability(calibrated())
    assert chart is not None and reliability({}) is None
    points = [each for each in ET.fromstring(chart) if each.tag == "circle"]  # noqa: S314 - our own
    spots = [(float(point.get("cx", "")), float(point.get("cy", ""))) for point in points]
    assert len(spots) == 2 and spots[0][0] < spots[1][0]
    assert spots[0][1] == pytest.approx(10 + 240 * 0.5) and spots[1][1] == pytest.approx(10)


def test_the_page_escapes_labels_and_says_which_target_was_missed() -> None:
    run = content()
    thresholds = run.calibration["thresholds"]
    missed = thresholds["precision_0.95"] | {"held": False, "caution": "chosen on few answers"}
    run = replace(
        run,
        metrics=run.metrics | {key: value for key, value in documents().items() if key != "blocks"},
        calibration=run.calibration | calibrated() | {"thresholds": thresholds | {"precision_0.95": missed}},
    )
    page = render(run, 15)
    assert HOSTILE not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("not met on test") == 1 and "chosen on few answers" in page
    assert [each.held for each in table(run.calibration)] == [None, False, None]


def test_a_shortcut_is_something_to_look_at() -> None:
    run = content()
    assert not any("shortcut" in step.text for step in next_steps(run))
    found = {"chance": 0.1, "thumbnail": 0.8, "trained": 0.9, "share": 0.875, "suspicious": True}
    steps = next_steps(replace(run, metrics=run.metrics | {"shortcut": found}))
    assert any("shortcut" in step.text and "80.0 %" in step.text for step in steps)
