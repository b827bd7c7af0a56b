"""A trained encoder: `encoder.json` says how it is built, `encoder.weights.h5` holds the head.

The file never holds code: the network is built by this package, and only numbers are loaded.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.errors import DamagedError
from simpipe.files import atomic_write, read_json, write_json
from simpipe.learning import backbones, features
from simpipe.learning.backbones import Backbone
from simpipe.learning.head import HeadShape, build_head, embedder, normalise

SCHEMA = "simpipe.encoder/1"
RECORD = "encoder.json"
WEIGHTS = "encoder.weights.h5"


def backbone_record(
    backbone: Backbone, weights: str, pooling: str, preparation: dict[str, Any], seed: int
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
        "pooling": pooling,
        "preparation": preparation,
        "seed": seed,
    }


def feature_recipe(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a backbone's record that its features depend on: the feature cache's key."""
    parts = ("name", "weights_id", "input_size", "pooling", "preparation")
    return {"format": 3, "view": "plain", **{part: record[part] for part in parts}}


def save_encoder(folder: Path, record: dict[str, Any], head: Any) -> None:
    """Write `record`, with its schema, and the weights of `head`."""
    write_json(folder / RECORD, {"schema": SCHEMA, **record})
    weights = _WeightsFile()
    head.save_weights(weights)
    atomic_write(folder / WEIGHTS, weights.getvalue())


class _WeightsFile(io.BytesIO):
    """Memory that Keras takes for a file: HDF5 crashes the process where a disk is full."""

    def __str__(self) -> str:
        return WEIGHTS


@dataclass(frozen=True)
class Encoder:
    """From images to embeddings, in two steps: pooled features, which are cached, then the head."""

    record: dict[str, Any]
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Encoder":
        """The encoder in `folder`, whose files the caller has checked."""
        return cls(read_json(folder / RECORD), folder)

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return int(self.record["embedding_size"])

    @property
    def feature_dim(self) -> int:
        """The length of a pooled feature vector."""
        return int(self.record["feature_dim"])

    def extractor(self) -> features.Extractor:
        """Build the backbone; see `features.extractor`.

        Raises:
            DamagedError: the weights are not those that the encoder was trained on.
        """
        record = self.record["backbone"]
        backbone = backbones.build(
            record["name"], weights=record["weights"], input_size=record["input_size"], seed=record["seed"]
        )
        if backbone.weights_id != record["weights_id"]:
            raise DamagedError(
                f"the backbone's weights ({record['weights']}) are not those of {self.folder}",
                hint="put the old weights back, or train again: simpipe train --force",
            )
        return features.extractor(backbone, record["pooling"])

    def embed(self, vectors: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        """Write the embeddings of pooled features (n, feature_dim) into `out` (n, dim)."""
        if self.record["shipped"] == "pretrained":
            normalise(vectors, out)
            return
        head = build_head(self.feature_dim, HeadShape(**self.record["head"]), seed=0)
        head.load_weights(self.folder / WEIGHTS)
        embedder(head)(vectors, out)
