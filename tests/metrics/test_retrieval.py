"""Retrieval values against loops over a sorted list of hits, and published values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.metrics.retrieval import FORMULAS, compat_values, formula_id, retrieval_values, tie_sensitive
from simpipe.similarity import Ranks, search


def ranks_of(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    flat = np.array([rank for row in rows for rank in row], np.int32)
    return Ranks(offsets, flat, flat)


def by_loop(hits):
    """`hits`: for each place of the ranking, whether the item is a positive."""
    positives = sum(hits)
    if not positives:
        return {}
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    ap = [p for p, hit in zip(precision, hits, strict=True) if hit]
    at_r = [p for p, hit in zip(precision[:positives], hits, strict=False) if hit]
    return {
        "recall@1": float(any(hits[:1])),
        "recall@5": float(any(hits[:5])),
        "recall@10": float(any(hits[:10])),
        "true_recall@5": sum(hits[:5]) / positives,
        "true_recall@10": sum(hits[:10]) / positives,
        "precision@5": sum(hits[:5]) / 5,
        "precision@10": sum(hits[:10]) / 10,
        "r_precision": sum(hits[:positives]) / positives,
        "map@r": sum(at_r) / positives,
        "mrr": 1 / (hits.index(True) + 1),
        "ap": sum(ap) / positives,
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=25), min_size=1, max_size=6))
def test_values_equal_the_loop(rankings):
    ranks = ranks_of([[i + 1 for i, hit in enumerate(hits) if hit] for hits in rankings])
    values = retrieval_values(ranks)
    for row, hits in enumerate(rankings):
        expected = by_loop(hits)
        for name, column in values.items():
            if expected:
                assert np.isclose(column[row], expected[name]), name
            else:
                assert np.isnan(column[row])
    assert {formula_id(name) for name in values} <= set(FORMULAS)


def as_open_metric_learning(hits, k):
    """Version 4.0: precision over min(k, R); the average of precisions over the hits in the first k."""
    top, positives = hits[:k], sum(hits)
    running = [sum(top[: i + 1]) / (i + 1) for i in range(len(top))]
    found = sum(top)
    return {
        f"oml_cmc@{k}": float(any(top)),
        f"oml_precision@{k}": found / min(k, positives) if positives else float("nan"),
        f"oml_map@{k}": sum(p for p, hit in zip(running, top, strict=True) if hit) / found if found else 0.0,
    }


def as_pytorch_metric_learning(hits, k):
    """Version 2.9 with `k` neighbours: everything over R; queries without a positive are left out."""
    top, positives = hits[:k], sum(hits)
    if not positives:
        return {f"pml_mean_{name}@{k}": float("nan") for name in ("average_precision", "reciprocal_rank")}
    running = [sum(top[: i + 1]) / (i + 1) for i in range(len(top))]
    return {
        f"pml_mean_average_precision@{k}": sum(p for p, hit in zip(running, top, strict=True) if hit)
        / positives,
        f"pml_mean_reciprocal_rank@{k}": 1 / (top.index(True) + 1) if any(top) else 0.0,
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=25), min_size=1, max_size=6), st.integers(1, 12))
def test_compat_values_follow_the_rules_of_the_libraries(rankings, k):
    values = compat_values(ranks_of([[i + 1 for i, hit in enumerate(hits) if hit] for hits in rankings]), k)
    for row, hits in enumerate(rankings):
        expected = as_open_metric_learning(hits, k) | as_pytorch_metric_learning(hits, k)
        assert values.keys() == expected.keys()
        np.testing.assert_allclose([values[name][row] for name in expected], list(expected.values()))
    assert {formula_id(name) for name in values} <= set(FORMULAS)


def test_one_hit_of_ten_reads_differently_in_each_library():
    """notes/peers.md 1C: one hit at rank 1, R = 10, k = 10."""
    values = compat_values(ranks_of([[1] + [99 + i for i in range(9)]]), 10)
    assert values["oml_map@10"] == 1.0 and values["pml_mean_average_precision@10"] == 0.1


def test_the_example_of_the_paper():
    """Musgrave et al. 2020, figure 2: ten results, R = 10; only the order tells the first two apart."""
    values = retrieval_values(
        ranks_of([[1, 10] + [99 + i for i in range(8)], [1, 2] + [99 + i for i in range(8)]])
    )
    np.testing.assert_allclose(values["r_precision"], [0.2, 0.2])
    np.testing.assert_allclose(values["map@r"], [0.12, 0.2])


def test_average_precision_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores, hits = rng.random((20, 30)), rng.random((20, 30)) < 0.3
    hits[:, 0] = True
    ranks = ranks_of(
        [(np.flatnonzero(h[np.argsort(-s)]) + 1).tolist() for s, h in zip(scores, hits, strict=True)]
    )
    expected = [average_precision_score(h, s) for s, h in zip(scores, hits, strict=True)]
    np.testing.assert_allclose(retrieval_values(ranks)["ap"], expected)


def test_a_collapsed_model_scores_nothing_and_is_tie_sensitive():
    vectors = np.tile(np.float32([[0.6, 0.8]]), (40, 1))
    labels, rows = np.arange(40) // 4, np.arange(40)
    _, ranks = search(vectors, vectors, 1, labels, labels, rows, rows)
    values = retrieval_values(ranks)
    assert values["recall@1"].max() == values["map@r"].max() == 0.0
    assert tie_sensitive(ranks).all()
    assert retrieval_values(ranks, side="optimistic")["map@r"].min() == 1.0


def test_ties_below_every_reported_rank_do_not_count():
    offsets = np.array([0, 2, 4, 4])
    ranks = Ranks(offsets, np.int32([1, 40, 1, 3]), np.int32([1, 44, 2, 3]))
    assert tie_sensitive(ranks).tolist() == [False, True, False]
