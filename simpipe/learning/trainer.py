"""Train the head on cached features: minutes of backbone become seconds of matrix products."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe import similarity
from simpipe.errors import StageError
from simpipe.learning import losses
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
    train: Examples, val: Examples, shape: HeadShape, plan: BatchPlan, schedule: Schedule, progress: Progress
) -> Trained:
    """Train a head and return it with the weights of its best epoch by MAP@R on val.

    Where val has no query with a positive, the last epoch counts. Give at most `VALIDATION_QUERIES`
    val examples, see `sample`.
    """
    head = build_head(train.features.shape[1], shape, schedule.seed)
    standardise_on(head, train.features)
    steps_per_epoch = len(plan_epoch(train.labels, plan, 0))
    step = _training_step(head, schedule, steps_per_epoch * schedule.epochs)
    history: list[dict[str, float | int | None]] = []
    best, best_epoch, best_weights = -1.0, 0, head.get_weights()
    embed = embedder(head)
    gallery, queries = (
        np.empty((len(part.labels), shape.embedding_size), np.float32) for part in (train, val)
    )
    progress.begin("train", schedule.epochs, "epochs")
    for epoch in range(schedule.epochs):
        batches = plan_epoch(train.labels, plan, epoch)
        loss = float(np.mean([step(train.features[rows], train.labels[rows]) for rows in batches]))
        if not np.isfinite(loss) or not all(np.isfinite(each).all() for each in head.get_weights()):
            raise StageError(
                f"training diverged in epoch {epoch + 1}", hint="lower train.lr, or raise train.temperature"
            )
        embed(train.features, gallery)
        embed(val.features, queries)
        score = map_at_r(queries, gallery, val, train)
        history.append({"epoch": epoch + 1, "loss": loss, "val_map@r": score})
        progress.advance(1, f"loss {loss:.3f}" + (f"  val MAP@R {score:.3f}" if score is not None else ""))
        if score is None or score > best:
            best, best_epoch, best_weights = (best if score is None else score), epoch, head.get_weights()
        elif epoch - best_epoch >= schedule.patience:
            break
    head.set_weights(best_weights)
    return Trained(head, best if best >= 0 else None, best_epoch + 1, history)


def _training_step(head: Any, schedule: Schedule, total_steps: int) -> Any:
    import keras
    import tensorflow as tf

    loss = losses.get(schedule.loss)
    warmup = round(schedule.warmup * total_steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else schedule.lr,
        max(1, total_steps - warmup),
        warmup_target=schedule.lr if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay)

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
