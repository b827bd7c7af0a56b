"""An encoder on disk gives what the trained network gave, from pixels and from cached features alike."""

import json

import numpy as np
import pytest
import tiny

from simpipe.errors import DamagedError
from simpipe.learning import backbones, load_framework
from simpipe.learning.backbones.cut import split
from simpipe.learning.encoder import (
    RECORD,
    WEIGHTS,
    Encoder,
    activation_recipe,
    backbone_record,
    cached_recipes,
    feature_recipe,
    save_encoder,
    tuned_recipe,
)
from simpipe.learning.features import FeatureCache, extractor, fill_cache, in_batches
from simpipe.learning.head import HeadShape, standardise_on
from simpipe.learning.inputs import CachedRows
from simpipe.learning.network import Tuning, body_extractor, build_network, trunk_and_feature_extractor
from simpipe.learning.pooling import pool

IMAGES, _ = tiny.pictures(21)
IDS = [f"id{row}" for row in range(21)]
SHAPE = HeadShape(6, 9, 0.4)
TUNINGS = {
    "frozen": Tuning("frozen"),
    "frozen gem": Tuning("frozen", pooling="gem", gem_p=2.5),
    "partial": Tuning("partial", 2),
    "partial gem": Tuning("partial", 1, "gem", 4.0, gem_learn=True),
    "full": Tuning("full", pooling="max"),
    "full gem": Tuning("full", pooling="gem", gem_learn=True),
}


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "tiny", "tiny:build")


def changed(network, seed=0):
    """The same network after some training, as far as its weights tell."""
    generator = np.random.default_rng(seed)
    features = generator.normal(1, 2, (30, network.head.input_shape[1])).astype(np.float32)
    standardise_on(network.head, features)
    for variable in network.model.trainable_variables:
        variable.assign_add(generator.normal(0, 0.1, variable.shape).astype(np.float32))
    return network


def saved(folder, tuning, weights="imagenet", name="tiny", shipped="trained", **more):
    """A trained network, and its encoder in `folder`."""
    backbone = backbones.build(name, weights=weights, input_size=tiny.SIZE, seed=3)
    dim = backbone.model.output_shape[-1]
    network = changed(build_network(backbone, tuning, SHAPE, 0))
    record = {
        "backbone": backbone_record(backbone, weights, tuning, {"resize": "squash"}, 3) | more,
        "feature_dim": dim,
        "shipped": shipped,
        "embedding_size": dim if shipped == "pretrained" else SHAPE.embedding_size,
    }
    written = save_encoder(folder, record, network, tuning, SHAPE)
    assert written == json.loads((folder / RECORD).read_text()) == Encoder.open(folder).record
    return network


def embeddings(encoder):
    (features,) = in_batches(encoder.extractor(), IMAGES)
    assert features.shape == (len(IMAGES), encoder.feature_dim)
    out = np.empty((len(IMAGES), encoder.dim), np.float32)
    encoder.embed(features, out)
    return out


@pytest.mark.parametrize(
    ("tuning", "weights"),
    [*((each, "imagenet") for each in TUNINGS), ("frozen", "none"), ("partial", "none"), ("full", "none")],
)
def test_an_encoder_gives_what_its_network_gave(tmp_path, tuning, weights):
    network = saved(tmp_path, TUNINGS[tuning], weights)
    if TUNINGS[tuning].trainable == "frozen":
        before = backbones.build("tiny", weights=weights, seed=3).model(IMAGES.astype("f4"))
        inputs = pool(before, TUNINGS[tuning].pooling, TUNINGS[tuning].gem_p)
    elif network.trunk is None:
        inputs = IMAGES.astype("f4")
    else:
        inputs = np.asarray(network.trunk(IMAGES.astype("f4"))).astype(np.float16).astype("f4")
    found = embeddings(Encoder.open(str(tmp_path)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    # TensorFlow and TensorFlow Lite may round an activation to different neighbours in float16
    loose = 1e-3 if network.trunk is not None else 1e-5
    np.testing.assert_allclose(found, np.asarray(network.model(inputs)), atol=loose)
    assert np.abs(found - np.asarray(network.model(inputs))).mean() < 1e-5
    assert found.std(axis=0).max() > 0.02, "embeddings differ"


def from_activations(folder, network, backbone, tuning):
    """The features above the trained layers as the stage train makes them, and from pixels."""
    trunk, _ = split(backbone, tuning.unfreeze)
    caches = FeatureCache(folder, {"activations": 1}, "<f2"), FeatureCache(folder, {"features": 1})
    fill_cache(
        caches,
        lambda: trunk_and_feature_extractor(trunk, backbone, tuning),
        IDS,
        lambda rows: (IMAGES[row] for row in rows),
    )
    kept = CachedRows(caches[0], IDS, network.model.input_shape[1:])[np.arange(len(IDS))]
    encoder = Encoder.open(folder)
    return in_batches(body_extractor(network), kept), in_batches(encoder.extractor(), IMAGES), caches[1]


@pytest.mark.parametrize("tuning", ["partial", "partial gem"])
def test_features_from_cached_activations_and_from_pixels_have_the_same_bits(tmp_path, tuning):
    network = saved(tmp_path, TUNINGS[tuning])
    backbone = tiny.build()
    (cached,), (direct,), plain = from_activations(tmp_path, network, backbone, TUNINGS[tuning])
    np.testing.assert_array_equal(cached, direct)
    out = np.empty((len(IDS), 16), np.float32)
    plain.read(IDS, out)
    pretrained = Encoder.open(tmp_path).pretrained_extractor()
    np.testing.assert_array_equal(out, in_batches(pretrained, IMAGES)[0])
    assert np.abs(out - direct).max() > 0.01, "training changed the features"


@pytest.mark.slow
def test_a_real_backbone_too(tmp_path):
    tuning = Tuning("partial", 3, "gem", gem_learn=True)
    network = saved(tmp_path, tuning, "none", "efficientnet_lite0")
    backbone = backbones.build("efficientnet_lite0", weights="none", input_size=tiny.SIZE, seed=3)
    (cached,), (direct,), _ = from_activations(tmp_path, network, backbone, tuning)
    np.testing.assert_array_equal(cached, direct)
    inputs = np.asarray(network.trunk(IMAGES.astype("f4"))).astype(np.float16).astype("f4")
    found = np.empty((len(IMAGES), SHAPE.embedding_size), np.float32)
    Encoder.open(tmp_path).embed(direct, found)
    np.testing.assert_allclose(found, network.model(inputs), atol=1e-3)


def test_what_is_shipped_as_it_came_gives_normalised_features(tmp_path):
    tuning = TUNINGS["partial gem"]
    saved(tmp_path, tuning, shipped="pretrained")
    encoder = Encoder.open(tmp_path)
    assert encoder.dim == encoder.feature_dim == 16
    assert tuned_recipe(encoder.record) == feature_recipe(encoder.record["backbone"])
    features = np.asarray(pool(tiny.build().model(IMAGES.astype("f4")), "gem", 4.0))
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings(encoder), expected, atol=1e-5)
    (direct,) = in_batches(extractor(tiny.build(), "gem", 4.0), IMAGES)
    np.testing.assert_array_equal(in_batches(encoder.extractor(), IMAGES)[0], direct)


def test_equal_networks_are_equal_files(tmp_path):
    import keras

    for tuning in (TUNINGS["frozen"], TUNINGS["partial gem"], TUNINGS["full"]):
        files = []
        for number in range(2):
            keras.backend.clear_session()  # Keras counts the layers of a process, and keeps their names
            folder = tmp_path / f"{tuning.trainable}{number}"
            folder.mkdir()
            saved(folder, tuning)
            files.append([(folder / name).read_bytes() for name in (RECORD, WEIGHTS)])
        assert files[0] == files[1]


@pytest.mark.parametrize("tuning", ["frozen", "partial"])
def test_weights_of_another_backbone_are_refused(tmp_path, tuning):
    saved(tmp_path, TUNINGS[tuning], weights_id="known:others")
    encoder = Encoder.open(tmp_path)
    for make in (encoder.extractor, encoder.pretrained_extractor):
        with pytest.raises(DamagedError, match="not those of"):
            make()


def test_a_whole_network_needs_no_other_weights_but_its_own(tmp_path, monkeypatch):
    """Nothing of what `train.weights` named is read again, but for what it was before training."""
    network = saved(tmp_path, TUNINGS["full"], weights_id="known:others")
    inputs = IMAGES.astype("f4")
    asked = []
    build = backbones.build

    def spy(name, **settings):
        asked.append(settings["weights"])
        return build(name, **settings)

    monkeypatch.setattr(backbones, "build", spy)
    found = embeddings(Encoder.open(tmp_path))
    np.testing.assert_allclose(found, network.model(inputs), atol=1e-5)
    assert asked == ["none"]
    with pytest.raises(DamagedError, match="not those of"):
        Encoder.open(tmp_path).pretrained_extractor()


@pytest.mark.parametrize("trainable", ["frozen", "full"])
def test_a_backbone_of_ones_own(tmp_path, trainable):
    tiny.build().model.save(tmp_path / "mine.keras")
    name, tuning = str(tmp_path / "mine.keras"), Tuning(trainable)
    backbone = backbones.build(name, trust=True)
    network = changed(build_network(backbone, tuning, SHAPE, 0))
    folder = tmp_path / "encoder"
    folder.mkdir()
    record = {
        "backbone": backbone_record(backbone, "imagenet", tuning, {}, 0, trust=True),
        "feature_dim": 16,
        "shipped": "trained",
        "embedding_size": 6,
    }
    save_encoder(folder, record, network, tuning, SHAPE)
    inputs = IMAGES.astype("f4")
    if trainable == "frozen":
        inputs = pool(tiny.build().model(inputs), "avg")
    np.testing.assert_allclose(embeddings(Encoder.open(folder)), network.model(inputs), atol=1e-5)
    other = tiny.build(weights="none").model
    other.save(tmp_path / "mine.keras")
    with pytest.raises(DamagedError, match="not those of"):
        Encoder.open(folder).extractor()


# What is cached under which name


def record_of(tuning, **more):
    backbone = backbone_record(tiny.build(), "imagenet", tuning, {"resize": "squash"}, 3)
    return {
        "backbone": backbone,
        "tuning": vars(tuning),
        "shipped": "trained",
        "weights_sha256": "w",
        **more,
    }


def test_a_recipe_names_what_features_depend_on_and_nothing_else():
    base = record_of(Tuning("partial", 2))["backbone"]
    same = [{"seed": 9}, {"trust": True}, {"weights": "elsewhere"}, {"pretrained": False}, {"gem_p": 9.0}]
    for change in same:
        assert feature_recipe({**base, **change}) == feature_recipe(base)
        assert activation_recipe({**base, **change}, 2) == activation_recipe(base, 2)
    others = [{"name": "x"}, {"weights_id": "x"}, {"input_size": 9}, {"preparation": {"resize": "crop"}}]
    for change in others:
        assert feature_recipe({**base, **change}) != feature_recipe(base)
        assert activation_recipe({**base, **change}, 2) != activation_recipe(base, 2)
    assert feature_recipe({**base, "pooling": "max"}) != feature_recipe(base)
    assert activation_recipe({**base, "pooling": "max"}, 2) == activation_recipe(base, 2)
    assert activation_recipe(base, 1) != activation_recipe(base, 2) != feature_recipe(base)
    gem = {**base, "pooling": "gem"}
    assert feature_recipe({**gem, "gem_p": 9.0}) != feature_recipe(gem)


def test_tuned_features_are_those_of_the_very_weights():
    frozen, partial = record_of(Tuning("frozen")), record_of(Tuning("partial", 2))
    assert tuned_recipe(frozen) == feature_recipe(frozen["backbone"])
    assert tuned_recipe({**frozen, "weights_sha256": "x"}) == tuned_recipe(frozen)
    assert tuned_recipe(partial) != tuned_recipe({**partial, "weights_sha256": "x"})
    assert tuned_recipe({**partial, "shipped": "pretrained"}) == feature_recipe(partial["backbone"])


def test_all_that_may_be_cached_for_an_encoder_is_listed():
    for tuning in (Tuning("frozen"), Tuning("partial", 2), Tuning("full")):
        record = record_of(tuning)
        recipes = cached_recipes(record)
        assert feature_recipe(record["backbone"]) in recipes and tuned_recipe(record) in recipes
        assert (activation_recipe(record["backbone"], 2) in recipes) == (tuning.trainable == "partial")
