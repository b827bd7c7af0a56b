"""What a network reads: the right view of the right image, whatever is beside it and wherever it lies."""

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from simpipe.errors import DataError
from simpipe.learning import augmentation, load_framework
from simpipe.learning.features import FeatureCache
from simpipe.learning.inputs import CachedRows, Pictures, Stored
from simpipe.learning.network import trunk_extractor
from simpipe.learning.samplers import DRAWS, Batch, BatchPlan, plan_epoch

IMAGES, LABELS = tiny.pictures(12)
IDS = [f"id{number}" for number in range(12)]
ALL = augmentation.of("barlow", erase=0.5)


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


def batch(rows, draws):
    return Batch(np.array(rows, np.int64), np.array(draws, np.int64))


# Views that lie in an array


def named(views):
    """An array whose rows say which view of which image they are."""
    return np.array([(image, view) for image, count in enumerate(views) for view in range(count + 1)])


@given(views=st.lists(st.integers(0, 5), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_stored_views_are_found_by_image_and_draw(views, seed):
    generator = np.random.default_rng(seed)
    rows, draws = generator.integers(0, len(views), 20), generator.integers(0, DRAWS, 20)
    stored = Stored(named(views), np.array(views))
    np.testing.assert_array_equal(stored.plain(rows), [(row, 0) for row in rows])
    first, second = stored.stream([batch(rows, draws), batch(rows[:3], [0, 0, 0])])
    expected = [(row, draw % (1 + views[row])) for row, draw in zip(rows, draws, strict=True)]
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, [(row, 0) for row in rows[:3]])


def test_the_two_views_of_an_image_in_a_batch_are_two():
    views = np.array([1, 2, 3, 5, 8, 15, 32, 64] * 4)
    plan = BatchPlan(4, 4, "sqrt", 1.0, 1, 10, 0, mode="single_shot")
    stored = Stored(named(views), views)
    for epoch in range(20):
        batches = plan_epoch(np.arange(len(views)), plan, epoch)
        for found in stored.stream(batches):
            first, second = np.split(found, 2)
            np.testing.assert_array_equal(first[:, 0], second[:, 0])
            assert (first[:, 1] != second[:, 1]).all()


def test_plain_only_has_no_other_view():
    stored = Stored.plain_only(np.arange(10.0))
    (found,) = stored.stream([batch([3, 3, 9], [1, 70, 65535])])
    np.testing.assert_array_equal(found, [3, 3, 9])


@pytest.fixture
def cached(tmp_path):
    """Vectors (20, 2, 3) in float16, and a cache with them in several shards and another order."""
    vectors = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float16)
    ids = [f"v{number}" for number in range(20)]
    order = np.random.default_rng(1).permutation(20)
    cache = FeatureCache(tmp_path, {"name": "toy"}, "<f2")
    for part in np.array_split(order, 4):
        cache.add([ids[row] for row in part], vectors[part])
    assert len(list(tmp_path.glob("*/*.npy"))) == 4
    return vectors, ids, cache


@pytest.mark.parametrize("positions", [[], [7], [0, 19, 0, 5, 5, 5, 11], list(range(19, -1, -1))])
def test_rows_of_a_cache_are_those_of_the_array(cached, positions):
    vectors, ids, cache = cached
    found = CachedRows(cache, ids, (2, 3))[np.array(positions, np.int64)]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, vectors[positions].reshape(-1, 2, 3))


def test_stored_reads_a_cache_as_it_reads_an_array(cached):
    vectors, ids, cache = cached
    views = np.array([4, 0, 9, 3])
    lazy, whole = Stored(CachedRows(cache, ids, (2, 3)), views), Stored(vectors, views)
    generator = np.random.default_rng(2)
    batches = [batch(generator.integers(0, 4, 6), generator.integers(0, DRAWS, 6)) for _ in range(5)]
    np.testing.assert_array_equal(list(lazy.stream(batches)), list(whole.stream(batches)))
    np.testing.assert_array_equal(lazy.plain(np.array([3, 1])), whole.plain(np.array([3, 1])))


# Pictures that are decoded when they are needed


class Reader:
    """Gives the images, and remembers each one that was decoded, and how often it was called."""

    def __init__(self, fail_at=None):
        self.read, self.calls, self.fail_at = [], 0, fail_at

    def __call__(self, rows):
        self.calls += 1
        return map(self._one, rows.tolist())

    def _one(self, row):
        if len(self.read) == self.fail_at:
            raise DataError("it changed", hint="put it back")
        self.read.append(row)
        return IMAGES[row]


def views(batches, reader=None, seed=0, through=None, how=ALL):
    return list(Pictures(reader or Reader(), IDS, how, seed, through).stream(batches))


def direct(row, number, seed=0):
    """The view by itself: no batch, no pipeline."""
    drawn = augmentation.draw(ALL, [augmentation.view_seed(IDS[row], number, seed)])
    return augmentation.apply(IMAGES[row : row + 1], drawn).numpy()[0]


def test_draw_nought_is_the_image_itself_and_others_are_its_augmented_views():
    rows, draws = [4, 1, 4, 9], [0, 3, 12345, 0]
    (found,) = views([batch(rows, draws)])
    assert found.dtype == np.float32
    for view, row, number in zip(found, rows, draws, strict=True):
        if number:
            np.testing.assert_allclose(view, direct(row, number), atol=1e-3)
        else:
            np.testing.assert_array_equal(view, IMAGES[row])
    assert np.abs(found[2] - found[0]).mean() > 5, "the augmentation does something"


def test_a_view_does_not_depend_on_its_batch_but_on_image_draw_and_seed():
    rows, draws = np.arange(36) % 12, np.arange(36) * 1777
    (whole,) = views([Batch(rows, draws)])
    order = np.random.default_rng(0).permutation(36)
    parts = np.split(order, [1, 4, 9, 16, 25])
    for part, found in zip(parts, views([Batch(rows[part], draws[part]) for part in parts]), strict=True):
        np.testing.assert_array_equal(found, whole[part], "the same bits")
    (other_seed,) = views([Batch(rows, draws)], seed=1)
    (other_draws,) = views([Batch(rows, draws + 1)])
    for other in (other_seed, other_draws):
        assert (np.abs(other - whole)[1:].mean((1, 2, 3)) > 1).all()


def test_an_image_that_is_in_a_batch_twice_is_decoded_once():
    reader = Reader()
    batches = [batch([3, 1, 3, 3], [1, 2, 3, 4]), batch([1, 1], [5, 6]), batch([0], [0])]
    found = views(batches, reader)
    assert sorted(reader.read) == [0, 1, 1, 3]
    assert [len(each) for each in found] == [4, 2, 1]
    np.testing.assert_allclose(found[1][1], direct(1, 6), atol=1e-3)


def test_the_order_is_that_of_the_batches():
    generator = np.random.default_rng(0)
    batches = [
        batch(generator.integers(0, 12, size), np.zeros(size)) for size in generator.integers(1, 9, 40)
    ]
    for found, (rows, _) in zip(views(batches), batches, strict=True):
        np.testing.assert_array_equal(found, IMAGES[rows])


def test_in_the_warm_up_all_is_plain():
    plan = BatchPlan(2, 4, "sqrt", 1.0, 3, 10, 0, warmup_epochs=1)
    warm, after = (plan_epoch(LABELS, plan, epoch) for epoch in (0, 1))
    for found, (rows, _) in zip(views(warm), warm, strict=True):
        np.testing.assert_array_equal(found, IMAGES[rows])
    assert any((found != IMAGES[rows]).any() for found, (rows, _) in zip(views(after), after, strict=True))


def test_without_augmentation_all_draws_are_plain():
    (found,) = views([batch([3, 8], [1, 2])], how=augmentation.of("none"))
    np.testing.assert_array_equal(found, IMAGES[[3, 8]])


def test_no_batch_is_no_work():
    """Where training goes on after the last batch of an epoch."""
    reader = Reader()
    assert views([], reader) == [] and reader.read == []


@pytest.mark.parametrize("fail_at", [0, 1, 5, 11])
def test_an_error_of_the_reader_comes_through_as_it_is(fail_at):
    batches = [batch([first, first + 1, first + 2], [1, 0, 2]) for first in (0, 3, 6, 9)]
    with pytest.raises(DataError, match=r"^it changed$") as error:
        views(batches, Reader(fail_at))
    assert error.value.hint == "put it back"


def test_what_passes_frozen_layers_comes_in_half_precision():
    from simpipe.learning.backbones.cut import split

    trunk, _ = split(tiny.build(), 1)
    extract = trunk_extractor(trunk)
    rows, draws = np.arange(20) % 12, np.arange(20) * 3
    (found,) = views([Batch(rows, draws)], through=extract)
    assert (found.dtype, found.shape) == (np.float16, (20, *trunk.output_shape[1:]))
    (shown,) = views([Batch(rows, draws)])
    for row in (0, 7, 19):
        np.testing.assert_array_equal(found[row], extract(shown[row : row + 1])[0][0].astype(np.float16))
    plain = Pictures(Reader(), IDS, ALL, 0, extract).plain(np.array([3, 0]))
    assert plain.dtype == np.float16
    np.testing.assert_allclose(plain, np.asarray(trunk(IMAGES[[3, 0]].astype("f4"))), atol=2e-2, rtol=2e-3)


def test_plain_rows_are_the_images():
    rows = np.array([3, 3, 0])
    np.testing.assert_array_equal(Pictures(Reader(), IDS, ALL, 0).plain(rows), IMAGES[rows])
