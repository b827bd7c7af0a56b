"""From whatever a file keeps of colours to 8-bit sRGB without transparency."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_BLOCK = 1 << 20  # values scaled at once, so that a large image is not held a second time in 64 bits


def is_plain(image: Image) -> bool:
    """Whether the values in `image` are opaque greys or sRGB of 8 bits already."""
    if image.mode not in ("1", "L", "P", "RGB") or image.has_transparency_data:
        return False
    try:
        return _foreign_profile(image) is None
    except Exception:  # it is not even a profile
        return False


def to_rgb(
    image: Image, background: str = "#ffffff", grey_range: tuple[float, float] | None = None
) -> tuple[Image, set[str]]:
    """`image` in 8-bit sRGB, and which of the warnings `alpha icc_bad stretched` are due.

    Args:
        image: of any mode; an embedded profile is taken from its `info`.
        background: what transparent pixels lie on, as `#rrggbb`.
        grey_range: the values that become 0 and 255 in greys of over 8 bits; None stretches each image from
            its 0.5 to its 99.5 percentile.
    """
    from PIL import Image as pil  # noqa: N813

    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image)
        low, high = grey_range or _spread(grey)
        return pil.fromarray(_scaled(grey, low, high)).convert("RGB"), set() if grey_range else {"stretched"}
    if not image.has_transparency_data:
        return _to_srgb(image)
    rgba = image.convert("RGBA")
    opaque, found = _to_srgb(rgba.convert("RGB"))  # the profile comes along
    canvas = pil.new("RGB", opaque.size, background)
    canvas.paste(opaque, mask=rgba.getchannel("A"))
    return canvas, found | {"alpha"}


def _to_srgb(image: Image) -> tuple[Image, set[str]]:
    """`image` in RGB, through its embedded profile where there is one that fits."""
    from PIL import ImageCms

    found: set[str] = set()
    try:
        if source := _foreign_profile(image):
            coloured = image.convert("RGB") if image.mode == "P" else image
            srgb = ImageCms.createProfile("sRGB")
            if converted := ImageCms.profileToProfile(coloured, source, srgb, outputMode="RGB"):
                return converted, found
    except Exception:  # a bad profile does not make a bad image
        found.add("icc_bad")
    return image if image.mode == "RGB" else image.convert("RGB"), found


def _foreign_profile(image: Image) -> Any:
    """The embedded profile; None if there is none, or if it is sRGB.

    Raises:
        Exception: of any kind, if it cannot be read.
    """
    from PIL import ImageCms

    raw = image.info.get("icc_profile")
    if not raw:
        return None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    return None if ImageCms.getProfileDescription(profile).startswith("sRGB") else profile


def _spread(grey: NDArray[Any]) -> tuple[float, float]:
    """The 0.5 and the 99.5 percentile of the finite values; the extremes where these are one value."""
    values = grey[np.isfinite(grey)]
    if not len(values):
        return 0.0, 0.0
    low, high = np.percentile(values, (0.5, 99.5), overwrite_input=True)
    if high <= low:
        low, high = values.min(), values.max()
    return float(low), float(high)


def _scaled(grey: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """`grey` in 8 bits, low at 0 and high at 255, clipped; all is black if they are equal, and so is NaN."""
    result = np.empty(grey.shape, np.uint8)
    flat, out = grey.reshape(-1), result.reshape(-1)
    for start in range(0, len(flat), _BLOCK):
        values = flat[start : start + _BLOCK].astype(np.float64)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low).clip(low, high)
        out[start : start + _BLOCK] = np.round(255 * ((values - low) / (high - low or 1.0)))
    return result
