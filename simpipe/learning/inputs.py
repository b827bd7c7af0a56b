"""What a network reads: views that were computed once, or pictures that are decoded as they are needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simpipe.learning.augmentation import Augmentation, Drawn, apply, draw, view_seed
from simpipe.learning.features import Extractor, FeatureCache, Pixels, in_batches, within_float16
from simpipe.learning.samplers import Batch, view_of

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Inputs(Protocol):
    """The images of a split, by their rows, in the form that a network takes."""

    def plain(self, rows: Ints) -> Array:
        """The images themselves, (len(rows), …)."""
        ...

    def stream(self, batches: Sequence[Batch]) -> Iterator[Array]:
        """For each batch its views, (b, …)."""
        ...


class Rows(Protocol):
    """An array, or what reads like one: positions (b,) → (b, …)."""

    def __getitem__(self, positions: Any, /) -> Array: ...


@dataclass(frozen=True)
class Stored:
    """Views that lie in an array.

    Attributes:
        array: (total, …): of each image its plain view, then its augmented ones.
        views: (n,), how many augmented views each image has.
    """

    array: Rows
    views: Ints

    @classmethod
    def plain_only(cls, array: Array) -> "Stored":
        """Images without augmented views."""
        return cls(array, np.zeros(len(array), np.int64))

    @cached_property
    def _first(self) -> Ints:
        return np.asarray(np.cumsum(1 + self.views) - 1 - self.views, np.int64)

    def plain(self, rows: Ints) -> Array:
        return self.array[self._first[rows]]

    def stream(self, batches: Sequence[Batch]) -> Iterator[Array]:
        for rows, draws in batches:
            yield self.array[self._first[rows] + view_of(draws, self.views[rows])]


class CachedRows:
    """The vectors of `ids` in a cache, as an array that stays on disk."""

    def __init__(self, cache: FeatureCache, ids: Sequence[str], shape: tuple[int, ...]) -> None:
        self._cache, self._where, self._shape = cache, cache.locate(ids), shape

    def __getitem__(self, positions: Ints, /) -> Array:
        out = np.empty((len(positions), *self._shape), self._cache.dtype)
        self._cache.gather(self._where[positions], out)
        return out


@dataclass(frozen=True)
class Pictures:
    """Images that are decoded, and augmented anew at each draw, while the network works on the batch before.

    Attributes:
        pixels: reads images, uint8 (s, s, 3), in the order of the rows it gets.
        ids: of their contents: the same image, draw number and seed give the same view.
        augmentation: of all draws but number 0.
        seed: of the views.
        through: frozen layers that the images pass; the network gets what comes out, in float16.
    """

    pixels: Pixels
    ids: Sequence[str]
    augmentation: Augmentation
    seed: int
    through: Extractor | None = None

    def plain(self, rows: Ints) -> Array:
        return self._passed(np.stack(list(self.pixels(rows))))

    def stream(self, batches: Sequence[Batch]) -> Iterator[Array]:
        if not batches:
            return
        for views in _prefetched(self._drawn(batches), _augmented):
            yield self._passed(views)

    def _drawn(self, batches: Sequence[Batch]) -> Iterator[tuple[Array, Array, dict[str, Array]]]:
        """For each batch its images, whether each is augmented, and how: what is not None of `Drawn`."""
        different = [np.unique(rows, return_inverse=True) for rows, _ in batches]
        images = self.pixels(np.concatenate([rows for rows, _ in different]))
        for (rows, draws), (single, where) in zip(batches, different, strict=True):
            pixels = np.stack([next(images) for _ in single])[where]
            named = zip(rows, draws, strict=True)
            seeds = [view_seed(self.ids[row], number, self.seed) for row, number in named]
            drawn = draw(self.augmentation, seeds)._asdict()
            yield pixels, draws > 0, {name: each for name, each in drawn.items() if each is not None}

    def _passed(self, images: Array) -> Array:
        return images if self.through is None else within_float16(in_batches(self.through, images)[0])


def _augmented(images: Any, changed: Any, parameters: dict[str, Any]) -> Any:
    import tensorflow as tf

    drawn = Drawn(**{name: parameters.get(name) for name in Drawn._fields})
    return tf.where(changed[:, None, None, None], apply(images, drawn), tf.cast(images, tf.float32))


def _prefetched(items: Iterator[Any], function: Callable[..., Any]) -> Iterator[Array]:
    """`function` of each of `items`, two ahead, in a tf.data pipeline; what `items` raises comes through."""
    import tensorflow as tf

    failures: list[Exception] = []

    def guarded() -> Iterator[Any]:
        yield first
        try:
            yield from items
        except Exception as error:
            failures.append(error)
            raise

    def spec(value: Any) -> Any:
        return tf.TensorSpec((None, *np.shape(value)[1:]), np.asarray(value).dtype)

    first = next(items)
    signature = tf.nest.map_structure(spec, first)
    dataset = tf.data.Dataset.from_generator(guarded, output_signature=signature)
    try:
        yield from dataset.map(function).prefetch(2).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise (failures[0] if failures else error) from None
