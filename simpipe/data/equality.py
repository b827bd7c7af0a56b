"""Equal pixels: pictures that are the same although their files are not, such as a PNG saved again."""

import hashlib
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from simpipe.data.fingerprint import HashedFile
from simpipe.data.preparation import Preparation
from simpipe.data.scan import open_regular
from simpipe.data.workers import map_guarded


def pixel_digests(
    root: Path,
    files: Sequence[HashedFile],
    numbers: Sequence[int],
    preparation: Preparation,
    *,
    workers: int = 2,
    seconds: float = 60.0,
) -> list[str]:
    """What is equal for those of `files`, given by their `numbers`, that show equal pixels.

    Each file is decoded in full, in a process that may die of it. What counts are the upright pixels in 8 bit
    sRGB that `preparation` gives before anything is reduced. A file that gives none any more has "".
    """
    paths = [os.fspath(root / files[number].path) for number in numbers]
    digest = partial(pixel_digest, preparation)
    return list(map_guarded(digest, paths, workers=workers, seconds=seconds, fault=_no_digest))


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
