"""A user's own backbone from a `.keras` file or a SavedModel: with trust, where it fits, known by content."""

import shutil

import numpy as np
import pytest

from simpipe.errors import UsageError
from simpipe.files import sha256_file
from simpipe.learning import load_framework
from simpipe.learning.backbones import build, is_path
from simpipe.learning.backbones.cut import freeze_batch_norms, split
from simpipe.learning.pooling import pool


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def network(size=48, channels=3, count=None, top=None):
    """A small network with its preprocessing inside."""
    import keras

    height, width = size if isinstance(size, tuple) else (size, size)
    images = keras.Input(batch_shape=(count, height, width, channels))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(8, 3, 2, activation="relu", kernel_initializer=keras.initializers.HeNormal(1))(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(images, top(x) if top else x)


def saved(model, folder, kind):
    if kind == "keras":
        path = folder / "mine.keras"
        model.save(path)
    else:
        path = folder / "mine"
        model.export(path, verbose=False)
    return path


def pictures(size):
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.float32)


kinds = pytest.mark.parametrize("kind", ["keras", "saved_model"])


@kinds
@pytest.mark.parametrize(("size", "asked"), [(48, None), (None, 40)])
def test_it_gives_what_the_users_model_gives(tmp_path, kind, size, asked):
    model = network(size)
    path = saved(model, tmp_path, kind)
    backbone = build(str(path), input_size=asked, trust=True)
    assert (backbone.name, backbone.input_size) == (str(path), asked or size)
    assert (backbone.pretrained, backbone.groups) == (True, ())
    assert backbone.trainable == (kind == "keras")
    images = pictures(backbone.input_size)
    np.testing.assert_allclose(np.asarray(backbone.model(images)), np.asarray(model(images)), atol=1e-6)


@kinds
def test_a_classifier_gives_vectors_that_are_not_pooled(tmp_path, kind):
    import keras

    def top(x):
        return keras.layers.Dense(5, "softmax")(keras.layers.GlobalAveragePooling2D()(x))

    model = network(top=top)
    backbone = build(str(saved(model, tmp_path, kind)), trust=True)
    found = np.asarray(pool(backbone.model(pictures(48)), "gem"))
    np.testing.assert_allclose(found, np.asarray(model(pictures(48))), atol=1e-6)


def test_only_what_it_declares_is_trainable_and_a_saved_model_is_not(tmp_path):
    model = network()
    keras_file, folder = (
        build(str(saved(model, tmp_path, kind)), trust=True).model for kind in ("keras", "saved_model")
    )
    assert len(keras_file.trainable_variables) == len(model.trainable_variables) == 4
    assert folder.trainable_variables == []


def test_nested_batch_norms_are_frozen_too(tmp_path):
    model = build(str(saved(network(), tmp_path, "keras")), trust=True).model
    freeze_batch_norms(model)
    before = [np.asarray(each) for each in model.non_trainable_variables]
    assert len(before) == 4  # scale, offset, moving mean and variance
    model(pictures(48), training=True)
    for old, new in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))


@kinds
def test_nothing_of_it_runs_without_trust(tmp_path, kind):
    path = saved(network(), tmp_path, kind)
    content = path if kind == "keras" else path / "saved_model.pb"
    content.write_bytes(b"whatever this does, nobody looks")
    with pytest.raises(UsageError, match="can run any code") as error:
        build(str(path))
    assert error.value.hint is not None and "train.trust: true" in error.value.hint


def test_with_trust_a_file_may_hold_code(tmp_path):
    import keras

    model = network(top=lambda x: keras.layers.Lambda(lambda each: each * 2)(x))
    backbone = build(str(saved(model, tmp_path, "keras")), trust=True)
    np.testing.assert_allclose(np.asarray(backbone.model(pictures(48))), np.asarray(model(pictures(48))))


def test_a_path_is_told_from_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "resnet50").mkdir()
    assert all(map(is_path, ("a/b", "./mine", "/mine", "mine.keras", "folder")))
    assert not any(map(is_path, ("resnet50", "efficientnet_lite0", "mine")))


def test_a_missing_or_another_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        build(str(tmp_path / "none.keras"), trust=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.h5").write_bytes(b"")
    for name in ("empty", "mine.h5"):
        with pytest.raises(UsageError, match=r"neither a \.keras file nor a SavedModel"):
            build(str(tmp_path / name), trust=True)
    (tmp_path / "bad.keras").write_bytes(b"no zip")
    (tmp_path / "empty" / "saved_model.pb").write_bytes(b"no graph")
    for name in ("bad.keras", "empty"):
        with pytest.raises(UsageError, match="cannot be loaded"):
            build(str(tmp_path / name), trust=True)


def test_weights_of_another_place_are_refused(tmp_path):
    path = saved(network(), tmp_path, "keras")
    with pytest.raises(UsageError, match="brings its own weights"):
        build(str(path), weights="none", trust=True)


@kinds
def test_sizes_that_do_not_fit_are_refused(tmp_path, kind):
    path = saved(network(48), tmp_path, kind)
    with pytest.raises(UsageError, match="images of 48 pixels only, not 64"):
        build(str(path), input_size=64, trust=True)
    (tmp_path / "open").mkdir()
    path = saved(network(None), tmp_path / "open", kind)
    with pytest.raises(UsageError, match="any size") as error:
        build(str(path), trust=True)
    assert "train.input_size" in str(error.value.hint)


@kinds
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channels": 1}, r"RGB images \(n, height, width, 3\), not \(any, 48, 48, 1\)"),
        ({"size": (32, 48)}, "square, not 32 × 48"),
    ],
)
def test_inputs_that_are_no_images_are_refused(tmp_path, kind, options, reason):
    path = saved(network(**options), tmp_path, kind)
    with pytest.raises(UsageError, match=reason):
        build(str(path), trust=True)


def test_a_fixed_number_of_images_is_refused(tmp_path):
    path = saved(network(count=4), tmp_path, "keras")
    with pytest.raises(UsageError, match="number of images open, not fix it to 4"):
        build(str(path), trust=True)


@kinds
def test_shapes_and_numbers_of_tensors_that_do_not_fit_are_refused(tmp_path, kind):
    import keras

    def refused(model, reason):
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        (tmp_path / "case").mkdir()
        with pytest.raises(UsageError, match=reason):
            build(str(saved(model, tmp_path / "case", kind)), trust=True)

    vectors = keras.Input((7,))
    refused(keras.Model(vectors, keras.layers.Dense(2)(vectors)), r"RGB images .*, not \(any, 7\)")
    refused(network(top=lambda x: keras.layers.Reshape((-1, 8))(x)), r"vectors .*, not \(any, 529, 8\)")
    refused(network(top=lambda x: [x, x + 1]), "one output, not 2")
    one, two = keras.Input((48, 48, 3)), keras.Input((48, 48, 3))
    refused(keras.Model([one, two], one + two), "one input, not 2")


def test_a_network_that_does_not_run_at_the_size_is_refused(tmp_path):
    import keras

    def top(x):
        return keras.layers.Conv2D(4, 45)(x)

    path = saved(network(None, top=top), tmp_path, "keras")
    with pytest.raises(UsageError, match="does not run on images of 40 pixels"):
        build(str(path), input_size=40, trust=True)


def test_a_saved_model_of_plain_tensorflow_with_whole_numbers_in(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(tf.random.stateless_normal((3, 3, 3, 4), (1, 2)))
    specification = tf.TensorSpec((None, 32, 32, 3), tf.uint8, name="images")
    call = tf.function(
        lambda images: {"maps": tf.nn.conv2d(tf.cast(images, tf.float32), module.kernel, 2, "SAME")},
        input_signature=[specification],
    )
    tf.saved_model.save(module, tmp_path / "mine", signatures=call)
    images = pictures(32)
    found = build(str(tmp_path / "mine"), trust=True).model(images)
    np.testing.assert_allclose(np.asarray(found), np.asarray(call(images.astype(np.uint8))["maps"]))


def test_a_half_precision_network_gives_float32(tmp_path):
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        path = saved(network(), tmp_path, "keras")
    finally:
        keras.config.set_dtype_policy("float32")
    assert build(str(path), trust=True).model.output.dtype == "float32"


def test_the_id_is_that_of_the_content_wherever_it_lies(tmp_path):
    path = saved(network(), tmp_path, "keras")
    assert build(str(path), trust=True).weights_id == f"sha256:{sha256_file(path)}"
    folder = saved(network(), tmp_path, "saved_model")
    first = build(str(folder), trust=True).weights_id
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert build(str(moved), trust=True).weights_id == first
    (moved / "assets").mkdir(exist_ok=True)
    (moved / "assets" / "words.txt").write_text("a")
    more = build(str(moved), trust=True).weights_id
    (moved / "assets" / "words.txt").rename(moved / "assets" / "other.txt")
    assert len({first, more, build(str(moved), trust=True).weights_id}) == 3


def test_it_has_no_groups_to_train_alone(tmp_path):
    backbone = build(str(saved(network(), tmp_path, "keras")), trust=True)
    with pytest.raises(UsageError, match="not known"):
        split(backbone, 1)
