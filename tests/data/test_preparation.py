import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, photo
from PIL import Image, ImageCms

from simpipe.data.decode import BadImage, decode, decode_with_facts, resize
from simpipe.data.preparation import Keep, Preparation, pixels, pixels_of_copy, prepare, recipe

LIMIT = 10**8
PREPARATION = Preparation("squash", 64, "#ffffff", None)


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def opened(raw: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER = SRGB.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))

# what it is -> (whether it is plain, from a photo to the file)
KINDS: dict[str, tuple[bool, Any]] = {
    "jpeg": (True, lambda image: encoded(image)),
    "grey jpeg": (True, lambda image: encoded(image.convert("L"))),
    "png": (True, lambda image: encoded(image, "PNG")),
    "palette": (True, lambda image: encoded(image.quantize(16), "PNG")),
    "turned jpeg": (False, lambda image: encoded(image, **turned(6))),
    "mirrored png": (False, lambda image: encoded(image, "PNG", **turned(2))),
    "bmp": (False, lambda image: encoded(image, "BMP")),
    "cmyk": (False, lambda image: encoded(image.convert("CMYK"))),
    "alpha": (False, lambda image: encoded(image.convert("RGBA").rotate(20), "PNG")),
    "deep": (False, lambda image: encoded(Image.fromarray(np.asarray(image.convert("L"), np.uint16)), "PNG")),
    "jpeg with sRGB": (True, lambda image: encoded(image, icc_profile=SRGB)),
    "jpeg with a profile": (False, lambda image: encoded(image, icc_profile=OTHER)),
    "png with a profile": (False, lambda image: encoded(image, "PNG", icc_profile=OTHER)),
    "png with no profile": (False, lambda image: encoded(image, "PNG", icc_profile=b"?")),
    "tiff with no profile": (False, lambda image: encoded(image.convert("CMYK"), "TIFF", icc_profile=OTHER)),
    "hidden colour": (False, lambda image: encoded(image, "PNG", transparency=image.getpixel((0, 0)))),
    "mpo": (False, lambda image: encoded(image, "MPO", save_all=True, append_images=[image])),
}
sides = st.integers(1, 150)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    side=sides,
    other=sides,
    copy_side=st.integers(8, 80),
    size=st.integers(4, 40),
    rule=st.sampled_from(["squash", "crop", "pad"]),
    colour=st.sampled_from(["#ffffff", "#00ff80"]),
    grey_range=st.sampled_from([None, (0.0, 300.0)]),
)
def test_the_pixels_are_those_of_the_copy_whether_it_is_kept_or_not(
    kind: str,
    side: int,
    other: int,
    copy_side: int,
    size: int,
    rule: Any,
    colour: str,
    grey_range: tuple[float, float] | None,
) -> None:
    plain, make = KINDS[kind]
    raw = make(photo(7, side, other))
    preparation = Preparation(rule, copy_side, colour, grey_range)
    seen = pixels(raw, size, preparation, LIMIT)
    assert seen.shape == (size, size, 3) and seen.dtype == np.uint8
    keeps: tuple[Keep, ...] = ("auto", "all", "none")
    auto, everything, nothing = (prepare(raw, preparation, LIMIT, 8, keep) for keep in keeps)

    whole = decode_with_facts(raw, LIMIT, background=colour, grey_range=grey_range)
    small = min(side, other) <= copy_side
    assert (auto.copy is None) == (plain and small)
    assert nothing.copy is None and nothing.suffix == ""
    assert everything.copy is not None
    assert np.array_equal(pixels_of_copy(everything.copy, size, rule), seen)
    for each in (auto, everything, nothing):
        assert each[3:] == whole[1:5]
        assert each.image.mode == "RGB" and np.array_equal(np.asarray(each.image), np.asarray(auto.image))
        assert {"jpg": "JPEG", "png": "PNG", "": None}[each.suffix] == (
            each.copy and opened(each.copy).format
        )
    if plain and small:
        assert everything.copy == raw
        reduced = decode_with_facts(raw, LIMIT, at_least=2 * size).image
        assert np.array_equal(seen, resize(reduced, size, rule))
    else:
        assert auto.copy == everything.copy
        copy = decode(everything.copy, LIMIT)
        assert copy.size == auto.image.size
        if small:
            assert everything.suffix == "png"
            assert np.array_equal(np.asarray(copy), np.asarray(whole.image))
            assert np.array_equal(seen, resize(whole.image, size, rule))
        else:
            assert everything.suffix == "jpg" and min(copy.size) == copy_side
            longer = copy_side * max(side, other) / min(side, other)
            assert abs(max(copy.size) - longer) <= 0.5
            reduced = decode_with_facts(everything.copy, LIMIT, at_least=2 * size).image
            assert np.array_equal(seen, resize(reduced, size, rule))


def test_a_copy_is_as_good_as_the_large_image() -> None:
    image = photo(3, 900, 700)
    for raw in (encoded(image, quality=95), encoded(image, "PNG")):
        seen = pixels(raw, 64, PREPARATION._replace(copy_side=128), LIMIT).astype(int)
        assert np.abs(seen - resize(image, 64, "squash")).mean() < 1


def test_a_small_jpeg_is_reduced_for_thumbnails_only_where_nothing_else_is_wanted() -> None:
    raw = encoded(photo(1, 400, 300))
    small = PREPARATION._replace(copy_side=300)
    assert prepare(raw, small, LIMIT, 64, "auto").image.size == (100, 75)
    assert prepare(raw, small, LIMIT, 256, "auto").image.size == (400, 300)
    odd = encoded(photo(1, 400, 300), **turned(3))
    prepared = prepare(odd, small, LIMIT, 64, "auto")
    assert prepared.image.size == (400, 300) and prepared.warnings == ()
    assert (prepared.width, prepared.height, prepared.format) == (400, 300, "JPEG")


def test_a_large_image_that_is_longer_than_a_jpeg_can_be() -> None:
    raw = encoded(photo(1, 70_000, 9), "PNG")
    prepared = prepare(raw, PREPARATION._replace(copy_side=8), LIMIT, 8, "auto")
    assert prepared.suffix == "jpg"  # 62,222 pixels
    longer = encoded(photo(1, 79_000, 9), "PNG")
    prepared = prepare(longer, PREPARATION._replace(copy_side=8), LIMIT, 8, "auto")
    assert prepared.suffix == "png" and prepared.image.size == (70_222, 8)
    assert prepared.copy is not None
    assert np.array_equal(
        pixels_of_copy(prepared.copy, 8, "squash"),
        pixels(longer, 8, PREPARATION._replace(copy_side=8), LIMIT),
    )


def test_a_profile_of_its_own_makes_a_copy_without_one() -> None:
    assert prepare(encoded(photo(1), icc_profile=SRGB), PREPARATION, LIMIT, 64, "auto").copy is None
    copy = prepare(encoded(photo(1), icc_profile=OTHER), PREPARATION, LIMIT, 64, "auto").copy
    assert copy is not None and not opened(copy).info.keys() & {"icc_profile", "exif"}


def test_what_is_no_image_has_its_reason() -> None:
    jpeg = encoded(photo(1, 200, 150))
    for raw, reason in ((b"", "empty"), (b"text", "not_an_image"), (jpeg[:-50], "truncated")):
        with pytest.raises(BadImage) as caught:
            prepare(raw, PREPARATION, LIMIT, 64, "auto")
        assert caught.value.reason == reason
        with pytest.raises(BadImage) as caught:
            pixels(raw, 8, PREPARATION, LIMIT)
        assert caught.value.reason == reason
    for call in (
        lambda: prepare(jpeg, PREPARATION, 29_999, 64, "all"),
        lambda: pixels(jpeg, 8, PREPARATION, 9),
    ):
        with pytest.raises(BadImage, match="too_large"):
            call()


def test_a_recipe_names_all_that_a_copy_depends_on() -> None:
    others = [
        PREPARATION._replace(copy_side=65),
        PREPARATION._replace(background="#fffffe"),
        PREPARATION._replace(grey_range=(0, 4095)),
        PREPARATION._replace(grey_range=(0, 4096)),
    ]
    recipes = [recipe(each) for each in (PREPARATION, *others)]
    assert len(set(recipes)) == 5
    assert all(len(each) == 8 and int(each, 16) >= 0 for each in recipes)
    assert recipe(others[2]) == recipe(PREPARATION._replace(grey_range=(0.0, 4095.0)))
    assert recipe(PREPARATION._replace(resize="pad")) == recipe(PREPARATION)  # copies are not square yet
    for each in (PREPARATION, *others):
        assert Preparation.of(json.loads(json.dumps(each.to_json()))) == each


MEASURE = """
import io, resource, sys
from PIL import Image
from simpipe.data.preparation import Preparation, pixels, prepare
preparation = Preparation("squash", 384, "#ffffff", None)
def of(width, height):
    sink = io.BytesIO()
    Image.new("L", (width, height), 90).save(sink, "JPEG")
    return sink.getvalue()
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
raw = open(sys.argv[1], "rb").read()
prepare(of(500, 400), preparation, 1e8, 96, "all")
before = most()
prepared = prepare(raw, preparation, 1e8, 96, "auto")
pixels(raw, 224, preparation, 1e8)
print(most() - before, min(prepared.image.size), prepared.width * prepared.height)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_a_photo_of_60_megapixels_does_not_need_the_memory_of_its_pixels(tmp_path: Any) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (9_000, 6_700), (200, 90, 40)).save(path)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    kilobytes, side, area = (int(each) for each in done.stdout.split())
    assert (side, area) == (384, 9_000 * 6_700)
    assert kilobytes * (1 if sys.platform == "linux" else 1e-3) < 60_000
    assert done.stderr == ""
