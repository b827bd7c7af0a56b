"""Both backends against brute force, and the match that neighbours lead to."""

import numpy as np
import pytest

from simpipe import search
from simpipe.config.models import Backend
from simpipe.search.matching import match
from simpipe.similarity import Neighbours

PARAMETERS = {"m": 16, "ef_construction": 100, "ef_search": 100}


@pytest.fixture(scope="module")
def vectors():
    rows = np.random.default_rng(0).normal(size=(1500, 24)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries, vectors, k):
    distances = 1 - queries.astype(np.float64) @ vectors.T.astype(np.float64)
    ids = np.argsort(distances, axis=1)[:, :k]
    return ids, np.take_along_axis(distances, ids, axis=1)


@pytest.mark.parametrize(("backend", "least"), [("exact", 1.0), ("nmslib", 0.95)])
def test_finds_the_nearest_and_survives_saving(tmp_path, vectors, backend, least):
    ids, distances = brute_force(vectors[:100], vectors, 10)
    built = search.build(backend, vectors, PARAMETERS)
    found = built.search(vectors[:100], 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.ids, ids, strict=True)])
    assert recall >= least
    np.testing.assert_allclose(found.distances[:, 0], 0, atol=1e-5)
    same = found.ids == ids
    np.testing.assert_allclose(found.distances[same], distances[same], atol=1e-5)
    built.save(tmp_path / "index.bin")
    again = search.load(backend, tmp_path / "index.bin", vectors, PARAMETERS).search(vectors[:100], 10)
    np.testing.assert_array_equal(again.ids, found.ids)


def test_ef_search_counts_after_loading_too(tmp_path, vectors):
    built = search.build("nmslib", vectors, {**PARAMETERS, "m": 4})
    built.save(tmp_path / "index.bin")
    ids, _ = brute_force(vectors[:200], vectors, 10)
    recalls = []
    for ef_search in (10, 400):
        parameters = {**PARAMETERS, "m": 4, "ef_search": ef_search}
        found = search.load("nmslib", tmp_path / "index.bin", vectors, parameters).search(vectors[:200], 10)
        recalls.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.ids, ids, strict=True)]))
    assert recalls[1] > recalls[0] + 0.1


@pytest.mark.parametrize("backend", ["exact", "nmslib"])
def test_fewer_vectors_than_asked_for_are_padded(vectors, backend):
    found = search.build(backend, vectors[:3], PARAMETERS).search(vectors[:2], 5)
    assert (found.ids[:, 3:] == -1).all()
    assert np.isinf(found.distances[:, 3:]).all()
    assert sorted(found.ids[0, :3].tolist()) == [0, 1, 2]


def test_the_distance_of_a_match_is_that_of_the_closest_with_its_label():
    labels = np.array([0, 1, 1, 2], np.int32)
    found = Neighbours(
        np.array([[0, 1, 2], [3, -1, -1], [-1, -1, -1]], np.int32),
        np.array([[0.1, 0.2, 0.3], [0.5, np.inf, np.inf], [np.inf] * 3], np.float32),
    )
    nearest, majority = match(found, labels, "nearest", 1), match(found, labels, "majority", 3)
    assert nearest.labels.tolist() == [0, 2, -1]
    np.testing.assert_allclose(nearest.distances, [0.1, 0.5, np.inf])
    assert majority.labels.tolist() == [1, 2, -1]
    np.testing.assert_allclose(majority.distances, [0.2, 0.5, np.inf])


def test_the_configuration_knows_exactly_the_registered_backends():
    assert set(Backend.__args__) == set(search.BACKENDS)
