"""Keys that have no effect beside the value of another key: one table, and what is said of them."""

from collections.abc import Iterator, Mapping

from simpipe.config.checking import LEAVES
from simpipe.config.loading import JSON, flatten
from simpipe.config.models import Config
from simpipe.config.template import written

_OF_TRAINING = tuple(
    key
    for key in LEAVES
    if key.startswith(("sampler.", "augment.", "train.")) and key not in ("train.encoder", "train.trust")
)

_OF_AUGMENTATION = tuple(key for key in LEAVES if key.startswith("augment."))

NEEDS: tuple[tuple[str, tuple[JSON, ...], tuple[str, ...]], ...] = (
    ("train.encoder", (None,), _OF_TRAINING),
    (
        "train.trainable",
        ("partial", "full"),
        ("train.head_epochs", "train.backbone_lr", "train.precision"),
    ),
    ("train.trainable", ("partial",), ("train.unfreeze", "train.cache_gb")),
    ("train.trainable", ("frozen", "partial"), ("train.views",)),
    ("train.pooling", ("gem",), ("train.gem_p",)),
    ("train.mode", ("labelled",), ("train.loss", "train.head_epochs", "sampler.mode")),
    ("sampler.balance", ("effective",), ("sampler.effective_beta",)),
    ("index.backend", ("nmslib",), ("index.m", "index.ef_construction", "index.ef_search")),
    ("calibrate.match", ("majority", "weighted", "balanced"), ("calibrate.k",)),
    (
        "report.projector",
        ("umap",),
        tuple(f"report.{key}" for key in ("neighbours", "min_dist", "spread", "metric", "densmap")),
    ),
)
"""A key, some of its values, and the keys that count with these values only."""


def idle_settings(config: Config, base: Config) -> list[str]:
    """What is asked for in `config` and has no effect, a sentence for each key that is the reason.

    Asked for is what is neither the default nor what `base` has: a preset, or the configuration of before.
    """
    values, usual, before = flatten(config), flatten(Config()), flatten(base)
    asked = [key for key, value in values.items() if value not in (usual[key], before[key])]
    told = []
    for decider, keys in _idle(values):
        if idle := [key for key in asked if key in keys]:
            told.append(f"{', '.join(idle)}: no effect with {decider}: {written(values[decider])}")
            asked = [key for key in asked if key not in idle]
    return told


def _idle(values: Mapping[str, JSON]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each key whose value leaves others without effect, and those."""
    for decider, with_values, keys in NEEDS:
        if values[decider] not in with_values:
            yield decider, keys
    if values["train.views"] == 0 and values["train.trainable"] != "full":
        yield "train.views", _OF_AUGMENTATION
