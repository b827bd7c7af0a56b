"""The commented configuration: it says of every key what the models say, and loads as what it was made of."""

import re
import typing
from pathlib import Path

import pytest

from simpipe.config import Config, choices, commented_yaml, flatten, load, override
from simpipe.config.training import Backbone

KEYS = {
    f"{section}.{leaf}" if leaf else section: inner
    for section, field in Config.model_fields.items()
    for leaf, inner in getattr(field.annotation, "model_fields", {"": field}).items()
}
WITH_EXAMPLES = ("train.backbone", "train.distance", "train.mining", "report.projector")
READERS = {key: [f"reader_{number}", f"after_{number}"] for number, key in enumerate(KEYS)}


def comments(text: str) -> list[tuple[str, str]]:
    """Each dotted key with the unwrapped comment above it, in the order of the file."""
    found, section, above = [], "", []
    for line in text.splitlines():
        if comment := re.fullmatch(r"(?:  )?# (.*)", line):
            above.append(comment[1])
            continue
        if head := re.fullmatch(r"(\w+):  # .+", line):
            section = f"{head[1]}."
        elif leaf := re.fullmatch(r"(  )?(\w+): .+", line):
            found.append(((section if leaf[1] else "") + leaf[2], " ".join(above)))
        else:
            assert line == ""
        above = []
    return found


@pytest.mark.parametrize("preset", ["baseline", "finetune", "quick", "unlabelled"])
def test_it_loads_as_the_preset(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(commented_yaml(load(preset), READERS), encoding="utf-8")
    assert load(path) == load(preset)


@pytest.mark.parametrize(
    "settings",
    [
        ["report.title=a: b # c", "train.margin=null", "train.input_size=64"],
        ['report.title="two\\nlines"', "calibrate.precision=[]", "train.weights=/w/my weights.h5"],
        ["report.title=no", "calibrate.precision=[0.5, 0.99]", "train.lr=1e-7"],
    ],
)
def test_it_loads_as_any_configuration(tmp_path: Path, settings: list[str]) -> None:
    config = override(Config(), settings)
    path = tmp_path / "my.yaml"
    path.write_text(commented_yaml(config, READERS), encoding="utf-8")
    assert load(path) == config


def test_every_key_once_with_its_meaning_its_choices_and_its_readers() -> None:
    found = comments(commented_yaml(Config(), READERS))
    assert [key for key, _ in found] == list(KEYS)
    for key, comment in found:
        description = KEYS[key].description
        assert description
        assert comment.startswith(f"{description}. "), key
        assert comment.endswith(f"Read by {', '.join(READERS[key])}."), key
        if typing.get_origin(KEYS[key].annotation) is typing.Literal:
            assert f"One of {', '.join(typing.get_args(KEYS[key].annotation))}." in comment
        else:
            assert ("One of" in comment) == (key in WITH_EXAMPLES)


def test_every_section_says_what_it_is_about() -> None:
    text = commented_yaml(Config(), READERS)
    for section in {key.partition(".")[0] for key in KEYS if "." in key}:
        about = typing.cast(type, Config.model_fields[section].annotation).__doc__
        assert text.count(f"\n{section}:  # {about}\n") == 1


def test_what_differs_from_the_default_shows_it() -> None:
    found = dict(comments(commented_yaml(load("quick"), READERS)))
    changed = {key for key, value in flatten(load("quick")).items() if value != flatten(Config())[key]}
    assert {key for key, comment in found.items() if "Default: " in comment} == changed
    assert "Default: 20." in found["train.epochs"]
    assert "Default: umap." in found["report.projector"]


def test_lines_are_short() -> None:
    assert max(map(len, commented_yaml(Config(), READERS).splitlines())) <= 110


def test_choices_are_what_a_configuration_takes() -> None:
    assert choices("train.backbone") == typing.get_args(Backbone)
    assert choices("train.mining") == ("hard", "semi_hard", "easy")  # or null
    assert choices("train.lr") == choices("train.input_size") == choices("train.weights") == ()
