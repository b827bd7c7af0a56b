"""A sprite: the thumbnails of many images as equal tiles of one picture, row after row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simpipe.data.thumbnails import decode_thumbnails
from simpipe.errors import DamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simpipe.progress import Progress

MOST_PIXELS = 8_192
"""The longest side of a sprite that the Embedding Projector takes, and that every graphics card holds."""

LARGEST_TILE = 64
QUALITY = 85


def tile_side(count: int) -> int:
    """The side of a tile, in pixels, at which `count` of them (1 to 8,192²) fit into a sprite."""
    return min(LARGEST_TILE, MOST_PIXELS // _across(count))


def write_sprite(path: Path, thumbnails: Path, rows: NDArray[np.int64], progress: Progress) -> None:
    """Write the thumbnails of `rows`, ascending, as a JPEG of tiles of `tile_side` pixels.

    Only one row group of thumbnails is decoded at a time; the sprite itself is in memory as a whole.

    Raises:
        DamagedError: the thumbnails are missing, damaged or fewer than `rows` asks for.
    """
    from PIL import Image

    side, across = tile_side(len(rows)), _across(len(rows))
    sprite = Image.new("RGB", (across * side, -(-len(rows) // across) * side))
    place = start = 0
    for block in decode_thumbnails(thumbnails, side):
        first, last = np.searchsorted(rows, (start, start + len(block)))
        for tile in block[rows[first:last] - start]:
            sprite.paste(Image.fromarray(tile), (place % across * side, place // across * side))
            place += 1
        start += len(block)
        progress.advance(int(last - first))
    if place < len(rows):
        raise DamagedError(f"{thumbnails} has {start} rows, row {rows[-1]} is asked for")
    sprite.save(path, "JPEG", quality=QUALITY, subsampling=0)  # else tiles run into each other's colours


def _across(count: int) -> int:
    """How many tiles stand beside each other, in a sprite that is as square as can be."""
    return math.isqrt(max(count, 1) - 1) + 1
