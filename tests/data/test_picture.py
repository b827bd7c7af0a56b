import io

import numpy as np
import pytest
from pictures import encoded, photo
from PIL import Image

from simpipe.data.decode import FORMATS
from simpipe.data.phash import miniature, perceptual_hash
from simpipe.data.picture import Picture, is_misnamed, picture_of
from simpipe.data.preparation import Preparation, prepare

PREPARATION = Preparation("squash", 384, "#ffffff", None)


def kept(raw: bytes, thumbnail_size: int = 48) -> Picture:
    prepared = prepare(raw, PREPARATION, 10**7, 96, "none")
    return picture_of(prepared, thumbnail_size, "pad", "c" * 64)


def test_what_is_kept() -> None:
    image = photo(3, 200, 150)
    picture = kept(encoded(image))
    assert picture[:4] == ("JPEG", 200, 150, ())
    assert picture.copy == "c" * 64
    assert (picture.phash ^ perceptual_hash(image)).bit_count() <= 4
    small = np.frombuffer(picture.miniature, np.uint8).reshape(16, 16, 3)
    assert np.abs(small.astype(int) - miniature(image)).mean() < 4
    assert Image.open(io.BytesIO(picture.thumbnail)).size == (48, 48)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (photo(1, 31, 400), {"tiny", "long"}),
        (photo(1, 32, 320), set()),
        (photo(1, 321, 32), {"long"}),
        (Image.new("RGB", (40, 40), "red"), {"flat"}),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), {"alpha", "flat", "tiny"}),
    ],
)
def test_warnings(image: Image.Image, expected: set[str]) -> None:
    assert kept(encoded(image, "PNG")).warnings == tuple(sorted(expected))


def test_without_a_thumbnail_all_else_is_the_same() -> None:
    raw = encoded(photo(4, 300, 260))
    with_one, without = kept(raw, 64), kept(raw, 0)
    assert without.thumbnail == b"" != with_one.thumbnail
    assert with_one._replace(thumbnail=b"") == without


def test_names_of_other_formats() -> None:
    for file_format in {*FORMATS, "MPO", "HEIF"}:
        right = {"JPEG": "jpg", "TIFF": "TIF", "HEIF": "heic", "DIB": "bmp"}.get(file_format, file_format)
        assert not is_misnamed(f"a.b/x.{right}", file_format)
        assert is_misnamed(f"a.{right}/x", file_format)
        assert is_misnamed("x.png", file_format) == (file_format != "PNG")
