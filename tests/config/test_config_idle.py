"""Keys without effect: the table names real keys, agrees with the descriptions, and is told in sentences."""

import re

import pytest

from simpipe.config import Config, flatten, idle_settings, load, override
from simpipe.config.checking import LEAVES
from simpipe.config.idle import NEEDS
from simpipe.config.models import Config as Models

REFUSED = {"train.gem_learn", "train.method"}
"""Keys that go with some values only, too; the models refuse them beside the others."""


def told(*settings: str, base: Config | None = None) -> list[str]:
    return idle_settings(override(base or Config(), settings), base or Config())


def test_the_table_names_keys_and_values_that_exist() -> None:
    for decider, values, keys in NEEDS:
        assert {decider, *keys} <= set(LEAVES)
        for value in values:
            text = "null" if value is None else str(value)
            assert flatten(override(Config(), [f"{decider}={text}"]))[decider] == value


def test_every_key_that_is_described_as_one_of_some_values_only_is_in_it() -> None:
    described = {
        key
        for key in LEAVES
        if "." in key
        for section, _, leaf in [key.partition(".")]
        for field in [Models.model_fields[section].annotation.model_fields[leaf]]
        if re.search(r"\b(gem|partial|full|umap|nmslib|unlabelled) only\b", field.description)
    }
    assert len(described) >= 12
    assert described - REFUSED <= {key for decider, _, keys in NEEDS[1:] for key in keys}


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        (["train.head_epochs=5"], ["train.head_epochs: no effect with train.trainable: frozen"]),
        (
            ["train.trainable=full", "train.head_epochs=5", "train.unfreeze=1", "train.views=2"],
            [
                "train.unfreeze: no effect with train.trainable: full",
                "train.views: no effect with train.trainable: full",
            ],
        ),
        (["train.trainable=partial", "train.unfreeze=1", "train.backbone_lr=1e-3"], []),
        (["train.head_epochs=0", "train.unfreeze=2"], []),
        (
            ["train.encoder=/a/run", "train.lr=1", "train.head_epochs=5", "augment.flip=0.1", "index.m=8"],
            [
                "augment.flip, train.lr, train.head_epochs: no effect with train.encoder: "
                "/a/run/train/encoder.json"
            ],
        ),
        (["train.encoder=/a/run", "train.trust=true"], []),
        (["augment.preset=simclr"], ["augment.preset: no effect with train.views: 0"]),
        (["augment.preset=simclr", "train.views=4"], []),
        (["augment.preset=simclr", "train.trainable=full"], []),
    ],
)
def test_what_was_asked_for_and_counts_for_nothing_is_said_once(
    settings: list[str], sentences: list[str]
) -> None:
    assert told(*settings) == sentences


def test_a_preset_did_not_ask_but_what_is_set_over_it_did() -> None:
    finetune = load("finetune")
    assert told("train.trainable=frozen", base=finetune) == []
    assert told("train.trainable=frozen", "train.head_epochs=7", base=finetune) == [
        "train.head_epochs: no effect with train.trainable: frozen"
    ]
    assert told("train.trainable=frozen", "train.head_epochs=0", base=finetune) == []
    assert idle_settings(finetune, Config()) == []
