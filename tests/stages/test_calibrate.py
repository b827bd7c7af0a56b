"""The stage calibrate on made-up embeddings, and what a query makes of its document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from folders import Recorder

from simpipe.config import Config, override
from simpipe.data.manifest import Samples, write_samples
from simpipe.engine.rundir import RunDir
from simpipe.engine.stage import Context, DeclaredConfig
from simpipe.files import write_json
from simpipe.metrics.contracts import load_schema
from simpipe.runs.run import Run
from simpipe.search.exact import ExactIndex
from simpipe.stages.calibrate import calibrate, target_names

LABELS, DIM = 8, 32
COUNTS = {"train": 400, "val": 160, "test": 200, "unseen_calib": 40, "unseen_test": 40}


def world(counts: dict[str, int], noise: float = 0.35) -> tuple[Samples, np.ndarray]:
    """Labels 0 to 7 are known, 8 and 9 held out; every image is a group of its own."""
    rng = np.random.default_rng(0)
    split = np.repeat(list(counts), list(counts.values()))
    label_id = rng.integers(0, LABELS, len(split)).astype(np.int32)
    label_id[split == "unseen_calib"], label_id[split == "unseen_test"] = LABELS, LABELS + 1
    vectors = rng.normal(size=(LABELS + 2, DIM))[label_id] / np.sqrt(DIM) + noise * rng.normal(
        size=(len(split), DIM)
    )
    names = np.array([f"{row:064}" for row in range(len(split))])
    text = np.array([f"label {each}" for each in label_id])
    embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Samples(names, names, text, label_id, split, names), embeddings


def brought_up(place: Path, counts: dict[str, int], settings: list[str], noise: float = 0.35) -> RunDir:
    """A run of which calibrate alone was run, as the engine runs it."""
    samples, embeddings = world(counts, noise)
    run = RunDir(place / "runs" / "made-up")
    for name in ("ingest", "index", "calibrate"):
        run.stage(name).mkdir(parents=True)
    write_samples(run.stage("ingest") / "samples.parquet", samples)
    labels = [{"name": f"label {number}"} for number in range(LABELS + 2)]
    write_json(run.stage("ingest") / "labels.json", {"labels": labels})
    np.save(run.stage("index") / "embeddings.npy", embeddings)
    shown = DeclaredConfig(override(Config(), settings), calibrate.config)
    rest = (run.path / "checkpoints", run.path / "last", place / "data", run.cache)
    calibrate.run(Context(calibrate, run.path, run.stage("calibrate"), *rest, shown, Recorder()))
    return run


def document(run: RunDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.stage("calibrate") / "calibration.json").read_bytes())
    jsonschema.validate(found, load_schema("calibration-1"))
    return found


@pytest.mark.parametrize("rule", ["nearest", "balanced"])
def test_every_target_is_verified_on_test(tmp_path: Path, rule: str) -> None:
    settings = [
        f"calibrate.match={rule}",
        "calibrate.recall=[0.5, 0.999]",
        "calibrate.precision=[0.8, 0.955]",
    ]
    found = document(brought_up(tmp_path, COUNTS, settings))
    thresholds = found["thresholds"]
    assert sorted(thresholds) == sorted(
        ["optimal", "precision_0.80", "precision_0.955", "recall_0.50", "recall_0.999", "unknown_accept_0.10"]
    )
    assert found["match"] == rule and found["k"] == (1 if rule == "nearest" else 5)
    unmet = thresholds.pop("recall_0.999")
    assert unmet["distance"] is None and unmet["held"] is None and "of 160 known images" in unmet["reason"]
    for name, entry in thresholds.items():
        calibration, test = entry["on_calibration"], entry["on_test"]
        assert (calibration["n_known"], calibration["n_unknown"]) == (160, 40)
        assert (test["n_known"], test["n_unknown"]) == (200, 40)
        kind, _, level = name.rpartition("_")
        expected = {
            "": None,
            "unknown_accept": None,  # two labels do not tell how others would do
            **{each: test[f"{each}_high"] >= float(level) for each in ("precision", "recall") if kind},
        }
        assert entry["held"] is expected[kind]
    assert thresholds["recall_0.50"]["on_calibration"]["recall"] == 0.5
    assert thresholds["precision_0.80"]["on_calibration"]["precision"] >= 0.8


def test_the_probability_is_told_with_what_it_is_worth(tmp_path: Path) -> None:
    found = document(brought_up(tmp_path, COUNTS, []))["probability"]
    assert sum(found["counts"].values()) == 200 and found["counts"]["unknown"] == 40
    assert found["unknown_share"] == 0.1
    told = found["on_test"]
    assert told["brier"]["value"] < told["brier"]["constant"] and told["ece"]["low"] < 0.1
    assert sum(each["n"] for each in told["reliability"]) == told["brier"]["n"] == 240
    only_known = [f"calibrate.{key}" for key in ("unknown_share=0", "match=majority")]
    found = document(brought_up(tmp_path / "known", COUNTS, only_known))["probability"]
    assert found["on_test"]["brier"]["n"] == 200


def test_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (brought_up(tmp_path / name, COUNTS, []) for name in "ab")
    assert document(first) == document(second)


@pytest.mark.parametrize(
    ("counts", "noise", "reason"),
    [
        ({**COUNTS, "val": 9, "unseen_calib": 40}, 0.35, "needs 50 calibration images; here are 49"),
        ({"train": 400, "val": 160, "test": 200}, 0.01, "here are 160 and 0"),
        ({"train": 400, "test": 200}, 0.35, "here are 0"),
    ],
)
def test_no_probability_comes_with_a_reason(
    tmp_path: Path, counts: dict[str, int], noise: float, reason: str
) -> None:
    found = document(brought_up(tmp_path, counts, [], noise))
    assert found["probability"]["knots"] is None and reason in found["probability"]["reason"]


def test_without_test_images_nothing_is_verified(tmp_path: Path) -> None:
    found = document(brought_up(tmp_path, {name: COUNTS[name] for name in ("train", "val")}, []))
    assert found["probability"]["on_test"] is None and found["probability"]["unknown_share"] == 0
    assert found["thresholds"]["precision_0.95"]["held"] is None
    assert "held out as unknown" in found["thresholds"]["unknown_accept_0.10"]["reason"]


def test_names_of_targets() -> None:
    settings = override(Config(), ["calibrate.recall=[0.9, 0.999]", "calibrate.precision=[]"]).calibrate
    assert target_names(settings) == ["optimal", "recall_0.90", "recall_0.999", "unknown_accept_0.10"]


class FakeEncoder:
    dim = DIM

    def embed(self, vectors: np.ndarray, out: np.ndarray) -> None:
        out[:] = vectors


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """The answers to the images of test and of the unknown labels, of which the `pixels` are embeddings."""

    def answers(directory: RunDir, counts: dict[str, int] = COUNTS) -> list[Any]:
        samples, embeddings = world(counts)
        run = Run(directory, {})
        run.__dict__.update(
            _encoder=FakeEncoder(),
            _extractor=lambda pixels: (pixels,),
            _index=ExactIndex(embeddings),
            _paths={each: f"{each}.jpg" for each in samples.sample_id.tolist()},
        )
        monkeypatch.setattr(Run, "_pixels", lambda self, path: embeddings[int(path.name)])
        rows = np.concatenate([samples.rows("test"), samples.rows("unseen_test")])
        return run.query([str(row) for row in rows], k=2)

    return answers


@pytest.mark.parametrize("rule", ["nearest", "weighted"])
def test_a_query_says_how_likely_its_label_is_right(
    tmp_path: Path, asked: Callable[..., list[Any]], rule: str
) -> None:
    run = brought_up(tmp_path, COUNTS, [f"calibrate.match={rule}"])
    results = asked(run)
    probability = np.array([each.match.probability for each in results])
    told = document(run)["probability"]["on_test"]["reliability"]
    # the same images, so that the probabilities are those that were verified
    known, unknown = COUNTS["test"], COUNTS["unseen_test"]
    weights = np.r_[np.ones(known), np.full(unknown, known / 9 / unknown)]
    mass = [each["n"] for each in told]
    assert sum(mass) == len(probability)
    order, start = np.argsort(probability, kind="stable"), 0
    for each in told:
        part = order[start : start + each["n"]]
        assert np.average(probability[part], weights=weights[part]) == pytest.approx(
            each["predicted"], abs=1e-5
        )
        start += each["n"]
    queries = {"schema": "simpipe.query/1", "results": [each.to_json() for each in results]}
    jsonschema.validate(queries, load_schema("query-1", "simpipe.cli"))
    assert "probability" in results[0].to_json()["match"]


def test_a_query_without_a_fitted_probability_says_null(
    tmp_path: Path, asked: Callable[..., list[Any]]
) -> None:
    few = {**COUNTS, "val": 9}
    run = brought_up(tmp_path, few, [])
    results = asked(run, few)
    assert {each.match.probability for each in results} == {None}
    stored = document(run)
    del stored["probability"]  # a run of before
    write_json(run.stage("calibrate") / "calibration.json", stored)
    assert {each.match.probability for each in asked(run, few)} == {None}
