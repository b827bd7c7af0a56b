import io
from pathlib import Path

import numpy as np
import pytest
from pictures import photo
from PIL import Image

from simpipe.data.decode import resize, resize_image
from simpipe.data.thumbnails import (
    ROW_GROUP,
    decode_thumbnails,
    encode_jpeg,
    has_thumbnails,
    pixel_features,
    read_thumbnails,
    write_thumbnails,
)
from simpipe.errors import DamagedError


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    thumbnails = [encode_jpeg(resize_image(photo(k % 7), 32, "squash")) for k in range(ROW_GROUP + 5)]
    path = tmp_path_factory.mktemp("thumbnails") / "thumbnails.parquet"
    write_thumbnails(path, iter(thumbnails))
    return path, thumbnails


def test_a_thumbnail_is_the_resized_image() -> None:
    image = photo(1, 200, 100)
    back = Image.open(io.BytesIO(encode_jpeg(resize_image(image, 96, "pad"))))
    assert (back.format, back.size) == ("JPEG", (96, 96))
    assert np.abs(np.asarray(back).astype(int) - resize(image, 96, "pad")).mean() < 4


@pytest.mark.parametrize("rows", [[], [0], [1028, 3, 3, 0], list(range(1029)), np.array([1023, 1024])])
def test_rows_come_in_the_order_asked_for(stored: tuple[Path, list[bytes]], rows: list[int]) -> None:
    path, thumbnails = stored
    assert read_thumbnails(path, rows) == [thumbnails[row] for row in rows]


def test_pixel_features(stored: tuple[Path, list[bytes]]) -> None:
    path, thumbnails = stored
    features = pixel_features(path)
    assert features.shape == (len(thumbnails), 768) and features.dtype == np.float32
    assert features.min() >= 0 and features.max() <= 1
    for row in (0, 3, ROW_GROUP + 2):
        picture = np.asarray(
            Image.open(io.BytesIO(thumbnails[row])).resize((16, 16), Image.Resampling.BILINEAR)
        )
        assert np.abs(features[row] - picture.ravel() / 255).mean() < 0.05
    assert [len(block) for block in decode_thumbnails(path, 8)] == [ROW_GROUP, 5]


def test_where_there_is_none_stays_empty(stored: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    some = [b"", stored[1][0], b""]
    write_thumbnails(tmp_path / "some", iter(some))
    assert read_thumbnails(tmp_path / "some", [2, 1, 0]) == some
    write_thumbnails(tmp_path / "none", [])
    assert read_thumbnails(tmp_path / "none", []) == []


def test_equal_thumbnails_are_equal_bytes(stored: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    path, thumbnails = stored
    write_thumbnails(tmp_path / "again", thumbnails)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_damage_is_named(stored: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    whole = stored[0].read_bytes()
    path = tmp_path / "thumbnails.parquet"
    with pytest.raises(DamagedError, match="missing"):
        read_thumbnails(path, [0])
    spoiled = whole[:100] + bytes([whole[100] ^ 255]) + whole[101:]
    for content in (b"", whole[:1000], whole[:-1], spoiled):
        path.write_bytes(content)
        for read in (lambda: read_thumbnails(path, [0]), lambda: pixel_features(path)):
            with pytest.raises(DamagedError, match=r"thumbnails\.parquet"):
                read()
    for row in (-1, len(stored[1])):
        with pytest.raises(DamagedError, match="rows"):
            read_thumbnails(stored[0], [row])
    write_thumbnails(path, [b"no picture"])
    with pytest.raises(DamagedError, match=r"thumbnails\.parquet"):
        pixel_features(path)


def test_samples_without_thumbnails_have_empty_values(
    tmp_path: Path, stored: tuple[Path, list[bytes]]
) -> None:
    write_thumbnails(tmp_path / "none.parquet", [b""] * 3)
    assert not has_thumbnails(tmp_path / "none.parquet")
    assert read_thumbnails(tmp_path / "none.parquet", [2, 0]) == [b"", b""]
    assert has_thumbnails(stored[0])
