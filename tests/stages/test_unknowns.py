"""The documents of the open-set block and of verification, on a small made-up data set."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from simpipe.config.models import Evaluate
from simpipe.data.manifest import Samples
from simpipe.metrics.contracts import load_schema
from simpipe.metrics.ladder import Block, climb
from simpipe.metrics.open_set import auroc, fpr95, oscr
from simpipe.similarity import nearest
from simpipe.stages.unknowns import open_set_document, verification_document

SETTINGS = Evaluate(neighbours=5, resamples=100)


def made_up(per_label, held_out, dims=16):
    """Labels `a`, `b`, … with so many images; the last `held_out` of them are unseen."""
    rng = np.random.default_rng(0)
    label_id = np.repeat(np.arange(len(per_label)), per_label).astype(np.int32)
    vectors = rng.normal(size=(len(per_label), dims))[label_id] + 0.6 * rng.normal(size=(len(label_id), dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    split = np.where(rng.random(len(label_id)) < 0.6, "train", "test").astype("U11")
    split[label_id >= len(per_label) - held_out] = "unseen_test"
    ids = np.array([f"{i:04d}" for i in range(len(label_id))])
    label = np.array([chr(97 + code) for code in label_id])
    return Samples(ids, ids, label, label_id, split, ids), vectors.astype(np.float32)


def blocks(samples, vectors):
    train, test, unseen = (samples.rows(split) for split in ("train", "test", "unseen_test"))
    shared = (samples.label_id, samples.group_id)
    rungs = {"pretrained": vectors, "trained": vectors}
    seen, held = (
        climb(Block(name, queries, gallery, *shared, unit), rungs, "pretrained", "trained", 5, 10, 0)
        for name, queries, gallery, unit in (
            ("seen", test, train, "groups"),
            ("unseen", unseen, unseen, "classes"),
        )
    )
    groups = samples.group_id
    return seen, held, nearest(vectors[unseen], vectors[train], 5, groups[unseen], groups[train])


@pytest.fixture(scope="module")
def data():
    samples, vectors = made_up([10, 12, 15, 40, 45, 50, 30, 30, 30, 30, 30, 30], held_out=6)
    return samples, vectors, *blocks(samples, vectors)


def test_the_open_set_block_keeps_its_contract_and_adds_to_it(data):
    samples, vectors, seen, _, unknown = data
    document = open_set_document(samples, vectors, seen, unknown, SETTINGS, 0)
    json.dumps(document, allow_nan=False)
    schema = load_schema("metrics-1")
    Draft202012Validator({**schema["$defs"]["open_set"], "$defs": schema["$defs"]}).validate(document)
    known = seen.evaluations["trained"]
    near, far = known.neighbours.distances[:, 0], unknown.distances[:, 0]
    right = known.values["accuracy@1"] == 1
    for name, expected in (
        ("auroc", auroc(near, far)),
        ("fpr95", fpr95(near, far)),
        ("oscr", oscr(near, right, far)),
    ):
        assert document["metrics"][name]["value"] == pytest.approx(expected)
    assert set(document["metrics"]) == {"auroc", "fpr95", "oscr", "aupr_known", "aupr_unknown", "gap"}
    assert document["counts"] == {"known": len(near), "unknown": 180, "unknown_classes": 6}
    scores = document["novelty"]["scores"]
    assert set(scores) == {"nearest", "kth_nearest", "relative_mahalanobis"}
    assert scores["nearest"]["auroc"]["value"] == document["metrics"]["auroc"]["value"]
    assert "gain" not in scores["nearest"] and "value" in scores["kth_nearest"]["gain"]
    assert document["novelty"]["k"] == 2  # the smallest label has about six train images
    assert document["novelty"]["better"] == [
        name for name, each in scores.items() if "gain" in each and each["gain"]["low"] > 0
    ]
    bands = document["by_class_size"]["bands"]
    assert [band["name"] for band in bands] == ["small", "medium", "large"]
    assert sum(band["accepted"]["n"] for band in bands) == len(near)
    assert sum(band["fpr"]["n"] for band in bands) == 180


def test_where_there_is_no_block_the_reason_is_handed_on(data):
    samples, vectors, seen, _, unknown = data
    assert open_set_document(samples, vectors, "no test", unknown, SETTINGS, 0) == {"reason": "no test"}
    alone, alone_vectors = made_up([20] * 3, held_out=0)
    none = nearest(alone_vectors[:0], alone_vectors, 5)
    assert "held out" in open_set_document(alone, alone_vectors, seen, none, SETTINGS, 0)["reason"]
    document = verification_document(samples, vectors, "no test", "few labels", SETTINGS, 0)
    assert document == {"seen": {"reason": "no test"}, "unseen": {"reason": "few labels"}}


def test_single_images_and_equal_sizes_are_reasons_not_errors():
    samples, vectors = made_up([2] * 8 + [5], held_out=1)
    samples.split[:16] = np.tile(["train", "test"], 8)
    seen, _, unknown = blocks(samples, vectors)
    document = open_set_document(samples, vectors, seen, unknown, SETTINGS, 0)
    json.dumps(document, allow_nan=False)
    assert "two train images" in document["novelty"]["scores"]["relative_mahalanobis"]["reason"]
    assert "equally many" in document["by_class_size"]["reason"]


def test_verification_of_both_blocks(data):
    samples, vectors, seen, unseen, _ = data
    document = verification_document(samples, vectors, seen, unseen, SETTINGS, 0)
    json.dumps(document, allow_nan=False)
    assert document == verification_document(samples, vectors, seen, unseen, SETTINGS, 0)
    for name, queries, labels in (("seen", "test", "abcdef"), ("unseen", "unseen_test", "ghijkl")):
        block = document[name]
        assert block["negatives"] == "all" and block["metrics"]["auroc"]["value"] > 0.8
        rates = block["by_class"]
        assert [each["label"] for each in rates["labels"]] == list(labels)
        assert sum(each["positives"] for each in rates["labels"]) == block["counts"]["positives"]
        assert sum(each["negatives"] for each in rates["labels"]) == 2 * block["counts"]["negatives"]
        assert rates["fmr"] == 0.01 and rates["spread"]["fnmr"]["p10"] <= rates["spread"]["fnmr"]["p90"]
        worst = {each["label"]: each["fnmr"] for each in rates["labels"]}
        assert worst[rates["worst"][0]] == max(worst.values())
        held = samples.label_id[samples.rows(queries)]
        counts = np.bincount(held)
        if name == "unseen":
            assert block["counts"]["positives"] == (counts * (counts - 1) // 2).sum()
        else:
            train = np.bincount(samples.label_id[samples.rows("train")], minlength=len(counts))
            assert block["counts"]["positives"] == (counts * train[: len(counts)]).sum()
    assert document["seen"]["metrics"]["fnmr@fmr=1e-4"]["value"] is None
