"""A training that was interrupted, anywhere and in any way, ends with the same bits as one that was not."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from simpipe.errors import DiskError, StageError, Stopped
from simpipe.learning import augmentation, checkpoint, load_framework, trainer
from simpipe.learning.head import HeadShape, standardise_on
from simpipe.learning.inputs import Pictures, Stored
from simpipe.learning.network import Tuning, build_network, head_only
from simpipe.learning.samplers import BatchPlan, plan_epoch
from simpipe.learning.scoring import Examples
from simpipe.learning.trainer import Schedule, train_network

EPOCHS, BATCHES = 5, 6


ONE_BY_ONE, TOGETHER = 0, trainer.TOGETHER


@pytest.fixture(scope="module", autouse=True)
def one_by_one(one_graph):
    """So that training looks for a wish after each batch."""
    trainer.TOGETHER = ONE_BY_ONE
    yield
    trainer.TOGETHER = TOGETHER


class Killed(BaseException):
    """Ends the process where it stands, as far as a test can."""


class Listener:
    """Wishes a stop, or kills, at the n-th look for a wish (once after each batch) or after epoch n."""

    def __init__(self, stop_at_batch=None, kill_at_batch=None, kill_after_epoch=None):
        self.stop_at_batch, self.kill_at_batch = stop_at_batch, kill_at_batch
        self.kill_after_epoch = kill_after_epoch
        self.looks, self.epochs, self.notes = 0, 0, []

    @property
    def stopping(self):
        self.looks += 1
        if self.looks == self.kill_at_batch:
            raise Killed
        return self._wished()

    def _wished(self):
        return self.stop_at_batch is not None and self.looks >= self.stop_at_batch

    def begin(self, label, total=None, unit=""):
        self.label = (label, total, unit)

    def advance(self, count=1, detail=""):
        if self._wished():
            raise Stopped
        self.epochs += count
        if self.epochs == self.kill_after_epoch:
            raise Killed

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def examples():
    load_framework()
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 18).astype(np.int32)
    features = generator.normal(size=(72, 10)).astype(np.float32)
    features[:, 0] += labels
    order = generator.permutation(72)
    return tuple(
        Examples.of(Stored.plain_only(features[rows]), labels[rows]) for rows in (order[:48], order[48:])
    )


def train(examples, folder, listener=None, lr=5e-3, patience=EPOCHS, **more):
    listener = listener or Listener()
    plan = BatchPlan(4, 4, "sqrt", 1.0, BATCHES, 10, 0)
    assert len(plan_epoch(examples[0].labels, plan, 0)) == BATCHES
    schedule = Schedule(lr=lr, weight_decay=1e-2, warmup=0.2, epochs=EPOCHS, patience=patience, **more)
    network = head_only(10, HeadShape(6, 12, 0.3))
    standardise_on(network.head, examples[0].inputs.array)
    return train_network(network, *examples, plan, schedule, listener, folder), listener


def everything(result):
    """All that may differ, the random states of dropout included."""
    values = [np.asarray(variable).tobytes() for variable in result.network.model.variables]
    history = [{name: each for name, each in epoch.items() if name != "seconds"} for epoch in result.history]
    return values, history, result.best_epoch, result.map_at_r


@pytest.fixture(scope="module")
def straight(examples):
    result, listener = train(examples, None)
    assert listener.notes == [] and listener.epochs == EPOCHS
    assert len(result.history) == EPOCHS
    return everything(result)


def test_checkpoints_change_nothing(examples, straight, tmp_path):
    assert everything(train(examples, tmp_path / "new" / "folder")[0]) == straight


@pytest.mark.parametrize("batch", [1, BATCHES, BATCHES + 1, EPOCHS * BATCHES])
def test_a_wish_to_stop_is_met_after_the_batch_and_nothing_is_lost(examples, straight, tmp_path, batch):
    with pytest.raises(Stopped):
        train(examples, tmp_path, Listener(stop_at_batch=batch))
    result, listener = train(examples, tmp_path)
    assert everything(result) == straight
    epoch = (batch - 1) // BATCHES
    assert listener.notes == [f"training goes on from epoch {epoch + 1} of {EPOCHS}"]
    assert listener.looks == EPOCHS * BATCHES - batch, "no batch is done twice"
    assert listener.epochs == EPOCHS, "the bar starts where training goes on"


def test_batches_in_one_call_change_nothing(examples, straight, monkeypatch):
    size = 16 * 10 * 4
    for together, looks in ((TOGETHER, EPOCHS), (4 * size, EPOCHS * 2), (size, EPOCHS * BATCHES)):
        monkeypatch.setattr(trainer, "TOGETHER", together)
        result, listener = train(examples, None)
        assert everything(result) == straight
        assert listener.looks == looks


def test_many_stops(examples, straight, tmp_path):
    for _ in range(3):
        with pytest.raises(Stopped):
            train(examples, tmp_path, Listener(stop_at_batch=8))
    result, listener = train(examples, tmp_path)
    assert everything(result) == straight
    assert listener.looks == EPOCHS * BATCHES - 3 * 8, "no batch is done twice"


@pytest.mark.parametrize("batch", [1, 2 * BATCHES + 3])
def test_a_kill_goes_back_to_the_end_of_the_last_epoch(examples, straight, tmp_path, batch):
    with pytest.raises(Killed):
        train(examples, tmp_path, Listener(kill_at_batch=batch))
    result, listener = train(examples, tmp_path)
    assert everything(result) == straight
    assert listener.looks == (EPOCHS - (batch - 1) // BATCHES) * BATCHES


def test_a_kill_after_the_last_epoch_repeats_nothing(examples, straight, tmp_path):
    with pytest.raises(Killed):
        train(examples, tmp_path, Listener(kill_after_epoch=EPOCHS))
    result, listener = train(examples, tmp_path)
    assert everything(result) == straight
    assert (listener.looks, listener.epochs) == (0, EPOCHS)
    assert listener.notes == ["training is complete already; only its result is used"]


def test_patience_goes_on_counting(examples, tmp_path):
    result, _ = train(examples, None, lr=0.0, patience=2)  # nothing is learnt: the first epoch is the best
    assert (result.best_epoch, len(result.history)) == (1, 3)
    with pytest.raises(Stopped):
        train(examples, tmp_path, Listener(stop_at_batch=2 * BATCHES + 1), lr=0.0, patience=2)
    assert everything(train(examples, tmp_path, lr=0.0, patience=2)[0]) == everything(result)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(examples, straight, tmp_path):
    """Of any damage: see `test_every_cut_and_every_flipped_byte_is_noticed`."""
    with pytest.raises(Killed):
        train(examples, tmp_path, Listener(kill_after_epoch=3))
    older, newest = sorted(tmp_path.iterdir())
    raw = newest.read_bytes()
    newest.write_bytes(raw[:3000] + bytes([raw[3000] ^ 1]) + raw[3001:])
    result, listener = train(examples, tmp_path, Listener())
    assert listener.notes == [f"training goes on from epoch 3 of {EPOCHS}"]
    assert everything(result) == straight
    assert not older.exists() and not newest.exists()


def test_where_all_are_damaged_training_begins_anew(examples, straight, tmp_path):
    with pytest.raises(Killed):
        train(examples, tmp_path, Listener(kill_after_epoch=3))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    result, listener = train(examples, tmp_path)
    assert (listener.notes, listener.looks) == ([], EPOCHS * BATCHES)
    assert everything(result) == straight


def test_a_checkpoint_of_another_network_is_passed_over(examples, straight, tmp_path):
    checkpoint.save(tmp_path, [np.zeros(3)], {})
    assert everything(train(examples, tmp_path)[0]) == straight


def test_what_is_not_finite_is_never_kept(examples, tmp_path):
    """With such a rate the first steps overflow; a stop comes before, at, or after that."""
    ends = []
    for batch in range(1, 5):
        with pytest.raises((Stopped, StageError)) as error:
            train(examples, tmp_path / f"{batch}", Listener(stop_at_batch=batch), lr=1e38)
        ends.append(error.type)
        kept = checkpoint.load(tmp_path / f"{batch}")
        assert kept is None or all(np.isfinite(array).all() for array in kept[0])
    assert (ends[0], ends[-1]) == (Stopped, StageError)
    with pytest.raises(StageError, match="diverged in epoch 1"):
        train(examples, tmp_path / "1", lr=1e38)


# Everything that a training may hold besides the weights of a head

PICTURES, PICTURE_LABELS = tiny.pictures(24, classes=6)
PLAIN_PLAN = BatchPlan(3, 4, "sqrt", 1.0, 4, 10, 0)


def _pictures(rows):
    ids = [f"id{row}" for row in rows]
    return Pictures(tiny.reader(PICTURES[rows]), ids, augmentation.of("light"), 0)


def _full(**tuning):
    network = build_network(tiny.build(weights="none"), Tuning("full", **tuning), HeadShape(5, 0, 0.2), 0)
    return network, [_pictures(rows) for rows in (np.arange(18), np.arange(18, 24))]


def _partial():
    tuning = Tuning("partial", 1, "gem", gem_learn=True)
    network = build_network(tiny.build(weights="none"), tuning, HeadShape(5, 0, 0.2), 0)
    counts = np.arange(18) % 4
    views = np.repeat(PICTURES[:18], 1 + counts, axis=0).astype("f4")
    views += np.random.default_rng(0).normal(0, 20, views.shape)
    fit, val = (np.asarray(network.trunk(each), np.float16) for each in (views, PICTURES[18:].astype("f4")))
    return network, [Stored(fit, counts), Stored.plain_only(val)]


def _frozen():
    features = np.random.default_rng(0).normal(size=(24, 10)).astype(np.float32)
    features[:, 0] += PICTURE_LABELS
    network = head_only(10, HeadShape(5, 0, 0.2))
    return network, [Stored.plain_only(part) for part in (features[:18], features[18:])]


SINGLE = replace(PLAIN_PLAN, mode="single_shot", classes_per_batch=2, examples_per_class_per_batch=4)
KINDS = {
    "partial": (_partial, PLAIN_PLAN, {"clip_norm": 0.5}),
    "full": (_full, PLAIN_PLAN, {}),
    "memory": (_frozen, PLAIN_PLAN, {"memory": 30}),
    "proxies": (_frozen, PLAIN_PLAN, {"loss": "subcenter_arcface"}),
    "confusion": (
        _frozen, replace(PLAIN_PLAN, classes_per_batch=2, examples_per_class_per_batch=3, hard_share=1.0), {}
    ),
    "byol": (_full, SINGLE, {"method": "byol"}),
    "barlow": (_partial, SINGLE, {"method": "barlow"}),
}  # fmt: skip
SLOW = ("full", "byol", "barlow")


def train_kind(kind, folder, listener=None):
    make, plan, settings = KINDS[kind]
    network, inputs = make()
    labels = [PICTURE_LABELS[:18], PICTURE_LABELS[18:]]
    if "method" in settings:
        labels = [np.full_like(part, -1) for part in labels]
    examples = [Examples.of(each, part) for each, part in zip(inputs, labels, strict=True)]
    listener = listener or Listener()
    schedule = Schedule(**{"epochs": 3, "patience": 3, "lr": 5e-3, "backbone_lr": 5e-3, **settings})
    return train_network(network, *examples, plan, schedule, listener, folder), listener.looks


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in KINDS]
)
def test_every_kind_of_training_goes_on_with_the_same_bits(tmp_path, kind, narrow, monkeypatch):
    """Stopped in the second epoch, killed in the third, and at last with several batches in a call."""
    load_framework()
    result, steps = train_kind(kind, None)
    straight = everything(result)
    assert steps % 3 == 0 and steps > 9
    batches = steps // 3
    for listener in (Listener(stop_at_batch=batches + 2), Listener(kill_at_batch=batches)):
        with pytest.raises((Stopped, Killed)):
            train_kind(kind, tmp_path, listener)
    monkeypatch.setattr(trainer, "TOGETHER", TOGETHER)
    result, looks = train_kind(kind, tmp_path)
    assert everything(result) == straight
    assert (looks < batches) == (KINDS[kind][0] is _frozen), "only the steps of a head are small"


ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7), np.array([-1, 2**62])]


def test_a_checkpoint_comes_back_with_its_bits(tmp_path):
    assert checkpoint.load(tmp_path / "none") is None
    facts = {"loss": [0.1, 1 / 3], "score": None}
    checkpoint.save(tmp_path, ARRAYS, facts)
    arrays, found = checkpoint.load(tmp_path)
    assert found == facts
    for array, expected in zip(arrays, ARRAYS, strict=True):
        assert (array.dtype, array.shape, array.tobytes()) == (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        )


def test_two_are_kept_and_leftovers_are_tidied(tmp_path):
    for number in range(12):
        (tmp_path / ".000001-of-a-dead-process").write_bytes(b"half")
        checkpoint.save(tmp_path, ARRAYS, {"number": number})
    assert len(list(tmp_path.iterdir())) == 2
    newest = max(tmp_path.iterdir())
    assert checkpoint.load(tmp_path)[1] == {"number": 11}
    newest.unlink()
    assert checkpoint.load(tmp_path)[1] == {"number": 10}


def test_every_cut_and_every_flipped_byte_is_noticed(tmp_path):
    checkpoint.save(tmp_path, [np.arange(4)], {})
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()
    for position in range(len(raw)):
        for damaged in (raw[:position], raw[:position] + bytes([raw[position] ^ 4]) + raw[position + 1 :]):
            path.write_bytes(damaged)
            assert checkpoint.load(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="file/checkpoints"):
        checkpoint.save(tmp_path / "file" / "checkpoints", ARRAYS, {})
