"""What ingest keeps of one image: its facts, its two small likenesses and its thumbnail."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simpipe.data.decode import ResizeRule, resize_image
from simpipe.data.duplicates import FLAT, contrast
from simpipe.data.phash import miniature, perceptual_hash
from simpipe.data.preparation import Prepared
from simpipe.data.thumbnails import encode_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

TINY = 32  # pixels a side
LONG = 10  # width to height, or the other way
REDUCED = 96  # pixels a side: three and six times those of the hashes, and a thumbnail of this size is done

_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "MPO": ("jpg", "jpeg", "jpe", "mpo"),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "HEIF": ("heic", "heif"),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "DIB": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
}


class Picture(NamedTuple):
    """What is kept of a usable image: all of it a function of its bytes, none of its name.

    `warnings` are those of `decode_with_facts` and `tiny`, `long` (over 10:1), `flat` (no detail), sorted.
    `miniature` holds the 16 x 16 RGB pixels of `phash.miniature`. `thumbnail` is a JPEG, or empty where none
    is wanted; `copy` is the SHA-256 of the normalised copy, if any.
    """

    format: str
    width: int
    height: int
    warnings: tuple[str, ...]
    phash: int
    miniature: bytes
    thumbnail: bytes
    copy: str | None


class Refusal(NamedTuple):
    """Why there is no picture of a file; `lasting` if its bytes alone are the reason."""

    reason: str
    detail: str
    lasting: bool = True


def picture_of(prepared: Prepared, thumbnail_size: int, rule: ResizeRule, copy: str | None) -> Picture:
    """The picture of a prepared file; a `thumbnail_size` of 0 makes no thumbnail."""
    from PIL.Image import Resampling

    # a gap of 1 takes two thirds of the time of `resize_image`, and does as well at this size
    reduced = prepared.image.resize((REDUCED, REDUCED), Resampling.BILINEAR, reducing_gap=1.0)
    small = miniature(reduced)
    width, height = prepared.width, prepared.height
    found = {
        "tiny": min(width, height) < TINY,
        "long": max(width, height) > LONG * min(width, height),
        "flat": bool(contrast(small[None])[0] < FLAT),
    }
    return Picture(
        format=prepared.format,
        width=width,
        height=height,
        warnings=tuple(sorted((*prepared.warnings, *(name for name, is_so in found.items() if is_so)))),
        phash=perceptual_hash(reduced),
        miniature=small.tobytes(),
        thumbnail=_thumbnail(prepared.image, reduced, thumbnail_size, rule),
        copy=copy,
    )


def _thumbnail(image: Image, reduced: Image, size: int, rule: ResizeRule) -> bytes:
    if not size:
        return b""
    if size == REDUCED and rule == "squash":
        return encode_jpeg(reduced)
    return encode_jpeg(resize_image(image, size, rule))


def is_misnamed(path: str, file_format: str) -> bool:
    """Whether the name of a file of `file_format` ends as those of another format do."""
    return path.rpartition(".")[2].lower() not in _SUFFIXES[file_format]
