"""Loading: presets, overrides, all problems at once, and the way back to YAML."""

import math
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simpipe.config as api
from simpipe.config import Config, dump_yaml, flatten, load, override, preset_names, read_resolved
from simpipe.config.checking import LEAVES, SECTIONS, SYNONYMS, nearest_key
from simpipe.config.models import Match
from simpipe.config.training import Backbone
from simpipe.errors import ConfigError, SimpipeError, UsageError

PRESETS = Path(__file__).parents[2] / "pipelines"


def write(folder: Path, content: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(content)
    return path


def problems(folder: Path, content: str, overrides: tuple[str, ...] = ()) -> str:
    """The message about a file, its name cut down to `my.yaml`."""
    path = write(folder, content)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message.replace(str(path), "my.yaml")


# presets and sources

PRESET_NAMES = ("baseline", "finetune", "quick", "unlabelled")


def test_the_presets() -> None:
    assert preset_names() == PRESET_NAMES
    for name in preset_names():
        load(name)
    assert load("baseline") == Config() == load(PRESETS / "baseline.yaml")
    quick = flatten(load("quick"))
    changed = {key for key, value in flatten(Config()).items() if quick[key] != value}
    assert changed == {
        "train.epochs",
        "train.patience",
        "train.hidden",
        "evaluate.resamples",
        "report.projector",
    }


def test_baseline_shows_every_key() -> None:
    lines = (PRESETS / "baseline.yaml").read_text().splitlines()
    shown = {line.split(":")[0].strip() for line in lines if not line.lstrip().startswith("#")} - {""}
    assert shown == {key.rpartition(".")[2] for key in LEAVES} | set(SECTIONS)
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("baselin", r"'baselin' is neither a file nor a preset\. Did you mean the preset baseline\?"),
        ("baseline.yaml", r"baseline\.yaml: there is no such file\. Did you mean the preset baseline\?"),
        ("./baseline", r"\./baseline: there is no such file"),
        ("x" * 5000, "neither a file nor a preset"),
        ("conf/zzz.yml", r"conf/zzz\.yml: there is no such file\.$"),
    ],
)
def test_unknown_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        load(source)
    assert caught.value.hint
    assert "baseline, finetune, quick, unlabelled" in caught.value.hint


def test_a_preset_goes_before_a_file_of_the_same_bare_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick").write_text("seed: 7")
    Path("mine").write_text("seed: 8")
    assert load("quick").seed == 0
    assert load("./quick").seed == 7
    assert load("mine").seed == 8


def test_an_installed_package_brings_its_presets(tmp_path: Path) -> None:
    package = Path(api.__file__).parents[1]
    shutil.copytree(
        package / "config", tmp_path / "simpipe/config", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(PRESETS, tmp_path / "simpipe/config/presets", dirs_exist_ok=True)
    for name in ("__init__.py", "errors.py", "files.py"):
        shutil.copy(package / name, tmp_path / "simpipe" / name)
    code = "import simpipe.config as c; print(c.__file__, *c.preset_names(), c.load('quick').train.epochs)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "simpipe/config/__init__.py"), *PRESET_NAMES, "10"]


def test_config_stem() -> None:
    assert api.config_stem("baseline") == "baseline"
    assert api.config_stem("a/b.c/my.birds.yaml") == "my.birds"
    assert api.config_stem(Path("x.yml")) == "x"


# problems


def test_the_message_shape(tmp_path: Path) -> None:
    content = "\n" * 11 + "train:\n  lr: 1e-3\n  learning_rate: 1e-3\nindex:\n  m: 8\n  backend: nmslb\n"
    assert problems(tmp_path, content) == (
        "my.yaml: 2 problems\n"
        "  line 14  train.learning_rate: unknown key. Did you mean train.lr?\n"
        "      14 |   learning_rate: 1e-3\n"
        "  line 17  index.backend: 'nmslb' is not one of nmslib, exact. Did you mean nmslib?"
    )


def test_all_problems_at_once_by_line(tmp_path: Path) -> None:
    content = """\
seed: true
train:
  lr: abc
  epochs: 0
  dropout: 0.95
  trainable: partly
  margin: .nan
  loss: !!python/name:os.system x
  lr: 1e-3
trian:
  lr: 1
calibrate:
  precision: [0.9, 2]
  unknown_accept: 0.1
report:
  title: 2024
evaluate: 5
ingest:
  val: 0.6
  test: 0.6
"""
    message = problems(tmp_path, content)
    rows = [row.split(maxsplit=2) for row in message.splitlines()[1:] if row.startswith("  line")]
    found = [(int(line), text) for _, line, text in rows]
    assert message.startswith(f"my.yaml: {len(found)} problems\n")
    assert found == [
        (1, "seed: true is not a whole number"),
        (3, "train.lr: 'abc' is not a number"),
        (4, "train.epochs: 0 is too small; it must be at least 1"),
        (5, "train.dropout: 0.95 is too large; it must be at most 0.9"),
        (6, "train.trainable: 'partly' is not one of frozen, partial, full. Did you mean partial?"),
        (7, "train.margin: NaN is not a finite number"),
        (8, "train.loss: the tag '!!python/name:os.system' is not supported; write the plain value"),
        (9, "train.lr: given twice, on line 3 and on line 9; delete one"),
        (10, "trian: unknown key. Did you mean train?"),
        (13, "calibrate.precision.1: 2 is too large; it must be below 1"),
        (14, "calibrate.unknown_accept: 0.1 is not a list; write [0.1]"),
        (16, "report.title: 2024 is not a text; put it in quotes"),
        (17, "evaluate: 5 stands where keys are needed, such as evaluate.neighbours"),
        (
            20,
            "ingest.test: ingest.val + ingest.test is 1.2. "
            "It must be below 1: the rest is what training gets",
        ),
    ]


def test_a_clash_is_told_beside_other_problems_but_not_as_their_echo(tmp_path: Path) -> None:
    both = problems(tmp_path, "report:\n  neighbours: 30\nseed: x\n")
    assert "2 problems" in both
    assert "line 2  report.neighbours: the map looks at 30 neighbours" in both
    for evaluate in ("evaluate:\n  neighbours: x\n", "evaluate: 5\n", "evaluate:\n  neighbours: !x 50\n"):
        assert "my.yaml: 1 problem\n" in problems(tmp_path, f"report:\n  neighbours: 30\n{evaluate}")


def test_the_default_of_the_one_key_clashes_with_the_other(tmp_path: Path) -> None:
    assert "line 3  evaluate.neighbours: the map looks at 15" in problems(
        tmp_path, "\nevaluate:\n  neighbours: 10\n"
    )


def test_a_file_that_is_no_configuration_gets_a_short_answer(tmp_path: Path) -> None:
    message = problems(tmp_path, "".join(f"class_{number}: {number}\n" for number in range(300)))
    assert message.startswith("my.yaml: 300 problems\n")
    assert message.endswith("… and 250 more")


def test_long_values_are_cut(tmp_path: Path) -> None:
    for value in ("x" * 9999, "9" * 9999, "[" + "x," * 999 + "]"):
        assert max(map(len, problems(tmp_path, f"seed: {value}\n").splitlines())) < 200
        assert max(map(len, problems(tmp_path, "", (f"seed={value}",)).splitlines())) < 300


def test_texts_stay_texts_and_empty_sections_are_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path, "train:\nindex: {}\nreport:\n  title: no\n"))
    assert config == override(Config(), ["report.title=no"])
    assert config.report.title == "no"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.learning_rate", "train.lr"),
        ("lr", "train.lr"),
        ("train.epoch", "train.epochs"),
        ("train.Embedding-Size", "train.embedding_size"),
        ("trian.lr", "train.lr"),
        ("index.epochs", "train.epochs"),
        ("report.neighbors", "report.neighbours"),
        ("evaluate.neighbors", "evaluate.neighbours"),
        ("trian", "train"),
        ("calibration", "calibrate"),
        ("random_seed", "seed"),
        ("train.zzz", None),
        ("qqqq", None),
    ],
)
def test_did_you_mean_a_key(key: str, meant: str | None) -> None:
    assert nearest_key(key) == meant


def test_synonyms_lead_to_keys_and_are_none() -> None:
    assert set(SYNONYMS.values()) <= set(LEAVES)
    assert not set(SYNONYMS) & {key.rpartition(".")[2] for key in LEAVES}


@settings(deadline=None, max_examples=50)
@given(key=st.sampled_from(list(LEAVES)), data=st.data())
def test_a_dropped_letter_is_understood(key: str, data: st.DataObject) -> None:
    leaf = key.rpartition(".")[2]
    if len(leaf) < 4:
        return
    position = data.draw(st.integers(0, len(leaf) - 1))
    typo = key[: len(key) - len(leaf)] + leaf[:position] + leaf[position + 1 :]
    assert typo in LEAVES or nearest_key(typo) == key


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("train.backbone=EfficientNet-B0", "efficientnet_b0"),
        ("train.loss=SupCon", "supcon"),
        ("calibrate.match=nearst", "nearest"),
        ("sampler.balance=null", "none"),
    ],
)
def test_did_you_mean_a_value(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"Did you mean {meant}\?"):
        override(Config(), [text])


# overrides


def test_overrides_go_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  lr: 0.5\n  epochs: 3\nreport:\n")
    overrides = [
        "train.lr=1e-2",
        "calibrate.precision=[0.9, 0.99]",
        "seed=5",
        "seed = 6",
        "report.title=a=b: #c",
    ]
    config = load(path, overrides)
    assert (config.train.lr, config.train.epochs, config.seed) == (0.01, 3, 6)
    assert config.calibrate.precision == (0.9, 0.99)
    assert config.report.title == "a=b: #c"
    assert override(load(path), overrides) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr=abc", "train.lr: 'abc' is not a number"),
        ("train.lr=", "train.lr: null is not a number"),
        ("train.lr=True", "train.lr: true is not a number"),
        ("train.lr=__import__('os')", "train.lr: \"__import__('os')\" is not a number"),
        ("train.lr", "no value; write KEY=VALUE, such as train.lr=1e-3"),
        ("", "no value; write KEY=VALUE, such as train.lr=1e-3"),
        ("train.learning_rate=1", "train.learning_rate: unknown key. Did you mean train.lr?"),
        ("lr=1", "lr: unknown key. Did you mean train.lr?"),
        ("train.lr.x=1", "train.lr.x: unknown key."),
        ("train=1", "train: is a section; name one of its keys, such as train.backbone"),
        ("calibrate.precision=[0.9, 7]", "calibrate.precision.1: 7 is too large; it must be below 1"),
        ("train.epochs=2.5", "train.epochs: 2.5 is not a whole number"),
        ("seed=0x" + "f" * 50, "seed: '0xfff"),
        ("seed=" + "9" * 60, "seed: 9999"),
        ("report.title=\udcff", "report.title: is not UTF-8"),
        ("ingest.test=0.95", "ingest.test: ingest.val + ingest.test is 1.05."),
    ],
)
def test_problems_of_overrides_name_them(text: str, message: str) -> None:
    for attempt in (lambda: override(Config(), [text]), lambda: load("baseline", [text])):
        with pytest.raises(ConfigError) as caught:
            attempt()
        first, second = caught.value.message.splitlines()
        assert first == "--set: 1 problem"
        assert second.startswith(f"  --set {text}  {message}".replace("\udcff", "\\udcff"))


def test_problems_of_file_and_overrides_come_together(tmp_path: Path) -> None:
    message = problems(
        tmp_path, "seed: x\ntrain: 4\nindex:\n  m: 1\n", ("index.m=500", "train.lr=1", "foo=1")
    )
    assert message.splitlines() == [
        "my.yaml and --set: 4 problems",
        "  line 1  seed: 'x' is not a whole number",
        "  line 2  train: 4 stands where keys are needed, such as train.backbone",
        "  --set foo=1  foo: unknown key.",
        "  --set index.m=500  index.m: 500 is too large; it must be at most 128",
    ]


def test_an_override_may_mend_a_value_of_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, "seed: x\n"), ["seed=3"]).seed == 3


def test_paths_of_weights_count_from_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(tmp_path, "train:\n  weights: w/my.h5\n")
    assert load("../my.yaml").train.weights == str(tmp_path / "w/my.h5")
    assert load("../my.yaml", ["train.weights=my.h5"]).train.weights == str(tmp_path / "here/my.h5")
    assert load("../my.yaml", ["train.weights=none"]).train.weights == "none"
    assert override(Config(), ["train.weights=/abs/my.h5"]).train.weights == "/abs/my.h5"


# the way back

fractions = st.floats(0, 1, exclude_min=True, exclude_max=True)
trees = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "train": st.fixed_dictionaries(
            {
                "backbone": st.sampled_from(typing.get_args(Backbone)),
                "weights": st.just("none")
                | st.text(st.characters(exclude_categories=["Cs"])).map(lambda t: f"/w/{t}"),
                "input_size": st.none() | st.integers(32, 384),
                "temperature": st.none() | st.floats(0, 2, exclude_min=True),
                "lr": st.floats(0, exclude_min=True, allow_infinity=False),
            }
        ),
        "ingest": st.fixed_dictionaries(
            {
                "unseen": st.floats(0, 0.5),
                "val": st.floats(0.01, 0.7),
                "label_from": st.sampled_from(("leaf", "regex:^(?P<label>[^/#:]+)")),
                "group_from": st.none() | st.sampled_from(("^[^_]+", "(?P<group>p\\d+)")),
                "ignore": st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
                "background": st.just("#1e3456"),
                "grey_range": st.none() | st.just([0.0, 4095.0]),
            }
        ),
        "calibrate": st.fixed_dictionaries(
            {
                "match": st.sampled_from(typing.get_args(Match)),
                "precision": st.lists(fractions, unique=True, max_size=4),
            }
        ),
        "report": st.fixed_dictionaries(
            {
                "title": st.none()
                | st.text(st.characters(exclude_categories=["Cs"]))
                | st.sampled_from(["no", "1e3", "~"])
            }
        ),
    },
)


@settings(deadline=None, max_examples=50)
@given(tree=trees)
def test_dumped_configurations_load_equal(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    config = Config.model_validate(tree)
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8", newline="")
    assert read_resolved(path) == config
    assert load(path, [f"seed={config.seed}"]) == config


def test_flatten_has_each_key_once_in_order_and_plain_values() -> None:
    flat = flatten(Config())
    assert list(flat) == list(LEAVES)
    assert list(flat)[:2] == ["seed", "ingest.labels"]
    assert (flat["train.lr"], flat["calibrate.precision"], flat["report.title"]) == (0.004, [0.95], None)
    assert all(isinstance(value, str | int | float | list | None) for value in flat.values())


@settings(deadline=None, max_examples=50)
@given(key=st.sampled_from(list(LEAVES)), value=st.text() | st.floats() | st.integers())
def test_any_override_is_taken_or_refused(key: str, value: str | float) -> None:
    text = f"{key}={value}"
    try:
        flat = flatten(override(Config(), [text]))
    except SimpipeError as error:
        assert error.message.startswith("--set: 1 problem\n")
    else:
        assert {name for name, found in flat.items() if found != flatten(Config())[name]} <= {key}
        assert not (isinstance(flat[key], float) and not math.isfinite(flat[key]))
