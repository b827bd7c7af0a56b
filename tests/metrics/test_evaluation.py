"""An evaluation as a whole: its values by loops, its summary as JSON, its gain as paired differences."""

import json

import numpy as np
import pytest

from simpipe.metrics import evaluation
from simpipe.metrics.evaluation import MACRO, REPORTED, evaluate_queries, paired_gain, summarise
from simpipe.metrics.retrieval import FORMULAS


def space(seed, noise, classes=25, per_class=8):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    vectors = np.random.default_rng(99).normal(size=(classes, 16))[labels] + noise * rng.normal(
        size=(len(labels), 16)
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def all_to_all(vectors, labels, groups, k=10):
    return evaluate_queries(vectors, vectors, labels, labels, groups, groups, k)


def test_values_and_counts(monkeypatch):
    vectors, labels = space(0, 1.0)
    labels[-1] = 77  # a label of one image
    groups = np.arange(len(labels)) // 2
    whole = all_to_all(vectors, labels, groups)
    s = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    s[groups[:, None] == groups[None, :]] = -np.inf
    order = np.argsort(-s, axis=1)
    assert np.array_equal(whole.neighbours.ids, order[:, :10])
    assert np.array_equal(whole.predicted, labels[order[:, 0]])
    assert np.array_equal(whole.values["accuracy@1"], labels[order[:, 0]] == labels)
    votes = [
        max(set(labels[row[:5]]), key=lambda c: sum(s[q, g] for g in row[:5] if labels[g] == c))
        for q, row in enumerate(order)
    ]
    assert np.array_equal(whole.values["accuracy@5"], np.array(votes) == labels)
    assert whole.values["accuracy@1"][-1] == 0.0 and np.isnan(whole.values["recall@1"][-1])
    assert whole.counts == {"queries": 200, "gallery": 200, "classes": 26, "lone": 1, "tie_sensitive": 0}
    monkeypatch.setattr(evaluation, "SLAB_PAIRS", 50)
    parts = all_to_all(vectors, labels, groups)
    for name, values in whole.values.items():
        np.testing.assert_array_equal(values, parts.values[name])
    assert np.array_equal(whole.neighbours.distances, parts.neighbours.distances)


def test_fewer_neighbours_are_handed_on_than_vote():
    vectors, labels = space(0, 1.0)
    rows = np.arange(len(labels))
    few, many = (all_to_all(vectors, labels, rows, k) for k in (2, 10))
    assert few.neighbours.ids.shape == (200, 2)
    assert np.array_equal(few.values["accuracy@5"], many.values["accuracy@5"])


@pytest.mark.parametrize("unit", ["groups", "classes"])
def test_summary_is_json_and_brackets_its_values(unit):
    vectors, labels = space(1, 1.2)
    rows = np.arange(len(labels))
    result = all_to_all(vectors, labels, rows)
    summary = summarise(result, labels, rows, 300, 0, unit)
    document = json.loads(json.dumps(summary, allow_nan=False))
    assert document == summarise(result, labels, rows, 300, 0, unit)
    macro = {f"macro_{name}" for name in MACRO[unit]}
    assert set(document["metrics"]) == set(REPORTED[unit]) | macro
    for name, each in document["metrics"].items():
        assert each.keys() - {"optimistic"} == {"value", "low", "high", "n", "formula"}
        assert each["formula"] in FORMULAS
        assert each["low"] < each["value"] < each["high"] and each["n"] == 200, name
        if name in result.values:
            assert each["value"] == pytest.approx(np.nanmean(result.values[name]))
    for name, each in document["compat"].items():
        assert each["formula"] in FORMULAS
        assert each["value"] == pytest.approx(np.nanmean(result.compat[name]))


@pytest.mark.parametrize("unit", ["groups", "classes"])
def test_macro_is_the_mean_of_the_classes(unit):
    vectors, labels = space(1, 1.6)
    order = np.argsort(labels, kind="stable")[: len(labels) - 6]  # the last class has two images
    vectors, labels = vectors[order], labels[order]
    labels[0] = 50  # and this one has no positive: it counts for accuracy only
    rows = np.arange(len(labels))
    result = all_to_all(vectors, labels, rows)
    metrics = summarise(result, labels, rows, 200, 0, unit)["metrics"]
    for name in MACRO[unit]:
        values = result.values[name]
        means = [np.nanmean(values[labels == c]) for c in np.unique(labels) if c != 50]
        means += [values[0]] if np.isfinite(values[0]) else []
        macro = metrics[f"macro_{name}"]
        assert macro["value"] == pytest.approx(np.mean(means))
        assert macro["value"] != pytest.approx(metrics[name]["value"])
        assert macro["low"] < macro["value"] < macro["high"] and macro["n"] == np.isfinite(values).sum()


def test_ties_show_what_luck_would_have_made_of_them():
    vectors, labels = space(1, 0.8, classes=10)
    labels = labels.copy()
    vectors[labels >= 8] = vectors[-1]  # two classes on one point
    rows = np.arange(len(labels))
    metrics = summarise(all_to_all(vectors, labels, rows), labels, rows, 50, 0)["metrics"]
    for name in ("recall@1", "map@r"):
        assert metrics[name]["optimistic"] == pytest.approx(metrics[name]["value"] + 0.2, abs=0.01)
    assert metrics["macro_accuracy@1"].keys() == {"value", "low", "high", "n", "formula"}
    apart, labels = np.eye(40, dtype=np.float32)[np.arange(200) // 5], np.arange(200) // 5
    clean = summarise(all_to_all(apart, labels, np.arange(200)), labels, np.arange(200), 50, 0)
    assert not any("optimistic" in each for each in clean["metrics"].values())


def test_without_positives_or_queries_there_is_null_and_a_reason():
    vectors, _ = space(0, 1.0)
    labels, rows = np.arange(200), np.arange(200)
    lone = summarise(all_to_all(vectors, labels, rows), labels, rows, 50, 0)
    assert lone["metrics"]["map@r"]["value"] is None and lone["metrics"]["map@r"]["reason"]
    assert lone["metrics"]["accuracy@1"]["value"] == 0.0 and lone["counts"]["lone"] == 200
    nobody = rows[:0]
    empty = evaluate_queries(vectors[:0], vectors, nobody, labels, nobody, rows)
    json.dumps(summarise(empty, nobody, nobody, 50, 0), allow_nan=False)
    json.dumps(summarise(empty, nobody, nobody, 50, 0, "classes"), allow_nan=False)


def test_gain_is_paired():
    before_vectors, labels = space(2, 1.6)
    after_vectors, _ = space(3, 1.0)
    rows = np.arange(len(labels))
    before, after = (all_to_all(v, labels, rows) for v in (before_vectors, after_vectors))
    gain = paired_gain(before, after, "recall@1", labels, rows, 500, 0)
    a, b = before.values["recall@1"], after.values["recall@1"]
    assert gain["value"] == pytest.approx(b.mean() - a.mean())
    assert (gain["fixed"], gain["broken"]) == (np.sum(b > a), np.sum(b < a))
    assert gain["low"] > 0 and gain["p"] < 0.01 and gain["n"] == 200
    back = paired_gain(after, before, "recall@1", labels, rows, 500, 0)
    assert (back["low"], back["high"]) == pytest.approx((-gain["high"], -gain["low"]))
    same = paired_gain(after, after, "map@r", labels, rows, 100, 0, "classes")
    assert (same["value"], same["low"], same["high"], same["p"]) == (0.0, 0.0, 0.0, 1.0)
    json.dumps([gain, same], allow_nan=False)


def test_a_collapsed_model_does_not_look_good():
    labels = np.repeat(np.arange(10), 10)
    collapsed = np.tile(np.float32([[0.6, 0.8]]), (100, 1))
    result = all_to_all(collapsed, labels, np.arange(100))
    assert result.values["accuracy@1"].mean() <= 0.1
    assert np.nanmax(result.values["map@r"]) == 0.0 and result.counts["tie_sensitive"] == 100
