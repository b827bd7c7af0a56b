"""Groups of look-alikes, on sets whose groups are known, and on sets that have none."""

import numpy as np
import pytest

from simpipe.metrics import clusters
from simpipe.metrics.clusters import CLEAR, FEWEST, REPRESENTATIVES, Clusters, find_clusters, structure
from simpipe.similarity import nearest


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(sizes, noise=0.8, dim=48, seed=0):
    """Groups of these sizes around random middles, in a shuffled order."""
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    middles = unit(generator.normal(size=(len(sizes), dim)))
    around = generator.normal(size=(len(truth), dim)) * noise / np.sqrt(dim)
    return unit(middles[truth] + around), truth


def alone(n):
    return np.arange(n)


@pytest.mark.parametrize("sizes", [[60, 40, 30], [25] * 8, [15] * 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_groups_are_found(sizes, seed):
    vectors, truth = planted(sizes, seed=seed)
    found = find_clusters(vectors, alone(len(truth)), seed)
    inside = found.cluster >= 0
    assert inside.mean() > 0.9
    pure = [
        np.bincount(truth[found.cluster == each]).max() / np.sum(found.cluster == each)
        for each in range(found.cluster.max() + 1)
    ]
    assert min(pure) > 0.9
    assert len(sizes) <= len(pure) <= len(sizes) * 2


def test_groups_are_numbered_by_size_and_each_image_has_its_certainty():
    vectors, _ = planted([20, 80, 40])
    found = find_clusters(vectors, alone(140), 0)
    sizes = np.bincount(found.cluster[found.cluster >= 0])
    assert list(sizes) == sorted(sizes, reverse=True)
    assert found.cluster.dtype == np.int32 and found.probability.dtype == np.float32
    assert ((found.probability >= 0) & (found.probability <= 1)).all()
    assert (found.probability[found.cluster < 0] == 0).all()
    assert found.probability[found.cluster >= 0].mean() > 0.5


def together(vectors):
    found = find_clusters(vectors, alone(len(vectors)), 0)
    near = nearest(vectors, vectors, 20, alone(len(vectors)), alone(len(vectors))).ids
    return structure(found, near, near)["together"]


@pytest.mark.parametrize(("dim", "n"), [(10, 200), (10, 1500), (20, 400), (64, 800), (128, 1500)])
def test_points_without_structure_are_not_together_and_planted_groups_are(dim, n):
    assert together(unit(np.random.default_rng(0).normal(size=(n, dim)))) < CLEAR
    assert together(planted([n // 8] * 8, dim=dim)[0]) > 2 * CLEAR


def test_the_same_seed_gives_the_same_groups_also_of_a_sample():
    vectors, _ = planted([100, 80, 60])
    for most in (240, 120):
        first, again = (find_clusters(vectors, alone(240), 3, most) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_who_is_not_in_the_sample_joins_its_neighbours_and_a_stranger_does_not():
    vectors, truth = planted([150, 100, 80])
    # strangers to the groups, and to each other, in directions that no group has
    vectors = np.pad(vectors, ((0, 0), (0, 3)))
    strangers = np.eye(51, dtype=np.float32)[48:]
    everyone = np.concatenate([vectors, strangers])
    found = find_clusters(everyone, alone(len(everyone)), 0, most=120)
    assert (found.cluster[:330] >= 0).mean() > 0.8
    for each in range(3):
        named = found.cluster[:330][truth == each]
        named = named[named >= 0]
        assert np.bincount(named).max() / len(named) > 0.95
    assert (found.cluster[330:] == -1).all()


def test_too_few_images_form_no_group():
    vectors, _ = planted([FEWEST - 1])
    found = find_clusters(vectors, alone(FEWEST - 1), 0)
    assert (found.cluster == -1).all() and not found.representative.any()
    assert structure(found, np.zeros((FEWEST - 1, 0), int), np.zeros((FEWEST - 1, 0), int)) == {
        **{"images": FEWEST - 1, "clusters": 0, "clustered": 0.0, "largest": 0, "smallest": 0},
        **{"together": None, "neighbours_kept": None},
    }


@pytest.mark.parametrize("n", [FEWEST, 40])
def test_images_that_are_all_copies_of_one_do_not_break_it(n):
    vectors = np.tile(unit(np.ones((1, 16))), (n, 1))
    for groups in (alone(n), np.zeros(n, int)):
        found = find_clusters(vectors, groups, 0)
        assert np.isfinite(found.probability).all() and found.cluster.max() <= n // clusters.SMALLEST


def test_representatives_are_the_nearest_to_the_middle_and_never_copies_of_one_another():
    vectors, _ = planted([60, 40])
    copies = 30
    vectors = np.concatenate([vectors, vectors[:copies]])
    groups = np.concatenate([alone(100), alone(copies)])
    found = find_clusters(vectors, groups, 0)
    for each in range(found.cluster.max() + 1):
        members = np.flatnonzero(found.cluster == each)
        chosen = members[found.representative[members]]
        assert len(chosen) == min(REPRESENTATIVES, len(np.unique(groups[members])))
        assert len(np.unique(groups[chosen])) == len(chosen)
        middle = vectors[members].astype(np.float64).mean(axis=0)
        left = members[~np.isin(groups[members], groups[chosen])]
        assert (vectors[chosen] @ middle).min() >= (vectors[left] @ middle).max() - 1e-6
    assert not found.representative[found.cluster < 0].any()


def test_structure_counts():
    found = Clusters(np.array([0, 0, 1, -1, 0, 1]), np.zeros(6), np.zeros(6, bool))
    before = np.array([[1, 2], [0, 2], [3, -1], [2, 4], [5, 0], [4, 3]])
    after = np.array([[2, 1], [4, 5], [3, 0], [0, -1], [0, 1], [4, -1]])
    kept = sum(len(set(b) & set(a) - {-1}) for b, a in zip(before.tolist(), after.tolist(), strict=True))
    same = [
        found.cluster[row] == found.cluster[other] != -1
        for row, others in enumerate(after.tolist())
        for other in others
        if other >= 0
    ]
    assert structure(found, before, after) == {
        **{"images": 6, "clusters": 2, "clustered": 5 / 6, "largest": 3, "smallest": 2},
        "together": pytest.approx(sum(same) / len(same)),
        "neighbours_kept": pytest.approx(kept / 11),
    }
