"""Small pictures and folders, made when a test runs."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture with detail of its own: equal for equal seeds, unlike any other."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    sink = io.BytesIO()
    if image_format == "JPEG":
        options = {"quality": 92, **options}
    image.save(sink, image_format, **options)
    return sink.getvalue()


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def labelled(root: Path, counts: Mapping[str, int], first_seed: int = 0) -> Path:
    """A folder with `counts[label]` photos under each label."""
    seed = first_seed
    for label, count in counts.items():
        for number in range(count):
            write_tree(root, {f"{label}/{number:03}.jpg": encoded(photo(seed))})
            seed += 1
    return root
