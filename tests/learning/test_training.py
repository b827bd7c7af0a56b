"""The head learns what can be learned, the same way each time."""

import numpy as np
import pytest

from simpipe.errors import StageError
from simpipe.learning import load_framework, losses, scoring, trainer
from simpipe.learning.head import Embed, HeadShape, build_head, embed_all, standardise_on
from simpipe.learning.inputs import Stored
from simpipe.learning.network import head_only
from simpipe.learning.samplers import BatchPlan, plan_epoch
from simpipe.learning.scoring import Examples
from simpipe.learning.statistics import PAIR_DISTANCES, effective_rank
from simpipe.learning.trainer import Schedule, train_network
from simpipe.progress import Silent

pytestmark = pytest.mark.usefixtures("one_graph")


@pytest.fixture(scope="module")
def blobs():
    """Four classes that differ in two weak directions among sixteen strong, meaningless ones."""
    load_framework()
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 120).astype(np.int32)
    features = generator.normal(size=(480, 18)).astype(np.float32) * 5
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    features[:, :2] = corners[labels] + generator.normal(size=(480, 2)) * 0.2
    order = generator.permutation(480)
    fit, val = order[:320], order[320:]
    return tuple(Examples.of(Stored.plain_only(features[rows]), labels[rows]) for rows in (fit, val))


def trained(blobs, loss="supcon", lr=5e-3, seed=0):
    schedule = Schedule(loss, lr=lr, epochs=15, patience=15, seed=seed)
    plan = BatchPlan(4, 8, "sqrt", 1.0, 10, 10, seed)
    network = head_only(18, HeadShape(8, 0, 0.0), seed)
    standardise_on(network.head, blobs[0].inputs.array)
    return train_network(network, *blobs, plan, schedule, Silent())


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_training_finds_the_directions_that_matter(blobs, loss):
    # a softmax is content once the classes are apart, and then lowers the noise slowly
    result = trained(blobs, loss, 5e-3 if losses.LOSSES[loss].kind == "pairs" else 5e-2)
    assert result.map_at_r is not None
    assert result.map_at_r > 0.5, "the raw features reach 0.08, the head before training 0.16"
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert max(record["val_map@r"] for record in result.history) == pytest.approx(result.map_at_r)


def test_the_same_seed_gives_the_same_weights(blobs):
    first, again = (trained(blobs).network.model.get_weights() for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_embeddings_do_not_depend_on_their_neighbours_and_have_length_one():
    load_framework()
    features = np.random.default_rng(1).normal(2, 3, (1500, 10)).astype(np.float32)
    head = build_head(10, HeadShape(6, 12, 0.5), seed=3)
    standardise_on(head, features)
    out, alone = np.empty((1500, 6), np.float32), np.empty((1, 6), np.float32)
    embed_all(Embed(head), features, out)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    embed_all(Embed(head), features[1200:1201], alone)
    np.testing.assert_array_equal(alone[0], out[1200])
    layer = head.get_layer("standardise")
    np.testing.assert_allclose(np.ravel(layer.mean), features.mean(0), atol=1e-4)
    np.testing.assert_allclose(np.ravel(layer.variance), features.var(0), rtol=1e-3)


# What is told of an epoch


def shaped(labels, seed=0):
    """Features (n, 6) that depend a little on the label, as examples."""
    labels = np.asarray(labels)
    features = np.random.default_rng(seed).normal(size=(len(labels), 6)).astype(np.float32)
    features[:, 0] += labels
    return Examples.of(Stored.plain_only(features), labels)


def run(fit, val, plan, loss="supcon", parameters=None, dropout=0.0, **more):
    network = head_only(6, HeadShape(4, 0, dropout), 0)
    standardise_on(network.head, fit.inputs.array)
    schedule = Schedule(loss, parameters or {}, **{"lr": 5e-3, "epochs": 3, "warmup": 0.0, **more})
    return train_network(network, fit, val, plan, schedule, Silent())


def test_an_epoch_tells_the_means_over_its_batches():
    """At rate 0 nothing moves: the batches of the plan, gone through once more in a plain loop."""
    load_framework()
    labels = np.repeat(np.arange(14), [8, 8] + [1] * 12)
    fit, val = shaped(labels), shaped(np.repeat([0, 1], 5), seed=1)
    plan = BatchPlan(2, 3, "sqrt", 1.0, 8, 10, 0)
    result = run(fit, val, plan, lr=0.0, weight_decay=0.0, epochs=2)
    loss = losses.build("supcon")
    lacking = 0
    for epoch, record in enumerate(result.history):
        columns = {name: [] for name in ("loss", *PAIR_DISTANCES)}
        for rows, _ in plan_epoch(labels, plan, epoch):
            z = np.asarray(result.network.model(fit.inputs.array[rows]), np.float64)
            pairs = {True: [], False: []}
            for i in range(len(rows)):
                for j in range(len(rows)):
                    if i != j:
                        same = bool(labels[rows[i]] == labels[rows[j]])
                        pairs[same].append(min(2.0, max(0.0, 1 - z[i] @ z[j])))
            columns["loss"].append(float(loss(z, labels[rows])))
            for name, distances in (("positive", pairs[True]), ("negative", pairs[False])):
                lacking += not distances
                if distances:
                    columns[f"{name}_min"].append(min(distances))
                    columns[f"{name}_mean"].append(np.mean(distances))
                    columns[f"{name}_max"].append(max(distances))
            if pairs[True] and pairs[False]:
                columns["gap"].append(min(pairs[False]) - max(pairs[True]))
        for name, values in columns.items():
            assert record[name] == pytest.approx(np.mean(values), abs=2e-6), name
        z = np.asarray(result.network.model(fit.inputs.array), np.float64)
        assert record["effective_rank"] == pytest.approx(effective_rank(z), rel=1e-4)
        assert record["val_map@r"] == pytest.approx(map_at_r_loop(result.network, fit, val), abs=1e-6)
    assert lacking > 0, "batches without a positive pair are among them"


def map_at_r_loop(network, fit, val):
    """MAP@R (Musgrave et al., arXiv:2003.08505, eq. 3) by sorting."""
    gallery, queries = (np.asarray(network.model(part.inputs.array), np.float64) for part in (fit, val))
    values = []
    for query, label in zip(queries, val.labels, strict=True):
        right = fit.labels[np.argsort(-(gallery @ query))] == label
        r = right.sum()
        precision = np.cumsum(right[:r]) / np.arange(1, r + 1)
        values.append((precision * right[:r]).sum() / r)
    return np.mean(values)


def test_what_no_batch_has_is_not_told():
    load_framework()
    fit = shaped(np.arange(12))
    result = run(fit, shaped(np.arange(4)), BatchPlan(4, 2, "sqrt", 1.0, 3, 10, 0))
    record = result.history[0]
    assert [record[name] for name in ("positive_min", "positive_mean", "positive_max", "gap")] == [None] * 4
    assert 0 < record["negative_min"] <= record["negative_mean"] <= record["negative_max"] <= 2


def test_the_margin_warms_up():
    load_framework()
    fit, val = shaped(np.repeat(np.arange(3), 8)), shaped(np.repeat(np.arange(3), 4), seed=1)
    plan = BatchPlan(3, 4, "sqrt", 1.0, 4, 10, 0)
    by_warmup = {
        warmup: [
            record["loss"]
            for record in run(
                fit, val, plan, "arcface", lr=0.0, proxy_lr=0.0, weight_decay=0.0, margin_warmup=warmup
            ).history
        ]
        for warmup in (0.0, 0.5, 1.0)
    }
    assert by_warmup[0.0][0] > by_warmup[0.5][0] + 0.1 > by_warmup[1.0][0] + 0.2
    assert by_warmup[0.5][2] == pytest.approx(by_warmup[0.0][2], rel=1e-5), "whole after half of the steps"
    assert by_warmup[1.0][0] < by_warmup[1.0][1] < by_warmup[1.0][2] < by_warmup[0.0][2]


# When training ends, and with what


def scripted(monkeypatch, scores):
    """Let MAP@R after each epoch be as in `scores`."""
    given = iter(scores)
    monkeypatch.setattr(trainer, "map_at_r", lambda *_: next(given))


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.3, 0.5, 0.4, 0.5, 0.2, 0.9], 3, 5, 2),
        ([0.3, 0.2, 0.4, 0.3, 0.5, 0.6], 2, 6, 6),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 1, 2, 1),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 2, 3, 1),
        ([None] * 6, 2, 6, 6),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(monkeypatch, scores, patience, epochs, best):
    load_framework()
    fit, val = shaped(np.repeat(np.arange(3), 8)), shaped(np.repeat(np.arange(3), 4), seed=1)
    plan = BatchPlan(3, 4, "sqrt", 1.0, 4, 10, 0)
    after, score = [], trainer._Scorer.__call__

    def remember(scorer):
        after.append(scorer._embed(fit.inputs.array))
        return score(scorer)

    monkeypatch.setattr(trainer._Scorer, "__call__", remember)
    scripted(monkeypatch, scores)
    result = run(fit, val, plan, epochs=6, patience=patience)
    assert (len(result.history), result.best_epoch) == (epochs, best)
    assert result.map_at_r == scores[best - 1]
    assert [record["val_map@r"] for record in result.history] == scores[:epochs]
    found = np.asarray(result.network.model(fit.inputs.array))
    distance = [np.abs(found - each).max() for each in after]
    assert distance[best - 1] < 1e-6 and sum(each < 1e-6 for each in distance) == 1


def test_without_labels_on_val_the_last_epoch_counts():
    load_framework()
    fit = shaped(np.repeat(np.arange(3), 8))
    plan = BatchPlan(3, 4, "sqrt", 1.0, 4, 10, 0)
    for labels in (np.full(6, -1), np.full(6, 77), np.empty(0, int)):
        result = run(fit, shaped(labels, seed=1), plan, epochs=4, patience=1)
        assert (result.map_at_r, result.best_epoch, len(result.history)) == (None, 4, 4)


@pytest.mark.parametrize("lr", [1e30, 1e38])
def test_divergence_is_told_with_what_helps(lr):
    load_framework()
    fit, val = shaped(np.repeat(np.arange(3), 8)), shaped(np.repeat(np.arange(3), 4), seed=1)
    with pytest.raises(StageError, match="diverged in epoch 1") as error:
        run(fit, val, BatchPlan(3, 4, "sqrt", 1.0, 4, 10, 0), lr=lr)
    assert "train.lr" in error.value.hint and "clip_norm" in error.value.hint


# Batches of confused classes


def twins():
    """Eight classes; 2i and 2i + 1 look alike, and no others do."""
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(4), 2, axis=0) * 10

    def part(count):
        labels = np.repeat(np.arange(8), count)
        noise = generator.normal(size=(len(labels), 6))
        noise[:, :4] += centres[labels]
        return Examples.of(Stored.plain_only(noise.astype(np.float32)), labels * 3 + 5)

    return part(12), part(10)


def test_confused_classes_meet_after_the_first_epoch(monkeypatch):
    load_framework()
    fit, val = twins()
    plan = BatchPlan(2, 3, "class", 1.0, 16, 10, 0, hard_share=1.0)
    asked = []

    def spy(codes, plan, epoch, confusion=None):
        batches = plan_epoch(codes, plan, epoch, confusion)
        asked.append((epoch, confusion, [sorted(set(codes[rows])) for rows, _ in batches]))
        return batches

    monkeypatch.setattr(trainer, "plan_epoch", spy)
    run(fit, val, plan, lr=1e-5)
    *_, (_, nothing, _), second, third = asked
    assert nothing is None, "the first epoch knows nothing"
    for epoch, confusion, batches in (second, third):
        assert epoch > 0 and confusion.shape == (8, 8)
        assert confusion.sum() == len(val)
        twin = np.arange(8) ^ 1
        of_twins = confusion[np.arange(8), twin].sum()
        assert of_twins > 0.9 * (confusion.sum() - np.trace(confusion)) and of_twins > 10
        together = np.mean([batch[1] == batch[0] ^ 1 for batch in batches])
        assert together > 0.8


def test_without_a_hard_share_nothing_is_counted(monkeypatch):
    load_framework()
    monkeypatch.setattr(trainer._Scorer, "confusion", lambda *_: pytest.fail("for nothing"))
    fit, val = twins()
    run(fit, val, BatchPlan(2, 3, "class", 1.0, 16, 10, 0), epochs=1)


def test_confusion_counts_the_nearest_of_known_classes():
    gallery = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    queries = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0], [1, 0]], np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = scoring.confusion(queries, gallery, [5, 9, 9, 5, 7], [5, 9, 12], np.array([5, 9, 12]))
    np.testing.assert_array_equal(found, [[1, 0, 1], [1, 1, 0], [0, 0, 0]])
    assert scoring.confusion(queries[:0], gallery, [], [5, 9, 12], np.array([5, 9, 12])).sum() == 0


# What is scored


def test_a_sample_is_of_the_rows_and_the_same_each_time():
    np.testing.assert_array_equal(scoring.sample(5, 7, 0), np.arange(5))
    found = scoring.sample(1000, 100, 3)
    assert len(set(found.tolist())) == 100 and found.min() >= 0 and found.max() < 1000
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, scoring.sample(1000, 100, 3))
    assert (found != scoring.sample(1000, 100, 4)).any()


def test_only_scored_rows_count_and_no_duplicate_helps():
    load_framework()
    fit, val = shaped(np.repeat(np.arange(3), 8)), shaped(np.repeat(np.arange(3), 4), seed=1)
    network = head_only(6, HeadShape(4, 0, 0.0))
    few, some = np.array([0, 9, 10, 20]), np.array([1, 5, 9])

    def score(gallery, queries, groups=None):
        fit_ = Examples(fit.inputs, fit.labels, np.arange(24) if groups is None else groups[0], gallery)
        val_ = Examples(val.inputs, val.labels, 100 + np.arange(12) if groups is None else groups[1], queries)
        return trainer._Scorer(network, fit_, val_)().map_at_r

    def by_hand(gallery, queries):
        def part(examples, rows):
            return Examples.of(Stored.plain_only(examples.inputs.array[rows]), examples.labels[rows])

        return map_at_r_loop(network, part(fit, gallery), part(val, queries))

    assert score(few, some) == pytest.approx(by_hand(few, some), abs=1e-6)
    everything = np.arange(24), np.arange(12)
    assert score(*everything) == pytest.approx(by_hand(*everything), abs=1e-6)
    # query 0 and gallery row 3 are one picture: the same as if the row were not there
    of_fit = np.arange(24)
    of_fit[3] = 100
    one = np.array([0])
    without = np.delete(np.arange(24), 3)
    found = score(np.arange(24), one, (of_fit, 100 + np.arange(12)))
    assert found == pytest.approx(by_hand(without, one), abs=1e-6)
    assert found != pytest.approx(by_hand(np.arange(24), one), abs=1e-6)


def test_in_single_shot_each_image_is_its_own_label(blobs):
    """With one label for all a loss over pairs would have no negative, and cost nothing."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(40, 1, 18)).astype(np.float32)
    views = (images + 0.1 * generator.normal(size=(40, 3, 18))).astype(np.float32).reshape(-1, 18)
    fit = Examples.of(Stored(views, np.full(40, 2)), np.zeros(40, np.int64))
    plan = BatchPlan(4, 8, "sqrt", 1.0, 1, 1, 0, mode="single_shot")
    network = head_only(18, HeadShape(8, 0, 0.0), 0)
    trained = train_network(network, fit, fit, plan, Schedule(epochs=1))
    assert trained.history[0]["loss"] > 0.1
