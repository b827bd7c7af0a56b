"""Chance against simulation; the projections against what they promise."""

import numpy as np
import pytest

from simpipe.metrics.baselines import apply_projection, chance, lda_fit, whiten_fit
from simpipe.metrics.retrieval import retrieval_values
from simpipe.similarity import nearest, search


def random_vectors(rng, n, dims):
    vectors = rng.normal(size=(n, dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("grouped", [False, True])
def test_chance_is_what_random_embeddings_score(grouped):
    rng = np.random.default_rng(0)
    query_labels, gallery_labels = np.array([0, 1, 2, 2, 5]), np.repeat([0, 1, 2, 3], [1, 4, 9, 20])
    query_exclude, gallery_exclude = np.arange(5), 100 + np.arange(34)
    if grouped:
        gallery_exclude[[0, 5, 6, 30]] = [0, 2, 2, 2]
    expected = chance(query_labels, gallery_labels, query_exclude, gallery_exclude)
    times = 1500
    # a gallery at right angles: a random query ranks it in any order with the same chance
    _, ranks = search(
        *(random_vectors(rng, 5 * times, 34), np.eye(34, dtype=np.float32), 1),
        *(np.tile(query_labels, times), gallery_labels, np.tile(query_exclude, times), gallery_exclude),
    )
    found = retrieval_values(ranks)
    assert expected["accuracy@1"].tolist()[4] == 0.0
    for name, values in expected.items():
        if name == "accuracy@1":
            np.testing.assert_allclose(values[:1], np.nan_to_num(expected["recall@1"])[:1])
            continue
        simulated = found[name].reshape(times, 5)
        assert np.array_equal(np.isnan(values), np.isnan(simulated[0]))
        error = simulated.std(axis=0) / np.sqrt(times)
        assert np.nanmax(np.abs(values - simulated.mean(axis=0)) - 4.5 * error) <= 1e-9, name
    assert np.isnan(expected["map@r"][0]) == grouped


def test_chance_in_the_smallest_galleries():
    one = chance(np.array([7]), np.array([7]))
    assert {name: float(value[0]) for name, value in one.items()} == {
        "accuracy@1": 1.0, "recall@1": 1.0, "recall@5": 1.0, "recall@10": 1.0,
        "true_recall@5": 1.0, "true_recall@10": 1.0, "precision@5": 0.2, "precision@10": 0.1,
        "r_precision": 1.0, "map@r": 1.0, "ap": 1.0,
    }  # fmt: skip
    none = chance(np.array([7]), np.array([7]), np.array([1]), np.array([1]))
    assert none["accuracy@1"][0] == 0.0 and np.isnan(none["recall@5"][0])


def blobs(rng, classes=8, per_class=20, dims=30):
    """Classes differ in weak directions; a few strong ones are noise."""
    scale = np.r_[np.full(4, 8.0), np.ones(dims - 4)]
    means = rng.normal(size=(classes, dims)) * np.r_[np.zeros(4), np.ones(dims - 4)] * 1.2
    labels = np.repeat(np.arange(classes), per_class)
    return (means[labels] + rng.normal(size=(len(labels), dims)) * scale + 3).astype(np.float32), labels


def accuracy(vectors, labels):
    rows = np.arange(len(labels))
    return np.mean(labels[nearest(vectors, vectors, 1, rows, rows).ids[:, 0]] == labels)


def test_whitening_and_discriminants_beat_raw_features_on_new_images():
    rng = np.random.default_rng(0)
    features, labels = blobs(rng, per_class=40)
    train, test = np.arange(0, 320, 2), np.arange(1, 320, 2)
    raw = features / np.linalg.norm(features, axis=1, keepdims=True)
    whitening, _ = whiten_fit(features[train], dims=24)
    discriminants, _ = lda_fit(features[train], labels[train])
    scores = [
        accuracy(vectors[test], labels[test])
        for vectors in (raw, apply_projection(features, whitening), apply_projection(features, discriminants))
    ]
    assert scores[0] + 0.2 < scores[1] < scores[2]
    assert discriminants.matrix.shape == (30, 7)


def test_whitened_train_is_white():
    features, _ = blobs(np.random.default_rng(1))
    whitening, reason = whiten_fit(features, dims=10, shrinkage=0.0)
    white = (features - whitening.mean) @ whitening.matrix
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(10), atol=1e-5)
    assert reason is None
    vectors = apply_projection(features, whitening)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_discriminants_find_the_subspace_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, labels = blobs(np.random.default_rng(2), per_class=400)
    ours, _ = lda_fit(features, labels)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(features, labels).scalings_[:, :7]
    bases = [np.linalg.qr(matrix)[0] for matrix in (ours.matrix, theirs)]
    assert np.linalg.svd(bases[0].T @ bases[1])[1].min() > 0.99


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([0, 0, 1, 1], "3 labels"), ([0, 1, 2, 3], "two images"), ([0, 0, 1, 2], "do not vary")],
)
def test_what_cannot_be_fitted_has_a_reason(labels, reason):
    features = np.ones((4, 5)) if reason == "do not vary" else np.eye(4, 5)
    projection, why = lda_fit(features, np.array(labels))
    assert projection is None and reason in why


def test_few_images_many_dimensions_and_singletons():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(7, 50)), np.array([0, 0, 1, 1, 2, 3, 4])
    for projection, reason in (whiten_fit(features), lda_fit(features, labels)):
        assert reason is None and np.isfinite(apply_projection(features, projection)).all()
    again = lda_fit(features, labels)[0]
    assert np.array_equal(again.matrix, lda_fit(features, labels)[0].matrix)
    assert whiten_fit(np.ones((5, 3)))[0] is None and whiten_fit(np.ones((1, 3)))[1]
    repeated = np.repeat(np.eye(4), 2, axis=0)
    assert "same features" in lda_fit(repeated, np.repeat(np.arange(4), 2))[1]
