import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image
from report_fixture import colour, picture, pictures

from simpipe.reporting.sheets import TILES, Sheets, choose, encode, fit


def make(
    thumbnails: Callable[[Sequence[int]], list[bytes]], rows: list[int], n: int, max_bytes: float
) -> Sheets:
    return fit(encode(thumbnails, rows), n, max_bytes)


def tile_colour(sheets: list[str], tile: int, side: int) -> np.ndarray:
    """The mean colour of the middle of a tile."""
    sheet = Image.open(io.BytesIO(base64.b64decode(sheets[tile // TILES])))
    x, y = tile % TILES % 16 * side, tile % TILES // 16 * side
    part = sheet.crop((x + side // 4, y + side // 4, x + side * 3 // 4, y + side * 3 // 4))
    return np.asarray(part, float).mean(axis=(0, 1))


def test_every_row_finds_its_own_picture() -> None:
    rows = list(range(300, 0, -1))
    found = make(pictures, rows, 301, 1e9)
    assert found.side == 96 and len(found.sheets) == 2
    assert found.tile[0] == -1
    assert sorted(found.tile[1:].tolist()) == list(range(300))
    for row in (300, 299, 45, 44, 1):
        np.testing.assert_allclose(tile_colour(found.sheets, int(found.tile[row]), 96), colour(row), atol=14)


def test_missing_and_broken_pictures_get_no_tile() -> None:
    def some(rows: list[int]) -> list[bytes]:
        return [b"" if row == 1 else b"no picture" if row == 3 else picture(row) for row in rows]

    found = make(some, list(range(6)), 6, 1e9)
    assert (found.tile >= 0).tolist() == [True, False, True, False, True, True]
    np.testing.assert_allclose(tile_colour(found.sheets, int(found.tile[5]), 96), colour(5), atol=14)


def test_a_tall_picture_is_not_stretched() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (30, 90), (250, 10, 10)).save(stream, "JPEG")
    found = make(lambda rows: [stream.getvalue()], [0], 1, 1e9)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.sheets[0]))), float)
    assert sheet[48, 48, 0] > 200 and abs(sheet[48, 8, 0] - 128) < 20, "grey beside it"


@pytest.mark.parametrize(("n", "side"), [(2_500, 96), (2_501, 64), (8_000, 64), (8_001, 48)])
def test_size_follows_the_number(n: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def blank(pictures: list[bytes], side: int) -> tuple[str, list[bool]]:
        drawn.append(side)
        return "", [True] * len(pictures)

    monkeypatch.setattr("simpipe.reporting.sheets.sheet", blank)
    assert make(lambda rows: [b"any"] * len(rows), list(range(n)), n, 1e9).side == side
    assert set(drawn) == {side}


def test_a_small_budget_first_takes_size_then_the_last_pictures() -> None:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(stream, "JPEG")

    def noisy(rows: list[int]) -> list[bytes]:
        return [stream.getvalue()] * len(rows)

    encoded = encode(noisy, list(range(600)))
    whole = fit(encoded, 600, 1e9)
    size = sum(map(len, whole.sheets))
    smaller = fit(encoded, 600, size * 0.6)
    assert whole.side == 96 and smaller.side == 64 and (smaller.tile >= 0).all()
    cut = fit(encoded, 600, size * 0.15)
    assert cut.side == 48 and sum(map(len, cut.sheets)) <= size * 0.15
    assert 0 < (cut.tile >= 0).sum() < 600 and (cut.tile[:TILES] >= 0).all()
    assert make(noisy, list(range(9)), 9, 0).sheets == []


def test_of_many_images_the_first_and_some_of_each_label_are_kept() -> None:
    label_id = np.repeat(np.arange(20), [2_000] * 10 + [5] * 10)
    rows = choose(len(label_id), label_id, [19_999, 7], most=1_000)
    assert rows[:2] == [19_999, 7] and len(rows) == len(set(rows)) == 1_000
    counts = np.bincount(label_id[rows], minlength=20)
    assert (counts[:10] >= 10).all() and (counts[10:] == 5).all()
    assert choose(4, np.zeros(4, int), [2]) == [2, 0, 1, 3]
