"""Thumbnails as WebP sheets of 16 × 16 tiles: each picture is in the page once, at a size that fits."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 16
TILES = SIDE * SIDE
QUALITY = 60
SIZES = ((96, 2_500), (64, 8_000), (48, 10_000))
MOST = SIZES[-1][1]
AT_LEAST_PER_LABEL = 10


@dataclass(frozen=True)
class Sheets:
    """Base64 WebP sheets, the tile's side in pixels, and for each row its tile (int32 `(n,)`, -1: none)."""

    sheets: list[str]
    side: int
    tile: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """The rows that have a picture, their JPEGs, and these as sheets; `placed`: which could be decoded."""

    rows: list[int]
    pictures: list[bytes]
    side: int
    sheets: list[str]
    placed: list[bool]


def choose(n: int, label_id: np.ndarray, first: Iterable[int], most: int = MOST) -> list[int]:
    """The rows that get a thumbnail, at most `most`: those of `first`, ten of each label, then evenly."""
    if n <= most:
        return list(dict.fromkeys([*first, *range(n)]))
    order = np.argsort(label_id, kind="stable")
    rank = np.empty(n, int)
    starts = np.searchsorted(label_id[order], label_id[order], side="left")
    rank[order] = np.arange(n) - starts
    some = np.flatnonzero(rank < AT_LEAST_PER_LABEL)
    spread = order[np.linspace(0, n - 1, most).astype(int)]
    return list(dict.fromkeys([*first, *some.tolist(), *spread.tolist()]))[:most]


def encode(thumbnails: Callable[[Sequence[int]], list[bytes]], rows: list[int]) -> Encoded:
    """Sheets of `rows` in their order, at the largest size for so many; in one thread, beside the map."""
    kept = [(row, picture) for row, picture in zip(rows, thumbnails(rows), strict=True) if picture]
    side = next((side for side, most in SIZES if len(kept) <= most), SIZES[-1][0])
    return at_size([row for row, _ in kept], [picture for _, picture in kept], side, 1)


def at_size(rows: list[int], pictures: list[bytes], side: int, threads: int) -> Encoded:
    """The sheets of the pictures at one size."""
    with ThreadPoolExecutor(threads) as pool:
        parts = [pictures[start : start + TILES] for start in range(0, len(pictures), TILES)]
        made = list(pool.map(lambda part: sheet(part, side), parts))
    placed = [good for _, part in made for good in part]
    return Encoded(rows, pictures, side, [text for text, _ in made], placed)


def fit(found: Encoded, n: int, max_bytes: float) -> Sheets:
    """The sheets, of a page with n rows, at the largest size that fits in `max_bytes`.

    Where not even the smallest size fits, the last rows go without.
    """
    for side, _ in SIZES:
        if sum(map(len, found.sheets)) > max_bytes and side < found.side:
            found = at_size(found.rows, found.pictures, side, 2)
    fitting = int(np.searchsorted(np.cumsum([len(sheet) for sheet in found.sheets]), max_bytes, side="right"))
    tile = tiles(found.rows, found.placed, n)
    return Sheets(found.sheets[:fitting], found.side, np.where(tile < fitting * TILES, tile, -1))


def tiles(rows: list[int], placed: list[bool], n: int) -> np.ndarray:
    """For each of n rows its tile's number, -1 for a row without a picture that can be decoded."""
    tile = np.full(n, -1, np.int32)
    for number, (row, good) in enumerate(zip(rows, placed, strict=True)):
        if good:
            tile[row] = number
    return tile


def sheet(pictures: list[bytes], side: int) -> tuple[str, list[bool]]:
    """One sheet, as base64 WebP, and which of its pictures could be decoded."""
    from PIL import Image

    height = -(-len(pictures) // SIDE)
    canvas = Image.new("RGB", (SIDE * side, height * side), (128, 128, 128))
    good = []
    for number, picture in enumerate(pictures):
        image = decode(picture, side)
        good.append(image is not None)
        if image is not None:
            corner = (side - image.width) // 2, (side - image.height) // 2
            canvas.paste(image, (number % SIDE * side + corner[0], number // SIDE * side + corner[1]))
    stream = io.BytesIO()
    canvas.save(stream, "WEBP", quality=QUALITY, method=1)
    return base64.b64encode(stream.getvalue()).decode(), good


def decode(picture: bytes, side: int) -> Any:
    """A picture of at most `side` pixels each way, None where the bytes are no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        source = Image.open(io.BytesIO(picture))
        source.draft("RGB", (side, side))
        image = source.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError):
        return None
    scale = side / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
