"""Calibrate and evaluate on labelled images, some held out, with made-up embeddings: the documents agree."""

import csv
import json
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pandas as pd
import pytest
from folders import as_if_trained, ingest, jpeg, run_alone, samples, unit, write

from simpipe.cli.headline import headline
from simpipe.config import Config
from simpipe.data.manifest import Samples
from simpipe.engine.rundir import RunDir
from simpipe.metrics.contracts import load_schema
from simpipe.metrics.retrieval import FORMULAS
from simpipe.stages.calibrate import calibrate
from simpipe.stages.evaluate import SUSPECT, evaluate

LABELS, IMAGES, DIM, MOVED = 60, 10, 64, 4


class Made(NamedTuple):
    """A run up to evaluate, and the rows whose image shows another label than it carries."""

    run: RunDir
    samples: Samples
    embeddings: np.ndarray
    moved: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("with_labels")
    source = place / "photos"
    for number in range(LABELS * IMAGES):
        write(source, f"label{number % LABELS:02}/{number:03}.jpg", jpeg(number))
    write(source, "label00/broken.jpg", b"no image")
    run = RunDir(place / "runs" / "labelled")
    run.path.parent.mkdir()
    ingest(run, source)
    known = samples(run)
    generator = np.random.default_rng(0)
    centres = unit(generator.normal(size=(LABELS, DIM)))
    shown = known.label_id.copy()
    moved = generator.choice(known.rows("train"), MOVED, replace=False)
    shown[moved] = (shown[moved] + 7) % LABELS
    noise = generator.normal(size=(len(known), DIM)) * 0.125
    as_if_trained(run)
    embeddings = unit(centres[shown] + 0.6 * noise)
    np.save(run.stage("index") / "embeddings.npy", embeddings)
    np.save(run.stage("index") / "pretrained.npy", unit(centres[shown] + noise))
    for each in (calibrate, evaluate):
        run_alone(each, run, source, Config())
    return Made(run, known, embeddings, moved)


def document(made: Made, stage: str, name: str) -> Any:
    return json.loads((made.run.stage(stage) / name).read_bytes())


def rows_of(made: Made, name: str) -> list[dict[str, str]]:
    with (made.run.stage("evaluate") / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def nearest_label(made: Made, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The plain way: no two images of this set are duplicates."""
    similarity = made.embeddings[queries].astype(float) @ made.embeddings[gallery].T.astype(float)
    similarity[queries[:, None] == gallery[None, :]] = -2
    return made.samples.label_id[gallery[similarity.argmax(axis=1)]]


def test_the_documents_keep_their_contracts_and_every_value_names_its_formula(made: Made) -> None:
    metrics = document(made, "evaluate", "metrics.json")
    jsonschema.validate(metrics, load_schema("metrics-1"))
    jsonschema.validate(document(made, "calibrate", "calibration.json"), load_schema("calibration-1"))
    for block in ("seen", "unseen"):
        assert {each["formula"] for each in metrics["blocks"][block]["metrics"].values()} <= set(FORMULAS)
        assert {each["formula"] for each in metrics["blocks"][block]["compat"].values()} <= set(FORMULAS)


@pytest.mark.parametrize(
    ("block", "metric", "queries", "gallery"),
    [("seen", "accuracy@1", "test", "train"), ("unseen", "recall@1", "unseen_test", "unseen_test")],
)
def test_both_blocks_count_what_a_plain_loop_counts(
    made: Made, block: str, metric: str, queries: str, gallery: str
) -> None:
    rows = made.samples.rows(queries)
    found = nearest_label(made, rows, made.samples.rows(gallery))
    right = (found == made.samples.label_id[rows]).mean()
    entry = document(made, "evaluate", "metrics.json")["blocks"][block]
    assert entry["metrics"][metric]["value"] == pytest.approx(right)
    assert entry["counts"]["queries"] == len(rows)
    told = pd.read_parquet(made.run.stage("evaluate") / "per_query.parquet").query("block == @block")
    np.testing.assert_array_equal(told["row"], rows)
    np.testing.assert_array_equal(told["predicted"], found)


def test_the_table_of_labels_adds_up_to_the_block(made: Made) -> None:
    rows = [row for row in rows_of(made, "classes.csv") if row["block"] == "seen"]
    seen = document(made, "evaluate", "metrics.json")["blocks"]["seen"]
    support = np.array([int(row["support"]) for row in rows])
    recall = np.array([float(row["recall"]) if row["recall"] else 0.0 for row in rows])
    assert support.sum() == seen["counts"]["queries"]
    assert (support @ recall) / support.sum() == pytest.approx(
        seen["metrics"]["accuracy@1"]["value"], abs=1e-5
    )
    assert recall[support > 0].mean() == pytest.approx(seen["metrics"]["macro_accuracy@1"]["value"], abs=1e-5)


def test_seen_and_unseen_are_compared_at_as_many_labels_as_the_smaller_has(made: Made) -> None:
    metrics = document(made, "evaluate", "metrics.json")
    unseen = metrics["blocks"]["unseen"]
    assert metrics["matched"]["classes"] == unseen["counts"]["classes"] >= 5
    assert metrics["matched"]["blocks"]["unseen"]["recall@1"]["value"] == pytest.approx(
        unseen["metrics"]["recall@1"]["value"]
    )
    # among fewer labels there is less to mix up
    seen = metrics["matched"]["blocks"]["seen"]["recall@1"]["value"]
    assert seen >= metrics["blocks"]["seen"]["metrics"]["recall@1"]["value"]


def test_moved_images_are_found_and_the_clean_score_leaves_them_out(made: Made) -> None:
    found = [row for row in rows_of(made, "findings.csv") if row["kind"] in SUSPECT]
    known = made.samples.sample_id.tolist()
    assert set(made.moved.tolist()) <= {known.index(row["sample_id"]) for row in found}
    removed = document(made, "evaluate", "metrics.json")["after_cleaning"]["removed"]
    assert removed["gallery"] >= MOVED
    assert sum(removed.values()) <= len({row["sample_id"] for row in found})


def test_held_out_labels_are_told_from_known_ones(made: Made) -> None:
    metrics = document(made, "evaluate", "metrics.json")
    assert metrics["blocks"]["open_set"]["metrics"]["auroc"]["value"] > 0.95
    assert set(metrics["verification"]) == {"seen", "unseen"}
    assert metrics["verification"]["unseen"]["metrics"]["auroc"]["value"] > 0.95
    accept = document(made, "calibrate", "calibration.json")["thresholds"]["unknown_accept_0.10"]
    assert accept["on_test"]["unknown_accept"] < 0.3 and accept["on_test"]["n_unknown_classes"] == 6
    assert accept["held"] is None, "six labels do not tell how others would do"


def test_the_terminal_says_how_good_how_sure_and_what_to_do(made: Made) -> None:
    told = "\n".join(headline(made.run))
    for part in ("accuracy@1", "macro", "cleaned", "training", "unseen", "pairs", "unknowns", "threshold"):
        assert f"\n{part}" in told, part
    assert f"look at the likely label errors: {MOVED}\n" in told
    assert "replace what could not be read; files: 1" in told


def test_the_terminal_warns_where_tested_images_trained_the_encoder(made: Made) -> None:
    path = made.run.stage("train") / "encoder.json"
    kept = path.read_text()
    assert "trained the encoder" not in "\n".join(headline(made.run))
    try:
        for known in (12, 0, None):
            adopted = {"tested_images": 1_300, "known_images": known, "known_labels": None}
            path.write_text(json.dumps({**json.loads(kept), "adopted": adopted}))
            told = [line for line in headline(made.run) if "trained the encoder" in line]
            assert [line.split("trained")[0].strip() for line in told] == (
                ["12 of the 1,300 images of val and test"] if known else []
            )
    finally:
        path.write_text(kept)
