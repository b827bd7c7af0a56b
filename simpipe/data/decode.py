"""From a file's bytes to pixels: one meaning for every format, size and colour space, in one place.

Upright, 8 bit, sRGB, on white. What other readers get wrong here, silently: rotated photos, hidden colours
below transparency, 16-bit images clipped to white, truncated files that pass a mere check of the header.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.data.threads import map_ahead
from simpipe.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ResizeRule = Literal["squash", "crop", "pad"]
Reason = Literal["empty", "not_an_image", "truncated", "too_large", "unsupported", "decode_error"]

# Only these decoders are ever tried: the others of Pillow are its risk (EPS, PSD, FITS, WMF, ...).
# An MPO comes through the JPEG decoder.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM")

# (offset, magic bytes, name) of what people have and this package does not read.
UNSUPPORTED = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
)

AT_REST = "run the same command again when the data are at rest"

_ORIENTATION = 0x0112
_warnings_lock = threading.Lock()


class BadImage(ValueError):  # noqa: N818 - a finding about a file, not a fault of the program
    """A file that gives no pixels: `reason` is one of `Reason`, `detail` a sentence for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Decoded(NamedTuple):
    """An image and what was met on the way; `width` and `height` are of the whole image, upright."""

    image: Image
    format: str
    width: int
    height: int
    warnings: tuple[str, ...]


def decode(raw: bytes, max_pixels: int) -> Image:
    """The picture in `raw`: RGB, 8 bit, upright, the first frame of an animation, transparency on white.

    Embedded colour profiles are converted to sRGB; 16-bit, 32-bit and float greys are stretched from
    their 0.5 to their 99.5 percentile.

    Raises:
        BadImage: the bytes give no whole picture, or one of more than `max_pixels`.
    """
    return decode_with_facts(raw, max_pixels).image


def decode_with_facts(raw: bytes, max_pixels: float, at_least: int | None = None) -> Decoded:
    """`decode`, with format, size and warnings.

    With `at_least`, a JPEG may come out reduced by 2, 4 or 8 while both sides keep `at_least` pixels:
    several times faster for photos.

    Warnings are `alpha animated exif_bad icc_bad stretched`.

    Raises:
        BadImage: as `decode`.
    """
    try:
        image, size = _load(raw, max_pixels, at_least)
        return _normalise(image, size)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, struct.error, ...
        detail = str(error) or type(error).__name__
        cut = isinstance(error, EOFError) or "truncat" in detail.lower()
        raise BadImage("truncated" if cut else "decode_error", detail) from error


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


def pixels(raw: bytes, size: int, rule: ResizeRule, max_pixels: float) -> NDArray[np.uint8]:
    """A file's bytes as a backbone sees them: uint8 of shape (size, size, 3).

    The one way from a file to a backbone, so that a query and an indexed image give the same vector.

    Raises:
        BadImage: the bytes are no image that can be read.
    """
    # twice the size wanted: the JPEG decoder's own reduction is coarser than `resize`
    return resize(decode_with_facts(raw, max_pixels, at_least=2 * size).image, size, rule)


def load_pixels(
    paths: Sequence[Path],
    hashes: Sequence[str],
    size: int,
    rule: ResizeRule,
    workers: int = 2,
) -> Iterator[NDArray[np.uint8]]:
    """The images at `paths`, in order, each uint8 of shape (size, size, 3); decoded ahead in threads.

    `hashes` are the SHA-256 of the files that ingest read; the very bytes that are decoded must fit.

    Raises:
        DataError: a file that changed, vanished, or cannot be read any more, named.
    """

    def load(path: Path, expected: str) -> NDArray[np.uint8]:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{name} changed since ingest read it ({error.strerror})", hint=AT_REST
            ) from error
        if hashlib.sha256(raw).hexdigest() != expected:
            raise DataError(f"{name} changed since ingest read it", hint=AT_REST)
        try:
            return pixels(raw, size, rule, math.inf)  # ingest has refused what is too large
        except BadImage as error:
            raise DataError(
                f"{name} could be decoded by ingest, but not now ({error})",
                hint="if Pillow is another one now, `simpipe ingest --force` decides anew what can be used",
            ) from error

    return map_ahead(lambda job: load(*job), zip(paths, hashes, strict=True), workers)


def _load(raw: bytes, max_pixels: float, at_least: int | None) -> tuple[Image, tuple[int, int]]:
    """The image as it is in the file, its pixels read, and its full size."""
    if not raw:
        raise BadImage("empty", "the file has no bytes")
    image = _open(raw)
    header = image.size
    if header[0] * header[1] > max_pixels:
        raise BadImage("too_large", f"{header[0]} x {header[1]} pixels, more than {max_pixels:,}")
    if at_least:
        image.draft(None, (at_least, at_least))  # None: the mode stays
    reduced = image.size != header
    image.load()
    return image, header if reduced else image.size  # a TIFF turns itself upright while it loads


def _open(raw: bytes) -> Any:
    """The header, by content and never by name."""
    from PIL import Image as pil  # noqa: N813
    from PIL import UnidentifiedImageError

    try:
        with _caught_warnings():
            return pil.open(io.BytesIO(raw), formats=FORMATS)
    except pil.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from error
    except UnidentifiedImageError as error:
        for offset, magic, name in UNSUPPORTED:
            if raw.startswith(magic, offset):
                raise BadImage(
                    "unsupported", f"{name} images are not read; convert to JPEG or PNG"
                ) from error
        raise BadImage("not_an_image", "the content is none of " + ", ".join(FORMATS)) from error


@contextmanager
def _caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings caught, not shown. Their filters belong to the process: the lock keeps threads apart."""
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _normalise(image: Any, size: tuple[int, int]) -> Decoded:
    """Upright, sRGB, on white, 8 bit."""
    found: list[str] = []
    file_format = str(image.format)
    if file_format != "MPO" and _is_animated(image):  # MPO: a photo and its depth map or preview
        found.append("animated")
    if file_format != "TIFF":
        image, turned = _upright(image, found)
        size = size[::-1] if turned else size
    rgb = _to_rgb(image, found)
    return Decoded(rgb, file_format, *size, tuple(sorted(found)))


def _is_animated(image: Any) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a rubbish second frame does not spoil the first
        return True


def _upright(image: Any, found: list[str]) -> tuple[Any, bool]:
    """The image turned as its EXIF says, and whether width and height changed places."""
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
    try:
        with _caught_warnings() as caught:
            orientation = image.getexif().get(_ORIENTATION, 1)
            turn = turns.get(orientation)
    except Exception:  # bad EXIF does not make a bad image
        found.append("exif_bad")
        return image, False
    if caught:
        found.append("exif_bad")
    return (image, False) if turn is None else (image.transpose(turn), orientation >= 5)


def _to_rgb(image: Any, found: list[str]) -> Image:
    from PIL import Image as pil  # noqa: N813

    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        found.append("stretched")
        return pil.fromarray(_stretch(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return _to_srgb(image, profile, found)
    found.append("alpha")
    rgba = image.convert("RGBA")
    opaque = _to_srgb(rgba.convert("RGB"), profile, found)
    white = pil.new("RGB", opaque.size, "white")
    white.paste(opaque, mask=rgba.getchannel("A"))
    return white


def _to_srgb(image: Image, profile: bytes | None, found: list[str]) -> Image:
    """`image` in RGB, through its embedded profile where there is one that fits."""
    if profile:
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                if image.mode == "P":
                    image = image.convert("RGB")
                srgb = ImageCms.createProfile("sRGB")
                return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
        except Exception:  # a bad profile does not make a bad image
            found.append("icc_bad")
    return image if image.mode == "RGB" else image.convert("RGB")


def _stretch(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Greys of any depth in 8 bits, the 0.5 to 99.5 percentile on 0 to 255; a constant image is black."""
    values = grey.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(grey.shape, np.uint8)
    low, high = np.percentile(values[finite], (0.5, 99.5))
    if high <= low:  # nearly all of one value: take what there is
        low, high = values[finite].min(), values[finite].max()
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return np.asarray(np.round(255 * scaled.clip(0, 1)), np.uint8)
