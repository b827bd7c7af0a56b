"""What a training step minimises: a metric loss on labels, or a self-supervised method on two views."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from simpipe.learning import losses, unlabelled
from simpipe.learning.network import Network
from simpipe.learning.unlabelled.networks import (
    build_predictor,
    build_projector,
    target_momentum,
    update_target,
)


class Objective(NamedTuple):
    """A loss of a network, with everything of its own that is trained or kept.

    Attributes:
        compute: (inputs, labels, share of all steps done) → loss, embeddings and their labels, of all
            replicas. Labels are codes from 0 on; without labels, the rows' numbers.
        trained_with_head: variables at the head's learning rate.
        proxies: variables at the proxies' learning rate.
        kept: variables that no optimizer changes and a checkpoint must hold.
        after: what follows each step, given the share of all steps done.
        projected: from embeddings (n, d) to what a collapse would show in; None with labels.
    """

    compute: Callable[[Any, Any, Any], tuple[Any, Any, Any]]
    trained_with_head: list[Any]
    proxies: list[Any]
    kept: list[Any]
    after: Callable[[Any], None]
    projected: Callable[[Any], Any] | None = None


def labelled(
    network: Network,
    loss: str,
    parameters: Mapping[str, Any],
    *,
    classes: int,
    memory: int,
    margin_warmup: float,
    seed: int,
) -> Objective:
    """A metric loss. Under several replicas it sees the embeddings of all of them: the global batch."""
    from keras import ops

    built = losses.build(
        loss,
        classes=classes,
        dim=network.model.output_shape[-1],
        seed=seed,
        memory=memory,
        **{name: value for name, value in parameters.items() if value is not None},
    )
    proxies = {id(variable) for variable in built.trainable_variables}

    def compute(inputs: Any, labels: Any, share: Any) -> tuple[Any, Any, Any]:
        embeddings = gathered(network.model(inputs, training=True))
        labels = gathered(labels)
        ramp = ops.minimum(share / margin_warmup, 1.0) if margin_warmup else 1.0
        return built(embeddings, labels, ramp), embeddings, labels

    kept = [variable for variable in built.variables if id(variable) not in proxies]
    return Objective(compute, [], built.trainable_variables, kept, lambda share: None)


def self_supervised(
    network: Network, method: str, parameters: Mapping[str, Any], *, total_steps: int, seed: int
) -> Objective:
    """A method of `unlabelled.METHODS`. A batch is the first views of its images, then the second ones.

    Each view passes the small networks by itself, as in the papers: they normalise by their batch. For one
    replica only.
    """
    import keras
    from keras import ops

    kind, function = unlabelled.METHODS[method], unlabelled.get(method)
    projector = build_projector(network.model.output_shape[-1], method, seed)
    predictor = build_predictor(projector.output_shape[-1], method, seed)
    online = [*network.model.trainable_variables, *projector.trainable_variables]
    target = [keras.Variable(variable, trainable=False) for variable in online] if kind.target else []
    given = {name: value for name, value in parameters.items() if value is not None}

    def targets(inputs: Any) -> Any:
        """The projections of the target network: the online one, with other weights."""
        split = len(network.model.trainable_variables)
        fixed = network.model.non_trainable_variables
        embeddings, _ = network.model.stateless_call(target[:split], fixed, inputs, training=True)
        fixed = projector.non_trainable_variables
        return [
            projector.stateless_call(target[split:], fixed, half, training=True)[0]
            for half in ops.split(embeddings, 2)
        ]

    def compute(inputs: Any, labels: Any, share: Any) -> tuple[Any, Any, Any]:
        embeddings = network.model(inputs, training=True)
        projections = [projector(half, training=True) for half in ops.split(embeddings, 2)]
        if predictor is None:
            views = [unlabelled.View(projection) for projection in projections]
        else:
            predictions = [predictor(projection, training=True) for projection in projections]
            aims = targets(inputs) if kind.target else projections
            views = [unlabelled.View(*each) for each in zip(projections, predictions, aims, strict=True)]
        return function(*views, **given), embeddings, labels

    def after(share: Any) -> None:
        if kind.target:
            update_target(target, online, target_momentum(share * total_steps, total_steps))

    parts = [projector] if predictor is None else [projector, predictor]
    trained = [variable for part in parts for variable in part.trainable_variables]
    kept = [variable for part in parts for variable in part.non_trainable_variables] + target
    return Objective(
        compute, trained, [], kept, after, lambda embeddings: projector(embeddings, training=False)
    )


def gathered(values: Any) -> Any:
    """The rows of all replicas, in their order, with gradients; `values` itself where there is one."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_gather(tf.convert_to_tensor(values), axis=0)
