"""The images of a run as training reads them: themselves and augmented views, cached above frozen layers."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Samples
from simpipe.engine.stage import Context
from simpipe.files import digest, readable_size
from simpipe.learning.augmentation import Augmentation, augment, view_seed
from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.cut import split
from simpipe.learning.encoder import activation_recipe, feature_recipe
from simpipe.learning.features import FeatureCache, Pixels, extractor
from simpipe.learning.inputs import CachedRows, Inputs, Pictures, Stored
from simpipe.learning.network import Tuning, trunk_and_feature_extractor, trunk_extractor
from simpipe.stages.features import feature_cache, feature_file, fill, pixel_reader

Ints = npt.NDArray[np.int64]

CHUNK = 32
"""Views that are computed in one go."""

MOST = 4
"""An image of a small class gets at most so many times `train.views` augmented views."""


class Prepared(NamedTuple):
    """What training reads.

    Attributes:
        fit: the training images, and `val` those that are scored, as the network takes them.
        features: the cache of the pooled features of the backbone as it came, of all images of the run.
        activations: the cache of what partial training reads, of all images; None where it is not kept.
    """

    fit: Inputs
    val: Inputs
    features: FeatureCache
    activations: FeatureCache | None = None


@dataclass(frozen=True)
class Images:
    """The images of a run for one backbone, and which of them training sees.

    Attributes:
        record: of the backbone as it came, see `encoder.backbone_record`.
        fit: rows of the samples that are trained on; `val` of those that are scored.
        views: (len(fit),) augmented views of each.
        cache_bytes: most that activations may take on disk.
        seed: of views that are drawn anew each time.
    """

    samples: Samples
    backbone: Backbone
    record: dict[str, Any]
    tuning: Tuning
    fit: Ints
    val: Ints
    augmentation: Augmentation
    views: Ints
    cache_bytes: float
    seed: int

    @property
    def dim(self) -> int:
        """The length of a feature vector."""
        return int(self.backbone.model.output_shape[-1])

    def ids(self, rows: Ints) -> list[str]:
        """The content ids of some samples."""
        ids: list[str] = self.samples.sha256[rows].tolist()
        return ids

    @property
    def everything(self) -> Ints:
        """All rows: index needs features of the others too, and would have to build the backbone again."""
        return np.arange(len(self.samples))


def prepare(ctx: Context, images: Images) -> Prepared:
    """Compute and cache what lies below the layers that are trained, each image once.

    Raises:
        DataError: an original is not any more what ingest read.
        DiskError: there is no room for what is kept.
    """
    pixels = pixel_reader(ctx, images.record, images.samples)
    features = feature_cache(ctx, feature_recipe(images.record))
    if images.tuning.trainable == "frozen":
        return _frozen(ctx, images, pixels, features)
    if images.tuning.trainable == "partial":
        return _partial(ctx, images, pixels, features)
    _fill_features(ctx, images, pixels, features)
    return Prepared(*_pictures(images, pixels, None), features)


def _frozen(ctx: Context, images: Images, pixels: Pixels, features: FeatureCache) -> Prepared:
    every = np.zeros(len(images.samples), np.int64)
    every[images.fit] = images.views
    views = _Views.of(images, images.everything, every)
    fill(ctx, [features], lambda: _extractor(images), views.ids, views.reader(images, pixels), 4 * images.dim)
    own = _Views.of(images, images.fit, images.views)
    array = scratch_features(ctx, features, own.ids, images.dim)
    val = scratch_features(ctx, features, images.ids(images.val), images.dim)
    return Prepared(Stored(array, images.views), Stored.plain_only(val), features)


def _partial(ctx: Context, images: Images, pixels: Pixels, features: FeatureCache) -> Prepared:
    trunk, _ = split(images.backbone, images.tuning.unfreeze)
    shape = trunk.output_shape[1:]
    each = 2 * int(np.prod(shape))
    affordable = int(images.cache_bytes // each)
    if affordable < len(images.samples):
        size = readable_size(each * len(images.samples))
        ctx.progress.note(
            f"the activations of {len(images.samples):,} images take {size}, more than train.cache_gb has: "
            "none is kept, and an image passes the frozen layers whenever it is drawn, which is slow"
        )
        _fill_features(ctx, images, pixels, features)
        return Prepared(*_pictures(images, pixels, trunk), features)
    counts = _within(images.views, affordable - len(images.samples))
    if counts.sum() < images.views.sum():
        ctx.progress.note(
            f"train.cache_gb has room for {counts.mean():.1f} augmented views of an image instead of "
            f"{images.views.mean():.1f}"
        )
    activations = feature_cache(ctx, activation_recipe(images.record, images.tuning.unfreeze), "<f2")
    fill(
        ctx,
        [activations, features],
        lambda: trunk_and_feature_extractor(trunk, images.backbone, images.tuning),
        images.ids(images.everything),
        pixels,
        each + 4 * images.dim,
    )
    views = _Views.of(images, images.fit, counts)
    fill(ctx, [activations], lambda: trunk_extractor(trunk), views.ids, views.reader(images, pixels), each)
    fit = Stored(CachedRows(activations, views.ids, shape), counts)
    val = Stored(CachedRows(activations, images.ids(images.val), shape), np.zeros(len(images.val), np.int64))
    return Prepared(fit, val, features, activations)


def _pictures(images: Images, pixels: Pixels, trunk: Any) -> tuple[Inputs, Inputs]:
    through = None if trunk is None else trunk_extractor(trunk)
    drawn = images.augmentation if trunk is None or images.views.any() else Augmentation()

    def of(rows: Ints) -> Pictures:
        def read(positions: Ints) -> Iterator[npt.NDArray[Any]]:
            return pixels(rows[positions])

        return Pictures(read, images.ids(rows), drawn, images.seed, through)

    return of(images.fit), of(images.val)


def _fill_features(ctx: Context, images: Images, pixels: Pixels, features: FeatureCache) -> None:
    ids = images.ids(images.everything)
    fill(ctx, [features], lambda: _extractor(images), ids, pixels, 4 * images.dim)


def _extractor(images: Images) -> Any:
    return extractor(images.backbone, images.tuning.pooling, images.tuning.gem_p)


def _within(views: Ints, most: int) -> Ints:
    """`views` (n,), or all of them lowered to what makes no more than `most` together."""
    for limit in range(int(views.max(initial=0)), -1, -1):
        lowered = np.minimum(views, limit)
        if lowered.sum() <= most:
            return lowered
    return np.zeros_like(views)


def scratch_features(
    ctx: Context, cache: FeatureCache, ids: Sequence[str], dim: int
) -> npt.NDArray[np.float32]:
    """Cached features (len(ids), dim) in a file on disk without a name, which vanishes with the process."""
    ctx.require_space(4 * dim * len(ids))
    with tempfile.TemporaryDirectory(dir=ctx.out) as folder:
        return feature_file(Path(folder) / "features", cache, ids, dim)


class _Views(NamedTuple):
    """Images and their augmented views, in the order of `inputs.Stored`.

    Attributes:
        rows: the sample of each.
        numbers: 0 for the image itself, 1, 2, … for its augmented views.
        ids: what each is called in a cache.
    """

    rows: Ints
    numbers: Ints
    ids: list[str]

    @classmethod
    def of(cls, images: Images, rows: Ints, views: Ints) -> "_Views":
        repeated = np.repeat(rows, 1 + views)
        numbers = np.arange(len(repeated)) - np.repeat(np.cumsum(1 + views) - 1 - views, 1 + views)
        made = digest(images.augmentation.to_json())
        ids = [
            sha256 if number == 0 else digest([sha256, made, number])
            for sha256, number in zip(images.ids(repeated), numbers.tolist(), strict=True)
        ]
        return cls(repeated, numbers, ids)

    def reader(self, images: Images, pixels: Pixels) -> Pixels:
        """Reads the views at some positions; an image is decoded once for all its views that are in a row."""

        def read(positions: Ints) -> Iterator[npt.NDArray[Any]]:
            rows, numbers = self.rows[positions], self.numbers[positions]
            first = np.flatnonzero(np.diff(rows, prepend=-1))
            decoded = pixels(rows[first])
            turn = np.repeat(np.arange(len(first)), np.diff(first, append=len(rows)))
            shown, image = -1, np.empty(0)
            for start in range(0, len(rows), CHUNK):
                chunk = []
                for here in turn[start : start + CHUNK].tolist():
                    if here != shown:
                        shown, image = here, next(decoded)
                    chunk.append(image)
                yield from _shown(
                    np.stack(chunk), images, rows[start : start + CHUNK], numbers[start : start + CHUNK]
                )

        return read


def _shown(chunk: npt.NDArray[np.uint8], images: Images, rows: Ints, numbers: Ints) -> npt.NDArray[np.uint8]:
    """The views `numbers` of images, uint8 (n, s, s, 3)."""
    changed = np.flatnonzero(numbers)
    if len(changed):
        # a view is known by its number: the seed of a run changes none, and its cache serves all seeds
        seeds = [
            view_seed(content, number, 0)
            for content, number in zip(images.ids(rows[changed]), numbers[changed].tolist(), strict=True)
        ]
        chunk[changed] = augment(chunk[changed], images.augmentation, seeds)
    return chunk


def views_of(labels: npt.NDArray[np.integer[Any]], views: int) -> Ints:
    """How many augmented views each image gets: `views`, and more where its class is small.

    An image of a class of n images, m being the median size of a class, gets views · √(m/n), rounded up, and
    `MOST` times `views` at most.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    share = np.sqrt(np.maximum(1.0, np.median(counts) / counts))
    return np.asarray(np.minimum(np.ceil(views * share), MOST * views).astype(np.int64)[codes])
