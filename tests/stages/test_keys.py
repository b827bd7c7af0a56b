"""Keys that tell the truth: which configuration key makes which stage stale, and none that means nothing.

Nothing is trained here: the real pipeline's declarations, receipts made by the real engine, artifacts that
are a few bytes. That the declarations are what the stages really read is tested with the real runs.
"""

from pathlib import Path
from typing import Any

import pytest

from simpipe import config
from simpipe.cli.rundirs import FILE_KEYS
from simpipe.config import Config, flatten, override
from simpipe.engine.plan import Request, assess, look, plan
from simpipe.engine.rundir import RunDir, commit, new_staging, seal
from simpipe.engine.stage import Content, covers
from simpipe.errors import ConfigError
from simpipe.stages import PIPELINE, STAGE_NAMES

STALE: dict[str, tuple[Any, str]] = {
    "seed": (1, "sampler train index evaluate report"),
    "ingest.labels": ("none", "ingest"),
    "ingest.label_from": ("leaf", "ingest"),
    "ingest.label_twins": ("merge", "ingest"),
    "ingest.layout": ("labels", "ingest"),
    "ingest.table": ("/nowhere/labels.csv", "ingest"),
    "ingest.group_from": ("^[^_]+", "ingest"),
    "ingest.ignore": (["*_mask.png"], "ingest"),
    "ingest.follow_links": (True, "ingest"),
    "ingest.exclude": ("/nowhere/exclude.csv", "ingest"),
    "ingest.resize": ("pad", "ingest train"),
    "ingest.background": ("#000000", "ingest train"),
    "ingest.grey_range": ([0, 4095], "ingest train"),
    "ingest.max_bad": (0.5, "ingest"),
    "ingest.val": (0.2, "ingest"),
    "ingest.test": (0.3, "ingest"),
    "ingest.unseen": (0.0, "ingest"),
    "ingest.split_by": ("label", "ingest"),
    "ingest.split_seed": (1, "ingest"),
    "ingest.near_duplicate_bits": (0, "ingest"),
    "ingest.max_pixels": (1000, "ingest"),
    "ingest.min_side": (32, "ingest"),
    "ingest.cache": ("all", "ingest"),
    "ingest.copy_side": (512, "ingest train"),
    "ingest.thumbnail_size": (64, "ingest"),
    "sampler.mode": ("coverage", "sampler"),
    "sampler.classes_per_batch": (8, "sampler"),
    "sampler.examples_per_class_per_batch": (4, "sampler"),
    "sampler.class_list": (["a", "b"], "sampler"),
    "sampler.total_examples_per_class": (5, "sampler"),
    "sampler.balance": ("class", "sampler"),
    "sampler.effective_beta": (0.9, "sampler"),
    "sampler.coverage": (2.0, "sampler"),
    "sampler.min_batches": (1, "sampler"),
    "sampler.max_repeat": (3, "sampler"),
    "sampler.hard_share": (0.5, "sampler"),
    "sampler.single_image": ("keep", "sampler"),
    "augment.preset": ("simclr", "train"),
    "augment.warmup": (2, "sampler"),
    "augment.min_area": (0.7, "train"),
    "augment.flip": (0.25, "train"),
    "augment.jitter": (0.25, "train"),
    "augment.brightness": (0.25, "train"),
    "augment.contrast": (0.25, "train"),
    "augment.saturation": (0.25, "train"),
    "augment.hue": (0.25, "train"),
    "augment.grey": (0.25, "train"),
    "augment.blur": (0.25, "train"),
    "augment.solarise": (0.25, "train"),
    "augment.erase": (0.25, "train"),
    "train.encoder": ("/nowhere/run/train/encoder.json", "sampler train"),
    "train.mode": ("unlabelled", "sampler train"),
    "train.backbone": ("efficientnet_b0", "train"),
    "train.trust": (True, "train"),
    "train.weights": ("none", "train"),
    "train.input_size": (64, "train"),
    "train.pooling": ("max", "train"),
    "train.gem_p": (2.0, "train"),
    "train.trainable": ("partial", "sampler train"),
    "train.unfreeze": (1, "train"),
    "train.views": (2, "sampler train"),
    "train.cache_gb": (1.0, "train"),
    "train.embedding_size": (64, "train"),
    "train.hidden": (0, "train"),
    "train.dropout": (0.0, "train"),
    "train.loss": ("triplet", "train"),
    "train.distance": ("euclidean", "train"),
    "train.temperature": (0.2, "train"),
    "train.xbm": (64, "train"),
    "train.lr": (1e-3, "train"),
    "train.backbone_lr": (1e-4, "train"),
    "train.proxy_lr": (1e-2, "train"),
    "train.weight_decay": (0.0, "train"),
    "train.clip_norm": (1.0, "train"),
    "train.warmup": (0.0, "train"),
    "train.margin_warmup": (0.0, "train"),
    "train.head_epochs": (1, "train"),
    "train.epochs": (1, "train"),
    "train.patience": (1, "train"),
    "train.precision": ("float32", "train"),
    "train.repeats": (2, "train"),
    "train.ship": ("best", "train"),
    "index.backend": ("exact", "index"),
    "index.m": (8, "index"),
    "index.ef_construction": (50, "index"),
    "index.ef_search": (50, "index"),
    "calibrate.match": ("majority", "calibrate"),
    "calibrate.k": (3, "calibrate"),
    "calibrate.precision": ([0.9], "calibrate"),
    "calibrate.recall": ([0.9], "calibrate"),
    "calibrate.unknown_accept": ([0.2], "calibrate"),
    "calibrate.unknown_share": (0.3, "calibrate"),
    "evaluate.neighbours": (30, "evaluate"),
    "evaluate.resamples": (500, "evaluate"),
    "report.title": ("Apples", "report"),
    "report.projector": ("pca", "report"),
    "report.neighbours": (10, "report"),
    "report.min_dist": (0.5, "report"),
    "report.spread": (2.0, "report"),
    "report.metric": ("euclidean", "report"),
    "report.densmap": (True, "report"),
    "report.map_seed": (1, "report"),
    "report.before": (False, "report"),
    "report.max_mb": (5, "report"),
}
"""Each key: a value that is not the default, and the stages that it alone makes stale."""

LEARNED_GEM = ["train.trainable=partial", "train.pooling=gem", "train.gem_learn=true"]
"""How train.gem_learn comes to another value: frozen features have no exponent to learn."""

WITHOUT_LABELS = ["train.mode=unlabelled", "train.views=8", "train.method=simclr"]
"""How train.method comes to another value: with labels there is none."""

OF_OTHER_LOSSES = {
    "train.margin": (0.2, "triplet"),
    "train.soft_margin": (True, "triplet"),
    "train.mining": ("easy", "triplet"),
    "train.scale": (20.0, "circle"),
    "train.centres": (2, "soft_triple"),
    "train.alpha": (1.0, "multisimilarity"),
    "train.beta": (30.0, "multisimilarity"),
    "train.base": (0.4, "multisimilarity"),
    "train.epsilon": (0.2, "multisimilarity"),
    "train.gamma": (0.2, "soft_triple"),
    "train.tau": (0.1, "soft_triple"),
}
"""Keys that the default loss refuses: a value, and a loss that takes it."""


def request(values: dict[str, Any]) -> Request:
    """As if the data had been looked at."""
    content = {"ingest": Content({"data": "sha256:0"})}
    return Request(Path("/nowhere"), None, values, STAGE_NAMES, files=FILE_KEYS, content=content)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run of the default configuration; each artifact holds its own name."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "made-up")
    run.path.mkdir()
    for stage in PIPELINE:
        planned = assess(run, stage, request(flatten(Config())))
        folder = new_staging(run, stage.name)
        for name in (*stage.outputs, *stage.logs):
            (folder / name).write_text(f"{stage.name}/{name}")
        seal(folder, stage, {"stage": stage.name, "key": planned.key, "key_doc": planned.key_document})
        commit(run, stage.name, folder)
    return run


def changed(key: str, value: Any) -> dict[str, Any]:
    """The flat configuration with one key that differs, through the models, as a user changes it."""
    default = flatten(Config())
    values = flatten(override(Config(), [f"{key}={'null' if value is None else value}"]))
    assert [name for name in default if values[name] != default[name]] == [key]
    return values


def test_the_table_has_every_key_and_no_other():
    assert sorted([*STALE, *OF_OTHER_LOSSES, "train.method", "train.gem_learn"]) == sorted(flatten(Config()))


def test_nothing_is_stale_without_a_change(run):
    assert [assessment.state for assessment in plan(run, PIPELINE, request(flatten(Config())))] == [
        "fresh"
    ] * 7


@pytest.mark.parametrize("key", STALE)
def test_a_key_makes_exactly_its_stages_stale(run, key):
    value, expected = STALE[key]
    asked = request(changed(key, value))
    found = [assess(run, stage, asked) for stage in PIPELINE]
    assert [each.stage.name for each in found if each.state == "stale"] == expected.split()
    assert {each.state for each in found} == {"fresh", "stale"}
    for each in found:
        assert [(reason.code, reason.key) for reason in each.reasons] == [("config", key)] * each.runs


def test_a_method_belongs_to_training_without_labels_and_makes_it_stale(run):
    with pytest.raises(ConfigError, match="simclr trains without labels"):
        override(Config(), WITHOUT_LABELS[1:])
    found = [assess(run, stage, request(flatten(override(Config(), WITHOUT_LABELS)))) for stage in PIPELINE]
    assert [each.stage.name for each in found if each.state == "stale"] == ["sampler", "train"]
    assert {"train.method"} <= {reason.key for each in found for reason in each.reasons}


def test_a_learned_exponent_belongs_to_gem_that_is_trained_and_makes_train_stale(run):
    for part in (LEARNED_GEM[1:], [LEARNED_GEM[0], LEARNED_GEM[2]]):
        with pytest.raises(ConfigError, match=r"an exponent is learned with train\.pooling: gem"):
            override(Config(), part)
    found = [assess(run, stage, request(flatten(override(Config(), LEARNED_GEM)))) for stage in PIPELINE]
    assert [each.stage.name for each in found if each.state == "stale"] == ["sampler", "train"]
    assert {"train.gem_learn"} <= {reason.key for each in found for reason in each.reasons}


def test_a_loss_gets_a_margin_or_a_soft_one():
    with pytest.raises(ConfigError, match="a soft margin takes the place of a margin"):
        override(Config(), ["train.loss=triplet", "train.margin=0.2", "train.soft_margin=true"])


@pytest.mark.parametrize("key", OF_OTHER_LOSSES)
def test_a_parameter_of_another_loss_is_refused_and_one_of_the_loss_makes_train_stale(run, key):
    value, loss = OF_OTHER_LOSSES[key]
    with pytest.raises(ConfigError, match=f"supcon has no {key.partition('.')[2]}"):
        override(Config(), [f"{key}={value}"])
    asked = request(flatten(override(Config(), [f"train.loss={loss}", f"{key}={value}"])))
    found = [assess(run, stage, asked) for stage in PIPELINE]
    assert [each.stage.name for each in found if each.state == "stale"] == ["train"]
    assert {reason.key for each in found for reason in each.reasons} == {"train.loss", key}


def test_every_declaration_covers_a_key_and_every_artifact_is_written_before():
    written: set[str] = set()
    for stage in PIPELINE:
        for declared in stage.config:
            assert any(covers((declared,), key) for key in flatten(Config())), (stage.name, declared)
        assert written.issuperset({*stage.reads, *stage.uses}), stage.name
        written |= {f"{stage.name}/{name}" for name in (*stage.outputs, *stage.logs)}


def test_logs_and_the_rebuildable_index_are_in_no_key():
    """They differ from run to run, so a stage that read them would not be cut off."""
    logs = {f"{stage.name}/{name}" for stage in PIPELINE for name in stage.logs}
    assert logs == {
        "ingest/ignored.csv",
        "sampler/sampler_report.json",
        "train/history.csv",
        "train/views.webp",
        "index/index_quality.json",
    }
    for stage in PIPELINE:
        assert not {*logs, "index/index.bin", "report/report.html"} & set(stage.reads), stage.name


def test_a_weights_file_counts_by_its_content_not_by_its_place(run, tmp_path):
    train = next(stage for stage in PIPELINE if stage.name == "train")

    def key(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        asked = request({**flatten(Config()), "train.weights": str(tmp_path / name)})
        return assess(run, train, look(run, [train], asked)).key

    assert key("here.h5", "a") == key("there.h5", "a") != key("here.h5", "b")


def test_the_keys_that_name_files_are_told_twice_and_equally() -> None:
    assert FILE_KEYS == config.FILE_KEYS
