import hashlib
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, photo
from PIL import Image, ImageCms, features

from simpipe.data.decode import BadImage, decode, decode_with_facts, load_pixels, resize
from simpipe.data.threads import map_ahead
from simpipe.errors import DataError

LIMIT = 10**8


def pixels(raw: bytes) -> NDArray[np.int64]:
    image = decode(raw, LIMIT)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def reason(raw: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(BadImage) as caught:
        decode(raw, limit)
    assert caught.value.detail
    return caught.value.reason


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG", "AVIF"])
def test_formats(image_format: str) -> None:
    if image_format in {"WEBP", "AVIF"} and not features.check(image_format.lower()):
        pytest.skip(f"this Pillow has no {image_format}")
    image = photo(1)
    options = {"lossless": True} if image_format == "WEBP" else {}
    decoded = decode_with_facts(encoded(image, image_format, **options), LIMIT)
    assert (decoded.format, decoded.width, decoded.height) == (image_format, 64, 48)
    assert decoded.warnings == ()
    difference = np.abs(np.asarray(decoded.image).astype(int) - np.asarray(image)).mean()
    assert difference <= (0 if image_format in {"PNG", "BMP", "TIFF", "PPM", "WEBP"} else 10)


def test_the_content_counts_and_a_bad_file_has_a_reason() -> None:
    jpeg = encoded(photo(1, 200, 150))
    assert reason(b"") == "empty"
    assert reason(b"\xff") == "not_an_image"
    assert reason(b"<html>not found</html>") == "not_an_image"
    assert reason(jpeg[: len(jpeg) // 2]) == "truncated"
    assert reason(jpeg[:-10]) == "truncated"
    assert reason(jpeg[:-2]) == "truncated"  # no end-of-image mark
    whole = encoded(photo(1), "PNG")
    assert reason(whole[: len(whole) // 2]) == "truncated"
    assert reason(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "unsupported"
    assert reason(b"8BPS\0\1" + bytes(100)) == "unsupported"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not_an_image"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_cut_anywhere_is_bad_or_whole_but_never_an_accident(image_format: str) -> None:
    raw = encoded(photo(2, 24, 18), image_format)
    for length in range(0, len(raw), max(1, len(raw) // 60)):
        try:
            assert decode(raw[:length], LIMIT).size == (24, 18)
        except BadImage as error:
            assert error.reason in {"empty", "not_an_image", "truncated", "decode_error"}


def test_noise_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(0)
    for image_format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        good = np.frombuffer(encoded(photo(3, 20, 20), image_format), np.uint8)
        for _ in range(40):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 6)] = rng.integers(0, 256, 6)
            try:
                decode(bad.tobytes(), 10**6)
            except BadImage as error:
                assert error.detail


def test_too_large_by_the_header_alone_and_without_a_warning() -> None:
    bomb = png(14_000, 14_000, 1, 0, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(bomb) == "too_large"
        assert reason(png(10_000, 9_500, 1, 0, b""), 94_000_000) == "too_large"  # where Pillow only warns
        assert reason(encoded(photo(1)), 64 * 48 - 1) == "too_large"
        assert reason(png(10_000, 9_500, 1, 0, b""), 96_000_000) in {"truncated", "decode_error"}
    assert decode(encoded(photo(1)), 64 * 48).size == (64, 48)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, image_format: str) -> None:
    upright = np.asarray(photo(4, 64, 48))
    as_stored = {  # the inverse of what the tag asks for, by indices
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(as_stored))
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(image_format, {})
    decoded = decode_with_facts(encoded(stored, image_format, exif=exif, **options), LIMIT)
    assert (decoded.width, decoded.height) == (64, 48)
    difference = np.abs(np.asarray(decoded.image).astype(int) - upright)
    assert difference.mean() < (2 if image_format == "JPEG" else 1e-9)


def test_bad_exif_does_not_make_a_bad_image() -> None:
    raw = encoded(photo(1))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x011A, 5, 1, 26) + bytes(4)
    zero_denominator = tiff + struct.pack("<II", 72, 0)
    for block in (zero_denominator, b"II*\0\xff\xff\xff\x7f", b"rubbish"):
        content = b"Exif\0\0" + block
        segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
        decoded = decode_with_facts(raw[:2] + segment + raw[2:], LIMIT)
        assert np.array_equal(np.asarray(decoded.image), pixels(raw))


def test_transparency_lies_on_white() -> None:
    rgba = Image.new("RGBA", (2, 1))
    rgba.putpixel((0, 0), (255, 0, 0, 0))  # the hidden colour must not show
    rgba.putpixel((1, 0), (0, 0, 200, 128))
    expected = [[255, 255, 255], [127, 127, 227]]
    assert np.abs(pixels(encoded(rgba, "PNG"))[0] - expected).max() <= 1

    grey = Image.new("LA", (1, 1), (10, 0))
    assert pixels(encoded(grey, "PNG")).ravel().tolist() == [255] * 3

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert pixels(encoded(palette, "PNG", transparency=0)).tolist() == [[[255] * 3, [0, 0, 255]]]
    assert decode_with_facts(encoded(palette, "PNG", transparency=0), LIMIT).warnings == ("alpha",)

    assert pixels(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG", transparency=(9, 8, 7))).min() == 255
    assert pixels(encoded(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255, 255, 255]]]


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    raw = encoded(cmyk)
    assert np.abs(pixels(raw) - [255, 0, 0]).max() < 12
    without_adobe = raw.replace(b"Adobe", b"Bdobe")
    assert without_adobe != raw
    assert np.abs(pixels(without_adobe) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize(("top", "label"), [(65_535, "full range"), (4_095, "12 bits"), (300, "dim")])
def test_16_bit_grey_keeps_its_steps(top: int, label: str) -> None:
    ramp = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
    decoded = decode_with_facts(encoded(Image.fromarray(ramp), "PNG"), LIMIT)
    grey = np.asarray(decoded.image)[..., 0]
    assert decoded.warnings == ("stretched",)
    expected = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    assert np.abs(grey - expected).max() <= 4, label
    assert grey.min() == 0 and grey.max() == 255


def test_float_and_32_bit_tiff() -> None:
    ramp = np.linspace(-3, 5, 64 * 64, dtype=np.float32).reshape(64, 64)
    spoiled = ramp.copy()
    spoiled[0, 0], spoiled[0, 1] = np.nan, np.inf
    for array in (ramp, spoiled, (ramp * 1e6).astype(np.int32)):
        grey = pixels(encoded(Image.fromarray(array), "TIFF"))[..., 0]
        assert np.abs(grey - np.linspace(0, 255, 64 * 64).reshape(64, 64))[1:].max() <= 4
    assert pixels(encoded(Image.fromarray(np.full((4, 4), 7, np.float32)), "TIFF")).max() == 0
    lonely = np.zeros((64, 64), np.uint16)
    lonely[5, 5] = 900
    assert pixels(encoded(Image.fromarray(lonely), "PNG"))[5, 5].tolist() == [255] * 3


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_many(image_format: str) -> None:
    first, *rest = (Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue"))
    raw = encoded(first, image_format, save_all=True, append_images=rest)
    decoded = decode_with_facts(raw, LIMIT)
    assert decoded.warnings == ("animated",)
    assert np.abs(np.asarray(decoded.image).astype(int) - [255, 0, 0]).max() < 4


def test_an_mpo_is_one_photo() -> None:
    first, second = photo(1), photo(2)
    raw = encoded(first, "MPO", save_all=True, append_images=[second])
    decoded = decode_with_facts(raw, LIMIT)
    assert (decoded.format, decoded.warnings) == ("MPO", ())
    assert np.abs(np.asarray(decoded.image).astype(int) - np.asarray(first)).mean() < 10


def test_an_embedded_profile_is_converted_and_a_broken_one_ignored() -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(encoded(image, "PNG", icc_profile=srgb)), np.asarray(image))
    broken = decode_with_facts(encoded(image, "PNG", icc_profile=b"no profile"), LIMIT)
    assert broken.warnings == ("icc_bad",)
    assert np.array_equal(np.asarray(broken.image), np.asarray(image))

    swapped = bytearray(srgb)  # a profile whose red and blue primaries changed places
    tags = {}
    for n in range(struct.unpack_from(">I", srgb, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", srgb, 132 + 12 * n)
        tags[name] = (132 + 12 * n, offset)
    for name, other in ((b"rXYZ", b"bXYZ"), (b"bXYZ", b"rXYZ")):
        struct.pack_into(">I", swapped, tags[name][0] + 4, tags[other][1])
    start = swapped.find("sRGB".encode("utf-16-be"))
    assert start > 0
    swapped[start : start + 8] = "swap".encode("utf-16-be")
    converted = pixels(encoded(image, "PNG", icc_profile=bytes(swapped)))
    assert np.abs(converted - [50, 100, 200]).max() <= 3


def test_a_reduced_jpeg_keeps_its_facts_and_at_least_the_size_asked_for() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encoded(photo(5, 640, 400), exif=exif)
    whole, small = decode_with_facts(raw, LIMIT), decode_with_facts(raw, LIMIT, at_least=96)
    assert whole[1:] == small[1:] and (small.width, small.height) == (400, 640)
    assert small.image.size == (100, 160)
    difference = np.abs(resize(whole.image, 32, "squash").astype(int) - resize(small.image, 32, "squash"))
    assert difference.mean() < 2


def triangle_resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Antialiased bilinear scaling down by plain loops: the weights of the triangle filter, axis by axis."""
    result = image.astype(float)
    for axis, size in ((0, height), (1, width)):
        scale = result.shape[axis] / size
        weights = np.zeros((size, result.shape[axis]))
        for i in range(size):
            for j in range(result.shape[axis]):
                distance = abs(j + 0.5 - (i + 0.5) * scale) / max(scale, 1)
                weights[i, j] = max(0.0, 1 - distance)
        weights /= weights.sum(axis=1, keepdims=True)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


def test_resize_rules_against_plain_loops() -> None:
    image = photo(6, 60, 40)
    array = np.asarray(image)
    assert np.abs(resize(image, 20, "squash") - triangle_resize(array, 20, 20)).max() <= 1
    assert np.abs(resize(image, 20, "crop") - triangle_resize(array, 20, 30)[:, 5:25]).max() <= 1
    padded = resize(image, 30, "pad")
    assert (padded[:5] == 255).all() and (padded[25:] == 255).all()
    assert np.abs(padded[5:25] - triangle_resize(array, 20, 30)).max() <= 1


@pytest.mark.parametrize("rule", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 3), (300, 299)])
def test_resize_of_any_size(rule: str, size: tuple[int, int]) -> None:
    array = resize(Image.new("RGB", size, (1, 2, 3)), 16, rule)  # type: ignore[arg-type]
    assert array.shape == (16, 16, 3) and array.dtype == np.uint8
    assert [1, 2, 3] in array[8].tolist() or [1, 2, 3] in array[:, 8].tolist()


def test_load_pixels_in_order_and_only_of_the_bytes_expected(tmp_path: Path) -> None:
    paths = []
    for seed in range(150):
        paths.append(tmp_path / f"{seed}.png")
        photo(seed, 20, 20).save(paths[-1])
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    loaded = list(load_pixels(paths, hashes, 20, "squash"))
    assert len(loaded) == 150
    assert all(np.array_equal(array, np.asarray(photo(seed, 20, 20))) for seed, array in enumerate(loaded))

    paths[5].write_bytes(paths[6].read_bytes())  # a good image, but another one
    paths[3].write_bytes(b"")
    paths[1].unlink()
    stream = load_pixels(paths, hashes, 20, "squash")
    next(stream)
    with pytest.raises(DataError, match=r"1\.png changed since ingest read it") as caught:
        next(stream)
    assert caught.value.hint == "run the same command again when the data are at rest"
    for bad in (3, 5):
        with pytest.raises(DataError, match=rf"{bad}\.png changed since"):
            list(load_pixels(paths[bad:], hashes[bad:], 20, "squash"))
    paths[2].write_bytes(b"never an image")
    known = hashlib.sha256(b"never an image").hexdigest()
    with pytest.raises(DataError, match=r"2\.png could be decoded by ingest, but not now"):
        list(load_pixels(paths[2:3], [known], 20, "squash"))


def test_map_ahead_is_bounded_ordered_and_stops() -> None:
    running, most, lock = 0, 0, threading.Lock()
    drawn = []

    def items() -> Iterator[int]:
        for n in range(1000):
            drawn.append(n)
            yield n

    def work(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return n * n

    stream = map_ahead(work, items(), workers=2, window=8)
    assert [next(stream) for _ in range(20)] == [n * n for n in range(20)]
    assert len(drawn) <= 28 and most <= 2
    stream.close()
    assert list(map_ahead(work, [], workers=2)) == []
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(lambda n: 1 // n, [1, 0, 1]))
