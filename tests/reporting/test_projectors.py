"""The parts of UMAP's map: its graph against UMAP's own, and the sample of very many images."""

import numpy as np
import pytest
from test_projection import blobs, neighbours

from simpipe.reporting.projection import project
from simpipe.reporting.projectors.graph import components, fuzzy_graph, pruned, with_self
from simpipe.reporting.projectors.sample import among, chosen, placed
from simpipe.reporting.projectors.umap import epochs_for, without_tensorflow


def test_neighbours_get_self_first_no_gaps_and_exactly_the_columns_used() -> None:
    embeddings, ids, distances = blobs(30, 2, 0.4)
    ids[3, 1:] = -1
    distances[3, 1:] = np.inf
    full, far = with_self(ids, distances, embeddings, 6)
    assert full.shape == far.shape == (30, 6) and full.dtype == np.int32 and far.dtype == np.float32
    np.testing.assert_array_equal(full[:, 0], np.arange(30))
    assert (far[:, 0] == 0).all() and (far >= 0).all() and np.isfinite(far).all()
    np.testing.assert_array_equal(full[4, 1:], ids[4, :5])
    similarity = embeddings @ embeddings[3]
    similarity[3] = -9
    np.testing.assert_array_equal(full[3, 1:], np.argsort(-similarity)[:5])
    assert with_self(ids, distances, embeddings, 99)[0].shape == (30, 16), "never more than there are"


@pytest.mark.parametrize("k", [2, 6, 15])
@pytest.mark.parametrize("copies", [0, 12, 200])
def test_the_graph_is_umaps_own(k: int, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _, _ = blobs(200, 3, 0.3)
    vectors[:copies] = vectors[0]
    ids, distances = with_self(*neighbours(vectors, 20), vectors, k)
    ours = fuzzy_graph(ids, distances)
    with without_tensorflow():
        from umap import umap_
    for name in ("smooth_knn_dist", "compute_membership_strengths"):  # to compile them takes ten seconds
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)
    theirs = umap_.fuzzy_simplicial_set(
        vectors, k, np.random.RandomState(0), "cosine", {}, ids.copy(), distances.copy(), return_dists=False
    )[0]
    # It stops its search for a width earlier.
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), atol=5e-5)
    assert ours.max() <= 1 + 1e-6 and ours.min() >= 0


def test_pruned_loses_the_weak_edges_and_components_counts_the_parts() -> None:
    ids = np.array([[0, 1], [1, 0], [2, 3], [3, 2], [4, 3]])
    graph = fuzzy_graph(ids, np.tile(np.array([0, 0.1], np.float32), (5, 1)))
    assert components(graph) == 2
    weak = graph.copy()
    weak[0, 1] = weak[1, 0] = 1e-3
    assert components(pruned(weak, 100)) == 3 and components(pruned(weak, 10_000)) == 2


def test_more_images_get_fewer_epochs() -> None:
    assert [epochs_for(n) for n in (20, 3_000, 5_000, 7_500, 100_000)] == [500, 333, 200, 200, 200]


# very many images


def test_a_sample_has_every_label_and_follows_the_seed() -> None:
    label_id = np.zeros(1000, int)
    label_id[[7, 400, 999]] = [1, 2, 3]
    rows = chosen(1000, 50, 0, label_id)
    assert len(rows) == 50 and (np.diff(rows) > 0).all()
    assert set(label_id[rows]) == {0, 1, 2, 3}
    np.testing.assert_array_equal(rows, chosen(1000, 50, 0, label_id))
    assert set(rows) != set(chosen(1000, 50, 1, label_id))
    assert len(chosen(1000, 50, 0, np.arange(1000))) == 50, "more labels than places"
    assert len(chosen(1000, 50, 0)) == 50


def test_neighbours_among_a_sample_are_positions_in_it() -> None:
    ids = np.array([[1, 2, 3], [3, 0, -1], [0, 1, 3], [2, 1, 0]])
    distances = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, np.inf], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    near, far = among(ids, distances, np.array([0, 1, 3]))
    np.testing.assert_array_equal(near, [[1, 2, -1], [2, 0, -1], [1, 0, -1]])
    np.testing.assert_array_equal(far[:, :2], [[0.1, 0.3], [0.4, 0.5], [0.2, 0.3]])


def test_the_others_come_to_the_mean_of_their_neighbours_or_to_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simpipe.reporting.projectors.sample.BLOCK_ROWS", 2)
    vectors = np.eye(6, dtype=np.float32)
    vectors[5] = vectors[2]
    rows, xy = np.array([1, 2]), np.array([[0, 0], [10, 4]], np.float32)
    ids = np.array([[1, 2], [0, 2], [0, 1], [2, 0], [1, -1], [4, -1]])
    distances = np.array([[0.2, 0.6], [0, 0], [0, 0], [0.5, 0.1], [1.7, np.inf], [0.1, np.inf]])
    full = placed(xy, rows, vectors[rows], vectors, ids, distances)
    np.testing.assert_array_equal(full[rows], xy)
    np.testing.assert_allclose(full[0], 0.4 / 1.2 * xy[1], atol=1e-6)
    np.testing.assert_allclose(full[3], xy[1], atol=1e-5)  # its other neighbour is not in the sample
    np.testing.assert_allclose(full[4], xy[0], atol=1e-5)  # opposite, but all it has
    np.testing.assert_allclose(full[5], xy[1], atol=1e-5)  # none: its copy is the nearest


def test_more_images_than_the_limit_are_placed_among_their_own() -> None:
    made = blobs(400, 4, 0.15)
    label_id = np.arange(400) % 4
    xy, info = project(*made, 0, label_id=label_id, limit=120)
    assert info["placed"] == 280 and np.isfinite(xy).all()
    laid_out = chosen(400, 120, 0, label_id)
    others = np.setdiff1d(np.arange(400), laid_out)
    gap = np.linalg.norm(xy[others, None] - xy[None, laid_out], axis=2)
    assert (label_id[laid_out[gap.argmin(axis=1)]] == label_id[others]).mean() > 0.97
    np.testing.assert_array_equal(xy, project(*made, 0, label_id=label_id, limit=120)[0])
    again, _ = project(*made, 0, label_id=label_id, limit=120, start=xy)
    assert np.isfinite(again).all()
