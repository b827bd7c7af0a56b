"""The schemas accept what the contract promises and refuse what breaks it."""

import copy

import jsonschema
import pytest

from simpipe.metrics.contracts import load_schema, schema_names

NUMBER = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
RETRIEVAL = ["recall@1", "recall@5", "recall@10", "precision@5", "r_precision", "map@r", "mrr"]


def metrics_document():
    seen = ["accuracy@1", "accuracy@5", "macro_accuracy@1", *RETRIEVAL]
    return {
        "schema": "simpipe.metrics/1",
        "blocks": {
            "seen": {"counts": {"queries": 10}, "metrics": dict.fromkeys(seen, NUMBER)},
            "unseen": {"reason": "3 held-out classes; 5 are needed"},
            "open_set": {"counts": {}, "metrics": dict.fromkeys(["auroc", "fpr95", "oscr"], NUMBER)},
        },
        "ladder": [{"rung": "chance", "block": "seen", "metrics": {"map@r": NUMBER}}],
        "gain": [
            {"metric": "map@r", "block": "seen", "from": "pretrained", "to": "trained"}
            | {"value": -0.1, "low": -0.2, "high": None, "n": 10, "fixed": 2, "broken": 4, "p": 0.7}
        ],
        "with_leaks": {"more keys": "are welcome"},
    }


def calibration_document():
    point = {"precision": 0.9, "recall": None, "n_known": 4}
    return {
        "schema": "simpipe.calibration/1",
        "gallery": "train",
        "match": "nearest",
        "k": 1,
        "thresholds": {
            "optimal": {"distance": 0.3, "target": "optimal", "on_calibration": point, "on_test": point},
            "precision_0.95": {"distance": None, "target": 0.95, "reason": "not reached"}
            | {"on_calibration": None, "on_test": None},
        },
    }


def change(document, path, value):
    document = copy.deepcopy(document)
    *parents, last = path
    target = document
    for key in parents:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return document


def valid(document, name):
    return jsonschema.Draft202012Validator(load_schema(name)).is_valid(document)


@pytest.mark.parametrize("name", schema_names())
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(load_schema(name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], "simpipe.metrics/2"),
        (["blocks", "unseen"], None),
        (["blocks", "unseen"], {}),
        (["blocks", "seen", "metrics", "map@r"], None),
        (["blocks", "seen", "metrics", "map@r"], NUMBER | {"value": float("inf")}),
        (["blocks", "seen", "metrics", "map@r"], {"value": 0.5, "low": 0.4, "n": 10}),
        (["blocks", "open_set", "metrics", "oscr"], None),
        (["ladder", 0, "rung"], None),
        (["gain", 0, "p"], None),
    ],
)
def test_metrics(path, value):
    assert valid(metrics_document(), "metrics-1")
    assert not valid(change(metrics_document(), path, value), "metrics-1")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["thresholds", "optimal"], None),
        (["thresholds", "optimal", "on_test"], None),
        (["thresholds", "optimal", "distance"], 2.5),
        (["thresholds", "precision_0.95", "reason"], None),
        (["match"], "best"),
        (["k"], 0),
    ],
)
def test_calibration(path, value):
    assert valid(calibration_document(), "calibration-1")
    assert not valid(change(calibration_document(), path, value), "calibration-1")


def test_summaries_fit_the_schema():
    import numpy as np

    from simpipe.metrics.evaluation import evaluate_queries, paired_gain, summarise

    rng = np.random.default_rng(0)
    labels, rows = np.arange(60) % 6, np.arange(60)
    vectors = rng.normal(size=(6, 8))[labels] + rng.normal(size=(60, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    result = evaluate_queries(vectors, vectors, labels, labels, rows, rows)
    document = metrics_document()
    document["blocks"]["seen"] = summarise(result, labels, rows, 50, 0)
    document["blocks"]["unseen"] = summarise(result, labels, rows, 50, 0, "classes")
    names = {"block": "seen", "from": "pretrained", "to": "trained"}
    document["gain"] = [names | paired_gain(result, result, "map@r", labels, rows, 50, 0)]
    jsonschema.validate(document, load_schema("metrics-1"))


def test_unknown_schema():
    with pytest.raises(KeyError, match="metrics-1"):
        load_schema("metrics-9")


def test_a_run_without_labels_keeps_the_contract():
    facts = {"images": 9, "clusters": 2, "clustered": 0.5, "largest": 3, "smallest": 2}
    document = {
        "schema": "simpipe.metrics/1",
        "blocks": {name: {"reason": "no labels"} for name in ("seen", "unseen", "open_set")},
        "ladder": [],
        "gain": [],
        "unlabelled": {**facts, "together": 0.25, "neighbours_kept": None},
    }
    assert valid(document, "metrics-1")
    assert not valid(change(document, ["unlabelled", "clusters"], None), "metrics-1")
    assert not valid(change(document, ["unlabelled", "clustered"], 1.5), "metrics-1")
