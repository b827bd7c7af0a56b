"""Losses on a batch of embeddings: one table, one file each, and `build`, which makes one ready for use.

A loss of kind `pairs` is a function `(distance, positives, negatives, *, parameters)` of the distances
(n, m) of n anchors to a gallery of m, smaller is nearer, and of two boolean masks (n, m); an anchor is
neither its own positive nor its own negative. It returns values and a boolean mask of the same shape,
(n,) for each anchor or (n, m) for each pair: the loss is the mean of the values where the mask is true.
An anchor without a positive or without a negative contributes nothing, and a batch without a valid
anchor costs 0.

A loss of kind `proxies` is a function `(embeddings, labels, proxies, *, parameters)` that returns a
scalar; its proxies, one or more for each class, are trained with the network.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, Literal, NamedTuple

from simpipe.errors import UsageError
from simpipe.learning.distances import DISTANCES
from simpipe.learning.losses.triplet import MINING


class Member(NamedTuple):
    """A loss of the table.

    Attributes:
        where: "module:function".
        kind: over pairs of the batch, or over proxies.
        parameters: those that a configuration may set. They are the keyword-only parameters of the
            function, whose defaults hold, and for pairs also `distance`, a key of `DISTANCES`.
        distance: the default of `distance`.
        square: the gallery must be the anchors themselves, so no memory can be added to it.
        warm_margin: its margin follows `margin_share`.
    """

    where: str
    kind: Literal["pairs", "proxies"]
    parameters: tuple[str, ...]
    distance: str = "cosine"
    square: bool = False
    warm_margin: bool = False


def _pairs(name: str, *parameters: str, distance: str = "cosine", square: bool = False) -> Member:
    where = f"simpipe.learning.losses.{name}:{name}"
    return Member(where, "pairs", (*parameters, "distance"), distance, square)


def _proxies(name: str, *parameters: str, warm_margin: bool = False) -> Member:
    return Member(f"simpipe.learning.losses.{name}:{name}", "proxies", parameters, warm_margin=warm_margin)


LOSSES: dict[str, Member] = {
    "arcface": _proxies("arcface", "margin", "scale", warm_margin=True),
    "circle": _pairs("circle", "margin", "scale"),
    "cosface": _proxies("cosface", "margin", "scale", warm_margin=True),
    "lifted_structure": _pairs("lifted_structure", "margin", distance="euclidean", square=True),
    "multi_negatives_rank": _pairs("multi_negatives_rank", "scale"),
    "multisimilarity": _pairs("multisimilarity", "alpha", "beta", "base", "epsilon"),
    "norm_softmax": _proxies("norm_softmax", "temperature"),
    "pn": _pairs("pn", "margin", "soft_margin", square=True),
    "proxy_anchor": _proxies("proxy_anchor", "margin", "alpha"),
    "proxy_nca": _proxies("proxy_nca", "temperature"),
    "soft_nearest_neighbour": _pairs("soft_nearest_neighbour", "temperature"),
    "soft_triple": _proxies("soft_triple", "margin", "scale", "centres", "gamma", "tau"),
    "subcenter_arcface": _proxies("subcenter_arcface", "margin", "scale", "centres", warm_margin=True),
    "supcon": _pairs("supcon", "temperature"),
    "triplet": _pairs("triplet", "margin", "soft_margin", "mining"),
}
"""Name → what the loss is, where its function is, and which parameters it has."""

_ABOVE_ZERO = ("temperature", "scale", "centres", "alpha", "beta", "gamma")
_CHOICES = {"mining": MINING, "distance": tuple(DISTANCES)}


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss that is ready for use: call it with embeddings and labels.

    Attributes:
        name: a key of `LOSSES`.
        parameters: all of them, defaults included.
        compute: (embeddings float32, labels int64, margin_share float32) → scalar.
        trainable_variables: proxies, to be trained with the network; none for a loss over pairs.
        variables: all that a checkpoint must keep: the proxies, or the memory.
    """

    name: str
    parameters: dict[str, Any]
    compute: Callable[[Any, Any, Any], Any]
    trainable_variables: list[Any] = field(default_factory=list)
    variables: list[Any] = field(default_factory=list)

    def __call__(self, embeddings: Any, labels: Any, margin_share: Any = 1.0) -> Any:
        """The mean loss of a batch, a float32 scalar; with a memory, the batch is then remembered.

        Args:
            embeddings: shape (n, d), n at least 1, rows of length 1, any float type.
            labels: shape (n,), integers; over proxies the codes 0 … classes − 1.
            margin_share: in [0, 1], number or scalar tensor; scales the margin of arcface, cosface and
                subcenter_arcface while they warm up. The other losses ignore it.
        """
        from keras import ops

        labels = ops.reshape(ops.cast(labels, "int64"), (-1,))
        return self.compute(ops.cast(embeddings, "float32"), labels, ops.cast(margin_share, "float32"))


def build(
    name: str, *, classes: int = 0, dim: int = 0, seed: int = 0, memory: int = 0, **parameters: Any
) -> Loss:
    """The loss called `name`, with its proxies or its memory.

    Args:
        name: a key of `LOSSES`.
        classes: how many there are; for losses over proxies.
        dim: length of an embedding; for losses over proxies, and for a memory.
        seed: of the first proxies.
        memory: how many earlier embeddings are kept as a further gallery; 0: none. See `memory.Memory`.
        **parameters: out of `LOSSES[name].parameters`; the rest have their defaults.

    Raises:
        UsageError: an unknown name or parameter, or values that cannot be carried out.

    Two classes that stand exactly opposite each other are farther apart than any margin below 2:

    >>> import numpy as np
    >>> from simpipe.learning import losses
    >>> embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> float(losses.build("triplet", margin=0.2)(embeddings, [0, 0, 1, 1]))
    0.0
    >>> float(losses.build("triplet", margin=2.5)(embeddings, [0, 0, 1, 1]))
    0.5
    """
    from simpipe.learning import load_framework

    if name not in LOSSES:
        raise UsageError(f"there is no loss {name!r}", hint=f"one of: {', '.join(LOSSES)}")
    load_framework()
    member = LOSSES[name]
    module, attribute = member.where.split(":")
    function = getattr(import_module(module), attribute)
    settings = _defaults(member, function) | parameters
    _refuse_impossible(name, member, settings, memory)
    if member.kind == "pairs":
        return _over_pairs(name, function, settings, dim, memory)
    return _over_proxies(name, function, settings, classes, dim, seed)


def _over_pairs(name: str, function: Any, settings: dict[str, Any], dim: int, size: int) -> Loss:
    from simpipe.learning.losses.memory import Memory
    from simpipe.learning.losses.pairs import mean_loss

    if size and dim < 1:
        raise UsageError("a memory of embeddings needs their length", hint="give dim")
    memory = Memory(size, dim) if size else None
    function = partial(function, **{key: value for key, value in settings.items() if key != "distance"})

    def compute(embeddings: Any, labels: Any, _: Any) -> Any:
        return mean_loss(function, settings["distance"], embeddings, labels, memory)

    return Loss(name, settings, compute, variables=memory.variables if memory else [])


def _over_proxies(
    name: str, function: Any, settings: dict[str, Any], classes: int, dim: int, seed: int
) -> Loss:
    from simpipe.learning.losses.proxies import random_proxies

    if classes < 2 or dim < 1:
        raise UsageError(
            f"the loss {name} needs at least two classes and the length of an embedding",
            hint="give classes and dim",
        )
    proxies = random_proxies(classes * settings.get("centres", 1), dim, seed)

    def compute(embeddings: Any, labels: Any, margin_share: Any) -> Any:
        now = {"margin": settings["margin"] * margin_share} if LOSSES[name].warm_margin else {}
        return function(embeddings, labels, proxies, **{**settings, **now})

    return Loss(name, settings, compute, [proxies], [proxies])


def _defaults(member: Member, function: Any) -> dict[str, Any]:
    own = signature(function).parameters.values()
    defaults = {each.name: each.default for each in own if each.kind is each.KEYWORD_ONLY}
    return defaults | ({"distance": member.distance} if member.kind == "pairs" else {})


def _refuse_impossible(name: str, member: Member, settings: dict[str, Any], memory: int) -> None:
    for key, value in settings.items():
        if key not in member.parameters:
            known = ", ".join(member.parameters)
            raise UsageError(f"the loss {name} has no parameter {key!r}", hint=f"it has: {known}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UsageError(f"{key} cannot be {value!r}", hint=f"one of: {', '.join(_CHOICES[key])}")
        if key in _ABOVE_ZERO and not value > 0:
            raise UsageError(f"{key} of the loss {name} must be above 0, and is {value}")
    if memory < 0:
        raise UsageError(f"a memory cannot hold {memory} embeddings")
    if memory and (member.square or member.kind == "proxies"):
        able = [each for each, other in LOSSES.items() if other.kind == "pairs" and not other.square]
        raise UsageError(f"the loss {name} cannot use a memory", hint=f"those that can: {', '.join(able)}")
