import subprocess
import sys

import numpy as np
import pytest

from simpipe.reporting.projection import components, pca, preserved, project, with_self


def blobs(
    n: int, groups: int, noise: float, seed: int = 0, k: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors around `groups` middles, and their k nearest, self excluded."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(groups, 24))[np.arange(n) % groups] + noise * rng.normal(size=(n, 24))
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    distance = 1 - found @ found.T
    np.fill_diagonal(distance, 9)
    ids = np.argsort(distance, axis=1)[:, : min(k, n - 1)]
    return found, ids.astype(np.int32), np.take_along_axis(distance, ids, axis=1)


def test_umap_keeps_groups_apart_and_is_reproducible() -> None:
    embeddings, ids, distances = blobs(150, 3, 0.2)
    loaded = "tensorflow" in sys.modules
    xy, info = project(ids, distances, 150, 7, 15, 0.1, embeddings=embeddings)
    assert loaded or "tensorflow" not in sys.modules
    again, _ = project(ids, distances, 150, 7, 15, 0.1, embeddings=embeddings)
    assert xy.shape == (150, 2) and xy.dtype == np.float32
    np.testing.assert_array_equal(xy, again)
    assert info["method"] == "umap" and info["init"] == "pca", "three parts that no edge joins"
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(gap, np.inf)
    assert (gap.argmin(axis=1) % 3 == np.arange(150) % 3).all()
    assert info["preserved"] == preserved(xy, ids, 7)[0]


@pytest.mark.parametrize("n", [1, 2, 3, 19])
def test_few_images_are_laid_out_by_pca(n: int) -> None:
    embeddings, ids, distances = blobs(n, 2, 0.5)
    xy, info = project(ids, distances, n, 0, 15, 0.1, embeddings=embeddings)
    assert info["method"] == "pca" and xy.shape == (n, 2) and np.isfinite(xy).all()
    assert (info["preserved"] is None) == (n == 1)


def test_pca_matches_scikit_learn_up_to_the_sign() -> None:
    from sklearn.decomposition import PCA

    embeddings, ids, distances = blobs(80, 4, 0.7)
    xy, info = project(ids, distances, 80, 0, 15, 0.1, "pca", embeddings=embeddings)
    assert info["method"] == "pca"
    np.testing.assert_allclose(np.abs(xy), np.abs(PCA(2).fit_transform(embeddings)), atol=1e-4)
    assert pca(np.ones((5, 1), np.float32)).shape == (5, 2)


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="tsne"):
        project(np.zeros((2, 1), int), np.zeros((2, 1)), 2, 0, 15, 0.1, "tsne", embeddings=np.eye(2))


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


def test_components_counts_the_parts_of_the_graph() -> None:
    ids = np.array([[0, 1], [1, 0], [2, 3], [3, 2], [4, 3]])
    assert components(ids) == 2


def test_preserved_is_the_overlap_of_neighbours() -> None:
    xy = np.column_stack([np.arange(6.0), np.zeros(6)])
    ids = np.array([[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 0]])
    # Row 5 has neighbours 4 and 3 on the line, so one of its two is kept; the rest keep both.
    assert preserved(xy, ids, 0) == (pytest.approx((5 * 1.0 + 0.5) / 6), 2)
    assert preserved(xy, np.full((6, 2), -1), 0) == (None, 2)
    assert preserved(xy, np.zeros((6, 0), int), 0) == (None, 0)


def test_tensorflow_is_hidden_while_umap_is_imported() -> None:
    code = """
import sys
from simpipe.reporting.projection import without_tensorflow
with without_tensorflow():
    try:
        import tensorflow
    except ImportError:
        print("hidden")
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "hidden\n"
