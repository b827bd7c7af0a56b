"""Training without labels: objectives against plain loops, networks, whitening, and what tells a collapse.

That each method learns: see stages/test_unlabelled_learning.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.errors import DataError, StageError
from simpipe.learning import load_framework, statistics, unlabelled
from simpipe.learning.unlabelled import View, collapse, networks, whiten

METHODS = sorted(unlabelled.METHODS)


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


# The objectives, as loops in float64


def _unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def _cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def simclr_loop(first, second, temperature=0.1):
    z = _unit(np.concatenate([first.projection, second.projection]))
    n = len(z) // 2
    terms = []
    for i in range(2 * n):
        e = [np.exp(z[i] @ z[k] / temperature) for k in range(2 * n)]
        terms.append(-np.log(e[(i + n) % (2 * n)] / (sum(e) - e[i])))
    return np.mean(terms)


def simsiam_loop(first, second):
    ahead = [_cosine(p, t) for p, t in zip(first.prediction, second.target, strict=True)]
    back = [_cosine(p, t) for p, t in zip(second.prediction, first.target, strict=True)]
    return -np.mean(ahead) / 2 - np.mean(back) / 2


def byol_loop(first, second):
    total = 0.0
    for one, other in ((first, second), (second, first)):
        total += np.mean(((_unit(one.prediction) - _unit(other.target)) ** 2).sum(axis=1))
    return total


def barlow_loop(first, second, redundancy=5e-3):
    a, b = first.projection, second.projection
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            c = np.mean((a[:, i] - a[:, i].mean()) * (b[:, j] - b[:, j].mean()))
            c /= np.sqrt((a[:, i].var() + 1e-5) * (b[:, j].var() + 1e-5))
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


def vicreg_loop(first, second, invariance=25.0, variance=25.0, covariance=1.0):
    a, b = first.projection, second.projection
    total = invariance * np.mean((a - b) ** 2)
    for z in (a, b):
        n, d = z.shape
        total += variance * np.mean([max(0, 1 - np.sqrt(z[:, i].var(ddof=1) + 1e-4)) for i in range(d)]) / 2
        for i in range(d):
            for j in range(d):
                if i != j:
                    c = (z[:, i] - z[:, i].mean()) @ (z[:, j] - z[:, j].mean()) / (n - 1)
                    total += covariance * c**2 / d
    return total


CASES = [
    ("simclr", {}, simclr_loop),
    ("simclr", {"temperature": 0.5}, simclr_loop),
    ("simsiam", {}, simsiam_loop),
    ("byol", {}, byol_loop),
    ("barlow", {}, barlow_loop),
    ("barlow", {"redundancy": 0.1}, barlow_loop),
    ("vicreg", {}, vicreg_loop),
    ("vicreg", {"invariance": 1.0, "variance": 2.0, "covariance": 3.0}, vicreg_loop),
]


def _views(seed, n=9, d=5):
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(2, 3, n, d)) * rng.uniform(0.3, 3, d)
    arrays[1] = arrays[0] + rng.normal(size=(3, n, d)) * 0.5
    return View(*arrays[0]), View(*arrays[1])


def _float32(view):
    return View(*(None if part is None else np.asarray(part, np.float32) for part in view))


def _value(name, first, second, parameters):
    return float(unlabelled.get(name)(_float32(first), _float32(second), **parameters))


@pytest.mark.parametrize(("name", "parameters", "loop"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop_is_symmetric_and_does_not_depend_on_the_order(name, parameters, loop, seed):
    first, second = _views(seed)
    expected = loop(first, second, **parameters)
    order = np.random.default_rng(seed).permutation(9)
    shuffled = [View(*(part[order] for part in view)) for view in (first, second)]
    for views in ((first, second), (second, first), shuffled):
        assert _value(name, *views, parameters) == pytest.approx(expected, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize(("name", "parameters", "loop"), CASES)
def test_gradients_are_those_of_the_loop_and_none_goes_to_a_target(name, parameters, loop):
    import tensorflow as tf

    views = _views(7, n=6, d=3)
    part = 1 if unlabelled.METHODS[name].predictor else 0
    variables = [View(*(tf.Variable(each.astype(np.float32)) for each in view)) for view in views]
    with tf.GradientTape() as tape:
        value = unlabelled.get(name)(*variables, **parameters)
    found, *of_targets = tape.gradient(value, [variables[0][part], variables[0].target, variables[1].target])
    assert of_targets == [None, None]
    numeric = np.zeros(found.shape)
    for index in np.ndindex(*found.shape):
        for sign in (1, -1):
            moved = views[0][part].copy()
            moved[index] += sign * 1e-6
            shifted = views[0]._replace(**{View._fields[part]: moved})
            numeric[index] += sign * loop(shifted, views[1], **parameters) / 2e-6
    np.testing.assert_allclose(found, numeric, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_finite_where_all_is_collapsed(name, fill):
    import tensorflow as tf

    projection = tf.Variable(np.full((6, 4), fill, np.float32))
    with tf.GradientTape() as tape:
        view = View(projection, projection, projection)
        value = unlabelled.get(name)(view, view)
    assert np.isfinite(float(value))
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(value, projection)).numpy()).all()


def test_simclr_of_orthonormal_views():
    view = View(3.0 * np.eye(8))
    assert _value("simclr", view, view, {"temperature": 0.5}) == pytest.approx(np.log(1 + 14 * np.exp(-2)))


def test_simsiam_and_byol_of_right_and_of_opposite_predictions():
    z = np.random.default_rng(0).normal(size=(8, 4))
    right, opposite = View(z, 2 * z, z), View(z, -z, z)
    assert _value("simsiam", right, right, {}) == pytest.approx(-1)
    assert _value("simsiam", opposite, opposite, {}) == pytest.approx(1)
    assert _value("byol", right, right, {}) == pytest.approx(0, abs=1e-5)
    assert _value("byol", opposite, opposite, {}) == pytest.approx(8)


HADAMARD = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
"""Three uncorrelated dimensions of mean 0 and variance 1."""


def test_barlow_of_uncorrelated_of_equal_and_of_no_dimensions():
    perfect, equal, none = View(HADAMARD), View(HADAMARD[:, [0, 0, 0]]), View(np.ones((4, 3)))
    assert _value("barlow", perfect, perfect, {}) == pytest.approx(0, abs=1e-8)
    assert _value("barlow", equal, equal, {"redundancy": 0.5}) == pytest.approx(0.5 * 6, rel=1e-4)
    assert _value("barlow", none, none, {}) == pytest.approx(3)


def test_vicreg_terms_by_hand():
    def term(name, first, second):
        alone = {each: float(each == name) for each in ("invariance", "variance", "covariance")}
        return _value("vicreg", View(first), View(second), alone)

    none = np.ones((4, 3))
    assert term("invariance", none, none + 0.5) == pytest.approx(0.25)
    assert term("variance", none, none) == pytest.approx(1 - 1e-2)
    assert term("variance", HADAMARD, HADAMARD) == 0
    assert term("covariance", HADAMARD, HADAMARD) == pytest.approx(0, abs=1e-12)
    # variance and covariances of 4/3, six of them off the diagonal, d = 3, two views
    assert term("covariance", *[HADAMARD[:, [0, 0, 0]]] * 2) == pytest.approx(2 * 6 / 3 * (4 / 3) ** 2)


# The networks


def test_networks_have_the_layers_of_the_papers_and_weights_from_their_seed_alone():
    import keras

    for name in METHODS:
        projector = networks.build_projector(12, name, seed=3)
        out = projector.output_shape[1]
        predictor = networks.build_predictor(out, name, seed=3)
        assert (predictor is not None) == unlabelled.METHODS[name].predictor
        keras.utils.set_random_seed(99)
        again, other = (networks.build_projector(12, name, seed=seed) for seed in (3, 4))
        for mine, same in zip(projector.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, same)
        assert np.abs(projector.get_weights()[0] - other.get_weights()[0]).max() > 0
        norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in projector.layers)
        assert norms == {"simclr": 2, "simsiam": 3, "byol": 1, "barlow": 2, "vicreg": 2}[name]
        if predictor is not None:
            assert predictor.output_shape == (None, out)


def test_no_two_layers_of_a_method_start_alike():
    projector = networks.build_projector(512, "simsiam", seed=0)
    first, second, third = (w for w in projector.get_weights() if w.shape == (512, 512))
    assert not np.allclose(first, second) and not np.allclose(second, third)
    projector, predictor = networks.build_projector(256, "byol", 0), networks.build_predictor(256, "byol", 0)
    assert not np.allclose(projector.get_weights()[0], predictor.get_weights()[0])


def test_the_momentum_rises_along_a_cosine():
    found = [float(networks.target_momentum(step, 100, base=0.9)) for step in (0, 25, 50, 100, 120)]
    quarter = 1 - 0.1 * (np.cos(np.pi / 4) + 1) / 2
    np.testing.assert_allclose(found, [0.9, quarter, 0.95, 1, 1], rtol=1e-6)


def test_the_target_moves_by_the_momentum():
    import keras

    target, online = [keras.Variable([1.0, 2.0])], [keras.Variable([5.0, -2.0])]
    networks.update_target(target, online, 1.0)
    np.testing.assert_array_equal(target[0].numpy(), [1, 2])
    networks.update_target(target, online, 0.75)
    np.testing.assert_array_equal(target[0].numpy(), [2, 1])
    networks.update_target(target, online, 0.0)
    np.testing.assert_array_equal(target[0].numpy(), [5, -2])
    with pytest.raises(ValueError):
        networks.update_target(target, [], 0.5)


# Whitening


@settings(max_examples=40)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 12),
    size=st.integers(1, 16),
    block=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_whitening_equals_sklearn(n, d, size, block, seed):
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 5).astype(np.float32)
    mean, projection = whiten.fit_whitening(features, size, block, shrinkage=0.0)
    assert projection.shape == (d, min(size, n - 1, d))
    expected = PCA(projection.shape[1], whiten=True, svd_solver="full").fit_transform(features.astype("f8"))
    found = (features - mean) @ projection
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-3)
    assert (np.take_along_axis(projection, np.abs(projection).argmax(axis=0)[None], axis=0) > 0).all()


def test_shrinkage_is_that_of_the_ladders_whitened_rung():
    from simpipe.metrics import baselines

    features = np.random.default_rng(0).normal(size=(200, 10)) * np.arange(1, 11)
    rung, _ = baselines.whiten_fit(features, dims=6)
    mean, projection = whiten.fit_whitening(features, 6)
    scale = np.linalg.norm(projection, axis=0) / np.linalg.norm(rung.matrix, axis=0)
    np.testing.assert_allclose(scale, scale[0])  # n − 1 or n: nothing that a cosine sees
    np.testing.assert_allclose(np.abs(projection / scale), np.abs(rung.matrix), atol=1e-9)
    np.testing.assert_allclose(mean, rung.mean)


def test_empty_directions_are_left_out_and_constant_features_refused():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 3)) @ rng.normal(size=(3, 8))).astype(np.float32)
    assert whiten.fit_whitening(features.astype("f8"), 6).projection.shape == (8, 3)
    for constant in (np.full((5, 4), 7.1, np.float32), np.zeros((5, 4)), np.ones((1, 4))):
        with pytest.raises(DataError, match="same for all"):
            whiten.fit_whitening(constant, 2)


def test_whitening_reads_a_mapped_file_block_by_block(tmp_path):
    import tracemalloc

    mapped = np.lib.format.open_memmap(tmp_path / "f.npy", "w+", np.float32, (40_000, 16))
    for start in range(0, len(mapped), 1000):
        mapped[start : start + 1000] = np.random.default_rng(start).normal(size=(1000, 16))
    tracemalloc.start()
    found = whiten.fit_whitening(mapped, 4, block=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.projection.shape == (16, 4)
    assert peak < 16 * 500 * 8 * 5  # a few blocks; the file has 80


# What an embedding looks like


@pytest.mark.parametrize("seed", range(3))
def test_pair_distances_equal_the_loop(seed):
    rng = np.random.default_rng(seed)
    z, labels = _unit(rng.normal(size=(20, 6))), rng.integers(0, 6, 20)
    pairs = [(labels[i] == labels[j], 1 - z[i] @ z[j]) for i in range(20) for j in range(20) if i != j]
    positives, negatives = ([d for same, d in pairs if same == wanted] for wanted in (True, False))
    found = statistics.pair_distances(z.astype(np.float32), labels.astype(np.int32))
    expected = [f(part) for part in (positives, negatives) for f in (min, np.mean, max)]
    expected.append(min(negatives) - max(positives))
    assert tuple(found) == statistics.PAIR_DISTANCES
    np.testing.assert_allclose([float(value) for value in found.values()], expected, atol=1e-5)


def test_pair_distances_that_do_not_exist_are_not_a_number():
    z = np.eye(3, dtype=np.float32)
    found = {k: float(v) for k, v in statistics.pair_distances(z, np.arange(3)).items()}
    assert found["negative_min"] == found["negative_mean"] == found["negative_max"] == 1
    assert all(np.isnan(found[name]) for name in ("positive_min", "positive_mean", "positive_max", "gap"))
    found = {k: float(v) for k, v in statistics.pair_distances(z, np.zeros(3, int)).items()}
    assert found["positive_mean"] == 1 and np.isnan(found["negative_mean"]) and np.isnan(found["gap"])


def test_effective_rank_of_known_spectra():
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 8)))[0]
    assert statistics.effective_rank(orthogonal) == pytest.approx(8)
    assert statistics.effective_rank(np.ones((30, 8))) == pytest.approx(1, rel=1e-5)
    assert statistics.effective_rank(np.zeros((30, 8))) == 0
    # σ = 1, 1, 2: p = 1/4, 1/4, 1/2, entropy 3/2 log 2
    known = orthogonal[:, :3] * [1, 1, 2]
    assert statistics.effective_rank(known) == statistics.effective_rank(known.T) == pytest.approx(2**1.5)


def test_spread_is_one_on_the_sphere_and_none_in_a_point():
    z = np.random.default_rng(0).normal(size=(5000, 32))
    assert collapse.spread(z) == pytest.approx(1, abs=0.02)
    assert collapse.spread(7 * z) == pytest.approx(collapse.spread(z))
    assert collapse.spread(np.ones((9, 4))) == pytest.approx(0, abs=1e-12)
    assert collapse.spread(np.zeros((9, 4))) == 0
    collapse.refuse_collapse(z, 1)
    with pytest.raises(StageError, match="collapsed in epoch 3") as caught:
        collapse.refuse_collapse(1 + z / 100, 3)
    assert "vicreg" in caught.value.hint
    flat = np.outer(np.random.default_rng(0).normal(size=300), np.ones(64)) + 0.3
    with pytest.raises(StageError, match="one line"):
        collapse.refuse_collapse(flat, 1)
