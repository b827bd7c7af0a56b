import io
import struct
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, photo
from PIL import Image, ImageCms, ImageFile, features

from simpipe.data.decode import BadImage, decode, decode_with_facts, resize
from simpipe.data.threads import map_ahead

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


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""
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
    compressed = encoded(photo(1), "TIFF", compression="tiff_lzw")  # its directory is at the end
    assert reason(compressed[: len(compressed) // 2]) == "decode_error"
    assert reason(encoded(photo(1, 32, 32), "ICO")) == "unsupported"
    assert reason(b"8BPS\0\1" + bytes(100)) == "unsupported"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "unsupported"


def test_what_is_whole_but_for_its_end_or_its_filling_is_used() -> None:
    whole = encoded(photo(1), "PNG")
    endless = decode_with_facts(whole.removesuffix(chunk(b"IEND", b"")), LIMIT)
    assert endless.warnings == ("incomplete",) and not endless.plain
    assert np.array_equal(np.asarray(endless.image), np.asarray(photo(1)))

    jpeg = encoded(photo(1))
    scan = jpeg.index(b"\xff\xda")
    for filled in (jpeg[:scan] + b"\x00\x12\x33" + jpeg[scan:], jpeg + b"rubbish" * 100):
        assert np.array_equal(pixels(filled), pixels(jpeg))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_text_that_unpacks_without_end_takes_no_memory(kind: bytes, place: str) -> None:
    packed = zlib.compress(bytes(64 << 20))
    text = chunk(kind, b"a\0\0" + packed if kind == b"zTXt" else b"a\0\1\0\0\0" + packed)
    whole = encoded(photo(1), "PNG")
    cut = 33 if place == "before" else len(whole) - 12
    tracemalloc.start()
    try:
        assert reason(whole[:cut] + text + whole[cut:]) == "decode_error"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    claims_4_gb = whole[:33] + struct.pack(">I", 0xFFFFFFFF) + b"tEXta\0b"
    assert reason(claims_4_gb) == "truncated"


def test_lack_of_memory_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for image_format in ("PNG", "JPEG"):
        with pytest.raises(MemoryError):
            decode(encoded(photo(1), image_format), LIMIT)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_cut_anywhere_is_bad_or_whole_but_never_an_accident(image_format: str) -> None:
    raw = encoded(photo(2, 24, 18), image_format)
    for length in range(0, len(raw), max(1, len(raw) // 60)):
        try:
            assert decode(raw[:length], LIMIT).size == (24, 18)
        except BadImage as error:
            assert error.reason in {"empty", "not_an_image", "truncated", "decode_error"}


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        *((name, {}) for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "MPO")),
        *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        ("TIFF", {"compression": "group4"}),
    ],
)
def test_noise_never_escapes_and_nothing_is_said(
    image_format: str, options: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Not by a warning of Python, nor by a library that writes to the standard error itself."""
    if image_format in {"WEBP", "AVIF"} and not features.check(image_format.lower()):
        pytest.skip(f"this Pillow has no {image_format}")
    rng = np.random.default_rng(0)
    image = photo(3, 20, 20).convert("1" if "group4" in options.values() else "RGB")
    good = np.frombuffer(encoded(image, image_format, **options), np.uint8)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for _ in range(40):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 6)] = rng.integers(0, 256, 6)
            try:
                decode(bad.tobytes(), 10**6)
            except BadImage as error:
                assert error.detail
    assert not shown
    assert capfd.readouterr() == ("", "")


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


def forged(image_format: str, place: Callable[[bytes], int], size: bytes) -> bytes:
    raw = encoded(photo(1), image_format)
    start = place(raw)
    return raw[:start] + size + raw[start + len(size) :]


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (png(100_000, 100_000, 1, 0, b""), LIMIT),
        (forged("JPEG", lambda raw: raw.index(b"\xff\xc0") + 5, struct.pack(">HH", 65_500, 65_500)), LIMIT),
        (forged("JPEG", lambda raw: raw.index(b"\xff\xc0") + 5, struct.pack(">HH", 9_000, 9_000)), 8 * 10**7),
        (forged("GIF", lambda raw: 6, b"\xff" * 4), LIMIT),
        (forged("BMP", lambda raw: 18, struct.pack("<ii", 12_000, 12_000)), LIMIT),
        (b"P6 12000 12000 255\n", LIMIT),
    ],
)
def test_a_bomb_is_refused_before_there_are_pixels(
    raw: bytes, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_prepare(image: Any) -> None:
        pytest.fail("memory was asked for")

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", load_prepare)
    assert reason(raw, limit) == "too_large"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
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
    if image_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif image_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(as_stored))
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    options |= {"AVIF": {"quality": 95, "subsampling": "4:4:4"}, "HEIF": {"quality": 95, "chroma": 444}}
    given = options.get(image_format, {})
    decoded = decode_with_facts(encoded(stored, image_format, exif=exif.tobytes(), **given), LIMIT)
    assert (decoded.width, decoded.height) == decoded.image.size == (64, 48)
    assert decoded.plain == (image_format in {"JPEG", "PNG"} and orientation == 1)
    difference = np.abs(np.asarray(decoded.image).astype(int) - upright)
    assert difference.mean() < (3 if image_format in {"JPEG", "AVIF", "HEIF"} else 1e-9)


def test_bad_exif_does_not_make_a_bad_image() -> None:
    raw = encoded(photo(1))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x011A, 5, 1, 26) + bytes(4)
    zero_denominator = tiff + struct.pack("<II", 72, 0)
    upright = tiff[:8] + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 99, 0)  # no orientation is called 99
    for block in (zero_denominator, b"II*\0\xff\xff\xff\x7f", b"rubbish", upright, tiff[:20]):
        content = b"Exif\0\0" + block
        segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
        decoded = decode_with_facts(raw[:2] + segment + raw[2:], LIMIT)
        assert np.array_equal(np.asarray(decoded.image), pixels(raw))
        assert decoded.warnings in {(), ("exif_bad",)}
        assert decoded.plain == (not decoded.warnings)
    assert decoded.warnings == ("exif_bad",)  # of the last one, which is cut


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


def test_transparency_lies_on_another_colour() -> None:
    rgba = Image.new("RGBA", (3, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (0, 0, 200, 128))
    rgba.putpixel((2, 0), (1, 2, 3, 255))
    for image in (rgba, rgba.quantize()):
        for image_format in ("PNG", "TIFF"):
            if (image.mode, image_format) == ("P", "TIFF"):
                continue  # Pillow does not write it
            decoded = decode_with_facts(encoded(image, image_format), LIMIT, background="#204060")
            row = np.asarray(decoded.image).astype(int)[0]
            assert np.abs(row - [[0x20, 0x40, 0x60], [0x10, 0x20, 0x94], [1, 2, 3]]).max() <= 2
    assert pixels(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG")).tolist() == [[[9, 8, 7]]]


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    raw = encoded(cmyk)
    assert np.abs(pixels(raw) - [255, 0, 0]).max() < 12
    without_adobe = raw.replace(b"Adobe", b"Bdobe")
    assert without_adobe != raw
    assert np.abs(pixels(without_adobe) - [255, 0, 0]).max() < 12
    assert np.abs(pixels(encoded(cmyk, "TIFF")) - [255, 0, 0]).max() < 12
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile = bytearray(srgb)  # a profile of three inks for an image of four
    start = srgb.find("sRGB".encode("utf-16-be"))
    with_profile[start : start + 8] = "inks".encode("utf-16-be")
    decoded = decode_with_facts(encoded(cmyk, icc_profile=bytes(with_profile)), LIMIT)
    assert decoded.warnings == ("icc_bad",) and not decoded.plain
    assert np.array_equal(np.asarray(decoded.image), pixels(raw))
    assert not decode_with_facts(raw, LIMIT).plain


def test_lab_and_ycbcr() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    as_lab = ImageCms.profileToProfile(photo(1), srgb, lab, outputMode="LAB")
    assert as_lab is not None
    for image in (as_lab, photo(1).convert("YCbCr")):
        assert np.abs(pixels(encoded(image, "TIFF")) - np.asarray(photo(1))).mean() < 3


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    values = np.random.default_rng(0).integers(0, 65_536, (5, 4, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    decoded = decode_with_facts(png(4, 5, 16, 2, rows), LIMIT)
    assert np.array_equal(np.asarray(decoded.image), values >> 8)
    assert not decoded.plain


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


def test_a_range_of_greys_means_the_same_in_every_image() -> None:
    values = np.array([[0, 1_000, 2_000, 3_000, 4_095, 65_535]], np.uint16)
    expected = np.round(np.clip(values / 4_000, 0, 1) * 255).astype(int)
    spoiled = np.append(values.astype(np.float32), [[np.nan, np.inf, -np.inf]], axis=1)
    for array, image_format, wanted in (
        (values, "PNG", expected),
        (values, "TIFF", expected),
        (values.astype(np.int32), "TIFF", expected),
        (spoiled, "TIFF", np.append(expected, [[0, 255, 0]], axis=1)),
        (values[:, :2], "PNG", expected[:, :2]),  # although alone it would be stretched
    ):
        raw = encoded(Image.fromarray(array), image_format)
        decoded = decode_with_facts(raw, LIMIT, grey_range=(0, 4_000))
        assert decoded.warnings == () and not decoded.plain
        assert np.array_equal(np.asarray(decoded.image), np.repeat(wanted[..., None], 3, axis=2))
    eight = Image.fromarray(values.astype(np.uint8))
    assert np.array_equal(
        np.asarray(decode_with_facts(encoded(eight, "PNG"), LIMIT, grey_range=(0, 4_000)).image)[..., 0],
        np.asarray(eight),
    )


def test_greys_of_many_values_are_scaled_in_blocks_as_in_one() -> None:
    array = np.random.default_rng(0).normal(5, 2, (1_100, 1_000)).astype(np.float32)  # over one block
    grey = pixels(encoded(Image.fromarray(array), "TIFF"))[..., 0]
    low, high = np.percentile(array.astype(float), (0.5, 99.5))
    assert np.abs(grey - 255 * ((array - low) / (high - low)).clip(0, 1)).max() <= 0.51
    nothing = np.full((3, 3), np.nan, np.float32)
    assert pixels(encoded(Image.fromarray(nothing), "TIFF")).max() == 0


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_many(image_format: str) -> None:
    first, *rest = (Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue"))
    raw = encoded(first, image_format, save_all=True, append_images=rest)
    decoded = decode_with_facts(raw, LIMIT)
    assert decoded.warnings == ("animated",)
    assert np.abs(np.asarray(decoded.image).astype(int) - [255, 0, 0]).max() < 4
    assert not decoded.plain


def test_a_rubbish_second_frame_does_not_spoil_the_first() -> None:
    first, second = photo(1), photo(2)
    raw = encoded(first, "GIF", save_all=True, append_images=[second])
    start = raw.index(b"\x21\xf9\x04", len(encoded(first, "GIF")) // 2)
    alone = pixels(encoded(first, "GIF"))
    for rubbish in (b"\x2c\xff\xff", b"\x21\xf9\xff\xff", b"?" * 50):
        assert np.array_equal(pixels(raw[:start] + rubbish), alone)
    pages = encoded(first, "TIFF", save_all=True, append_images=[second])
    damaged = pages[: len(encoded(first, "TIFF"))] + b"\xff" * 40
    assert np.array_equal(pixels(damaged), np.asarray(first))


def test_an_mpo_is_one_photo() -> None:
    first, second = photo(1), photo(2)
    raw = encoded(first, "MPO", save_all=True, append_images=[second])
    decoded = decode_with_facts(raw, LIMIT)
    assert (decoded.format, decoded.warnings, decoded.plain) == ("MPO", (), False)
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
    for same in (image, image.convert("RGBA"), image.quantize(2)):
        converted = decode_with_facts(encoded(same, "PNG", icc_profile=bytes(swapped)), LIMIT)
        assert np.abs(np.asarray(converted.image).astype(int) - [50, 100, 200]).max() <= 3
        assert not converted.plain and "icc_bad" not in converted.warnings
    assert not broken.plain
    assert decode_with_facts(encoded(image, "PNG", icc_profile=srgb), LIMIT).plain


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16"])
def test_plain_is_what_needs_no_conversion(mode: str) -> None:
    image = photo(1).convert(mode) if mode != "I;16" else Image.fromarray(np.eye(9, dtype=np.uint16))
    assert decode_with_facts(encoded(image, "PNG"), LIMIT).plain == (mode in {"RGB", "L", "1", "P"})
    if mode in {"RGB", "L"}:
        assert decode_with_facts(encoded(image), LIMIT).plain
        assert decode_with_facts(encoded(image, progressive=True), LIMIT, at_least=4).plain
        assert not decode_with_facts(encoded(image, "BMP"), LIMIT).plain


def test_heif_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("simpipe.data.decode.import_module", missing)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0heicmiaf", b"hevx\0\0\0\0msf1hevx"):
        with pytest.raises(BadImage, match=r"pip install 'simpipe\[heif\]'") as caught:
            decode(b"\0\0\0\x18ftyp" + brands + bytes(50), LIMIT)
        assert caught.value.reason == "unsupported"


def test_heif_with_the_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    raw = encoded_heif(heif, photo(1))
    for renamed in (raw, raw[:8] + b"mif1" + raw[12:]):
        decoded = decode_with_facts(renamed, LIMIT, at_least=8)
        assert (decoded.format, decoded.width, decoded.height) == ("HEIF", 64, 48)
        assert (decoded.warnings, decoded.plain) == ((), False)
        assert np.abs(np.asarray(decoded.image).astype(int) - np.asarray(photo(1))).mean() < 8
    assert reason(raw, 64 * 48 - 1) == "too_large"
    assert reason(raw[: len(raw) // 2]) in {"truncated", "decode_error"}


def encoded_heif(heif: Any, image: Image.Image) -> bytes:
    sink = io.BytesIO()
    heif.from_pillow(image).save(sink, quality=90)
    return sink.getvalue()


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
