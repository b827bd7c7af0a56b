"""Equal pixels: pictures that are the same although their files are not, such as a PNG saved again."""

import hashlib
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simpipe.data.fingerprint import HashedFile
from simpipe.data.preparation import Preparation
from simpipe.data.scan import open_regular
from simpipe.data.workers import map_guarded

MOST_LEVELS = 4
"""How far the miniatures of equal pictures may be apart in a pixel: one decoder may have reduced."""

BLOCK = 4_096  # pairs of miniatures in memory


def equal_pixels(
    root: Path,
    files: Sequence[HashedFile],
    miniatures: NDArray[np.uint8],
    pairs: Sequence[tuple[int, int]],
    preparation: Preparation,
    *,
    workers: int = 2,
    seconds: float = 60.0,
) -> list[bool]:
    """Whether the two files of each of `pairs`, given as positions in `files`, show equal pixels.

    Pairs whose miniatures, uint8 of shape (n, 16, 16, 3), differ are not looked at. Of the others each file
    is decoded in full once, in a process that may die of it. Compared are the upright pixels in
    8 bit sRGB that `preparation` gives before anything is reduced. A file that gives none any more equals
    nothing.
    """
    likely = _likely(pairs, miniatures)
    wanted = sorted({number for pair in likely for number in pair})
    paths = [os.fspath(root / files[number].path) for number in wanted]
    digest = partial(pixel_digest, preparation)
    found = map_guarded(digest, paths, workers=workers, seconds=seconds, fault=_no_digest)
    digests = dict(zip(wanted, found, strict=True))
    return [bool(digests.get(i)) and digests[i] == digests.get(j) for i, j in pairs]


def _likely(pairs: Sequence[tuple[int, int]], miniatures: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The pairs whose miniatures are alike in every pixel."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        first, second = (miniatures[list(numbers)] for numbers in zip(*block, strict=True))
        apart = (np.maximum(first, second) - np.minimum(first, second)).max(axis=(1, 2, 3))
        found += [pair for pair, levels in zip(block, apart.tolist(), strict=True) if levels <= MOST_LEVELS]
    return found


def pixel_digest(preparation: Preparation, path: str) -> str:
    """The SHA-256 of a picture's size and pixels; the empty text if it cannot be read."""
    from simpipe.data.decode import BadImage, decode_with_facts

    try:
        with open_regular(path) as stream:
            raw = stream.read()
        image = decode_with_facts(
            raw, math.inf, background=preparation.background, grey_range=preparation.grey_range
        ).image
    except (BadImage, OSError, MemoryError):
        return ""
    hasher = hashlib.sha256(f"{image.width} {image.height}\n".encode())
    hasher.update(image.tobytes())
    return hasher.hexdigest()


def _no_digest(path: str, why: str) -> str:
    return ""
