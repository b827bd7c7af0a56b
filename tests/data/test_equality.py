import io
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, photo, write_tree
from PIL import Image

from simpipe.data.equality import equal_pixels
from simpipe.data.fingerprint import HashedFile
from simpipe.data.phash import miniature
from simpipe.data.preparation import Preparation

PREPARATION = Preparation("squash", 64, "#ffffff", None)


def compare(root: Path, files: dict[str, bytes], pairs: list[tuple[int, int]]) -> list[bool]:
    write_tree(root, files)
    hashed = [HashedFile(path, 0, "", None, None, None, None) for path in files]
    small = np.stack([miniature(Image.open(root / path).convert("RGB")) for path in files])
    return equal_pixels(root, hashed, small, pairs, PREPARATION)


def test_pixels_are_compared_and_not_files(tmp_path: Path) -> None:
    picture = photo(1)
    pixels = np.array(picture)
    pixels[20, 30] = 255 - pixels[20, 30]
    jpeg = encoded(picture)
    files = {
        "a.png": encoded(picture, "PNG"),
        "b.png": encoded(picture, "PNG", compress_level=1, optimize=False),
        "c.bmp": encoded(picture, "BMP"),
        "one_pixel.png": encoded(Image.fromarray(pixels), "PNG"),
        "lossy.jpg": jpeg,
        "lossy_twice.jpg": encoded(picture, quality=40),
        "decoded.png": encoded(Image.open(io.BytesIO(jpeg)), "PNG"),
    }
    pairs = [(0, 1), (1, 2), (2, 0), (0, 3), (0, 4), (4, 5), (4, 6), (6, 4)]
    assert compare(tmp_path, files, pairs) == [True, True, True, False, False, False, True, True]


def test_a_rotation_in_exif_counts(tmp_path: Path) -> None:
    picture = photo(2)
    turned = Image.Exif()
    turned[0x0112] = 6
    sideways = picture.transpose(Image.Transpose.ROTATE_90)
    files = {"a.png": encoded(picture, "PNG"), "b.png": encoded(sideways, "PNG", exif=turned)}
    write_tree(tmp_path, files)
    hashed = [HashedFile(path, 0, "", None, None, None, None) for path in files]
    small = np.stack([miniature(picture)] * 2)
    assert equal_pixels(tmp_path, hashed, small, [(0, 1)], PREPARATION) == [True]


@pytest.mark.parametrize("broken", [b"", b"rubbish"])
def test_what_gives_no_pixels_any_more_equals_nothing(tmp_path: Path, broken: bytes) -> None:
    write_tree(tmp_path, {"a.png": broken, "b.png": broken})
    hashed = [HashedFile(path, 0, "", None, None, None, None) for path in ("a.png", "b.png", "gone.png")]
    small = np.zeros((3, 16, 16, 3), np.uint8)
    found = equal_pixels(tmp_path, hashed, small, [(0, 1), (0, 2), (2, 2)], PREPARATION)
    assert found == [False, False, False]


def test_pictures_that_differ_in_small_are_not_opened(tmp_path: Path) -> None:
    hashed = [HashedFile(path, 0, "", None, None, None, None) for path in ("a.png", "b.png")]
    small = np.zeros((2, 16, 16, 3), np.uint8)
    small[1, 5, 5] = 10
    write_tree(tmp_path, {path: encoded(photo(3), "PNG") for path in ("a.png", "b.png")})
    assert equal_pixels(tmp_path, hashed, small, [(0, 1)], PREPARATION) == [False]
    small[1, 5, 5] = 4
    assert equal_pixels(tmp_path, hashed, small, [(0, 1)], PREPARATION) == [True]
