"""What training reads of a run's images: the right views, each computed once, fewer where room is short."""

import hashlib
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from folders import Recorder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simpipe.data.manifest import ManifestRow, Samples, manifest_of, write_manifest
from simpipe.errors import DataError
from simpipe.learning import augmentation, load_framework
from simpipe.learning.augmentation import augment, view_seed
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.cut import split
from simpipe.learning.backbones.weights import randomise
from simpipe.learning.encoder import backbone_record, feature_recipe
from simpipe.learning.features import extractor, in_batches
from simpipe.learning.inputs import Pictures, Stored
from simpipe.learning.network import Tuning, trunk_extractor
from simpipe.learning.samplers import Batch
from simpipe.stages import features as stage_features
from simpipe.stages import views
from simpipe.stages.features import MANIFEST, feature_cache
from simpipe.stages.train import _has_views
from simpipe.stages.views import MOST, Images, prepare, views_of

SIDE, COUNT = 32, 16
LABELS = np.array([0] * 8 + [1] * 5 + [2] * 3)
SPLITS = np.array(
    ["train"] * 5 + ["val"] * 2 + ["test"] + ["train"] * 3 + ["val"] * 2 + ["train", "val", "test"]
)
LIGHT = augmentation.of("light")


@pytest.fixture(scope="module")
def backbone():
    """A small one of three block groups, with random weights."""
    load_framework()
    import keras

    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    for group, filters, stride in (("low", 6, 4), ("middle", 8, 2), ("high", 10, 1)):
        x = keras.layers.Conv2D(filters, 2 * stride - 1, stride, padding="same")(x)
        x = keras.layers.ReLU(6.0, name=group)(x)
    model = keras.Model(images, x)
    return Backbone("small", model, SIDE, randomise(model, 0), False, ("low", "middle", "high"))


@pytest.fixture
def room(tmp_path, backbone, monkeypatch):
    """A context with ingested images, and what `prepare` takes; `room.decoded` grows with each decoding."""
    source = tmp_path / "data"
    source.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    names = [f"{number:02d}.png" for number in range(COUNT)]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(source / name)
    hashes = [hashlib.sha256((source / name).read_bytes()).hexdigest() for name in names]
    ids = np.array([each[:16] for each in hashes])
    columns = {name: [None] * COUNT for name in ManifestRow.__annotations__}
    columns |= {"path": names, "path_bytes": [name.encode() for name in names], "status": ["ok"] * COUNT}
    columns |= {"sample_id": ids.tolist(), "sha256": hashes, "size": [0] * COUNT, "warnings": [[]] * COUNT}
    write_manifest(tmp_path / "manifest.parquet", manifest_of(columns.items()))
    samples = Samples(ids, np.array(hashes), LABELS.astype(str), LABELS.astype(np.int32), SPLITS, ids)
    (tmp_path / "out").mkdir()
    progress = Recorder()
    ctx = SimpleNamespace(
        cache=tmp_path / "cache",
        source=source,
        out=tmp_path / "out",
        path=lambda artifact: tmp_path / "manifest.parquet" if artifact == MANIFEST else None,
        progress=progress,
        require_space=lambda needed: None,
    )
    preparation = {"resize": "squash", "copy_side": 64, "background": "#ffffff", "grey_range": None}
    fit = samples.rows("train")

    def images(trainable, counts=0, cache_bytes=1e9, how=LIGHT, **more):
        tuning = Tuning(trainable, **more)
        record = backbone_record(backbone, "none", tuning, preparation, 0)
        each = np.broadcast_to(np.asarray(counts, np.int64), fit.shape)
        return Images(samples, backbone, record, tuning, fit, samples.rows("val"), how, each, cache_bytes, 0)

    decoded = []
    load = stage_features.load_pixels

    def spy(paths, *rest):
        for path, image in zip(paths, load(paths, *rest), strict=True):
            decoded.append(int(path.stem))
            yield image

    monkeypatch.setattr(stage_features, "load_pixels", spy)
    return SimpleNamespace(
        ctx=ctx,
        images=images,
        pictures=pictures,
        samples=samples,
        fit=fit,
        decoded=decoded,
        notes=progress.notes,
    )


def view(room, row, number, how=LIGHT):
    """The view of a sample by itself, uint8 (1, s, s, 3)."""
    picture = room.pictures[row : row + 1]
    return augment(picture, how, [view_seed(room.samples.sha256[row], number, 0)]) if number else picture


# How many views


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), wanted=st.integers(0, 64))
def test_images_of_small_classes_get_more_views(counts, wanted):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 7 - 1, counts))
    found = views_of(labels, wanted)
    median = float(np.median(counts))
    for label, count in zip(np.arange(len(counts)) * 7 - 1, counts, strict=True):
        (number,) = set(found[labels == label].tolist())
        assert wanted <= number <= MOST * wanted
        share = math.sqrt(max(1.0, median / count))
        assert number == min(math.ceil(wanted * share), MOST * wanted)
    sizes = [found[labels == label][0] for label in np.unique(labels)]
    order = np.argsort(counts)
    assert (np.diff(np.array(sizes)[order]) <= 0).all(), "the smaller the class, the more views"


def test_in_balanced_classes_all_images_get_what_was_asked_for():
    assert views_of(np.repeat([3, 5, 9], 6), 4).tolist() == [4] * 18
    assert views_of(np.full(7, -1), 8).tolist() == [8] * 7
    assert views_of(np.repeat([0, 1, 2], [64, 16, 1]), 4).tolist() == [4] * 64 + [4] * 16 + [16]


@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=9), most=st.integers(0, 60))
def test_views_are_lowered_to_what_there_is_room_for_and_no_further(counts, most):
    counts = np.array(counts)
    found = views._within(counts, most)
    assert found.sum() <= most
    limits = [limit for limit in range(13) if np.minimum(counts, limit).sum() <= most]
    np.testing.assert_array_equal(found, np.minimum(counts, limits[-1]))


# Which views


def test_views_are_in_order_and_each_has_a_name_of_its_own(room):
    images = room.images("partial")
    rows, counts = np.array([4, 1, 9]), np.array([2, 0, 3])
    found = views._Views.of(images, rows, counts)
    assert found.rows.tolist() == [4, 4, 4, 1, 9, 9, 9, 9]
    assert found.numbers.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert len(set(found.ids)) == len(found.ids)
    plain = np.flatnonzero(found.numbers == 0)
    assert [found.ids[each] for each in plain] == room.samples.sha256[rows].tolist()


def test_the_name_of_a_view_lasts(room):
    """Whatever else there is: other images, more views, another seed. But not under another augmentation."""
    images = room.images("partial")
    few = views._Views.of(images, np.array([4]), np.array([2])).ids
    many = views._Views.of(replace(images, seed=5), np.array([1, 4]), np.array([3, 9])).ids
    assert few == many[4:7]
    other = replace(images, augmentation=augmentation.of("light", flip=0.25))
    there = views._Views.of(other, np.array([4]), np.array([2])).ids
    assert there[0] == few[0] and not set(there[1:]) & set(few)


@pytest.mark.parametrize("chunk", [1, 3, 32])
def test_each_image_is_decoded_once_for_all_its_views(room, monkeypatch, chunk):
    monkeypatch.setattr(views, "CHUNK", chunk)
    images = room.images("partial")
    found = views._Views.of(images, np.array([4, 1, 9]), np.array([5, 0, 2]))
    read = found.reader(images, stage_features.pixel_reader(room.ctx, images.record, room.samples))
    shown = list(read(np.arange(len(found.ids))))
    assert room.decoded == [4, 1, 9]
    for image, row, number in zip(shown, found.rows, found.numbers, strict=True):
        np.testing.assert_array_equal(image, view(room, row, number)[0])
    assert not np.array_equal(shown[0], shown[1]) and not np.array_equal(shown[1], shown[2])
    room.decoded.clear()
    some = np.array([1, 2, 5, 8])
    for image, place in zip(read(some), some, strict=True):
        np.testing.assert_array_equal(image, shown[place])
    assert room.decoded == [4, 9]


# What training gets


def all_views(inputs, counts):
    """Each view of each image, in order, as one batch draws it."""
    rows = np.repeat(np.arange(len(counts)), counts + 1)
    draws = np.concatenate([np.arange(count + 1) for count in counts])
    (found,) = inputs.stream([Batch(rows, draws)])
    return found


def expected(room, extract, counts):
    shown = [
        view(room, row, number)
        for row, count in zip(room.fit, counts, strict=True)
        for number in range(count + 1)
    ]
    return in_batches(extract, np.concatenate(shown))[0]


COUNTS = np.array([2, 0, 1, 3, 1, 1, 2, 1, 4])


def test_a_frozen_backbone_is_read_as_features(room, backbone):
    images = room.images("frozen", COUNTS)
    prepared = prepare(room.ctx, images)
    extract = extractor(backbone, "avg")
    assert isinstance(prepared.fit, Stored) and prepared.activations is None
    np.testing.assert_array_equal(all_views(prepared.fit, COUNTS), expected(room, extract, COUNTS))
    val = prepared.val.plain(np.arange(len(images.val)))
    np.testing.assert_array_equal(val, in_batches(extract, room.pictures[images.val])[0])
    assert sorted(room.decoded) == list(range(COUNT)), "each image once, whatever its views"
    assert len(prepared.features.missing(room.samples.sha256.tolist())) == 0
    assert room.notes == []

    room.decoded.clear()
    prepare(room.ctx, replace(images, seed=7))
    assert room.decoded == [], "the views of a run serve all seeds"
    prepare(room.ctx, room.images("frozen", COUNTS + (np.arange(9) == 1)))
    assert room.decoded == [int(room.fit[1])], "one more view of one image"


def test_a_part_of_the_backbone_is_read_as_activations(room, backbone):
    images = room.images("partial", COUNTS, unfreeze=2, pooling="gem", gem_p=2.0)
    prepared = prepare(room.ctx, images)
    trunk, _ = split(backbone, 2)
    extract = trunk_extractor(trunk)
    found = all_views(prepared.fit, COUNTS)
    assert found.dtype == np.float16 and found.shape[1:] == trunk.output_shape[1:]
    np.testing.assert_array_equal(found, expected(room, extract, COUNTS).astype(np.float16))
    val = prepared.val.plain(np.arange(len(images.val)))
    np.testing.assert_array_equal(val, in_batches(extract, room.pictures[images.val])[0].astype(np.float16))
    everything = room.samples.sha256.tolist()
    assert len(prepared.activations.missing(everything)) == len(prepared.features.missing(everything)) == 0
    features = np.empty((COUNT, images.dim), np.float32)
    prepared.features.read(everything, features)
    np.testing.assert_array_equal(features, in_batches(extractor(backbone, "gem", 2.0), room.pictures)[0])
    assert max(room.decoded.count(row) for row in range(COUNT)) == 2 and room.notes == []
    assert all(room.decoded.count(row) == 1 for row in range(COUNT) if row not in room.fit)
    room.decoded.clear()
    prepare(room.ctx, images)
    assert room.decoded == []


def test_a_whole_backbone_is_read_as_pictures(room, backbone):
    images = room.images("full")
    prepared = prepare(room.ctx, images)
    assert isinstance(prepared.fit, Pictures) and isinstance(prepared.val, Pictures)
    assert sorted(room.decoded) == list(range(COUNT)), "for the features"
    (found,) = prepared.fit.stream([Batch(np.array([3, 3]), np.array([0, 9]))])
    np.testing.assert_array_equal(found[0], room.pictures[room.fit[3]])
    np.testing.assert_allclose(found[1], view(room, room.fit[3], 9)[0], atol=0.51)
    np.testing.assert_array_equal(prepared.val.plain(np.array([1, 0])), room.pictures[images.val[[1, 0]]])


def test_an_image_that_changed_is_named(room):
    path = room.ctx.source / f"{room.fit[2]:02d}.png"
    prepared = prepare(room.ctx, room.images("full"))
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(DataError, match="changed since ingest read it"):
        list(prepared.fit.stream([Batch(np.array([0, 2]), np.array([1, 1]))]))
    for trainable in ("frozen", "partial"):
        with pytest.raises(DataError, match="changed since ingest read it"):
            prepare(room.ctx, room.images(trainable, 1, how=augmentation.of("simclr")))


# Where room is short


def size_of(backbone, unfreeze=2):
    """Bytes of one activation in half precision."""
    return 2 * math.prod(split(backbone, unfreeze)[0].output_shape[1:])


def test_where_room_is_short_there_are_fewer_views_and_it_is_told(room, backbone):
    for spare, limit in ((int(COUNTS.sum()), 4), (14, 3), (12, 2), (8, 1), (7, 0), (0, 0)):
        room.notes.clear()
        images = room.images("partial", COUNTS, cache_bytes=size_of(backbone) * (COUNT + spare + 0.5))
        prepared = prepare(room.ctx, images)
        lowered = np.minimum(COUNTS, limit)
        np.testing.assert_array_equal(prepared.fit.views, lowered)
        found = all_views(prepared.fit, lowered)
        np.testing.assert_array_equal(
            found, expected(room, trunk_extractor(split(backbone, 2)[0]), lowered).astype(np.float16)
        )
        if limit == 4:
            assert room.notes == []
        else:
            (note,) = room.notes
            assert "train.cache_gb" in note
            assert f"{lowered.mean():.1f} augmented views of an image instead of {COUNTS.mean():.1f}" in note


def test_where_there_is_none_nothing_is_kept_and_it_is_told(room, backbone):
    images = room.images("partial", COUNTS, cache_bytes=size_of(backbone) * (COUNT - 0.5))
    prepared = prepare(room.ctx, images)
    (note,) = room.notes
    assert f"the activations of {COUNT}" in note and "train.cache_gb" in note and "none is kept" in note
    assert prepared.activations is None
    kept = {each.parent for each in (room.ctx.cache / "features").glob("*/*.npy")}
    assert kept == {feature_cache(room.ctx, feature_recipe(images.record)).folder}, "no activation on disk"
    trunk = trunk_extractor(split(backbone, 2)[0])
    (found,) = prepared.fit.stream([Batch(np.array([3, 3]), np.array([0, 9]))])
    assert found.dtype == np.float16
    shown = np.concatenate([view(room, room.fit[3], 0), view(room, room.fit[3], 9)])
    np.testing.assert_allclose(found, trunk(shown)[0], atol=0.05, rtol=0.05)
    np.testing.assert_array_equal(found[0], trunk(shown)[0][0].astype(np.float16))
    val = prepared.val.plain(np.arange(3))
    np.testing.assert_array_equal(val, trunk(room.pictures[images.val[:3]])[0].astype(np.float16))


def test_frozen_views_need_no_such_room(room):
    prepare(room.ctx, room.images("frozen", COUNTS, cache_bytes=0.0))
    assert room.notes == []


@pytest.mark.parametrize(
    ("trainable", "counts", "room_for", "preset", "several"),
    [
        ("frozen", 2, 0, "light", True),
        ("frozen", 0, 0, "light", False),
        ("frozen", 2, 0, "none", False),
        ("partial", 2, COUNT + 9, "light", True),
        ("partial", 2, COUNT, "light", False),  # no view is kept
        ("partial", 2, COUNT - 1, "light", True),  # all are drawn anew
        ("partial", 2, COUNT - 1, "none", False),
        ("full", 0, 0, "light", True),
        ("full", 0, 0, "none", False),
    ],
)
def test_whether_an_image_has_more_than_one_view(
    room, backbone, trainable, counts, room_for, preset, several
):
    """Or else an image that is drawn twice would be its own positive."""
    images = room.images(
        trainable, counts, (room_for + 0.5) * size_of(backbone), augmentation.of(preset), unfreeze=2
    )
    assert _has_views(images, prepare(room.ctx, images)) == several
