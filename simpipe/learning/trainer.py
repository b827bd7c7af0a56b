"""Train the head on cached features: minutes of backbone become seconds of matrix products."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe import similarity
from simpipe.errors import StageError
from simpipe.learning import checkpoint, losses
from simpipe.learning.head import HeadShape, build_head, embedder, standardise_on
from simpipe.learning.samplers import BatchPlan, plan_epoch
from simpipe.metrics import retrieval
from simpipe.progress import Progress

VALIDATION_QUERIES = 2000
"""Most val images that are scored after an epoch; more would cost time and change no choice."""


@dataclass(frozen=True)
class Schedule:
    """How the head is trained.

    Attributes:
        loss: a key of `losses.LOSSES`.
        loss_parameters: its parameters, by name.
        lr: highest learning rate of AdamW.
        weight_decay: its weight decay.
        warmup: share of all steps in which the rate rises from 0; it then falls along a cosine to 0.
        epochs: most epochs.
        patience: epochs without a better MAP@R on val before training stops.
        seed: of the weights and of dropout.
    """

    loss: str
    loss_parameters: dict[str, Any]
    lr: float
    weight_decay: float
    warmup: float
    epochs: int
    patience: int
    seed: int


@dataclass(frozen=True)
class Examples:
    """Features (n, d), their labels (n,) and the codes (n,) of their duplicate groups."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    groups: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """A trained head, its MAP@R on val (None: not measurable), and one record for each epoch."""

    head: Any
    map_at_r: float | None
    best_epoch: int
    history: list[dict[str, float | int | None]]


def map_at_r(
    queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32], val: Examples, train: Examples
) -> float | None:
    """Mean MAP@R of the val embeddings against the train embeddings; None if no query has a positive."""
    if len(queries) == 0:
        return None
    _, ranks = similarity.search(queries, gallery, 1, val.labels, train.labels, val.groups, train.groups)
    values = retrieval.retrieval_values(ranks)["map@r"]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def train_head(
    train: Examples,
    val: Examples,
    shape: HeadShape,
    plan: BatchPlan,
    schedule: Schedule,
    progress: Progress,
    checkpoints: Path | None = None,
) -> Trained:
    """Train a head and return it with the weights of its best epoch by MAP@R on val.

    Where val has no query with a positive, the last epoch counts. Give at most `VALIDATION_QUERIES`
    val examples, see `sample`.

    The state is kept in the folder `checkpoints` after each epoch, and after the batch in work when a
    stop is wished. A later call with the same arguments goes on from there, to the same bits on a CPU.

    Raises:
        StageError: the loss or a weight is not finite any more.
        DiskError: a checkpoint cannot be written.
        Stopped: on the wish of `progress`.
    """
    head = build_head(train.features.shape[1], shape, schedule.seed)
    standardise_on(head, train.features)
    optimizer = _optimizer(head, schedule, len(plan_epoch(train.labels, plan, 0)) * schedule.epochs)
    step = _training_step(head, optimizer, schedule)
    score = _scorer(head, train, val)
    state = _State(head, optimizer, best_weights=head.get_weights())
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
        batches = plan_epoch(train.labels, plan, state.epoch)
        for rows in batches[len(state.losses) :]:
            state.losses.append(float(step(train.features[rows], train.labels[rows])))
            if progress.stopping:
                state.save(checkpoints)
                progress.advance(0)
        state.refuse_divergence()
        state.end_epoch(score())
        state.save(checkpoints)
        progress.advance(1, state.summary())
    head.set_weights(state.best_weights)
    return Trained(head, state.best if state.best >= 0 else None, state.best_epoch, state.history)


@dataclass
class _State:
    """All that training knows between two batches.

    Attributes:
        head: the network; its dropout remembers where its random numbers are.
        optimizer: it counts the steps, which the learning rate follows.
        best_weights: those after `best_epoch`.
        best: MAP@R on val after `best_epoch`; −1: not measurable, or none yet.
        best_epoch: counted from 1; 0: none yet.
        epoch: how many are complete.
        losses: of the batches that were done since.
        history: one record for each complete epoch.
    """

    head: Any
    optimizer: Any
    best_weights: list[npt.NDArray[Any]]
    best: float = -1.0
    best_epoch: int = 0
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float | int | None]] = field(default_factory=list)

    def finished(self, schedule: Schedule) -> bool:
        return self.epoch >= schedule.epochs or self.epoch - self.best_epoch >= schedule.patience

    def refuse_divergence(self) -> None:
        if not np.isfinite(self.losses).all() or not all(
            np.isfinite(each).all() for each in self.head.get_weights()
        ):
            raise StageError(
                f"training diverged in epoch {self.epoch + 1}",
                hint="lower train.lr, or raise train.temperature",
            )

    def end_epoch(self, score: float | None) -> None:
        self.epoch += 1
        self.history.append({"epoch": self.epoch, "loss": float(np.mean(self.losses)), "val_map@r": score})
        self.losses = []
        if score is None or score > self.best:
            self.best = self.best if score is None else score
            self.best_epoch, self.best_weights = self.epoch, self.head.get_weights()

    def summary(self) -> str:
        loss, score = self.history[-1]["loss"], self.history[-1]["val_map@r"]
        return f"loss {loss:.3f}" + (f"  val MAP@R {score:.3f}" if score is not None else "")

    def save(self, checkpoints: Path | None) -> None:
        """Keep a finite state; where there is no folder, keep nothing."""
        self.refuse_divergence()
        if checkpoints is not None:
            facts = {name: getattr(self, name) for name in _FACTS}
            current = [variable.numpy() for variable in self._variables()]
            checkpoint.save(checkpoints, [*current, *self.best_weights], facts)

    def restore(self, checkpoints: Path) -> bool:
        """Go back to what was kept last; False if there is nothing, or nothing that fits this head."""
        content = checkpoint.load(checkpoints)
        variables = self._variables()
        expected = [tuple(variable.shape) for variable in variables] + [w.shape for w in self.best_weights]
        if content is None or [array.shape for array in content[0]] != expected:
            return False
        arrays, facts = content
        for variable, array in zip(variables, arrays, strict=False):
            variable.assign(array)
        self.best_weights = arrays[len(variables) :]
        for name in _FACTS:
            setattr(self, name, facts[name])
        return True

    def _variables(self) -> list[Any]:
        return [*self.head.variables, *self.optimizer.variables]


_FACTS = ("best", "best_epoch", "epoch", "losses", "history")


def _scorer(head: Any, train: Examples, val: Examples) -> Callable[[], float | None]:
    """A function that gives the head's MAP@R on val as it is now."""
    embed = embedder(head)
    gallery, queries = (
        np.empty((len(part.labels), head.output_shape[-1]), np.float32) for part in (train, val)
    )

    def score() -> float | None:
        embed(train.features, gallery)
        embed(val.features, queries)
        return map_at_r(queries, gallery, val, train)

    return score


def _optimizer(head: Any, schedule: Schedule, total_steps: int) -> Any:
    import keras

    warmup = round(schedule.warmup * total_steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else schedule.lr,
        max(1, total_steps - warmup),
        warmup_target=schedule.lr if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay)
    optimizer.build(head.trainable_variables)
    return optimizer


def _training_step(head: Any, optimizer: Any, schedule: Schedule) -> Any:
    import tensorflow as tf

    loss = losses.get(schedule.loss)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec((None, head.input_shape[1]), tf.float32),
            tf.TensorSpec((None,), tf.int32),
        ]
    )
    def step(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(head(features, training=True), labels, **schedule.loss_parameters)
        optimizer.apply(tape.gradient(value, head.trainable_variables), head.trainable_variables)
        return value

    return step


def sample(val: Examples, seed: int) -> Examples:
    """`val`, or a random `VALIDATION_QUERIES` of them."""
    if len(val.labels) <= VALIDATION_QUERIES:
        return val
    rows = np.sort(np.random.default_rng(seed).permutation(len(val.labels))[:VALIDATION_QUERIES])
    return Examples(val.features[rows], val.labels[rows], val.groups[rows])
