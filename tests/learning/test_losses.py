"""Losses over pairs: against plain loops in float64, and against another library's stored numbers."""

import doctest
import inspect
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.config.training import CROSS_BATCH, LOSS_PARAMETERS
from simpipe.config.training import Loss as LossName
from simpipe.errors import UsageError
from simpipe.learning import distances, load_framework, losses
from simpipe.learning.losses.triplet import triplet

GOLDEN = json.loads((Path(__file__).parent / "golden_losses.json").read_text())["values"]
PAIRS = [name for name, member in losses.LOSSES.items() if member.kind == "pairs"]


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


# The loops. Each gives the terms of one anchor `i`; the loss is the mean of all terms. `d` are the distances,
# and `fixed` those that weights are made of through which no gradient goes.


def hinge(gap, margin, soft_margin):
    return np.log1p(np.exp(gap)) if soft_margin else max(0.0, gap + margin)


def triplet_terms(d, i, positives, negatives, fixed, margin=0.1, soft_margin=False, mining="hard"):
    if mining == "semi_hard":
        for p in positives:
            beyond = [d[i, n] for n in negatives if d[i, p] < d[i, n] < d[i, p] + margin]
            if beyond:
                yield hinge(d[i, p] - min(beyond), margin, soft_margin)
    else:
        choose = max if mining == "hard" else min
        gap = choose(d[i, p] for p in positives) - min(d[i, n] for n in negatives)
        yield hinge(gap, margin, soft_margin)


def pn_terms(d, i, positives, negatives, fixed, margin=0.1, soft_margin=False):
    p = max(positives, key=lambda j: d[i, j])
    n = min(negatives, key=lambda j: d[i, j])
    yield hinge(d[i, p] - min(d[i, n], d[p, n]), margin, soft_margin)


def multisimilarity_terms(d, i, positives, negatives, fixed, alpha=2.0, beta=40.0, base=0.5, epsilon=0.1):
    s = 1 - d[i]
    pull = [s[p] for p in positives if s[p] < max(s[n] for n in negatives) + epsilon]
    push = [s[n] for n in negatives if s[n] > min(s[p] for p in positives) - epsilon]
    near = np.log(1 + sum(np.exp(-alpha * (x - base)) for x in pull)) / alpha
    yield near + np.log(1 + sum(np.exp(beta * (x - base)) for x in push)) / beta


def circle_terms(d, i, positives, negatives, fixed, margin=0.4, scale=80.0):
    s, w = 1 - d[i], 1 - fixed[i]
    far = [-scale * max(0.0, 1 + margin - w[p]) * (s[p] - (1 - margin)) for p in positives]
    near = [scale * max(0.0, w[n] + margin) * (s[n] - margin) for n in negatives]
    yield np.log1p(np.sum(np.exp(near)) * np.sum(np.exp(far)))


def soft_nearest_neighbour_terms(d, i, positives, negatives, fixed, temperature=0.1):
    mine = sum(np.exp(-d[i, p] / temperature) for p in positives)
    yield -np.log(mine / (mine + sum(np.exp(-d[i, n] / temperature) for n in negatives)))


def lifted_structure_terms(d, i, positives, negatives, fixed, margin=1.0):
    for j in positives:
        push = sum(np.exp(margin - d[i, n]) + np.exp(margin - d[j, n]) for n in negatives)
        yield max(0.0, np.log(push) + d[i, j]) ** 2 / 2


def multi_negatives_rank_terms(d, i, positives, negatives, fixed, scale=20.0):
    e = np.exp(scale * (1 - d[i]))
    for p in positives:
        yield -np.log(e[p] / (e[p] + sum(e[n] for n in negatives)))


def supcon_terms(d, i, positives, negatives, fixed, temperature=0.1):
    s = 1 - d[i]
    total = np.log(sum(np.exp(s[j] / temperature) for j in positives + negatives))
    yield -np.mean([s[p] / temperature - total for p in positives])


def reference_distances(name, a, b):
    if name == "cosine":
        return 1 - a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    if name == "inner_product":
        return 1 - a @ b.T
    squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    return squared if name == "squared_euclidean" else np.sqrt(squared)


def reference(name, embeddings, labels, fixed=None, *, distance=None, **parameters):
    distance = distance or losses.LOSSES[name].distance
    d = reference_distances(distance, embeddings, embeddings)
    fixed = d if fixed is None else reference_distances(distance, fixed, fixed)
    terms = []
    for i in range(len(labels)):
        positives = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negatives = [j for j in range(len(labels)) if labels[j] != labels[i]]
        if positives and negatives:
            terms += globals()[f"{name}_terms"](d, i, positives, negatives, fixed, **parameters)
    return np.mean(terms) if terms else 0.0


def reference_gradient(name, embeddings, labels, **parameters):
    gradient, step = np.zeros(embeddings.shape), 1e-6
    for index in np.ndindex(*embeddings.shape):
        there, back = embeddings.copy(), embeddings.copy()
        there[index] += step
        back[index] -= step
        rise = reference(name, there, labels, embeddings, **parameters)
        gradient[index] = (rise - reference(name, back, labels, embeddings, **parameters)) / (2 * step)
    return gradient


def value_and_gradient(loss, embeddings, labels):
    import tensorflow as tf

    variable = tf.Variable(embeddings)
    with tf.GradientTape() as tape:
        value = loss(variable, tf.constant(labels, tf.int32))
    return float(value), tf.convert_to_tensor(tape.gradient(value, variable)).numpy()


def directions(seed, count, dim=3):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


CASES = [
    ("triplet", {}),
    ("triplet", {"margin": 0.5, "distance": "euclidean"}),
    ("triplet", {"soft_margin": True, "distance": "squared_euclidean"}),
    ("triplet", {"mining": "easy", "margin": 0.7}),
    ("triplet", {"mining": "semi_hard", "margin": 0.4}),
    ("triplet", {"mining": "semi_hard", "margin": 0.4, "soft_margin": True, "distance": "euclidean"}),
    ("pn", {}),
    ("pn", {"soft_margin": True, "distance": "euclidean"}),
    ("multisimilarity", {}),
    ("multisimilarity", {"alpha": 5.0, "beta": 10.0, "base": 0.3, "epsilon": 0.4, "distance": "euclidean"}),
    ("circle", {}),
    ("circle", {"margin": 0.25, "scale": 20.0, "distance": "inner_product"}),
    ("soft_nearest_neighbour", {}),
    ("soft_nearest_neighbour", {"temperature": 0.5, "distance": "squared_euclidean"}),
    ("lifted_structure", {}),
    ("lifted_structure", {"margin": 0.5, "distance": "cosine"}),
    ("multi_negatives_rank", {}),
    ("multi_negatives_rank", {"scale": 5.0, "distance": "inner_product"}),
    ("supcon", {}),
    ("supcon", {"temperature": 0.5, "distance": "euclidean"}),
]
each_case = pytest.mark.parametrize(("name", "parameters"), CASES)

BATCHES = {
    "even": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "singletons": [0, 0, 1, 1, 1, 1, 2, 3, 4, 0],
    "one pair": [0, 1, 2, 3, 0],
    "one against many": [0, 0, 0, 0, 0, 1],
}


@each_case
@pytest.mark.parametrize("batch", BATCHES)
def test_equals_the_loop_in_value_and_gradient(name, parameters, batch):
    labels = BATCHES[batch]
    embeddings = directions(len(batch), len(labels))
    exact = embeddings.astype(np.float64)
    loss = losses.build(name, **parameters)
    value, gradient = value_and_gradient(loss, embeddings, labels)
    assert value == pytest.approx(reference(name, exact, labels, **parameters), rel=1e-4, abs=1e-6)
    expected = reference_gradient(name, exact, labels, **parameters)
    assert np.abs(gradient - expected).max() <= 1e-3 * max(1.0, np.abs(expected).max())


@each_case
def test_the_order_of_a_batch_does_not_matter(name, parameters):
    labels = np.array(BATCHES["singletons"])
    embeddings = directions(3, len(labels))
    order = np.random.default_rng(0).permutation(len(labels))
    loss = losses.build(name, **parameters)
    value, gradient = value_and_gradient(loss, embeddings, labels)
    again, moved = value_and_gradient(loss, embeddings[order], labels[order])
    assert again == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert np.abs(moved - gradient[order]).max() <= 1e-4 * max(1.0, np.abs(gradient).max())


@each_case
@pytest.mark.parametrize("labels", [[3, 3, 3], [5, 4, 3], [0]])
def test_a_batch_without_a_valid_anchor_costs_nothing_and_moves_nothing(name, parameters, labels):
    value, gradient = value_and_gradient(losses.build(name, **parameters), directions(0, len(labels)), labels)
    assert value == 0.0
    assert not gradient.any()


@each_case
def test_equals_the_loop_with_exact_duplicates(name, parameters):
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 3]
    embeddings = directions(7, len(labels))
    embeddings[1], embeddings[4] = embeddings[0], embeddings[3]
    exact = embeddings.astype(np.float64)
    value, gradient = value_and_gradient(losses.build(name, **parameters), embeddings, labels)
    assert value == pytest.approx(reference(name, exact, labels, **parameters), rel=1e-4, abs=1e-6)
    expected = reference_gradient(name, exact, labels, **parameters)
    # of two equal positives or negatives either may be chosen: their gradients are known as a sum only
    together = np.eye(len(labels))
    together[0, 1] = together[3, 4] = 1
    together = np.delete(together, [1, 4], axis=0)
    difference = together @ (gradient - expected)
    assert np.abs(difference).max() <= 1e-3 * max(1.0, np.abs(expected).max())


GRID = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
CONTINUOUS = [case for case in CASES if case[1].get("mining") != "semi_hard"]  # there a tie decides


@settings(max_examples=30)
@given(
    st.sampled_from(CONTINUOUS),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(GRID)), min_size=1, max_size=9),
)
def test_equals_the_loop_on_equal_and_opposite_vectors_with_any_labels(case, images):
    name, parameters = case
    labels = [label for label, _ in images]
    rows = np.array([row for _, row in images], np.float32).reshape(-1, 2)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if name == "pn":  # any of several farthest positives may be chosen; with one of them there is no choice
        rows = rows + directions(0, len(rows), 2) / 50
    value, gradient = value_and_gradient(losses.build(name, **parameters), rows, np.array(labels, np.int32))
    assert np.isfinite(gradient).all()
    expected = reference(name, rows.astype(np.float64), labels, **parameters)
    assert value == pytest.approx(expected, rel=1e-4, abs=1e-5)


@each_case
def test_finite_at_distance_0_and_2(name, parameters):
    one, opposite = [0.6, 0.8], [-0.6, -0.8]
    for rows in ([one] * 6, [one, opposite] * 3, [one] * 3 + [opposite] * 3, [one] * 2 + [opposite] * 4):
        embeddings = np.array(rows, np.float32)
        value, gradient = value_and_gradient(losses.build(name, **parameters), embeddings, [0, 0, 1, 1, 2, 2])
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@each_case
def test_half_precision_is_computed_in_single(name, parameters):
    labels = BATCHES["singletons"]
    half = directions(5, len(labels)).astype(np.float16)
    loss = losses.build(name, **parameters)
    value, gradient = value_and_gradient(loss, half, labels)
    assert value == float(loss(half.astype(np.float32), labels))
    assert gradient.dtype == np.float16
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "parameters"), [case for case in CASES if "distance" not in case[1]])
def test_one_trace_serves_batches_of_any_size(name, parameters):
    import tensorflow as tf

    loss = losses.build(name, **parameters)
    traced = tf.function(loss, input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None,), tf.int32)])
    for labels in BATCHES.values():
        embeddings = directions(2, len(labels))
        expected = float(loss(embeddings, labels))
        assert float(traced(embeddings, np.array(labels, np.int32))) == pytest.approx(
            expected, rel=1e-5, abs=1e-6
        )
    assert traced.experimental_get_tracing_count() == 1


def test_the_triplet_losses_of_perfect_and_of_mismatched_pairs():
    labels = np.repeat(np.arange(32), 2)
    perfect, orthogonal = np.eye(32)[labels], np.eye(64)
    soft = losses.build("triplet", soft_margin=True)
    assert float(soft(perfect, labels)) == pytest.approx(0.31326, abs=1e-5)
    assert float(soft(orthogonal, labels)) == pytest.approx(0.69315, abs=1e-5)
    assert float(losses.build("triplet", margin=1.1)(perfect, labels)) == pytest.approx(0.1, abs=1e-6)


def test_a_semi_hard_negative_is_strictly_farther_than_the_positive():
    # the anchor has a positive at 1, and negatives at 0.5 (nearer), 1 (as far), 1.25 and 1.5 (farther)
    distance = np.array([[0, 1, 0.5, 1, 1.25, 1.5]], np.float32)
    positives = np.array([[0, 1, 0, 0, 0, 0]], bool)
    negatives = np.array([[0, 0, 1, 1, 1, 1]], bool)
    for margin, expected in ((0.4, 0.15), (0.2, None)):
        values, counted = triplet(distance, positives, negatives, margin=margin, mining="semi_hard")
        assert np.array(counted).tolist() == [[False, expected is not None, *[False] * 4]]
        assert expected is None or float(values[0, 1]) == pytest.approx(expected)


def test_image_numbers_as_labels_make_supcon_nt_xent():
    views = directions(0, 8)
    labels = np.tile(np.arange(4), 2)
    s = views.astype(np.float64) @ views.T / 0.5
    expected = np.mean(
        [np.log(sum(np.exp(s[i, k]) for k in range(8) if k != i)) - s[i, (i + 4) % 8] for i in range(8)]
    )
    assert float(losses.build("supcon", temperature=0.5)(views, labels)) == pytest.approx(expected, rel=1e-5)


def golden_rows(start, count, dim=4):
    """Fixed directions, as in the recipe."""
    rows = np.sin(np.arange(start, start + count * dim, dtype=np.float64) ** 2).reshape(count, dim)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


EVEN, UNEVEN = np.repeat(np.arange(4), 3), np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 0])
CIRCLE = np.array([0, 1, 1.4, 2.2, 3, 3.5])
GOLDEN_CASES = {
    "triplet hard": ("triplet", {"margin": 0.2}),
    "triplet hard soft": ("triplet", {"soft_margin": True}),
    "triplet easy": ("triplet", {"margin": 0.2, "mining": "easy"}),
    "triplet hard uneven": ("triplet", {"margin": 0.2}),
    "multisimilarity": ("multisimilarity", {"alpha": 2, "beta": 40, "base": 0.5, "epsilon": 0.1}),
    "circle": ("circle", {"margin": 0.4, "scale": 80}),
    "circle uneven": ("circle", {"margin": 0.25, "scale": 20}),
    "soft_nearest_neighbour": (
        "soft_nearest_neighbour",
        {"temperature": 0.5, "distance": "squared_euclidean"},
    ),
    "lifted_structure": ("lifted_structure", {"margin": 1}),
    "lifted_structure uneven": ("lifted_structure", {"margin": 1}),
    "multi_negatives_rank": ("multi_negatives_rank", {"scale": 20}),
    "multi_negatives_rank uneven": ("multi_negatives_rank", {"scale": 20}),
    "supcon": ("supcon", {"temperature": 0.1}),
    "supcon uneven": ("supcon", {"temperature": 0.5}),
}


@pytest.mark.parametrize("key", GOLDEN_CASES)
def test_equals_pytorch_metric_learning(key):
    name, parameters = GOLDEN_CASES[key]
    labels = UNEVEN if key.endswith("uneven") else EVEN
    value = losses.build(name, **parameters)(golden_rows(1, 12), labels)
    assert float(value) == pytest.approx(GOLDEN[key], rel=1e-5)


def test_pn_equals_the_triplets_with_swap_of_pytorch_metric_learning():
    points = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1)
    value = losses.build("pn", margin=0.2)(points, [0, 0, 1, 1, 2, 2])
    assert float(value) == pytest.approx(GOLDEN["pn"], rel=1e-5)


@pytest.mark.parametrize("name", distances.DISTANCES)
def test_distances_are_those_of_the_loop_and_smaller_is_nearer(name):
    a, b = directions(0, 5), directions(1, 7)
    b[2] = a[3]
    expected = reference_distances(name, a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(distances.between(name, a, b), expected, atol=2e-6)
    assert np.argmin(distances.between(name, a, b)[3]) == 2
    measure, larger_is_nearer = distances.DISTANCES[name]
    assert (np.argmax if larger_is_nearer else np.argmin)(measure(a, b)[3]) == 2


def test_the_cosine_is_of_the_angle_alone_and_finite_for_a_row_of_zeros():
    import tensorflow as tf

    rows = tf.Variable([[0.0, 0.0], [3.0, 4.0], [-6.0, -8.0]])
    with tf.GradientTape() as tape:
        value = distances.cosine(rows, rows)
    np.testing.assert_allclose(value, [[1, 1, 1], [1, 0, 2], [1, 2, 0]], atol=1e-6)
    assert np.isfinite(tape.gradient(value, rows)).all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_parameters_are_the_keywords_of_the_function(name):
    member = losses.LOSSES[name]
    module, attribute = member.where.split(":")
    keywords = inspect.signature(getattr(import_module(module), attribute)).parameters.values()
    own = [each.name for each in keywords if each.kind is each.KEYWORD_ONLY]
    assert list(member.parameters) == own + (["distance"] if member.kind == "pairs" else [])
    built = losses.build(name, classes=2, dim=2)
    assert list(built.parameters) == list(member.parameters)


def test_all_pair_losses_are_tested_here():
    assert {name for name, _ in CASES} == set(PAIRS)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tripplet", {}, "no loss 'tripplet'"),
        ("supcon", {"margin": 0.1}, "supcon has no parameter 'margin'"),
        ("supcon", {"temperature": 0.0}, "temperature of the loss supcon must be above 0"),
        ("triplet", {"mining": "semihard"}, "mining cannot be 'semihard'"),
        ("triplet", {"distance": "l2"}, "distance cannot be 'l2'"),
    ],
)
def test_refuses_what_cannot_be_built(name, arguments, message):
    with pytest.raises(UsageError) as error:
        losses.build(name, **arguments)
    assert message in error.value.message


def test_the_example_of_the_docstring_runs():
    failed, attempted = doctest.testmod(losses)
    assert (failed, attempted > 0) == (0, True)


def test_the_configuration_knows_exactly_the_registered_losses():
    assert {name: set(keys) for name, keys in LOSS_PARAMETERS.items()} == {
        name: set(member.parameters) for name, member in losses.LOSSES.items()
    }
    assert set(LossName.__args__) == set(losses.LOSSES)
    assert set(CROSS_BATCH) == {name for name in PAIRS if not losses.LOSSES[name].square}
