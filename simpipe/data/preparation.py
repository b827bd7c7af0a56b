"""From a file's bytes to what a backbone sees, and to the copy that is kept so that this is done once.

The pixels are a pure function of the bytes and the `Preparation`, whatever lies in a cache. An image whose
shorter side is at most `copy_side` is small. A small plain JPEG or PNG is seen as it is. Of any other image
the *normalised copy* is seen, also where none is kept: of a small one all pixels, upright, opaque and in
sRGB, without loss; of a large one a fine JPEG, reduced until its shorter side is `copy_side`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.data.decode import (
    Decoded,
    Opened,
    ResizeRule,
    decode_opened,
    decode_with_facts,
    open_image,
    resize,
)
from simpipe.files import digest

if TYPE_CHECKING:
    from PIL.Image import Image

Keep = Literal["auto", "all", "none"]
Suffix = Literal["jpg", "png", ""]

FORMAT = 1  # of the copies; another number where another code makes other pixels
JPEG_SIDE = 65_500  # pixels; the format has none longer


class Preparation(NamedTuple):
    """What decides, beside its bytes, how a file is seen.

    `copy_side` is in pixels, at least the side of the images that a backbone takes. `background`
    (`#rrggbb`) is what transparency lies on. `grey_range`: the values that become black and white in greys
    of over 8 bits; None stretches each image by itself.
    """

    resize: ResizeRule
    copy_side: int
    background: str
    grey_range: tuple[float, float] | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Preparation:
        """The preparation that `to_json` gave."""
        grey_range = document["grey_range"]
        return cls(**{**document, "grey_range": None if grey_range is None else tuple(grey_range)})

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "grey_range": None if self.grey_range is None else [*self.grey_range]}


class Prepared(NamedTuple):
    """An image for thumbnails and hashes, and its copy.

    `image` is RGB, upright and opaque; the shorter side of a large image is `copy_side`. `copy` is None
    where the file is as good, or no copies are wanted; `suffix` is that of the copy's format. `width`,
    `height`, `format` and `warnings` are of the file, as in `Decoded`.
    """

    image: Image
    copy: bytes | None
    suffix: Suffix
    format: str
    width: int
    height: int
    warnings: tuple[str, ...]


def prepare(raw: bytes, preparation: Preparation, max_pixels: float, at_least: int, keep: Keep) -> Prepared:
    """Decode a file once, for all that ingest wants of it.

    Args:
        raw: the file.
        preparation: how it is seen.
        max_pixels: images of more are refused.
        at_least: the shorter side that thumbnails and hashes need, in pixels; a small plain JPEG may come
            out reduced to it.
        keep: which copies are made: `auto` where the file is not as good; `all`, which of a small plain file
            is the file itself; or `none`.

    Raises:
        BadImage: the bytes are no image that can be read.
    """
    opened = open_image(raw, max_pixels)
    copy: bytes | None = None
    suffix: Suffix = ""
    if _is_seen_as_it_is(opened, preparation):
        decoded = _decoded(opened, preparation, at_least)
        if keep == "all":
            copy, suffix = raw, "jpg" if opened.format == "JPEG" else "png"
    else:
        decoded = _normalised(opened, preparation)
        if keep != "none":
            copy, suffix = _encoded(decoded.image, lossless=_is_small(opened, preparation))
    return Prepared(
        decoded.image, copy, suffix, decoded.format, decoded.width, decoded.height, decoded.warnings
    )


def pixels(raw: bytes, size: int, preparation: Preparation, max_pixels: float) -> NDArray[np.uint8]:
    """A file's bytes as a backbone sees them: uint8 of shape (size, size, 3).

    The one way from a file to a backbone, so that a query and an indexed image give the same vector.

    Raises:
        BadImage: the bytes are no image that can be read.
    """
    opened = open_image(raw, max_pixels)
    if _is_seen_as_it_is(opened, preparation):
        return resize(_decoded(opened, preparation, 2 * size).image, size, preparation.resize)
    image = _normalised(opened, preparation).image
    if _is_small(opened, preparation):  # its copy loses nothing
        return resize(image, size, preparation.resize)
    copy, _ = _encoded(image, lossless=False)
    return pixels_of_copy(copy, size, preparation.resize)


def pixels_of_copy(copy: bytes, size: int, rule: ResizeRule) -> NDArray[np.uint8]:
    """`pixels` of the file that `copy` was made of.

    Raises:
        BadImage: it is no image that can be read.
    """
    # twice the size wanted: the JPEG decoder's own reduction is coarser than `resize`
    return resize(decode_with_facts(copy, math.inf, at_least=2 * size).image, size, rule)


def recipe(preparation: Preparation) -> str:
    """Eight hexadecimal digits for all that a copy depends on, beside the file."""
    grey_range = preparation.grey_range and [float(value) for value in preparation.grey_range]
    parts = {
        "format": FORMAT,
        "copy_side": preparation.copy_side,
        "background": preparation.background,
        "grey_range": grey_range,
    }
    return digest(parts)[:8]


def _is_small(opened: Opened, preparation: Preparation) -> bool:
    return min(opened.width, opened.height) <= preparation.copy_side


def _is_seen_as_it_is(opened: Opened, preparation: Preparation) -> bool:
    return opened.plain and _is_small(opened, preparation)


def _decoded(opened: Opened, preparation: Preparation, at_least: int) -> Decoded:
    return decode_opened(opened, at_least, preparation.background, preparation.grey_range)


def _normalised(opened: Opened, preparation: Preparation) -> Decoded:
    """The pixels of the copy: of a small image all of them, of a large one those that are left."""
    from PIL.Image import Resampling

    side = preparation.copy_side
    decoded = _decoded(opened, preparation, side)  # no small JPEG can be halved and keep this side
    if _is_small(opened, preparation):
        return decoded
    scale = side / min(opened.width, opened.height)
    size = (round(opened.width * scale), round(opened.height * scale))
    return decoded._replace(image=decoded.image.resize(size, Resampling.BICUBIC, reducing_gap=3.0))


def _encoded(image: Image, *, lossless: bool) -> tuple[bytes, Suffix]:
    sink = io.BytesIO()
    if lossless or max(image.size) > JPEG_SIDE:
        image.save(sink, "PNG", compress_level=1)
        return sink.getvalue(), "png"
    image.save(sink, "JPEG", quality=95, subsampling=0)
    return sink.getvalue(), "jpg"
