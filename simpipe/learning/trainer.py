"""One loop that trains every network, with labels and without, and that a kill cannot spoil."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import StageError
from simpipe.learning import checkpoint, objectives
from simpipe.learning.head import BLOCK, Embed
from simpipe.learning.network import Network
from simpipe.learning.optimiser import adamw
from simpipe.learning.samplers import BatchPlan, plan_epoch
from simpipe.learning.scoring import Examples, confusion, embed_rows, map_at_r
from simpipe.learning.statistics import PAIR_DISTANCES, effective_rank, pair_distances
from simpipe.learning.unlabelled.collapse import refuse_collapse
from simpipe.progress import Progress, Silent

DEEP_BLOCK = 32
"""Rows in a pass through a part of the backbone."""

RANKED = 2048
"""Most embeddings whose effective rank is taken."""

SETTLED = 50
"""Steps after which a collapse counts. In the first ones the running statistics of the projector are not yet
its own, and VICReg draws all views together before it spreads them."""

TOGETHER = 8 << 20
"""Most bytes of cached features for one call: the small step of a head costs a third less in turn with others
than alone. A wish to stop waits for them."""

METRICS = ("loss", *PAIR_DISTANCES)


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes:
        loss: a key of `losses.LOSSES`; unused with `method`.
        parameters: of the loss or the method, by name; None is its own default.
        method: None, or a key of `unlabelled.METHODS`: labels are not looked at.
        memory: embeddings of earlier batches that the loss also compares with (XBM); 0: none.
        lr, backbone_lr, proxy_lr: highest learning rates of AdamW, for the head, the body, and the proxies.
        weight_decay: decoupled.
        clip_norm: largest norm of a gradient, over all variables; None: no limit.
        warmup: share of all steps in which the rates rise from 0; they then fall along a cosine to 0.
        margin_warmup: share of all steps in which an angular margin rises to its value.
        epochs: most epochs.
        patience: epochs without a better MAP@R on val before training stops.
        seed: of proxies and projectors; the network has its own.
    """

    loss: str = "supcon"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    memory: int = 0
    lr: float = 4e-3
    backbone_lr: float = 3e-4
    proxy_lr: float = 4e-2
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    warmup: float = 0.05
    margin_warmup: float = 0.2
    epochs: int = 20
    patience: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A trained network, its MAP@R on val (None: not measurable), and one record for each epoch.

    A record has `epoch`, the means over the epoch of `METRICS`, `effective_rank` of embeddings of plain
    images, `val_map@r` and `seconds`.
    """

    network: Network
    map_at_r: float | None
    best_epoch: int
    history: list[dict[str, float | int | None]]


def train_network(
    network: Network,
    train: Examples,
    val: Examples,
    plan: BatchPlan,
    schedule: Schedule,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    strategy: Any = None,
) -> Trained:
    """Train a network and return it with the weights of its best epoch by MAP@R on val.

    Where val has no query with a positive, or no labels, the last epoch counts.

    The state is kept in the folder `checkpoints` after each epoch, and after the batches in work when
    a stop is wished. A later call with the same arguments goes on from there, to the same bits on a CPU.

    Under a `tf.distribute` strategy, in whose scope the network was built, the batch is divided among the
    replicas, and losses over pairs see all of it.

    Raises:
        StageError: the loss or a weight is not finite any more, or training without labels collapsed.
        DiskError: a checkpoint cannot be written.
        Stopped: on the wish of `progress`.
    """
    progress = progress or Silent()
    classes, codes = np.unique(train.labels, return_inverse=True)
    each_its_own = schedule.method is not None or plan.mode == "single_shot"
    codes = np.arange(len(train)) if each_its_own else codes
    steps = len(plan_epoch(codes, plan, 0))
    with scope_of(strategy):
        objective = _objective(network, schedule, int(codes.max()) + 1, steps * schedule.epochs)
        optimizers = _optimizers(network, objective, schedule, steps * schedule.epochs)
    step = _training_step(network, objective, optimizers, schedule, steps * schedule.epochs, strategy)
    most = TOGETHER if network.body is None else 0
    score = _Scorer(network, train, val)
    state = _State(network, [*objective.proxies, *objective.trained_with_head, *objective.kept], optimizers)
    resumed = checkpoints is not None and state.restore(checkpoints)
    progress.begin("train", schedule.epochs, "epochs")
    if resumed:
        progress.note(
            "training is complete already; only its result is used"
            if state.finished(schedule)
            else f"training goes on from epoch {state.epoch + 1} of {schedule.epochs}"
        )
        progress.advance(state.epoch)
    while not state.finished(schedule):
        started = time.monotonic()
        batches = plan_epoch(codes, plan, state.epoch, state.confusion)[len(state.values) :]
        labels = (codes[batch.rows] for batch in batches)
        for together in _together(zip(train.inputs.stream(batches), labels, strict=True), most):
            state.values += step(*together).tolist()
            if progress.stopping:
                state.save(checkpoints)
                progress.advance(0)
        state.refuse_divergence()
        found = score()
        settled = (state.epoch + 1) * steps >= SETTLED or state.epoch + 1 == schedule.epochs
        if objective.projected is not None and settled:
            refuse_collapse(np.asarray(objective.projected(found.embeddings[:RANKED])), state.epoch + 1)
        if plan.hard_share and not each_its_own:
            state.confusion = score.confusion(classes)
        rank = effective_rank(found.embeddings[:RANKED])
        state.end_epoch(found.map_at_r, rank, time.monotonic() - started)
        state.save(checkpoints)
        progress.advance(1, state.summary())
    network.model.set_weights(state.best_weights)
    return Trained(network, state.best if state.best >= 0 else None, state.best_epoch, state.history)


def strategy_for(schedule: Schedule) -> Any:
    """How to train on the GPUs of this machine: divided among them if there are several; None on one device.

    What remembers something from batch to batch without an optimizer, a cross-batch memory or a target
    network, uses one device.
    """
    import tensorflow as tf

    if len(tf.config.list_physical_devices("GPU")) < 2 or schedule.method or schedule.memory:
        return None
    return _mirrored()


@cache
def _mirrored() -> Any:
    """One for the process: the collective operations of a second would have the keys of the first."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy()


def scope_of(strategy: Any) -> AbstractContextManager[Any]:
    """Where the variables of a network for `strategy`, which may be None, have to be made."""
    scope: AbstractContextManager[Any] = nullcontext() if strategy is None else strategy.scope()
    return scope


def _objective(network: Network, schedule: Schedule, classes: int, total_steps: int) -> objectives.Objective:
    if schedule.method:
        return objectives.self_supervised(
            network, schedule.method, schedule.parameters, total_steps=total_steps, seed=schedule.seed
        )
    return objectives.labelled(
        network,
        schedule.loss,
        schedule.parameters,
        classes=classes,
        memory=schedule.memory,
        margin_warmup=schedule.margin_warmup,
        seed=schedule.seed,
    )


def _optimizers(
    network: Network, objective: objectives.Objective, schedule: Schedule, total_steps: int
) -> list[tuple[Any, list[Any]]]:
    """An AdamW for each learning rate, with its variables."""
    import keras

    warmup = round(schedule.warmup * total_steps)
    head = network.head.trainable_variables
    body = [] if network.body is None else network.body.trainable_variables
    optimizers = []
    for rate, variables in (
        (schedule.lr, [*head, *objective.trained_with_head]),
        (schedule.backbone_lr, body),
        (schedule.proxy_lr, objective.proxies),
    ):
        if variables:
            course = keras.optimizers.schedules.CosineDecay(
                0.0 if warmup else rate,
                max(1, total_steps - warmup),
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
            optimizer = adamw(course, schedule.weight_decay)
            optimizer.build(variables)
            optimizers.append((optimizer, variables))
    return optimizers


def _training_step(
    network: Network,
    objective: objectives.Objective,
    optimizers: list[tuple[Any, list[Any]]],
    schedule: Schedule,
    total_steps: int,
    strategy: Any,
) -> Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[np.float32]]:
    """A function that trains on k batches, one after the other, and gives the `METRICS` of each, (k, m).

    It takes their inputs (k, b, …) and label codes (k, b).
    """
    import tensorflow as tf

    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    trained = [variable for _, variables in optimizers for variable in variables]
    done = optimizers[0][0].iterations

    def on_replica(inputs: Any, labels: Any) -> Any:
        share = tf.cast(done.value, tf.float32) / total_steps
        with tf.GradientTape() as tape:
            loss, embeddings, all_labels = objective.compute(tf.cast(inputs, tf.float32), labels, share)
            # each replica has the loss of the whole batch, and gradients of replicas are summed
            value = loss / replicas
        gradients = tape.gradient(value, trained)
        if schedule.clip_norm is not None:
            if replicas > 1:
                context = tf.distribute.get_replica_context()
                gradients = [each / replicas for each in context.all_reduce("SUM", gradients)]
            gradients, _ = tf.clip_by_global_norm(gradients, schedule.clip_norm / replicas)
        first = 0
        for optimizer, variables in optimizers:
            optimizer.apply(gradients[first : first + len(variables)], variables)
            first += len(variables)
        objective.after(share)
        return tf.stack([loss, *pair_distances(embeddings, all_labels).values()])

    def in_turn(inputs: Any, labels: Any) -> Any:
        count = tf.shape(inputs)[0]

        def train(i: Any, told: Any) -> Any:
            return i + 1, told.write(i, on_replica(inputs[i], labels[i]))

        told = tf.TensorArray(tf.float32, count)
        return tf.while_loop(lambda i, _: i < count, train, [0, told], parallel_iterations=1)[1].stack()

    signature = [
        tf.TensorSpec((None, None, *network.model.input_shape[1:])),
        tf.TensorSpec((None, None), tf.int64),
    ]
    if replicas == 1:
        # a call of the one graph: to look for the graph that fits costs a tenth of a small step
        single = tf.function(in_turn, input_signature=signature, autograph=False).get_concrete_function()
        return lambda inputs, labels: single(
            tf.constant(inputs, tf.float32), tf.constant(labels, tf.int64)
        ).numpy()

    @tf.function  # type: ignore[untyped-decorator]
    def shared(inputs: Any, labels: Any) -> Any:
        return strategy.experimental_local_results(strategy.run(on_replica, (inputs, labels)))[0]

    def step(inputs: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        parts = _divided(inputs.astype(np.float32), replicas), _divided(labels, replicas)
        values = [
            strategy.experimental_distribute_values_from_function(
                lambda context, part=part: tf.constant(part[context.replica_id_in_sync_group])
            )
            for part in parts
        ]
        found: npt.NDArray[np.float32] = shared(*values).numpy()
        return found

    return lambda inputs, labels: np.stack([step(*each) for each in zip(inputs, labels, strict=True)])


def _divided(values: npt.NDArray[Any], parts: int) -> list[npt.NDArray[Any]]:
    return [np.ascontiguousarray(part) for part in np.array_split(values, parts)]


def _together(
    batches: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], most: int
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Batches that follow each other and are of one size, stacked: inputs of at most `most` bytes, or one."""
    held: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    def stacked() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        inputs, labels = (np.stack(each) for each in zip(*held, strict=True))
        held.clear()
        return inputs, labels

    for inputs, labels in batches:
        if held and len(inputs) != len(held[0][0]):
            yield stacked()
        held.append((inputs, labels))
        if (len(held) + 1) * inputs.nbytes > most:
            yield stacked()
    if held:
        yield stacked()


@dataclass(frozen=True)
class _Score:
    map_at_r: float | None
    embeddings: npt.NDArray[np.float32]


class _Scorer:
    """Embeds the scored images of val and of train, as they are, with the network as it is now."""

    def __init__(self, network: Network, train: Examples, val: Examples) -> None:
        deep = network.body is not None
        self._embed = Embed(network.model, DEEP_BLOCK if deep else BLOCK)
        self._train, self._val = train, val
        self._gallery, self._queries = (
            np.empty((len(part.scored), network.model.output_shape[-1]), np.float32) for part in (train, val)
        )

    def __call__(self) -> _Score:
        embed_rows(self._embed, self._train.inputs, self._train.scored, self._gallery)
        embed_rows(self._embed, self._val.inputs, self._val.scored, self._queries)
        return _Score(map_at_r(self._queries, self._gallery, self._val, self._train), self._gallery)

    def confusion(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Of the embeddings of the last call: see `scoring.confusion`."""
        val, train = (part.labels[part.scored] for part in (self._val, self._train))
        return confusion(self._queries, self._gallery, val, train, classes)


_FACTS = ("best", "best_epoch", "epoch", "values", "history")


class _State:
    """All that training knows between two batches.

    Attributes:
        best_weights: of the network, after `best_epoch`.
        best: MAP@R on val after `best_epoch`; −1: not measurable, or none yet.
        best_epoch: counted from 1; 0: none yet.
        epoch: how many are complete.
        values: the `METRICS` of the batches that were done since.
        history: one record for each complete epoch.
        confusion: of val after the last epoch, where batches are composed by it.
    """

    def __init__(self, network: Network, others: list[Any], optimizers: list[tuple[Any, list[Any]]]) -> None:
        self._network = network
        self._variables = [
            *network.model.variables,
            *others,
            *(variable for optimizer, _ in optimizers for variable in optimizer.variables),
        ]
        self.best_weights: list[npt.NDArray[Any]] = network.model.get_weights()
        self.best, self.best_epoch, self.epoch = -1.0, 0, 0
        self.values: list[list[float]] = []
        self.history: list[dict[str, float | int | None]] = []
        self.confusion: npt.NDArray[np.float64] | None = None

    def finished(self, schedule: Schedule) -> bool:
        return self.epoch >= schedule.epochs or self.epoch - self.best_epoch >= schedule.patience

    def refuse_divergence(self) -> None:
        losses = [values[0] for values in self.values]
        if not np.isfinite(losses).all() or not all(
            np.isfinite(each).all() for each in self._network.model.get_weights()
        ):
            raise StageError(
                f"training diverged in epoch {self.epoch + 1}",
                hint="lower train.lr (with partial and full, train.backbone_lr), or set train.clip_norm=1",
            )

    def end_epoch(self, score: float | None, rank: float, seconds: float) -> None:
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "val_map@r": score,
                **dict(zip(METRICS, _means(self.values), strict=True)),
                "effective_rank": rank,
                "seconds": round(seconds, 3),
            }
        )
        self.values = []
        if score is None or score > self.best:
            self.best = self.best if score is None else score
            self.best_epoch, self.best_weights = self.epoch, self._network.model.get_weights()

    def summary(self) -> str:
        loss, score = self.history[-1]["loss"], self.history[-1]["val_map@r"]
        return f"loss {loss:.3f}" + (f"  val MAP@R {score:.3f}" if score is not None else "")

    def save(self, checkpoints: Path | None) -> None:
        """Keep a finite state; where there is no folder, keep nothing."""
        self.refuse_divergence()
        if checkpoints is not None:
            facts = {name: getattr(self, name) for name in _FACTS}
            # NaN is no JSON; of what a batch lacks there is no value
            facts["values"] = [[None if np.isnan(x) else x for x in values] for values in self.values]
            own = [variable.numpy() for variable in self._variables]
            asked = [] if self.confusion is None else [self.confusion]
            checkpoint.save(checkpoints, [*own, *self.best_weights, *asked], facts)

    def restore(self, checkpoints: Path) -> bool:
        """Go back to what was kept last; False if there is nothing, or nothing that fits this network."""
        content = checkpoint.load(checkpoints)
        expected = [tuple(each.shape) for each in (*self._variables, *self.best_weights)]
        if content is None or [array.shape for array in content[0][: len(expected)]] != expected:
            return False
        arrays, facts = content
        for variable, array in zip(self._variables, arrays, strict=False):
            variable.assign(array)
        self.best_weights = arrays[len(self._variables) : len(expected)]
        self.confusion = arrays[len(expected)] if len(arrays) > len(expected) else None
        for name in _FACTS:
            setattr(self, name, facts[name])
        self.values = [[np.nan if x is None else x for x in values] for values in self.values]
        return True


def _means(values: list[list[float]]) -> list[float | None]:
    """The mean of each column over the batches that have it; None where none has."""
    table = np.array(values, float)
    counts = np.isfinite(table).sum(axis=0)
    sums = np.where(np.isfinite(table), table, 0.0).sum(axis=0)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
