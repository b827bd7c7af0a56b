"""The mistakes: their order, their kinds, and the table of them; which findings are where."""

from dataclasses import replace

import numpy as np
import pytest
from report_fixture import PLAIN, content
from test_page import Page

from simpipe.reporting import mistakes, render
from simpipe.reporting.content import Content
from simpipe.reporting.findings import OTHER, SECTIONS, TITLES, groups, sections
from simpipe.reporting.payload import uncompressed


@pytest.fixture(scope="module")
def run() -> Content:
    made = content()
    chance = np.full(300, np.nan)
    chance[made.test_rows] = np.linspace(0.2, 0.9, len(made.test_rows))
    return replace(made, probability=chance)


def test_the_kinds_against_loops() -> None:
    run = content(600, PLAIN, noise=1.5)
    found = mistakes.kinds(run)
    limit = run.calibration["thresholds"]["precision_0.95"]["distance"]
    expected: dict[str, set[int]] = {kind: set() for kind in mistakes.KINDS}
    for row, ids, far in zip(run.test_rows.tolist(), run.test_ids, run.test_distances, strict=True):
        labels = run.label_id[ids[:10]].tolist()
        answer, truth = run.predicted[row], run.label_id[row]
        votes = labels[: run.voters]
        if far[0] > limit:
            expected["rejected"].add(row)
        if answer == truth:
            continue
        if set(votes) == {answer}:
            expected["unanimous"].add(row)
        rivals = [votes.count(label) for label in set(votes) - {answer}]
        if votes.count(answer) - max(rivals, default=0) <= 1:
            expected["tie"].add(row)
        if truth not in labels:
            expected["far"].add(row)
    assert {kind: set(rows.tolist()) for kind, rows in found.items()} == expected
    assert all(expected.values()), "each kind is there to be told from the others"


def test_the_surest_come_first(run: Content) -> None:
    order = mistakes.ranked(run)
    assert set(order.tolist()) == set(np.flatnonzero(run.correct == 0).tolist())
    assert run.probability is not None and (np.diff(run.probability[order]) <= 0).all()
    without = mistakes.ranked(replace(run, probability=None))
    assert (np.diff(run.confidence[without]) <= 0).all()


def test_a_threshold_turns_away_only_labels_that_it_could_know(run: Content) -> None:
    row = int(mistakes.kinds(run)["rejected"][0])
    same = run.label_id == run.label_id[row]
    split = ["val" if own and part == "train" else part for own, part in zip(same, run.split, strict=True)]
    assert row not in mistakes.kinds(replace(run, split=split))["rejected"]
    none = replace(run, calibration={"thresholds": {}})
    assert not len(mistakes.kinds(none)["rejected"])
    assert "rejected" not in [key for key, *_ in mistakes.chips(none, mistakes.kinds(none))]


def test_the_table_has_every_mistake_and_the_images_that_voted(run: Content) -> None:
    lines = mistakes.table(run)
    assert all(list(line) == mistakes.columns(run) for line in lines)
    wrong = [line for line in lines if line["wrong"]]
    assert [line["path"] for line in wrong] == [run.path[row] for row in mistakes.ranked(run)]
    assert lines[: len(wrong)] == wrong and all(line["rejected"] for line in lines[len(wrong) :])
    query = run.test_rows.tolist().index(run.path.index(lines[0]["path"]))
    assert lines[0]["nearest_1"] == run.path[run.test_ids[query, 0]]
    assert lines[0]["nearest_1_similarity"] == pytest.approx(1 - run.test_distances[query, 0])
    rank = lines[0]["true_label_rank"]
    ranks = np.flatnonzero(run.label_id[run.test_ids[query]] == run.labels.index(lines[0]["label"]))
    assert rank == (ranks[0] + 1 if len(ranks) else None)


def test_a_mistake_that_is_a_finding_says_so_on_both_sides(run: Content) -> None:
    page = Page(render(run))
    also = uncompressed(page.scripts["data"])["evidence"]["also"]
    suspects = [finding["sample_id"] for finding in run.findings if finding["kind"] == "label_error"]
    rows = [row for row in mistakes.ranked(run).tolist() if run.sample_id[row] in suspects]
    assert rows and all("likely label error" in also[str(row)] for row in rows)
    (errors,) = sections(groups(run))["label-errors"]
    assert all(item.also == ("also a mistake",) for item in errors.items)


def test_a_badge_does_not_depend_on_how_many_findings_are_shown(run: Content) -> None:
    findings = [{"kind": "label_error", "path": path, "score": 0.5} for path in run.path[:250]]
    (errors,) = groups(replace(run, findings=findings))
    assert len(errors.items) < 250 and errors.rows == set(range(250))


def test_every_kind_of_finding_is_in_exactly_one_section(run: Content) -> None:
    kinds = [*TITLES, "a_new_kind"]
    findings = [{"kind": kind, "path": run.path[0], "score": 0.5} for kind in kinds]
    placed = sections(groups(replace(run, findings=findings)))
    assert list(placed) == [*SECTIONS, OTHER]
    assert sorted(group.kind for found in placed.values() for group in found) == sorted(kinds)
    assert [group.kind for group in placed["duplicates"]] == ["duplicate_conflict", "leak", "duplicate"]


def test_a_pair_in_two_kinds_is_said_once(run: Content) -> None:
    pair = {"path": run.path[0], "other": run.path[20], "score": 0.9}
    other = {"kind": "leak", "path": run.path[3], "other": run.path[40], "score": 0.9}
    twice = [{"kind": kind, **pair} for kind in ("leak", "duplicate_conflict")]
    conflict, leak = groups(replace(run, findings=[*twice, other]))
    assert (conflict.kind, conflict.shown, conflict.items[0].also) == (
        "duplicate_conflict", 1, ("also across train and test",),
    )  # fmt: skip
    assert (leak.count, leak.above, leak.shown, len(leak.items)) == (2, 1, 1, 1)
    assert leak.items[0].row == 3


def test_a_label_error_comes_with_images_of_the_suggested_label(run: Content) -> None:
    (errors,) = sections(groups(run))["label-errors"]
    assert run.before is not None and any(item.evidence for item in errors.items)
    for item in errors.items:
        near = run.before.neighbour_ids[item.row].tolist()
        expected = [row for row in near if run.labels[run.label_id[row]] == item.other_label][:3]
        assert list(item.evidence) == expected
