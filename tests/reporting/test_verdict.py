from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_fixture import content

from simpipe.metrics.calibration import working_threshold
from simpipe.reporting import render
from simpipe.reporting.content import Content
from simpipe.reporting.next_steps import next_steps
from simpipe.reporting.origin import note, origin
from simpipe.reporting.verdict import held_out, judge, linear_map_note, tiles, verdict, worst_label


@pytest.fixture(scope="module")
def run() -> Content:
    return content()


def with_gain(run: Content, low: float | None, high: float | None, value: float = 0.01) -> Content:
    gain = run.metrics["gain"][0] | {"value": value, "low": low, "high": high}
    return replace(run, metrics=run.metrics | {"gain": [gain]})


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.01, 0.05, "better"),
        (-0.05, -0.01, "worse"),
        (-0.01, 0.02, "no measurable difference"),
        (0.0, 0.02, "no measurable difference"),
        (None, None, "no interval"),
    ],
)
def test_a_gain_counts_only_if_its_interval_leaves_zero(
    run: Content, low: float | None, high: float | None, outcome: str
) -> None:
    found = with_gain(run, low, high)
    assert judge(found.metrics["gain"][0]) == outcome
    told = "too few labels to tell" if outcome == "no interval" else outcome
    assert told in verdict(found) and outcome in tiles(found)[1].note
    advised = any(step.anchor == "ladder" for step in next_steps(found))
    assert advised == (outcome in ("worse", "no measurable difference"))


def test_tiles_carry_the_numbers_of_metrics_json(run: Content) -> None:
    found = {tile.name: tile for tile in tiles(run)}
    seen = run.metrics["blocks"]["seen"]["metrics"]
    assert found["accuracy@1"].exact == seen["accuracy@1"]["value"]
    assert f"n = {seen['accuracy@1']['n']}" in found["accuracy@1"].note
    assert "few images" in found["accuracy@1"].note and found["accuracy@1"].tone == "warn"
    assert found["gain over pretrained"].exact == 0.079
    assert "17 fixed, 3 broken" in found["gain over pretrained"].note
    assert found["accuracy, mean over labels"].exact == seen["macro_accuracy@1"]["value"]
    assert found["answered"].exact == 0.88 and "94.4 %" in found["answered"].note
    assert found["unknown let in"].exact == 0.12 and "30 images" in found["unknown let in"].note


@pytest.mark.parametrize(
    ("accuracy", "told"), [(0.97, "97.0 % without 4 images of doubtful label, not trained again"), (None, "")]
)
def test_the_accuracy_says_what_doubtful_labels_cost(run: Content, accuracy: float | None, told: str) -> None:
    seen = run.metrics["blocks"]["seen"]["metrics"]["accuracy@1"]
    value = seen["value"] if accuracy is None else accuracy
    cleaned = {"removed": {"queries": 1, "gallery": 3}, "metrics": {"accuracy@1": seen | {"value": value}}}
    note = tiles(replace(run, metrics=run.metrics | {"after_cleaning": cleaned}))[0].note
    assert told in note and ("doubtful" in note) == bool(told)


def test_without_a_seen_block_the_unseen_one_speaks_and_the_reason_is_said(run: Content) -> None:
    blocks = run.metrics["blocks"] | {"seen": {"reason": "there are no test images"}}
    found = replace(run, metrics=run.metrics | {"blocks": blocks})
    assert "labels it never saw" in verdict(found)
    first = tiles(found)[0]
    assert first.name == "recall@1" and "there are no test images" in first.note


def test_nothing_measured(run: Content) -> None:
    none: dict[str, Any] = {"blocks": {"seen": {"reason": "no test images"}}, "ladder": [], "gain": []}
    found = replace(run, metrics=none, calibration={})
    assert "no test images" in verdict(found)
    assert all(tile.value == "–" for tile in tiles(found))


def test_worst_label() -> None:
    confusion = np.array([[5, 0, 0], [1, 1, 0], [2, 2, 4]])
    assert worst_label(confusion) == (2, 4, 8), "the same share as label 1, but more images"
    assert worst_label(np.diag([3, 0, 2])) is None


def test_the_threshold_of_the_first_screen() -> None:
    met = {"distance": 0.3}
    unmet = {"distance": None, "reason": "none"}
    thresholds = {"optimal": met, "precision_0.95": unmet, "unknown_accept_0.10": met}
    assert working_threshold(thresholds) == "optimal"
    assert working_threshold(thresholds | {"precision_0.90": met}) == "precision_0.90"
    assert working_threshold({"optimal": unmet}) is None


def test_held_out_labels(run: Content) -> None:
    assert held_out(run) == run.labels[-2:]


def test_next_steps_are_few_and_point_to_sections(run: Content) -> None:
    steps = next_steps(run)
    assert 1 <= len(steps) <= 5
    assert steps[0].anchor == "label-errors"
    number_of = sum(finding["kind"] == "label_error" for finding in run.findings)
    assert f"{number_of} likely label error" in steps[0].text


def test_next_steps_name_the_confused_pair_and_its_weight(run: Content) -> None:
    confused = [{"label": "a", "predicted": "b", "count": 6, "share": 0.5}]
    correct = np.full_like(run.correct, 1)
    correct[:12] = 0
    found = replace(run, findings=[], relations={"confused": confused}, correct=correct, calibration={})
    text = next(step.text for step in next_steps(found) if step.anchor == "confused")
    assert "a" in text and "b" in text and "6 times" in text and "50.0 %" in text


def test_next_steps_of_small_labels(run: Content) -> None:
    train = np.flatnonzero((run.label_id == 4) & (np.array(run.split) == "train"))
    split = ["val" if row in train[2:] else part for row, part in enumerate(run.split)]
    found = replace(run, split=split, findings=[], relations={}, calibration={})
    assert any("$$x$$" in step.text and step.anchor == "labels" for step in next_steps(found))


def test_when_nothing_stands_out_it_says_so(run: Content) -> None:
    size = len(run.labels)
    found = replace(run, findings=[], relations={}, calibration={}, confusion=np.eye(size, dtype=int))
    assert [step.anchor for step in next_steps(found)] == ["map"]


def given(run: Content) -> Content:
    """The same run with the encoder of another one."""
    reason = {"reason": "a finished encoder is used (train.encoder)"}
    return replace(run, metrics=run.metrics | {"trained_here": False}, sampler=reason, history=[])


@pytest.mark.parametrize(
    ("change", "whose", "said"),
    [
        (lambda run: run, "trained", "Training is better than the pretrained features by 7.9 points."),
        (given, "given", "The finished encoder is better than the pretrained features by 7.9 points."),
        (
            lambda run: replace(run, metrics=run.metrics | {"trained_here": False}),
            "fitted",
            "The encoder is better than the pretrained features by 7.9 points.",
        ),
        (lambda run: replace(run, encoder={"shipped": "pretrained"}), "pretrained", ""),
    ],
)
def test_the_verdict_says_whose_encoder_it_is(
    run: Content, change: Callable[[Content], Content], whose: str, said: str
) -> None:
    found = change(run)
    assert origin(found) == whose
    assert verdict(found).partition(". ")[2] == said
    assert whose == "trained" or "raining is" not in verdict(found)


def test_a_page_without_training_does_not_speak_of_it(run: Content) -> None:
    text = " ".join(render(given(run)).split("<script")[0].split())
    assert "how many is not known" in note(given(run)) and text.count(note(given(run))) == 2
    assert "the encoder that this run works with" in text
    assert "What training saw" not in text


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (0, "None of the images that are tested here trained it."),
        (12, "12 of the 1,300 images of val and test here trained it, which flatters the numbers."),
        (None, "how many is not known."),
    ],
)
def test_the_page_says_how_many_tested_images_trained_a_finished_encoder(
    run: Content, known: int | None, said: str
) -> None:
    adopted = {"adopted": {"tested_images": 1_300, "known_images": known, "known_labels": None}}
    found = replace(run, metrics=run.metrics | {"trained_here": False}, encoder=run.encoder | adopted)
    assert origin(found) == "given", "also where the log of the sampler is lost"
    assert origin(replace(found, encoder=found.encoder | {"shipped": "pretrained"})) == "given"
    assert note(found).startswith("Nothing was trained in this run") and note(found).endswith(said)


def test_where_a_linear_map_does_as_well_the_page_says_so(run: Content) -> None:
    def ladder(linear: float) -> Content:
        rungs = [
            {"rung": rung, "block": "seen", "metrics": {"accuracy@1": {"value": value}}}
            for rung, value in (("lda", linear), ("trained", 0.85))
        ]
        return replace(run, metrics=run.metrics | {"ladder": rungs})

    said = "A linear map of the untrained features (lda) does as well as training: 86.0 % against 85.0 %"
    assert linear_map_note(ladder(0.86)).startswith(said) and said in render(ladder(0.86))
    assert linear_map_note(ladder(0.84)) == "" and linear_map_note(replace(run, metrics={})) == ""


def test_a_threshold_is_told_as_similarity_and_as_the_distance_of_the_terminal(run: Content) -> None:
    answered = next(tile for tile in tiles(run) if tile.name == "answered")
    assert "similarity ≥ 0.670 (distance ≤ 0.330)" in answered.note
