"""The maps that the report stage stores and hands to the page: after training, and before."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from folders import as_if_trained, ingest, jpeg, run_alone, samples, unit, write

from simpipe.config import Config, override
from simpipe.engine.rundir import RunDir
from simpipe.reporting.content import Content
from simpipe.reporting.projectors.pca import pca
from simpipe.reporting.projectors.umap import Settings
from simpipe.stages.calibrate import calibrate
from simpipe.stages.evaluate import evaluate
from simpipe.stages.report import report

LABELS, IMAGES, DIM = 5, 12, 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run up to evaluate, with made-up embeddings."""
    place = tmp_path_factory.mktemp("maps")
    for number in range(LABELS * IMAGES):
        write(place / "photos", f"label{number % LABELS}/{number:03}.jpg", jpeg(number))
    run = RunDir(place / "runs" / "labelled")
    run.path.parent.mkdir()
    ingest(run, place / "photos")
    known = samples(run)
    noise = np.random.default_rng(0).normal(size=(len(known), DIM))
    as_if_trained(run)
    middles = np.eye(DIM)[known.label_id]
    np.save(run.stage("index") / "embeddings.npy", unit(middles + 0.1 * noise))
    np.save(run.stage("index") / "pretrained.npy", unit(np.hstack([middles + 0.4 * noise, 0.1 * noise])))
    for each in (calibrate, evaluate):
        run_alone(each, run, run.path, Config())
    return run


def drawn(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, *settings: str
) -> tuple[Content, np.ndarray, np.ndarray]:
    """What the page was given, and both stored maps."""
    given: list[Content] = []

    def render(content: Content, *_: Any, **__: Any) -> str:
        given.append(content)
        return ""

    @contextmanager
    def beside(function: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], Any]]:
        found = function(*arguments)
        yield lambda: found

    monkeypatch.setattr("simpipe.engine.child.beside", beside)  # the maps: not in a process of their own
    monkeypatch.setattr("simpipe.reporting.page.render", render)
    monkeypatch.setattr(sys.modules[report.module], "_environment", lambda ctx: [])  # reads every receipt
    shutil.rmtree(run.stage("report"), ignore_errors=True)
    folder = run_alone(report, run, run.path, override(Config(), ["report.projector=pca", *settings]))
    return given[0], np.load(folder / "projection.npy"), np.load(folder / "projection_before.npy")


def test_the_page_gets_both_maps_with_the_neighbours_of_each(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, after, before = drawn(run, monkeypatch)
    np.testing.assert_array_equal(content.xy, after)
    assert content.before is not None
    np.testing.assert_array_equal(content.before.xy, before)
    stored = np.load(run.stage("evaluate") / "neighbours.npz")
    np.testing.assert_array_equal(content.neighbour_ids, stored["all_to_all_ids"])
    np.testing.assert_array_equal(content.before.neighbour_ids, stored["pretrained_all_to_all_ids"])
    np.testing.assert_array_equal(
        content.before.neighbour_distances, stored["pretrained_all_to_all_distances"]
    )
    np.testing.assert_array_equal(after, pca(np.load(run.stage("index") / "embeddings.npy")))
    assert before.std() == pytest.approx(after.std(), rel=1e-3)
    assert content.before.projection["method"] == "pca"
    assert content.before.projection["preserved"] != content.projection["preserved"]


def test_no_second_map_where_it_is_not_wanted(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    content, after, before = drawn(run, monkeypatch, "report.before=false")
    assert content.before is None and before.shape == (0, 2) and len(after) == LABELS * IMAGES


def test_no_second_map_where_nothing_was_trained(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run.stage("evaluate") / "metrics.json"
    kept = path.read_text()
    path.write_text(json.dumps({**json.loads(kept), "trained_here": False}))
    try:
        content, _, before = drawn(run, monkeypatch)
    finally:
        path.write_text(kept)
    assert content.before is None and before.shape == (0, 2)


def test_the_map_has_the_parameters_that_were_asked_for(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """That UMAP follows them: see reporting/test_projection.py."""
    asked_of: list[tuple[int, Settings]] = []

    def umap(
        embeddings: np.ndarray, ids: np.ndarray, distances: np.ndarray, seed: int, shape: Settings, **_: Any
    ) -> np.ndarray:
        asked_of.append((seed, shape))
        return pca(embeddings)

    monkeypatch.setattr("simpipe.reporting.projection.umap", umap)
    wanted = {"n_neighbors": 7, "min_dist": 0.3, "spread": 2, "metric": "euclidean", "densmap": True}
    keys = {"projector": "umap", **wanted, "map_seed": 5, "before": False}
    keys["neighbours"] = keys.pop("n_neighbors")
    asked = [f"report.{key}={json.dumps(value)}" for key, value in keys.items()]
    content, _, _ = drawn(run, monkeypatch, *asked)
    facts = {"method": "umap", **wanted, "seed": 5, "placed": 0}
    assert content.projection == content.projection | facts
    plain, _, _ = drawn(run, monkeypatch, "report.projector=umap", "report.before=false", "seed=3")
    assert plain.projection["seed"] == 3
    assert asked_of == [(5, Settings(7, 0.3, 2, "euclidean", True)), (3, Settings())]
