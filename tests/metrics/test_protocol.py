"""Samples of queries, equal numbers of classes, scores without suspects: against loops and simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.metrics import ladder
from simpipe.metrics.evaluation import evaluate_queries
from simpipe.metrics.ladder import Block, climb, sample, within_budget
from simpipe.metrics.protocol import matched_blocks, matched_values, score_after_cleaning


def space(seed, noise, classes, per_class=8, dims=16):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    vectors = rng.normal(size=(classes, dims))[labels] + noise * rng.normal(size=(len(labels), dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def all_to_all(labels, unit="classes", name="unseen", rows=None):
    rows = np.arange(len(labels)) if rows is None else rows
    return Block(name, rows, rows, labels, np.arange(len(labels)), unit)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 70))
def test_every_class_gives_its_share_of_a_sample(seed, n, keep):
    classes = np.random.default_rng(seed).integers(0, 5, n)
    rows = sample(classes, keep, seed)
    assert len(rows) == min(n, keep) == len(set(rows.tolist())) and (np.diff(rows) > 0).all()
    share = len(rows) / n
    for label in range(5):
        taken, fair = (classes[rows] == label).sum(), share * (classes == label).sum()
        assert fair - 1 < taken < fair + 1


def test_every_query_has_the_same_chance_to_be_asked():
    classes = np.repeat([0, 1, 2], [3, 40, 57])
    asked = np.zeros(100)
    for seed in range(4000):
        asked[sample(classes, 30, seed)] += 1
    assert np.abs(asked / 4000 - 0.3).max() < 4.5 * np.sqrt(0.21 / 4000)


def test_a_sample_gives_the_mean_of_all_and_its_interval_covers_it():
    vectors, labels = space(0, 2.0, 25, 40)
    block = all_to_all(labels, "groups")
    truth = climb(block, {"trained": vectors}, "trained", "trained", 5, 20, 0).summary("trained")
    assert truth["counts"]["queries"] == 1000 and "sampled" not in truth["counts"]
    small = 2 * (16 + ladder.SCAN) * 1000
    assert len(within_budget(block, [16], 0, small).queries) < 1000
    covered, values = 0, []
    for seed in range(60):
        part = block._replace(queries=block.queries[sample(labels, 150, seed)])
        found = climb(part, {"trained": vectors}, "trained", "trained", 5, 200, seed)
        metric = found.summary("trained")["metrics"]["map@r"]
        values.append(metric["value"])
        covered += metric["low"] <= truth["metrics"]["map@r"]["value"] <= metric["high"]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - truth["metrics"]["map@r"]["value"]) < 4.5 * error
    assert covered >= 50  # of 60; 95 % are promised


def test_all_rungs_answer_the_same_sample(monkeypatch):
    vectors, labels = space(0, 1.5, 25)
    other = space(1, 1.5, 25)[0]
    monkeypatch.setattr(ladder, "BUDGET", 80 * 2 * (200 * (16 + ladder.SCAN) + 8 * ladder.RANK))
    rungs = {"pretrained": other, "none": "there is none", "trained": vectors}
    scores = climb(all_to_all(labels), rungs, "pretrained", "trained", 5, 50, 3)
    assert len(scores.block.queries) == 80 and len(scores.block.gallery) == 200
    counts = scores.summary("trained")["counts"]
    assert (counts["queries"], counts["sampled"], counts["gallery"], counts["classes"]) == (200, 80, 200, 25)
    rows = np.arange(200)
    whole = evaluate_queries(vectors, vectors, labels, labels, rows, rows, 5)
    for name, values in scores.evaluations["trained"].values.items():
        np.testing.assert_array_equal(values, whole.values[name][scores.block.queries])
    assert {entry["metrics"]["recall@1"]["n"] for entry in scores.ladder if entry["metrics"]} == {80}
    assert scores.gain[0]["n"] == 80


def matched_by_loop(vectors, labels, groups):
    """recall@1 and map@r of each query that sees the classes of its group only."""
    similarity = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    recall, map_at_r = {}, {}
    for group in groups:
        inside = [i for i, label in enumerate(labels) if label in group]
        for q in inside:
            others = sorted((i for i in inside if i != q), key=lambda i: -similarity[q, i])
            hits = [labels[i] == labels[q] for i in others]
            r = sum(hits)
            recall[q] = float(hits[0])
            map_at_r[q] = sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(r)) / r
    return recall, map_at_r


def test_matched_values_of_one_deal_equal_the_loop(monkeypatch):
    monkeypatch.setattr("simpipe.metrics.protocol.GROUPS", 1)
    vectors, labels = space(3, 1.5, 11, 5)
    values = matched_values(all_to_all(labels), vectors, 4, 0)
    dealt = np.random.default_rng(0).permutation(11)[:8].reshape(2, 4)
    recall, map_at_r = matched_by_loop(vectors, labels, dealt)
    assert np.isnan(values["map@r"]).sum() == 15 == 55 - len(recall)
    for q in recall:
        assert values["recall@1"][q] == recall[q] and values["map@r"][q] == pytest.approx(map_at_r[q])


def test_blocks_that_differ_only_in_their_classes_are_equal_when_matched():
    vectors, labels = space(5, 1.6, 120, 10)
    few = all_to_all(labels, "classes", "unseen", np.flatnonzero(labels < 30))
    many = all_to_all(labels, "classes", "seen", np.flatnonzero(labels >= 30))
    rows = np.arange(len(labels))
    plain = [
        np.mean(
            evaluate_queries(
                *(vectors[b.queries], vectors[b.gallery], labels[b.queries], labels[b.gallery]),
                *(rows[b.queries], rows[b.gallery]),
            ).values["recall@1"]
        )
        for b in (few, many)
    ]
    matched = matched_blocks([many, few], vectors, 200, 0)
    unseen, seen = (matched["blocks"][name]["recall@1"] for name in ("unseen", "seen"))
    assert matched["classes"] == 30 and unseen["value"] == pytest.approx(plain[0])
    assert plain[0] - plain[1] > 0.08  # the same embedding, more classes
    assert abs(seen["value"] - unseen["value"]) < 0.04 and seen["low"] < seen["value"] < seen["high"]
    assert matched == matched_blocks([many, few], vectors, 200, 0)


def test_without_a_class_in_common_nothing_is_matched():
    vectors, labels = space(0, 1.0, 4)
    rows = np.arange(len(labels))
    nobody = Block("seen", rows[labels == 0], rows[labels == 1], labels, rows, "groups")
    document = matched_blocks([nobody, all_to_all(labels)], vectors, 50, 0)
    assert document["classes"] == 0
    assert all(m["value"] is None for block in document["blocks"].values() for m in block.values())


def test_a_score_after_cleaning_asks_and_sees_no_suspect():
    vectors, labels = space(1, 0.6, 20)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < 0.1
    given_labels = np.where(wrong, (labels + 1 + rng.integers(0, 19, len(labels))) % 20, labels)
    rows = np.arange(len(labels))
    block = Block("seen", rows[::2], rows[1::2], given_labels, rows, "groups")
    before = score_after_cleaning(block, vectors, np.zeros(len(labels), bool), 100, 0)
    after = score_after_cleaning(block, vectors, wrong, 100, 0)
    assert before["removed"] == {"queries": 0, "gallery": 0}
    assert after["removed"] == {"queries": wrong[::2].sum(), "gallery": wrong[1::2].sum()}
    kept = [rows[half][~wrong[half]] for half in (slice(0, None, 2), slice(1, None, 2))]
    direct = evaluate_queries(*(vectors[kept[0]], vectors[kept[1]], labels[kept[0]], labels[kept[1]]), *kept)
    for name in ("accuracy@1", "recall@1", "map@r"):
        assert after["metrics"][name]["value"] == pytest.approx(np.nanmean(direct.values[name]))
        assert after["metrics"][name]["value"] > before["metrics"][name]["value"] + 0.05
