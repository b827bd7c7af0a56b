"""The stages after training, on a folder without any label: real images and ingest, made-up embeddings."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pandas as pd
import pytest
from folders import ingest, jpeg, run_alone, samples, unit, write

from simpipe.cli.headline import headline
from simpipe.cli.results import print_matches
from simpipe.config import Config, flatten, override
from simpipe.data.manifest import Samples
from simpipe.engine.provenance import provenance
from simpipe.engine.rundir import RunDir, seal
from simpipe.engine.stage import Stage
from simpipe.errors import UsageError
from simpipe.files import digest
from simpipe.metrics.contracts import load_schema
from simpipe.runs.run import Run
from simpipe.search.exact import ExactIndex
from simpipe.stages.calibrate import calibrate
from simpipe.stages.evaluate import evaluate
from simpipe.stages.report import report

GROUPS, PER_GROUP, ALONE, DIM = 3, 34, 6, 24
BLOCKS = ("seen", "unseen", "open_set")


class Made(NamedTuple):
    """A run without labels, all stages but report done, and the group that each image was made for."""

    run: RunDir
    samples: Samples
    embeddings: np.ndarray
    truth: np.ndarray


def brought_up(stage: Stage, run: RunDir, source: Path) -> None:
    """The stage alone, as the engine runs it: into its folder, with only what it declares."""
    config = override(Config(), ["ingest.labels=none", "report.projector=pca"])
    folder = run_alone(stage, run, source, config)
    receipt = {"stage": stage.name, "key": digest({}), "key_doc": {}, "seconds": 0.1}
    seal(folder, stage, {**receipt, "provenance": provenance(flatten(config))})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("without_labels")
    source = place / "photos"
    count = GROUPS * PER_GROUP + ALONE
    for number in range(count):
        write(source, f"{number:03}.jpg", jpeg(number))
    write(source, "copy.jpg", jpeg(0))
    write(source, "not read.jpg", jpeg(1)[:200])
    run = RunDir(place / "runs" / "unlabelled")
    run.path.parent.mkdir()
    ingest(run, source, {"ingest.labels": "none"})

    known = samples(run)
    generator = np.random.default_rng(0)
    truth = np.minimum(generator.permutation(len(known)) // PER_GROUP, GROUPS)
    middles = np.eye(DIM)[:GROUPS]
    around = generator.normal(size=(len(known), DIM)) * 0.1
    strangers = generator.normal(size=(len(known), DIM))
    embeddings = unit(np.where((truth < GROUPS)[:, None], middles[truth % GROUPS] + around, strangers))
    for row, group in enumerate(known.group_id.tolist()):  # copies are the same vector
        first = int(np.flatnonzero(known.group_id == group)[0])
        embeddings[row], truth[row] = embeddings[first], truth[first]
    run.stage("train").mkdir()
    record = {"backbone": {"pretrained": True}, "mode": "unlabelled", "shipped": "trained"}
    (run.stage("train") / "encoder.json").write_text(json.dumps(record))
    run.stage("sampler").mkdir()
    (run.stage("sampler") / "sampler.json").write_text(json.dumps({"training": False}))
    run.stage("index").mkdir()
    np.save(run.stage("index") / "embeddings.npy", embeddings)
    np.save(run.stage("index") / "pretrained.npy", embeddings)
    brought_up(calibrate, run, source)
    brought_up(evaluate, run, source)
    return Made(run, known, embeddings, truth)


def document(made: Made, stage: str, name: str) -> Any:
    return json.loads((made.run.stage(stage) / name).read_bytes())


def test_nothing_that_needs_labels_is_measured(made: Made) -> None:
    metrics = document(made, "evaluate", "metrics.json")
    jsonschema.validate(metrics, load_schema("metrics-1"))
    assert metrics["blocks"] == {name: {"reason": "the images have no labels"} for name in BLOCKS}
    assert metrics["ladder"] == metrics["gain"] == []
    relations = document(made, "evaluate", "relations.json")
    assert relations.pop("schema") == "simpipe.relations/1"
    assert relations.pop("health")["effective_rank"] > 1 and relations.pop("separability")["pairs"] == []
    assert not any(relations.values())
    assert (made.run.stage("evaluate") / "confusion.csv").read_text().split() == ["label"]
    assert len(pd.read_parquet(made.run.stage("evaluate") / "per_query.parquet")) == 0


def test_every_image_has_its_neighbours_and_never_a_copy_of_its_own(made: Made) -> None:
    found = np.load(made.run.stage("evaluate") / "neighbours.npz")
    groups = made.samples.group_id
    for name in ("all_to_all", "pretrained_all_to_all"):
        ids = found[f"{name}_ids"]
        assert ids.shape == (len(made.samples), 20) and (ids >= 0).all()
        assert (groups[ids] != groups[:, None]).all()
    assert found["test_to_train_ids"].shape == (0, 20)


def test_the_groups_are_found_and_told(made: Made) -> None:
    table = pd.read_parquet(made.run.stage("evaluate") / "clusters.parquet")
    assert table["sample_id"].tolist() == made.samples.sample_id.tolist()
    cluster = table["cluster"].to_numpy()
    for group in range(GROUPS):
        inside = cluster[(made.truth == group) & (cluster >= 0)]
        assert len(inside) > 0.8 * PER_GROUP and len(set(inside.tolist())) == 1
    facts = document(made, "evaluate", "metrics.json")["unlabelled"]
    assert facts["images"] == len(cluster) and facts["clusters"] == GROUPS
    assert facts["clustered"] == pytest.approx((cluster >= 0).mean())
    assert facts["neighbours_kept"] == 1.0 and facts["together"] > 0.8
    assert table["representative"].sum() == 12 * GROUPS


def test_the_findings_are_those_that_need_no_labels(made: Made) -> None:
    with (made.run.stage("evaluate") / "findings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kinds = {row["kind"] for row in rows}
    assert {"duplicate", "unreadable"} <= kinds <= {"duplicate", "unreadable", "outlier"}
    assert {row["label"] for row in rows} == {""}
    copies = [row for row in rows if row["kind"] == "duplicate" and row["exclude"] == "yes"]
    assert [{row["path"], row["other"]} for row in copies] == [{"copy.jpg", "000.jpg"}]


def test_no_threshold_but_that_of_the_familiar(made: Made) -> None:
    calibration = document(made, "calibrate", "calibration.json")
    jsonschema.validate(calibration, load_schema("calibration-1"))
    thresholds = calibration["thresholds"]
    chosen = thresholds.pop("familiar_0.95", None)
    assert set(thresholds) == {"optimal", "precision_0.95", "unknown_accept_0.10"}
    for entry in thresholds.values():
        assert entry["distance"] is None and entry["reason"] == "the images have no labels"
    val, train = (made.samples.rows(split) for split in ("val", "train"))
    if len(val) < 19:
        assert chosen["distance"] is None and "needs 19 queries" in chosen["reason"]
    else:
        nearest = np.min(1 - made.embeddings[val] @ made.embeddings[train].T, axis=1)
        assert chosen["distance"] == pytest.approx(np.sort(nearest)[-1], abs=1e-5)


def test_the_page_is_drawn(made: Made) -> None:
    brought_up(report, made.run, made.run.path.parents[1] / "photos")
    page = (made.run.stage("report") / "report.html").read_text()
    assert f"fall into {GROUPS} groups of look-alikes" in page
    assert 'id="groups"' in page and 'id="mistakes"' not in page
    assert np.load(made.run.stage("report") / "projection.npy").shape == (len(made.samples), 2)


def test_the_terminal_says_what_is_true(made: Made) -> None:
    told = headline(made.run)
    assert [line.split()[0] for line in told if line] == ["images", "groups", "familiar", "findings"]
    assert f"{GROUPS} of look-alikes hold" in told[2]
    assert not any(word in " ".join(told) for word in ("accuracy", "training ", "precision"))


class FakeEncoder:
    dim = DIM

    def embed(self, vectors: np.ndarray, out: np.ndarray) -> None:
        out[:] = vectors


@pytest.fixture
def asked(made: Made, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """The run opened for queries, of which the `pixels` are embeddings already."""

    def opened(distance: float | None) -> Run:
        run = Run(made.run, {})
        calibration = document(made, "calibrate", "calibration.json")
        calibration["thresholds"]["familiar_0.95"]["distance"] = distance
        known: dict[str, Any] = {
            "_calibration": calibration,
            "_encoder": FakeEncoder(),
            "_extractor": lambda pixels: (pixels,),
            "_index": ExactIndex(made.embeddings),
        }
        run.__dict__.update(known)
        return run

    vectors = {"known.jpg": made.embeddings[5], "strange.jpg": -made.embeddings[5]}
    monkeypatch.setattr(Run, "_pixels", lambda self, path: vectors[path.name])
    return opened


def test_a_query_finds_similar_images_and_names_no_label(
    asked: Callable[..., Run], made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    results = asked(0.3).query(["known.jpg", "strange.jpg"], k=4)
    first, second = results
    assert first.neighbours[0].distance == pytest.approx(0, abs=1e-5)
    assert {each.label for each in first.neighbours} == {None} and len(first.neighbours) == 4
    assert first.match.label is first.match.nearest_label is None
    assert first.match.familiar and not second.match.familiar
    assert first.match.threshold == second.match.threshold == 0.3
    queries = {"schema": "simpipe.query/1", "results": [each.to_json() for each in results]}
    jsonschema.validate(queries, load_schema("query-1", "simpipe.cli"))
    print_matches(results)
    told = capsys.readouterr().out
    assert told.startswith("known.jpg: like these images") and "strange.jpg: unlike these images" in told
    assert "None" not in told


def test_a_query_without_a_threshold_still_finds(asked: Callable[..., Run]) -> None:
    found = asked(None).query(["strange.jpg"], k=2)[0]
    assert found.match.threshold is None and found.match.familiar and len(found.neighbours) == 2


def test_a_threshold_that_needs_labels_is_refused_with_its_reason(asked: Callable[..., Run]) -> None:
    with pytest.raises(UsageError, match=r"precision_0\.95 could not be chosen: the images have no labels"):
        asked(0.3).query(["known.jpg"], threshold="precision_0.95")


@pytest.mark.parametrize("given", [0.7, "0.7", "7e-1"])
def test_a_distance_stands_in_the_place_of_a_threshold(asked: Callable[..., Run], given: str | float) -> None:
    near, far = asked(0.3).query(["known.jpg", "strange.jpg"], threshold=given)
    assert near.match.threshold == far.match.threshold == 0.7
    assert near.match.familiar and not far.match.familiar
    assert asked(0.3).query(["strange.jpg"], threshold=0.9)[0].match.familiar
    assert asked(0.3).query(["known.jpg"], threshold=0)[0].match.threshold == 0


@pytest.mark.parametrize("given", [float("nan"), -0.1, 2.1, "nan", "inf", "-0.1", "0,3", "", "familiar"])
def test_what_is_neither_a_threshold_nor_a_distance_is_refused(
    asked: Callable[..., Run], given: str | float
) -> None:
    with pytest.raises(UsageError, match="no threshold is called") as error:
        asked(0.3).query(["known.jpg"], threshold=given)
    assert "no distance from 0 to 2" in error.value.message and "familiar_0.95" in error.value.hint
