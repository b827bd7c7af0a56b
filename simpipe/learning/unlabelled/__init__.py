"""Training without labels: objectives on two views of the same images. One table, one file each.

An objective takes `(first: View, second: View, **parameters)`, the two views of one batch of n images in
float32, and returns a scalar to minimise. Projections come as they leave the projector: an objective
that wants unit vectors scales them itself, and one that needs a stop-gradient sets it itself. All are
symmetric in the two views. Written with `keras.ops`.

`collapse.py` tells whether training still learns anything; `whiten.py` is the floor that trains nothing.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple


class View(NamedTuple):
    """What the networks make of one view of a batch, each of shape (n, d).

    Attributes:
        projection: of the projector.
        prediction: of the predictor on `projection`; None where the method has no predictor.
        target: what the other view's `prediction` is compared with: the projection by the target network
            where the method has one, else `projection`. None where the method has no predictor.
    """

    projection: Any
    prediction: Any = None
    target: Any = None


class Method(NamedTuple):
    """One way to train without labels.

    Attributes:
        where: its objective, as "module:function".
        predictor: whether it has a predictor behind the projector.
        target: whether it has a target network, a moving average of encoder and projector.
        parameters: keywords of the objective that the configuration sets.
    """

    where: str
    predictor: bool = False
    target: bool = False
    parameters: tuple[str, ...] = ()


Objective = Callable[..., Any]

_HERE = "simpipe.learning.unlabelled"

METHODS: dict[str, Method] = {
    "simclr": Method(f"{_HERE}.simclr:simclr", parameters=("temperature",)),
    "simsiam": Method(f"{_HERE}.simsiam:simsiam", predictor=True),
    "byol": Method(f"{_HERE}.byol:byol", predictor=True, target=True),
    "barlow": Method(f"{_HERE}.barlow:barlow", parameters=("redundancy",)),
    "vicreg": Method(f"{_HERE}.vicreg:vicreg", parameters=("invariance", "variance", "covariance")),
}


def get(name: str) -> Objective:
    """The objective of the method `name`, a key of `METHODS`."""
    module, attribute = METHODS[name].where.split(":")
    objective: Objective = getattr(import_module(module), attribute)
    return objective
