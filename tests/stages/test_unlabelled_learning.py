"""Training without labels, from random weights: each method finds the classes that nobody named."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from warm import shared

from simpipe.data.manifest import read_samples
from simpipe.errors import StageError
from simpipe.learning import augmentation, load_framework, unlabelled
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.weights import randomise
from simpipe.learning.head import Embed, HeadShape
from simpipe.learning.inputs import Stored
from simpipe.learning.network import Tuning, build_network
from simpipe.learning.samplers import BatchPlan
from simpipe.learning.scoring import Examples
from simpipe.learning.trainer import Schedule, train_network

pytestmark = pytest.mark.slow

SIZE, VIEWS = 32, 15
HUES = np.array([(1, 0.25, 0.25), (0.25, 1, 0.25), (0.3, 0.3, 1), (1, 1, 0.2), (1, 0.25, 1), (0.2, 1, 1)])
HOW = augmentation.of("light", min_area=0.3, brightness=0.5, contrast=0.5)


def render(count, seed, size=SIZE):
    """uint8 (count, size, size, 3): a disc of one of six hues, light or dark, anywhere on grey patches."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] * SIZE / size
    labels, images = np.arange(count) % 6, []
    for label in labels:
        patches = generator.uniform(0, 255, (4, 4, 1))
        canvas = np.kron(patches, np.ones((size // 4, size // 4, 3)))
        centre, radius = generator.uniform(8, 24, 2), generator.uniform(5, 9)
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        canvas[disc] = HUES[label] * generator.uniform(90, 255)
        images.append(np.clip(canvas + generator.normal(0, 8, canvas.shape), 0, 255))
    return np.array(images).astype(np.uint8), labels


FIT, FIT_LABELS = render(96, 0)
VAL, VAL_LABELS = render(60, 1)


def backbone(seed):
    """Three convolutions with random weights."""
    import keras

    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    for filters, kernel in ((16, 5), (32, 3), (64, 3)):
        x = keras.layers.Conv2D(filters, kernel, 2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(images, x)
    return Backbone("small", model, SIZE, randomise(model, seed), False)


@pytest.fixture(scope="module")
def shown():
    """All training images and augmented views of each, in the order of `Stored`; no label among them."""
    load_framework()
    repeated = np.repeat(FIT, VIEWS + 1, axis=0)
    numbers = [divmod(place, VIEWS + 1) for place in range(len(repeated))]
    found = augmentation.augment(
        repeated, HOW, [augmentation.view_seed(str(row), number, 0) for row, number in numbers]
    )
    found[:: VIEWS + 1] = FIT
    return found


def accuracy(embed):
    """Share of the val images whose nearest training image is of their class."""
    nearest = (embed(VAL) @ embed(FIT).T).argmax(axis=1)
    return float((FIT_LABELS[nearest] == VAL_LABELS).mean())


def learn(shown, method, seeds=(0,), lr=3e-3, epochs=25, parameters=None):
    """Accuracies before and after, float (len(seeds), 2)."""
    found = []
    for seed in seeds:
        network = build_network(backbone(seed), Tuning("full"), HeadShape(32, 0, 0.0), seed)
        embed = Embed(network.model, 96)
        before = accuracy(embed)
        fit = Examples.of(Stored(shown, np.full(len(FIT), VIEWS)), np.full(len(FIT), -1))
        fit = replace(fit, scored=np.arange(32))  # what a collapse is seen in
        val = Examples.of(Stored.plain_only(VAL[:1]), np.full(1, -1))
        plan = BatchPlan(8, 8, "sqrt", 1.0, 1, 10, seed, mode="single_shot")
        rates = {"lr": lr, "backbone_lr": lr, "epochs": epochs, "patience": epochs}
        schedule = Schedule(method=method, parameters=parameters or {}, seed=seed, **rates)
        trained = train_network(network, fit, val, plan, schedule)
        assert (trained.map_at_r, trained.best_epoch) == (None, epochs)
        found.append((before, accuracy(embed)))
    return np.array(found)


@pytest.mark.parametrize("method", unlabelled.METHODS)
def test_each_method_finds_what_the_images_show(shown, method, narrow, one_graph):
    found = learn(shown, method, seeds=range(3), epochs=16)
    before, after = found.T
    assert (before < 0.65).all(), "six classes: chance is 0.17, random weights see some colour"
    assert (after - before > 0.2).all(), found
    assert (after - before).mean() > 0.3 and after.mean() > 0.8, found


# Collapse


def test_byol_without_what_keeps_it_from_collapse_is_stopped(shown, monkeypatch):
    """No predictor, no target network, no stop-gradient: that all images are alike is the best answer."""
    from keras import ops

    def alike(first, second):
        lengths = [ops.norm(view.projection, axis=1) for view in (first, second)]
        return -ops.mean(ops.sum(first.projection * second.projection, axis=1) / (lengths[0] * lengths[1]))

    monkeypatch.setattr(unlabelled, "get", lambda name: alike)
    with pytest.raises(StageError, match=r"collapsed in epoch .*point in one direction"):
        learn(shown, "byol", epochs=20)


def test_vicreg_without_variance_and_covariance_is_stopped(shown, narrow):
    with pytest.raises(StageError, match=r"collapsed in epoch .*shrank to one point") as error:
        learn(shown, "vicreg", lr=0.3, epochs=20, parameters={"variance": 0.0, "covariance": 0.0})
    assert "train.lr" in error.value.hint


def test_the_dip_of_the_first_steps_is_no_collapse(shown, narrow):
    """At this rate VICReg draws all projections together in its first epoch, and then spreads them."""
    ((before, after),) = learn(shown, "vicreg", lr=1e-2, epochs=12)
    assert after > before + 0.2


# Through the command


def run(place, **settings):
    """The folder of a run up to train, on images of one large class and of small ones."""
    images, classes = render(60, 5, 64)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        folder = place / "data" / f"class{label if number > 20 else 0}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    command = ["run", "data", "--config", "unlabelled", "--to", "train", "--json"]
    settings |= {"train.weights": "none", "train.input_size": 32}
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    result = shared(heavy=True).run(*command, cwd=place)
    assert result.code == 0, result.stderr
    return place / "runs/unlabelled"


def documents(run):
    """What train says of the encoder, and of its epochs; the samples; and how many vectors are cached."""
    record = json.loads((run / "train/encoder.json").read_text())
    assert record["mode"] == "unlabelled" and record["shipped"] == "trained"
    with (run / "train/history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = sum(len(np.load(path)) for path in (run.parent / ".cache/features").glob("*/*.npy"))
    return record, rows, read_samples(run / "ingest/samples.parquet"), kept


def test_the_command_trains_without_looking_at_labels(tmp_path):
    settings = {
        "ingest.labels": "required",
        "train.method": "barlow",
        "train.trainable": "partial",
        "train.unfreeze": 1,
        "train.views": 3,
        "train.epochs": 2,
        "sampler.classes_per_batch": 4,
    }
    record, rows, samples, kept = documents(run(tmp_path, **settings))
    assert record["val_map@r"] == {"trained": None, "pretrained": None}
    assert len(rows) == 2 and all(row["val_map@r"] == "" for row in rows)
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("loss", "positive_mean", "gap"))
    assert float(rows[0]["positive_mean"]) < float(rows[0]["negative_mean"]), "views of one image are nearer"
    # of each image: features before and after training, and activations; of each training image its views
    assert kept == 3 * len(samples) + 3 * len(samples.rows("train")), "no image of a small class has more"


def test_the_command_needs_no_labels(tmp_path):
    _, rows, samples, kept = documents(run(tmp_path))
    assert rows == [] and set(samples.label_id) == {-1} and kept == len(samples)
