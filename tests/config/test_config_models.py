"""The models: strict types, ranges, and clashes between keys."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from simpipe.config.checking import LEAVES
from simpipe.config.fields import Section
from simpipe.config.models import Calibrate, Config, Ingest
from simpipe.config.training import Train


def refused(section: type[Section], **values: object) -> bool:
    try:
        section(**values)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("value", [True, "0.1", float("nan"), float("inf"), None, [0.1], 0.0, -1, 10**400])
def test_a_learning_rate_is_a_finite_positive_number(value: object) -> None:
    assert refused(Train, lr=value)


@pytest.mark.parametrize("value", [True, "40", 40.5, float("inf"), 0, -1])
def test_epochs_are_a_whole_number(value: object) -> None:
    assert refused(Train, epochs=value)


def test_whole_floats_are_integers_and_integers_are_floats() -> None:
    train = Train(epochs=1e3, input_size=64.0, lr=1)
    assert (train.epochs, train.input_size, train.lr) == (1000, 64, 1.0)
    assert type(train.epochs) is int
    assert type(train.input_size) is int
    assert type(train.lr) is float


@pytest.mark.parametrize(
    ("section", "key", "inside", "outside"),
    [
        (Ingest, "max_bad", [0, 1], [-0.01, 1.01]),
        (Ingest, "unseen", [0, 0.5], [-0.01, 0.51]),
        (Ingest, "near_duplicate_bits", [0, 16], [-1, 17]),
        (Ingest, "thumbnail_size", [0, 32, 256], [-1, 1, 31, 257]),
        (Ingest, "copy_side", [64, 4096], [63, 4097]),
        (Ingest, "min_side", [1], [0]),
        (Ingest, "ignore", [[], ["*.tmp", "*_mask.png"]], ["*.tmp", [1]]),
        (Ingest, "grey_range", [None, [0, 4095], [-1.5, 1]], [[1, 1], [2, 1], [0], [0, 1, 2], "0"]),
        (Ingest, "background", ["#ffffff", "#00Ff00"], ["white", "#fff", "ffffff", "#gggggg"]),
        (
            Ingest,
            "label_from",
            ["first", "leaf", "path", r"regex:^(?P<label>\w+)_"],
            ["second", "regex", "regex:", r"regex:(\w+)", "regex:(?P<label>", "regex:(?P<lable>x)"],
        ),
        (Ingest, "group_from", [None, r"p\d+", r"(?P<group>\d+)"], ["(", "[a"]),
        (Ingest, "table", [None, "/a/labels.csv", "x.PARQUET", "x.jsonl"], ["labels", "x.xlsx", ".csv"]),
        (Train, "input_size", [None, 32], [31]),
        (Train, "temperature", [None, 0.1], [0, -0.1]),
        (Train, "backbone", ["resnet50", "./mine.keras", "/w/saved"], ["resnet", "", 5]),
        (Train, "dropout", [0, 0.9], [-0.1, 0.91]),
        (Train, "warmup", [0, 0.5], [0.51]),
        (Train, "hidden", [0], [-1]),
        (Calibrate, "precision", [[], [0.9, 0.95]], [[0], [1], [0.9, 0.9], 0.9, ["0.9"]]),
    ],
)
def test_ranges(section: type[Section], key: str, inside: list[object], outside: list[object]) -> None:
    assert not [value for value in inside if refused(section, **{key: value})]
    assert not [value for value in outside if not refused(section, **{key: value})]


def test_copies_are_as_large_as_the_input() -> None:
    assert refused(Config, train={"input_size": 400})
    assert not refused(Config, train={"input_size": 400}, ingest={"copy_side": 400})


def test_the_splits_leave_something_to_train() -> None:
    assert refused(Ingest, val=0.5, test=0.5)
    assert not refused(Ingest, val=0.5, test=0.49)


def test_the_map_uses_no_more_neighbours_than_are_stored() -> None:
    assert refused(Config, report={"neighbours": 21})
    assert refused(Config, evaluate={"neighbours": 10})
    assert not refused(Config, report={"neighbours": 21}, evaluate={"neighbours": 21})


@pytest.mark.parametrize("weights", ["imagenet", "none", "w.h5", "folder/w", "../w.weights.h5"])
def test_weights_are_a_name_or_a_path(weights: str) -> None:
    assert Train(weights=weights).weights == weights


@pytest.mark.parametrize("weights", ["imagnet", "", "None"])
def test_other_weights_are_refused(weights: str) -> None:
    assert refused(Train, weights=weights)


def test_configurations_are_frozen_and_hashable() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.train.lr = 1.0
    assert hash(config) == hash(Config())


def test_every_key_has_a_description() -> None:
    sections = [field.annotation for field in Config.model_fields.values()]
    fields = [
        field
        for section in sections
        if isinstance(section, type) and issubclass(section, Section)
        for field in section.model_fields.values()
    ]
    assert len(fields) == len(LEAVES) - 1  # `seed` stands outside the sections
    assert all(field.description for field in fields)
    assert Config.model_fields["seed"].description


def test_the_import_is_light() -> None:
    ours = {
        "simpipe",
        "pydantic",
        "pydantic_core",
        "annotated_types",
        "typing_extensions",
        "typing_inspection",
    }
    allowed = ours | {"yaml", "cython_runtime"}
    code = (
        "import sys; before = set(sys.modules); import simpipe.config as c; c.load('baseline'); "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if not name.startswith("_")} - allowed
    assert not foreign
