from dataclasses import replace

import numpy as np
import pytest
from report_fixture import content
from sklearn.metrics import precision_recall_fscore_support

from simpipe.reporting import confusions, page, thresholds
from simpipe.reporting.content import Content
from simpipe.reporting.findings import groups, rows_shown
from simpipe.reporting.matrix import matrix


@pytest.fixture(scope="module")
def run() -> Content:
    return content()


def test_label_table_agrees_with_scikit_learn(run: Content) -> None:
    asked = run.correct >= 0
    expected = precision_recall_fscore_support(
        run.label_id[asked], run.predicted[asked], labels=range(len(run.labels)), zero_division=0
    )
    for row in confusions.label_rows(run):
        if row.held_out:
            assert row.recall is row.precision is None
            continue
        precision, recall, f1, _ = (values[row.label_id] for values in expected)
        assert row.recall == pytest.approx(recall) and row.f1 == pytest.approx(f1)
        assert (row.precision or 0.0) == pytest.approx(precision)
        assert row.train == 9 and row.test == 3


def test_pairs_show_the_mistaken_images_and_those_they_resemble(run: Content) -> None:
    pairs = confusions.pairs(run)
    assert pairs and len(pairs) <= confusions.PAIRS
    for pair in pairs:
        for row in pair.mistaken:
            assert run.labels[run.label_id[row]] == pair.label
            assert run.labels[run.predicted[row]] == pair.predicted
        assert pair.attracted and all(
            run.labels[run.label_id[row]] == pair.predicted for row in pair.attracted
        )
        query = run.test_ids[run.test_rows == pair.mistaken[0]][0]
        nearest = next(row for row in query if run.label_id[row] == run.label_id[pair.attracted[0]])
        assert pair.attracted[0] == nearest


def test_matrix_of_many_labels_shows_the_most_confused() -> None:
    rng = np.random.default_rng(0)
    size = 200
    confusion = np.diag(np.full(size, 5))
    errors = rng.choice(size, 10, replace=False)
    confusion[errors, (errors + 1) % size] = 3
    labels = [f"label {i}" for i in range(size)]
    run = replace(content(400, labels), confusion=confusion, relations={})
    shown = confusions.matrix_labels(run)
    assert set(shown.tolist()) == set(errors.tolist()) | set(((errors + 1) % size).tolist())
    text = str(matrix(confusion, labels, shown))
    assert text.count('data-true="') == 10 and "3 of 8" in text


def test_matrix_escapes_names_and_needs_two_labels(run: Content) -> None:
    text = str(matrix(run.confusion, run.labels, confusions.matrix_labels(run)))
    assert "<img" not in text and "&lt;img" in text and "</script" not in text
    assert matrix(np.array([[3]]), ["a"], np.array([0])) is None


def test_similar_labels_stand_side_by_side(run: Content) -> None:
    similarity = np.eye(6)
    for a, b in ((0, 3), (1, 4), (2, 5)):
        similarity[a, b] = similarity[b, a] = 0.9
    labels = list("abcdef")
    small = replace(
        content(60, labels),
        confusion=np.eye(6, dtype=int),
        relations={"labels": labels, "similarity": similarity.tolist()},
    )
    order = confusions.matrix_labels(small).tolist()
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ((0, 3), (1, 4), (2, 5)))


def test_findings_find_their_images(run: Content) -> None:
    found = {group.kind: group for group in groups(run)}
    assert next(iter(found)) == "label_error" and sum(g.count for g in found.values()) == len(run.findings)
    for item in found["label_error"].items:
        assert run.path[item.row] == item.path and item.other_row is None and item.other_label in run.labels
    twin = found["duplicate_conflict"].items[0]
    assert (twin.row, twin.other_row) == (4, 9) and twin.other_label == run.labels[9]
    assert found["leak"].items[0].other_row == 41, "found by its sample id"
    assert found["unreadable"].items[0].row is None and found["unreadable"].items[0].score is None
    assert {4, 9, 40, 41} <= set(rows_shown(groups(run)))


def test_copies_with_one_sample_id_are_two_images(run: Content) -> None:
    same = list(run.sample_id)
    same[8] = same[2]
    finding = {"kind": "duplicate", "sample_id": same[2], "path": run.path[2], "other": same[2], "score": 1.0}
    item = groups(replace(run, sample_id=same, findings=[finding]))[0].items[0]
    assert (item.row, item.other_row) == (2, 8)


def test_many_findings_are_cut_and_counted(run: Content) -> None:
    many = [{"kind": "new<kind>", "path": run.path[row % 300], "score": row / 500} for row in range(500)]
    (group,) = groups(replace(run, findings=many))
    assert (group.title, group.count, len(group.items), group.left_out) == ("new<kind>", 500, 200, 300)
    assert group.items[0].score == 499 / 500


def test_threshold_curve_against_loops(run: Content) -> None:
    curve = thresholds.curve(run)
    assert curve is not None and curve.unknown is not None and run.unknown_distances is not None
    far, right = run.test_distances[:, 0], run.correct[run.test_rows] == 1
    for index in range(0, len(curve.distance), 17):
        accepted = far <= curve.distance[index]
        assert curve.answered[index] == pytest.approx(accepted.mean())
        assert curve.unknown[index] == pytest.approx((run.unknown_distances <= curve.distance[index]).mean())
        if accepted.any():
            assert curve.precision[index] == pytest.approx(right[accepted].mean())
        else:
            assert np.isnan(curve.precision[index])


def test_threshold_names_and_unmet_targets(run: Content) -> None:
    table = thresholds.table(run.calibration)
    assert [row.name for row in table] == ["best F1", "precision ≥ 95 %", "unknown let in ≤ 10 %"]
    assert table[2].distance is None and table[2].reason == "0.1 needs 9 unknown queries"
    assert table[1].on_test[0] == 0.944
    assert thresholds.asked("<b>") == "<b>"
    assert thresholds.asked("precision_0.9996") == "precision ≥ 99.96 %"


def test_a_label_is_shown_by_the_image_that_most_of_its_own_are_near_to(run: Content) -> None:
    shown = confusions.exemplars(run)
    asked = dict.fromkeys(range(len(run.label_id)), 0)
    for row, ids in enumerate(run.neighbour_ids):
        for other in ids:
            if other >= 0 and run.label_id[other] == run.label_id[row]:
                asked[int(other)] += 1
    for label, row in enumerate(shown):
        own = np.flatnonzero(run.label_id == label)
        assert row == (max(own.tolist(), key=lambda each: (asked[each], -each)) if len(own) else -1)


def test_what_a_map_is_does_not_matter_to_the_pictures(run: Content) -> None:
    flat = replace(run, xy=np.zeros_like(run.xy))
    assert page.render(run, encoded=page.thumbnails(flat)) == page.render(run)
