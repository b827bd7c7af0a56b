"""What the objectives share."""

from typing import Any

from simpipe.learning.distances import unit


def cosine_to_fixed(predictions: Any, targets: Any) -> Any:
    """Mean cosine similarity of the rows of `predictions` to those of `targets`, which get no gradient."""
    from keras import ops

    return ops.mean(ops.sum(unit(predictions) * ops.stop_gradient(unit(targets)), axis=1))


def off_diagonal(matrix: Any) -> Any:
    """The square `matrix` (d, d) with zeros on its diagonal."""
    from keras import ops

    return matrix * (1.0 - ops.eye(ops.shape(matrix)[0]))
