"""A trained encoder: `encoder.json` says how it is built, `encoder.weights.h5` holds what was trained.

The file never holds code: the network is built by this package, and only numbers are loaded.
"""

import io
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import DamagedError, UpstreamError
from simpipe.files import atomic_write, content_id, read_json, write_json
from simpipe.learning import backbones, features, load_framework
from simpipe.learning.backbones import Backbone
from simpipe.learning.head import Embed, HeadShape, embed_all, normalise
from simpipe.learning.network import (
    Network,
    Tuning,
    body_extractor,
    build_network,
    chained,
    head_only,
    trunk_extractor,
)

SCHEMA = "simpipe.encoder/1"
RECORD = "encoder.json"
WEIGHTS = "encoder.weights.h5"

FORMAT = 4
"""Of what is cached; another number, and all is computed again."""


def backbone_record(
    backbone: Backbone,
    weights: str,
    tuning: Tuning,
    preparation: dict[str, Any],
    seed: int,
    trust: bool = False,
) -> dict[str, Any]:
    """What has to be known to build the same features again, as a JSON document.

    `preparation` says how a file becomes pixels; this room only keeps it.
    """
    return {
        "name": backbone.name,
        "weights": weights,
        "weights_id": backbone.weights_id,
        "pretrained": backbone.pretrained,
        "input_size": backbone.input_size,
        "pooling": tuning.pooling,
        "gem_p": tuning.gem_p,
        "preparation": preparation,
        "seed": seed,
        "trust": trust,
    }


def feature_recipe(backbone: dict[str, Any]) -> dict[str, Any]:
    """The part of a backbone's record that its pooled features depend on: the feature cache's key."""
    pooling = {"pooling": backbone["pooling"]}
    if backbone["pooling"] == "gem":
        pooling["gem_p"] = backbone["gem_p"]
    return {**_image_recipe(backbone), **pooling}


def activation_recipe(backbone: dict[str, Any], unfreeze: int) -> dict[str, Any]:
    """The same for the activations below the last `unfreeze` block groups."""
    return {**_image_recipe(backbone), "below_groups": unfreeze}


def _image_recipe(backbone: dict[str, Any]) -> dict[str, Any]:
    parts = ("name", "weights_id", "input_size", "preparation")
    return {"format": FORMAT, **{part: backbone[part] for part in parts}}


def cached_recipes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All that the feature cache may hold for an encoder."""
    backbone = record["backbone"]
    if "tuning" not in record:  # made by an older version
        return [feature_recipe(backbone)]
    recipes = [feature_recipe(backbone), tuned_recipe(record)]
    if record["tuning"]["trainable"] == "partial":
        recipes.append(activation_recipe(backbone, record["tuning"]["unfreeze"]))
    return recipes


def tuned_recipe(record: dict[str, Any]) -> dict[str, Any]:
    """What the features that go into the encoder's head depend on."""
    plain = feature_recipe(record["backbone"])
    if record["tuning"]["trainable"] == "frozen" or record["shipped"] == "pretrained":
        return plain
    return {**plain, "tuned": record["weights_sha256"]}


def save_encoder(
    folder: Path, record: dict[str, Any], network: Network, tuning: Tuning, shape: HeadShape
) -> dict[str, Any]:
    """Write the weights of `network`, and `record` with what else is needed to build it; return that."""
    weights = _WeightsFile()
    network.model.save_weights(weights)
    raw = weights.getvalue()
    atomic_write(folder / WEIGHTS, raw)
    full = {
        "schema": SCHEMA,
        **record,
        "tuning": asdict(tuning),
        "head": asdict(shape),
        "weights_sha256": sha256(raw).hexdigest(),
    }
    write_json(folder / RECORD, full)
    return full


class _WeightsFile(io.BytesIO):
    """Memory that Keras takes for a file: HDF5 crashes the process where a disk is full."""

    def __str__(self) -> str:
        return WEIGHTS


@dataclass(frozen=True)
class Encoder:
    """From images to embeddings, in two steps: features, which are cached, then the head."""

    record: dict[str, Any]
    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> "Encoder":
        """The encoder in `folder`, whose files the caller has checked.

        Raises:
            UpstreamError: an older version of this package made it, in another form.
        """
        load_framework()
        folder = Path(folder)
        record = read_json(folder / RECORD)
        if "tuning" not in record:
            raise UpstreamError(
                f"{folder / RECORD} was made by an older version of simpipe",
                hint="bring its run up to date: the command that made it, again",
            )
        return cls(record, folder)

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return int(self.record["embedding_size"])

    @property
    def feature_dim(self) -> int:
        """The length of a feature vector."""
        return int(self.record["feature_dim"])

    def pretrained_extractor(self) -> features.Extractor:
        """From images to the pooled features of the backbone as it was before training.

        Raises:
            DamagedError: its weights are not those that the encoder was trained on.
        """
        backbone = self._backbone(self.record["backbone"]["weights"])
        return features.extractor(backbone, self._tuning.pooling, self._tuning.gem_p)

    def extractor(self) -> features.Extractor:
        """From images to the features that `embed` takes.

        Raises:
            DamagedError: as `pretrained_extractor`.
        """
        if tuned_recipe(self.record) == feature_recipe(self.record["backbone"]):
            return self.pretrained_extractor()
        body = body_extractor(self._network)
        if self._network.trunk is None:
            return body
        return chained(trunk_extractor(self._network.trunk), body)

    def embed(self, vectors: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        """Write the embeddings of features (n, feature_dim) into `out` (n, dim)."""
        if self.record["shipped"] == "pretrained":
            normalise(vectors, out)
        else:
            embed_all(self._embed, vectors, out)

    @cached_property
    def _embed(self) -> Embed:
        """Traced once, however often it is asked."""
        return Embed(self._network.head)

    @property
    def _tuning(self) -> Tuning:
        return Tuning(**self.record["tuning"])

    @cached_property
    def _network(self) -> Network:
        shape = HeadShape(**self.record["head"])
        if self._tuning.trainable == "frozen":
            network = head_only(self.feature_dim, shape)
        else:
            # all weights of a whole network are in the file
            whole = self._tuning.trainable == "full" and not backbones.is_path(
                self.record["backbone"]["name"]
            )
            backbone = self._backbone("none" if whole else self.record["backbone"]["weights"])
            network = build_network(backbone, self._tuning, shape, seed=0)
        network.model.load_weights(self.folder / WEIGHTS)
        return network

    def _backbone(self, weights: str) -> Backbone:
        record = self.record["backbone"]
        name = record["name"]
        # before it is loaded, for that can run what is in it
        if backbones.is_path(name) and content_id(Path(name)) != record["weights_id"]:
            raise self._other_weights(name)
        backbone = backbones.build(
            name,
            weights=weights,
            input_size=record["input_size"],
            seed=record["seed"],
            trust=record["trust"],
        )
        if weights == record["weights"] and backbone.weights_id != record["weights_id"]:
            raise self._other_weights(record["weights"])
        return backbone

    def _other_weights(self, what: str) -> DamagedError:
        return DamagedError(
            f"the backbone's weights ({what}) are not those of {self.folder}",
            hint="put the old weights back, or train again: simpipe train --force",
        )
