"""The feature cache computes each image once, whatever happens to it or to the process."""

import errno
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from simpipe.errors import DiskError, Stopped
from simpipe.learning import features
from simpipe.learning.features import BATCH, FeatureCache, fill_cache

RECIPE = {"name": "toy"}
DAMAGES = {
    "truncated": lambda raw: raw[:-3],
    "emptied": lambda raw: b"",
    "flipped": lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:],
}


class Backbone:
    """Counts the images that go through; a vector is the image's mean and its first pixel."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        assert len(images) <= BATCH
        self.seen += len(images)
        return (np.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], axis=1).astype(np.float32),)


class Listener:
    """Wishes a stop once `stop_after` images are done; remembers what is missing on the disk at each call."""

    stopping = False

    def __init__(self, stop_after=None, folder=None, ids=()):
        self.stop_after, self.folder, self.ids = stop_after, folder, ids
        self.done, self.notes, self.missing = 0, [], []

    def begin(self, label, total=None, unit=""):
        pass

    def advance(self, count=1, detail=""):
        self.done += count
        if self.folder is not None:
            self.missing.append(len(FeatureCache(self.folder, RECIPE).missing(self.ids)))
        if self.stop_after is not None and self.done >= self.stop_after:
            raise Stopped

    def note(self, text):
        self.notes.append(text)


def image(number):
    return np.full((4, 4, 3), number, np.uint8)


def fill(folder, ids, backbone, listener=None, pixels=None):
    cache = FeatureCache(folder, RECIPE)
    pixels = pixels or (lambda rows: (image(int(ids[row])) for row in rows))
    count = fill_cache([cache], lambda: backbone, ids, pixels, listener)
    assert_whole(cache, ids)
    return count


def assert_whole(cache, ids):
    out = np.empty((len(ids), 2), np.float32)
    cache.read(ids, out)
    np.testing.assert_array_equal(out, [[int(each)] * 2 for each in ids])


def numbers(count):
    return [str(number) for number in range(count)]


def shards(folder):
    return sorted(folder.glob("*/*.npy"))


def test_each_content_is_computed_once_and_read_in_any_order(tmp_path):
    backbone, ids = Backbone(), [str(i % 40) for i in range(50)]
    assert fill(tmp_path, ids, backbone) == 40
    assert fill(tmp_path, [*ids, "77"], backbone) == 1
    assert backbone.seen == 41
    assert_whole(FeatureCache(tmp_path, RECIPE), ["77", "3", "3"])


def test_another_recipe_shares_nothing(tmp_path):
    fill(tmp_path, ["1", "2"], Backbone())
    assert len(FeatureCache(tmp_path, {"name": "other"}).missing(["1"])) == 1


def test_no_extractor_is_built_and_no_image_opened_if_nothing_is_missing(tmp_path):
    fill(tmp_path, ["1"], Backbone())

    def fail(*_):
        raise AssertionError("for nothing")

    assert fill_cache([FeatureCache(tmp_path, RECIPE)], fail, ["1"], fail) == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_told_once_removed_and_computed_again(tmp_path, damage):
    fill(tmp_path, ["1", "2"], Backbone())
    (whole,) = shards(tmp_path)
    fill(tmp_path, ["1", "2", "3"], Backbone())
    whole.write_bytes(DAMAGES[damage](whole.read_bytes()))
    listener = Listener()
    assert fill(tmp_path, ["1", "2", "3"], Backbone(), listener) == 2
    assert listener.notes == ["damaged files in the feature cache, computed again where needed: 1"]
    again = Listener()
    assert fill(tmp_path, ["1", "2", "3"], Backbone(), again) == 0
    assert again.notes == []


def test_every_byte_of_a_shard_counts(tmp_path):
    fill(tmp_path, ["1"], Backbone())
    (shard,) = shards(tmp_path)
    raw = shard.read_bytes()
    for position in range(len(raw)):
        shard.write_bytes(raw[:position] + bytes([raw[position] ^ 16]) + raw[position + 1 :])
        cache = FeatureCache(tmp_path, RECIPE)
        assert (cache.damaged, len(cache.missing(["1"]))) == (1, 1)
        assert not shard.exists()


@pytest.mark.parametrize("stop_after", [1, BATCH + 1, 70])
def test_a_stop_keeps_what_was_computed(tmp_path, stop_after):
    backbone, ids = Backbone(), numbers(100)
    with pytest.raises(Stopped):
        fill(tmp_path, ids, backbone, Listener(stop_after))
    done = -(-stop_after // BATCH) * BATCH
    assert backbone.seen == done
    assert fill(tmp_path, ids, backbone) == 100 - done
    assert backbone.seen == 100, "no image goes through twice"


def test_a_bad_image_keeps_what_was_computed_before_it(tmp_path):
    backbone, ids = Backbone(), numbers(40)

    def pixels(rows):
        for row in rows:
            if row == 35:
                raise ValueError("gone")
            yield image(int(ids[row]))

    with pytest.raises(ValueError, match="gone"):
        fill(tmp_path, ids, backbone, pixels=pixels)
    assert fill(tmp_path, ids, backbone) == 40 - 2 * BATCH
    assert backbone.seen == 40


def test_a_kill_loses_at_most_a_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_BYTES", 2 * BATCH * 8)  # a vector has eight
    ids = numbers(5 * BATCH)
    listener = Listener(folder=tmp_path, ids=ids)
    fill(tmp_path, ids, Backbone(), listener)
    assert listener.missing == [BATCH * left for left in (5, 3, 3, 1, 1)]
    assert len(shards(tmp_path)) == 3


def test_a_slow_machine_need_not_wait_for_a_full_shard(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 6))  # six seconds pass from look to look
    monkeypatch.setattr(features.time, "monotonic", lambda: next(clock))
    ids = numbers(4 * BATCH)
    listener = Listener(folder=tmp_path, ids=ids)
    fill(tmp_path, ids, Backbone(), listener)
    assert listener.missing == [BATCH * left for left in (4, 2, 2, 0)]


def test_what_a_dead_process_left_is_not_read(tmp_path):
    fill(tmp_path, ["1"], Backbone())
    (shard,) = shards(tmp_path)
    shard.rename(shard.with_name(f".{shard.name}.k3x9"))
    assert len(FeatureCache(tmp_path, RECIPE).missing(["1"])) == 1


def test_files_of_other_people_are_left_alone(tmp_path):
    fill(tmp_path, ["1"], Backbone())
    (folder,) = tmp_path.iterdir()
    (folder / "notes.npy").write_bytes(b"mine")
    assert FeatureCache(tmp_path, RECIPE).damaged == 0
    assert (folder / "notes.npy").read_bytes() == b"mine"


def fill_in_a_process(folder, seed):
    features.SHARD_BYTES = BATCH * 8
    fill(folder, np.random.default_rng(seed).permutation(100).astype(str).tolist(), Backbone())


def test_many_may_fill_the_same_cache_at_once(tmp_path):
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        for worker in [pool.submit(fill_in_a_process, tmp_path, seed) for seed in range(6)]:
            worker.result()
    cache = FeatureCache(tmp_path, RECIPE)
    assert cache.damaged == 0
    assert_whole(cache, numbers(100))


def test_a_shard_that_vanishes_does_no_harm(tmp_path, monkeypatch):
    fill(tmp_path, ["1"], Backbone())
    opened = FeatureCache(tmp_path, RECIPE)
    monkeypatch.setattr(features, "sha256_file", lambda path: path.unlink() or path.stem)
    assert len(FeatureCache(tmp_path, RECIPE).missing(["1"])) == 1, "vanished between its hash and its use"
    assert_whole(opened, ["1"])
    assert fill(tmp_path, ["1", "2"], Backbone()) == 2, "vanished as soon as it was written"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="file/features"):
        fill(tmp_path / "file" / "features", ["1"], Backbone())


def test_a_full_disk_is_told_and_tried_once(tmp_path, monkeypatch):
    tries = []

    def full(path, raw):
        tries.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(features, "SHARD_BYTES", BATCH * 8)
    monkeypatch.setattr(features, "atomic_write", full)
    with pytest.raises(DiskError, match="No space left"):
        fill(tmp_path, numbers(60), Backbone())
    assert len(tries) == 1


# Several caches in one pass


def both(images):
    """Two outputs of one network, of different shapes."""
    means = images.mean((1, 2, 3)).astype(np.float32)
    return np.stack([means, -means], axis=1), np.repeat(means[:, None, None], 6, axis=1).reshape(-1, 2, 3)


def fill_both(folder, ids, first=None):
    """What the two caches of `ids` hold afterwards, and how many images went through."""
    caches = FeatureCache(folder, {"name": "one"}), FeatureCache(folder, {"name": "two"}, "<f2")
    count = fill_cache(caches, lambda: both, ids, lambda rows: (image(int(ids[row])) for row in rows), first)
    found = np.empty((len(ids), 2), np.float32), np.empty((len(ids), 2, 3), np.float16)
    for cache, out in zip(caches, found, strict=True):
        cache.read(ids, out)
    return found, count


def test_one_pass_fills_several_caches_each_in_its_form(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_BYTES", BATCH * 32)
    ids = numbers(50)
    (pairs, maps), count = fill_both(tmp_path, ids)
    assert count == 50
    np.testing.assert_array_equal(pairs, [[int(each), -int(each)] for each in ids])
    np.testing.assert_array_equal(maps, np.broadcast_to(pairs[:, :1, None], (50, 2, 3)))
    assert len(shards(tmp_path)) == 2 * 4, "both take turns by the bytes of both"
    assert fill_both(tmp_path, ids)[1] == 0


def test_what_one_of_them_lacks_goes_through_once_more(tmp_path):
    cache = FeatureCache(tmp_path, {"name": "one"})
    fill_cache(
        [cache],
        lambda: lambda images: both(images)[:1],
        ["3", "4"],
        lambda rows: (image(r + 3) for r in rows),
    )
    (pairs, maps), count = fill_both(tmp_path, ["4", "7", "3", "7"])
    assert count == 3
    np.testing.assert_array_equal(pairs[:, 0], [4, 7, 3, 7])
    np.testing.assert_array_equal(maps[:, 0, 0], [4, 7, 3, 7])


def test_a_stop_leaves_them_equally_far(tmp_path):
    ids = numbers(100)
    with pytest.raises(Stopped):
        fill_both(tmp_path, ids, Listener(70))
    lacking = [
        len(FeatureCache(tmp_path, {"name": name}, dtype).missing(ids))
        for name, dtype in (("one", "<f4"), ("two", "<f2"))
    ]
    assert lacking == [20, 20]
    assert fill_both(tmp_path, ids)[1] == 20


def test_where_vectors_lie_is_told_and_read_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_BYTES", BATCH * 8)
    ids = numbers(60)
    fill(tmp_path, ids, Backbone())
    cache = FeatureCache(tmp_path, RECIPE)
    assert len(shards(tmp_path)) == 4
    where = cache.locate(["59", "0", "17", "17"])
    out = np.empty((3, 2), np.float32)
    cache.gather(where[[3, 0, 1]], out)
    np.testing.assert_array_equal(out[:, 0], [17, 59, 0])
    assert cache.locate([]).shape == (0, 2)
