"""Perceptual hashes: 64 bits that stay when an image is scaled, re-encoded or slightly changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

GREY_SIDE = 32
MINIATURE_SIDE = 16
_BITS = 8  # the hash has 8 x 8 bits


def _dct_rows(count: int, size: int) -> NDArray[np.float64]:
    """Rows 1 ... `count` of the orthonormal DCT-II of `size` points; row 0, the mean, is left out."""
    frequency = np.arange(1, count + 1)[:, None]
    waves = np.cos(np.pi * frequency * (2 * np.arange(size) + 1) / (2 * size))
    return np.asarray(np.sqrt(2 / size) * waves)


_DCT = _dct_rows(_BITS, GREY_SIDE)


def perceptual_hash(image: Image) -> int:
    """The 64-bit DCT hash of an RGB or grey image (Zauner 2010, "pHash")."""
    grey = image.convert("L").resize((GREY_SIDE, GREY_SIDE), _bilinear(), reducing_gap=2.0)
    return int(hash_grey(np.asarray(grey)[None])[0])


def hash_grey(grey: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes of grey images of shape (n, 32, 32): uint64 of shape (n,).

    A bit says whether one of the 8 x 8 lowest frequencies that change both ways lies above their median;
    brightness and contrast leave it alone. An image without detail has the hash 0.
    """
    frequencies = (_DCT @ grey.astype(np.float64) @ _DCT.T).reshape(len(grey), -1)
    frequencies = frequencies.round(6)  # so that the rounding errors of a constant image are no detail
    lower_median = np.sort(frequencies, axis=1)[:, _BITS**2 // 2 - 1, None]
    bits = frequencies > lower_median
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def miniature(image: Image) -> NDArray[np.uint8]:
    """An RGB image squashed to uint8 of shape (16, 16, 3): confirms that two like hashes mean like images."""
    side = (MINIATURE_SIDE, MINIATURE_SIDE)
    return np.asarray(image.resize(side, _bilinear(), reducing_gap=2.0))


def _bilinear() -> int:
    from PIL.Image import Resampling

    return Resampling.BILINEAR
