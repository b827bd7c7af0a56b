"""From a file's bytes to pixels: one meaning for every format, size and colour space, in one place.

Upright, 8 bit, sRGB, opaque. What other readers get wrong here, silently: rotated photos, hidden colours
below transparency, 16-bit images clipped to white, truncated files that pass a mere check of the header.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.data.colour import is_plain, to_rgb
from simpipe.data.foreign import beginning, foreign, is_heif, is_raw_photo
from simpipe.data.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image

ResizeRule = Literal["squash", "crop", "pad"]
Reason = Literal["empty", "not_an_image", "truncated", "too_large", "unsupported", "decode_error"]

# Only these decoders are ever tried: the others of Pillow are its risk (EPS, PSD, FITS, WMF, ...).
# An MPO comes through the JPEG decoder; HEIF through pillow-heif, where that is installed.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM")

_REDUCIBLE = ("JPEG", "MPO")  # their decoder can leave pixels out
_UPRIGHT = ("TIFF", "HEIF")  # their decoders turn the image themselves
_ORIENTATION = 0x0112


class BadImage(ValueError):  # noqa: N818 - a finding about a file, not a fault of the program
    """A file that gives no pixels: `reason` is one of `Reason`, `detail` a sentence for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Opened(NamedTuple):
    """A file whose facts are known, while a JPEG's pixels are not decoded yet.

    `width` and `height` are of the whole image, upright; `orientation` is EXIF's, 1 to 8. `plain`: a JPEG
    or PNG of one frame whose pixels are upright opaque sRGB of 8 bits as they are, and nothing is odd.
    """

    image: Any
    format: str
    width: int
    height: int
    orientation: int
    warnings: frozenset[str]
    plain: bool


class Decoded(NamedTuple):
    """An image and what was met on the way; all but `image` is of the whole file, as in `Opened`."""

    image: Image
    format: str
    width: int
    height: int
    warnings: tuple[str, ...]
    plain: bool


def decode(raw: bytes, max_pixels: float) -> Image:
    """The picture in `raw`: RGB, 8 bit, upright, the first frame of an animation, transparency on white.

    Embedded colour profiles are converted to sRGB; 16-bit, 32-bit and float greys are stretched from
    their 0.5 to their 99.5 percentile.

    Raises:
        BadImage: the bytes give no whole picture, or one of more than `max_pixels`.
    """
    return decode_with_facts(raw, max_pixels).image


def decode_with_facts(
    raw: bytes,
    max_pixels: float,
    *,
    at_least: int | None = None,
    background: str = "#ffffff",
    grey_range: tuple[float, float] | None = None,
) -> Decoded:
    """`decode`, with format, size and warnings.

    With `at_least`, a JPEG may come out reduced by 2, 4 or 8 while both sides keep `at_least` pixels:
    several times faster for photos. `background` (`#rrggbb`) is what transparency lies on. `grey_range`
    holds the values that become black and white in greys of over 8 bits, instead of a stretch.

    Warnings are `alpha animated exif_bad icc_bad incomplete stretched`; `incomplete` is a PNG whose pixels
    are whole and whose end is missing.

    Raises:
        BadImage: as `decode`.
    """
    return decode_opened(open_image(raw, max_pixels), at_least, background, grey_range)


def open_image(raw: bytes, max_pixels: float) -> Opened:
    """The first half of `decode_with_facts`: what is in a file, before a JPEG's pixels are decoded.

    Raises:
        BadImage: as `decode`; too many pixels are refused before there is memory for them.
    """
    with _findings() as caught:
        image = _open(raw)
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage(
                "too_large", f"{width} x {height} pixels, more than ingest.max_pixels, {max_pixels:,}"
            )
        file_format = str(image.format)
        if file_format not in _REDUCIBLE:
            image.load()  # the facts that follow may lie behind the pixels
            width, height = image.size
        found = set()
        if file_format != "MPO" and _is_animated(image):  # MPO: a photo and its depth map or preview
            found.add("animated")
        if file_format == "PNG" and raw.rfind(b"IEND") < 0:
            found.add("incomplete")
        orientation = 1 if file_format in _UPRIGHT else _orientation(image, caught, found)
        sixteen_bits = file_format == "PNG" and raw[24] > 8
        odd = found or orientation > 1 or sixteen_bits or file_format not in ("JPEG", "PNG")
        size = (height, width) if orientation >= 5 else (width, height)
        plain = not odd and is_plain(image)
        return Opened(image, file_format, *size, orientation, frozenset(found), plain)


def decode_opened(
    opened: Opened,
    at_least: int | None = None,
    background: str = "#ffffff",
    grey_range: tuple[float, float] | None = None,
) -> Decoded:
    """The second half of `decode_with_facts`; an image can be decoded once.

    Raises:
        BadImage: as `decode`.
    """
    with _findings():
        image = opened.image
        if at_least and opened.format in _REDUCIBLE:
            image.draft(None, (at_least, at_least))  # None: the mode stays
        image.load()
        rgb, found = to_rgb(_upright(image, opened.orientation), background, grey_range)
        rgb.info = {}  # it has done its work; a profile left in it would be saved with a copy
        facts = opened.format, opened.width, opened.height
        return Decoded(rgb, *facts, tuple(sorted(opened.warnings | found)), opened.plain)


def resize(image: Image, size: int, rule: ResizeRule) -> NDArray[np.uint8]:
    """`image` as uint8 array of shape (size, size, 3), antialiased (triangle filter).

    `squash` changes the aspect; `crop` scales the shorter side and cuts the centre out; `pad` scales the
    longer side and fills up with white.
    """
    return np.asarray(resize_image(image, size, rule))


def resize_image(image: Image, size: int, rule: ResizeRule) -> Image:
    """`resize`, before it becomes an array."""
    from PIL import Image as pil  # noqa: N813

    width, height = image.size
    bilinear = pil.Resampling.BILINEAR
    if rule == "squash":
        return image.resize((size, size), bilinear, reducing_gap=2.0)
    if rule == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), bilinear, box=box, reducing_gap=2.0)
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = pil.new("RGB", (size, size), "white")
    fitted = image.resize(inner, bilinear, reducing_gap=2.0)
    canvas.paste(fitted, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def _open(raw: bytes) -> Any:
    """The header, by content and never by name."""
    from PIL import Image as pil  # noqa: N813
    from PIL import UnidentifiedImageError

    if not raw:
        raise BadImage("empty", "the file has no bytes")
    if is_heif(raw):
        return _open_heif(raw)
    if is_raw_photo(raw):
        raise BadImage("unsupported", "raw camera images are not read; convert to JPEG or PNG")
    try:
        return pil.open(io.BytesIO(raw), formats=FORMATS)
    except UnidentifiedImageError as error:
        if name := beginning(raw):
            detail = f"it begins like {name}, but is cut off, damaged or of a rare kind"
            raise BadImage("decode_error", detail) from error
        if advice := foreign(raw):
            raise BadImage("unsupported", advice) from error
        raise BadImage("not_an_image", "the content is none of " + ", ".join(FORMATS)) from error


def _open_heif(raw: bytes) -> Any:
    try:
        plugin = import_module("pillow_heif")
    except ImportError as error:
        detail = "HEIC and HEIF images need pillow-heif: pip install 'simpipe[heif]'"
        raise BadImage("unsupported", detail) from error
    return plugin.HeifImageFile(io.BytesIO(raw))  # not through Pillow's registry, which is the process's


@contextmanager
def _findings() -> Iterator[list[str]]:
    """Whatever a decoder raises as a `BadImage`, and its warnings in a list instead of on the screen."""
    from PIL.Image import DecompressionBombError

    try:
        with quiet() as caught:
            yield caught
    except (BadImage, MemoryError):
        raise
    except DecompressionBombError as error:
        raise BadImage("too_large", "more pixels than ingest.max_pixels can allow") from error
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, struct.error, ...
        detail = str(error) or type(error).__name__
        cut = isinstance(error, EOFError) or "truncat" in detail.lower()
        raise BadImage("truncated" if cut else "decode_error", detail) from error


def _is_animated(image: Any) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a rubbish second frame does not spoil the first
        return True


def _orientation(image: Any, caught: list[str], found: set[str]) -> int:
    """What EXIF says of how the image lies, 1 to 8; 1 also if it says nothing that can be understood."""
    from PIL.Image import Exif

    before = len(caught)
    orientation = 1
    try:
        Exif().load(image.info.get("exif", b""))  # where it is bad, Pillow may have passed over that
        value = image.getexif().get(_ORIENTATION, 1)
        orientation = int(value) if value in range(1, 9) else 1
    except Exception:  # bad EXIF does not make a bad image
        found.add("exif_bad")
    if len(caught) > before:
        found.add("exif_bad")
    return orientation


def _upright(image: Any, orientation: int) -> Any:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image
