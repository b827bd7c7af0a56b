import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, photo, write_tree
from PIL import Image

from simpipe.data.equality import pixel_digests
from simpipe.data.fingerprint import HashedFile
from simpipe.data.preparation import Preparation

PREPARATION = Preparation("squash", 64, "#ffffff", None)


def digests(root: Path, files: Iterable[str]) -> list[str]:
    hashed = [HashedFile(path, 0, "", None, None, None, None) for path in files]
    return pixel_digests(root, hashed, range(len(hashed)), PREPARATION)


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
    found = digests(write_tree(tmp_path, files), files)
    equal = [found[i] == found[j] for i, j in pairs]
    assert equal == [True, True, True, False, False, False, True, True]


def test_a_rotation_in_exif_counts(tmp_path: Path) -> None:
    picture = photo(2)
    turned = Image.Exif()
    turned[0x0112] = 6
    sideways = picture.transpose(Image.Transpose.ROTATE_90)
    files = {"a.png": encoded(picture, "PNG"), "b.png": encoded(sideways, "PNG", exif=turned)}
    upright, in_exif = digests(write_tree(tmp_path, files), files)
    assert upright == in_exif


@pytest.mark.parametrize("broken", [b"", b"rubbish"])
def test_what_gives_no_pixels_any_more_equals_nothing(tmp_path: Path, broken: bytes) -> None:
    write_tree(tmp_path, {"a.png": broken, "b.png": broken})
    assert digests(tmp_path, ("a.png", "b.png", "gone.png")) == ["", "", ""]
