"""What ingest keeps of one usable image: its facts, its two small likenesses and its thumbnail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simpipe.data.decode import Decoded, ResizeRule, resize_image
from simpipe.data.duplicates import FLAT, contrast
from simpipe.data.phash import miniature, perceptual_hash
from simpipe.data.thumbnails import encode_thumbnail

TINY = 32  # pixels a side
LONG = 10  # width to height, or the other way
HASHED_SIDE = 64  # the image is reduced to this once, for both hashes; they are of 32 and 16 a side

_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "MPO": ("jpg", "jpeg", "jpe", "mpo"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "DIB": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """What ingest keeps of a usable image. `warnings` are those of `decode_with_facts` and
    `suffix` (the name says another format), `tiny`, `long` (over 10:1), `flat` (no detail)."""

    format: str
    width: int
    height: int
    warnings: tuple[str, ...]
    phash: int
    miniature: NDArray[np.uint8]
    thumbnail: bytes


def picture_of(decoded: Decoded, path: str, thumbnail_size: int, rule: ResizeRule) -> Picture:
    """The picture of a decoded file; `path` is looked at for its suffix only."""
    image, file_format, width, height, warnings = decoded
    reduced = resize_image(image, HASHED_SIDE, "squash")
    small = miniature(reduced)
    found = {
        "suffix": path.rpartition(".")[2].lower() not in _SUFFIXES[file_format],
        "tiny": min(width, height) < TINY,
        "long": max(width, height) > LONG * min(width, height),
        "flat": bool(contrast(small[None])[0] < FLAT),
    }
    return Picture(
        format=file_format,
        width=width,
        height=height,
        warnings=tuple(sorted((*warnings, *(name for name, is_so in found.items() if is_so)))),
        phash=perceptual_hash(reduced),
        miniature=small,
        thumbnail=encode_thumbnail(image, thumbnail_size, rule),
    )
