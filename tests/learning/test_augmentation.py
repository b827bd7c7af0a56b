"""Views against plain references: Pillow, scipy, colorsys, loops."""

import colorsys
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from simpipe.errors import UsageError
from simpipe.learning import load_framework
from simpipe.learning.augmentation import (
    PRESETS,
    Augmentation,
    Drawn,
    apply,
    augment,
    contact_sheet,
    draw,
    of,
    view_seed,
)

SIDE = 40
EVERYTHING = Augmentation(0.1, 0.5, 0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5, 0.3, 0.5)


@pytest.fixture(scope="module", autouse=True)
def framework():
    load_framework()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth colours with some noise, uint8 (12, 40, 40, 3)."""
    rng = np.random.default_rng(3)
    coarse = rng.uniform(0, 255, (12, 5, 5, 3))
    smooth = ndimage.zoom(coarse, (1, SIDE / 5, SIDE / 5, 1), order=1)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def pixels(images: np.ndarray, **parameters: list) -> np.ndarray:
    """`apply` with the given parameters, one entry for each image."""
    drawn = {
        name: np.asarray(values, bool if name in ("flip", "grey", "solarise") else np.float32)
        for name, values in parameters.items()
    }
    return apply(images, Drawn(**drawn)).numpy()


def turned(*turns: float) -> np.ndarray:
    """The parameter `hue` for angles in turns."""
    return np.array([(math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)) for turn in turns])


def close(found: np.ndarray, expected: np.ndarray, by: float = 0.01) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=by)


# --- the pixels


def test_crop_samples_bilinearly_between_the_centres_of_pixels(images):
    boxes = np.array([[0.1, 0.3, 0.7, 0.9], [0, 0, 1, 1], [0.5, 0.02, 0.99, 0.31]])
    found = pixels(images[:3], crop=boxes)
    for image, view, (y1, x1, y2, x2) in zip(images, found, boxes, strict=False):
        grid = np.meshgrid(
            np.linspace(y1, y2, SIDE) * (SIDE - 1), np.linspace(x1, x2, SIDE) * (SIDE - 1), indexing="ij"
        )
        expected = [ndimage.map_coordinates(image[..., c].astype(float), grid, order=1) for c in range(3)]
        close(view, np.stack(expected, -1), 0.05)


def test_flip_alone_moves_whole_pixels(images):
    found = pixels(images[:2], flip=[True, False])
    np.testing.assert_array_equal(found[0], images[0, :, ::-1])
    np.testing.assert_array_equal(found[1], images[1])


def test_flip_mirrors_the_crop(images):
    box = [[0.2, 0.1, 0.8, 0.6]]
    found = pixels(images[:1], crop=box, flip=[True])
    close(found, pixels(images[:1], crop=box)[:, :, ::-1], 0.001)


@pytest.mark.parametrize(
    ("name", "enhance"), [("brightness", ImageEnhance.Brightness), ("saturation", ImageEnhance.Color)]
)
def test_brightness_and_saturation_are_pillows(images, name, enhance):
    for factor in (0.0, 0.4, 1.7):
        expected = np.array(enhance(Image.fromarray(images[0])).enhance(factor), float)
        close(pixels(images[:1], **{name: [factor]})[0], expected, 1.6)  # Pillow's are cut to whole numbers


def test_contrast_is_pillows_around_the_mean_of_this_very_image(images):
    factors = [0.0, 0.4, 1.7]
    found = pixels(images[:3], contrast=factors)
    for image, view, factor in zip(images, found, factors, strict=False):
        close(view, np.array(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor), float), 1.6)


def test_grey_is_pillows_and_has_three_equal_channels(images):
    found = pixels(images[:2], grey=[True, False], hue=turned(0.3, 0))
    close(found[0, ..., 0], np.array(Image.fromarray(images[0]).convert("L"), float), 0.6)
    assert (found[0] == found[0, ..., :1]).all()
    np.testing.assert_array_equal(found[1], images[1])


def test_hue_turns_the_chroma_of_yiq_and_keeps_luma(images):
    quiet = (images // 4 + 96).astype(np.uint8)  # far from 0 and 255: nothing is cut
    for turn in (-0.4, 0.1, 0.5):
        found = pixels(quiet[:1], hue=turned(turn))[0]
        for y, x in ((0, 0), (7, 31), (39, 2)):
            rgb = quiet[0, y, x]
            luma, i, q = colorsys.rgb_to_yiq(*(rgb / 255))
            chroma = complex(i, q) * complex(math.cos(2 * math.pi * turn), -math.sin(2 * math.pi * turn))
            close(found[y, x], 255 * np.array(colorsys.yiq_to_rgb(luma, chroma.real, chroma.imag)), 1.5)
        weights = np.array([0.299, 0.587, 0.114])
        close(found @ weights, quiet[0] @ weights, 0.01)


def test_a_third_of_a_turn_makes_red_green_and_green_blue(images):
    colours = np.zeros((1, 3, 3, 3), np.uint8) + np.eye(3, dtype=np.uint8)[None, None] * 120 + 60
    assert pixels(colours, hue=turned(1 / 3))[0, 0].argmax(-1).tolist() == [1, 2, 0]


def test_colour_of_all_factors_together_in_any_order(images):
    """Without cuts in between the four commute: a loop over pixels, in two orders."""
    image = (images[0] // 4 + 96).astype(float)
    b, c, s, h = 0.9, 1.2, 1.3, 0.07
    weights = np.array([19595, 38470, 7471]) / 65536

    def hue(x):
        yiq = np.array([weights, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
        cos, sin = math.cos(2 * math.pi * h), math.sin(2 * math.pi * h)
        return x @ (np.linalg.inv(yiq) @ [[1, 0, 0], [0, cos, sin], [0, -sin, cos]] @ yiq).T

    steps = [
        lambda x: b * x,
        lambda x: c * x + (1 - c) * (x @ weights).mean(),
        lambda x: s * x + (1 - s) * (x @ weights)[..., None],
        hue,
    ]
    found = pixels(image[None], brightness=[b], contrast=[c], saturation=[s], hue=turned(h))[0]
    assert found.min() > 0 and found.max() < 255
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        expected = image
        for step in order:
            expected = steps[step](expected)
        close(found, expected, 0.005)


@pytest.mark.parametrize("side", [224, 225, 12])
def test_blur_is_scipys_with_its_mirrored_edges(side):
    noise = np.random.default_rng(1).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    sigmas = np.array([2.0, 0.0, 0.1, 1.1]) / 224 * side
    found = pixels(noise, blur=sigmas / side)
    for image, view, sigma in zip(noise, found, sigmas, strict=True):
        close(view, ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=8), 0.02)
    np.testing.assert_array_equal(found[1], noise[1])


def test_nothing_to_blur_in_a_batch(images):
    np.testing.assert_array_equal(pixels(images, blur=np.zeros(len(images))), images)


def test_solarise_is_pillows(images):
    found = pixels(images[:2], solarise=[True, False])
    np.testing.assert_array_equal(found[0], np.array(ImageOps.solarize(Image.fromarray(images[0]))))
    np.testing.assert_array_equal(found[1], images[1])


def test_erase_paints_the_pixels_inside_the_box(images):
    boxes, colours = [[0.2, 0.5, 0.4, 0.95], [0, 0, 0, 0]], [[10, 20, 30], [1, 1, 1]]
    found = pixels(images[:2], erase=boxes, colour=colours)
    expected = images[0].copy()
    expected[8:16, 20:38] = (10, 20, 30)
    np.testing.assert_array_equal(found, [expected, images[1]])


# --- what holds for all of them


def test_none_changes_no_bit(images):
    seeds = np.arange(len(images))
    for source in (images, images.astype(np.float32) + 0.3):
        assert draw(PRESETS["none"], seeds) == Drawn()
        np.testing.assert_array_equal(apply(source, draw(PRESETS["none"], seeds)).numpy(), source)
    np.testing.assert_array_equal(augment(images, PRESETS["none"], seeds), images)


def test_what_was_not_drawn_changes_no_bit(images):
    rare = Augmentation(1, 1e-9, 1e-9, 0.5, 0.5, 0.5, 0.2, 1e-9, 1e-9, 1e-9, 1e-9)
    np.testing.assert_array_equal(apply(images, draw(rare, np.arange(len(images)))).numpy(), images)


@pytest.mark.parametrize("augmentation", [*PRESETS.values(), EVERYTHING], ids=[*PRESETS, "everything"])
def test_a_view_depends_on_nothing_else_in_its_batch(images, augmentation):
    images = images[:, :39, :39]  # no multiple of a vector's length
    seeds = [view_seed(str(row), 1, 0) for row in range(len(images))]
    together = apply(images, draw(augmentation, seeds)).numpy()
    for start, stop in ((0, 1), (11, 12), (3, 5), (2, 9)):
        alone = apply(images[start:stop], draw(augmentation, seeds[start:stop])).numpy()
        np.testing.assert_array_equal(alone, together[start:stop])
    others = np.where(np.arange(len(images))[:, None, None, None] == 5, images, 255 - images)
    np.testing.assert_array_equal(apply(others, draw(augmentation, seeds)).numpy()[5], together[5])


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_that_touches_the_edge_has_no_black_rim(side, flip):
    start = np.linspace(0, 0.9, 200)
    boxes = np.stack([start, start, np.ones(200), np.ones(200)], 1)
    white = np.full((200, side, side, 3), 255, np.uint8)
    close(pixels(white, crop=boxes, flip=[flip] * 200), white, 0.001)


def test_values_stay_in_range():
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    views = apply(noise, draw(EVERYTHING, np.arange(64))).numpy()
    assert views.dtype == np.float32 and views.shape == noise.shape
    assert np.isfinite(views).all() and views.min() >= 0 and views.max() <= 255


def test_augment_rounds(images):
    seeds = np.arange(len(images))
    exact = apply(images, draw(EVERYTHING, seeds)).numpy()
    found = augment(images, EVERYTHING, seeds)
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 0.5


@pytest.mark.parametrize("augmentation", [PRESETS["light"], EVERYTHING], ids=["light", "everything"])
@pytest.mark.parametrize("sides", [SIDE, None])
def test_in_a_dataset(images, augmentation, sides):
    import tensorflow as tf

    drawn = draw(augmentation, np.arange(len(images)))
    parts = {name: part for name, part in drawn._asdict().items() if part is not None}
    shape = (None, sides, sides, 3)
    signature = (
        tf.TensorSpec(shape, tf.uint8),
        {name: tf.TensorSpec((None, *part.shape[1:]), part.dtype) for name, part in parts.items()},
    )
    data = tf.data.Dataset.from_generator(lambda: iter([(images, parts)]), output_signature=signature)
    views = data.map(lambda images, parts: apply(images, Drawn(**parts)))
    assert views.element_spec.shape.as_list() == list(shape)
    close(next(views.as_numpy_iterator()), apply(images, drawn).numpy(), 0.001)


# --- the parameters


PROBABILITY = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))
STRENGTH = st.floats(0, 2)
AUGMENTATIONS = st.builds(
    Augmentation, st.floats(0.001, 1), PROBABILITY, PROBABILITY, STRENGTH, STRENGTH, STRENGTH,
    st.floats(0, 0.5), PROBABILITY, PROBABILITY, PROBABILITY, PROBABILITY,
)  # fmt: skip


@given(AUGMENTATIONS, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_parameters_stay_in_their_ranges(augmentation, seeds):
    drawn, a = draw(augmentation, seeds), augmentation
    for name, values in drawn._asdict().items():
        assert values is None or len(values) == len(seeds), name
        assert values is None or values.dtype in (np.float32, bool), name
    for boxes, areas, aspects in (
        (drawn.crop, (a.min_area, 1), (3 / 4, 4 / 3)),
        (drawn.erase, (0.02, 0.4), (0.3, 1 / 0.3)),
    ):
        if boxes is not None:
            assert boxes.min() >= 0 and boxes.max() <= 1
            height, width = (boxes[:, 2:] - boxes[:, :2]).astype(float).T
            there = (height > 0) & (width > 0)
            assert boxes is drawn.erase or there.all()
            area, aspect = (height * width)[there], (width[there] / height[there])
            assert ((area >= areas[0] * 0.999 - 1e-5) & (area <= areas[1] * 1.001)).all()
            assert ((aspect >= aspects[0] * 0.99) & (aspect <= aspects[1] * 1.01)).all()
    for name in ("brightness", "contrast", "saturation"):
        factors, strength = getattr(drawn, name), getattr(a, name)
        if factors is not None:
            assert factors.min() >= max(0, 1 - strength) - 1e-6 and factors.max() <= 1 + strength + 1e-6
    if drawn.hue is not None:
        angles = np.arctan2(drawn.hue[:, 1], drawn.hue[:, 0]) / (2 * np.pi)
        assert np.abs(angles).max() <= a.hue + 1e-6
        close(np.hypot(*drawn.hue.T), 1, 1e-6)
    assert drawn.blur is None or ((drawn.blur == 0) | ((drawn.blur >= 0.0004) & (drawn.blur <= 0.009))).all()
    assert drawn.colour is None or (drawn.colour.min() >= 0 and drawn.colour.max() <= 255)


@given(AUGMENTATIONS, st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=10))
@settings(max_examples=50, deadline=None)
def test_a_seed_gives_its_parameters_wherever_it_stands(augmentation, seeds):
    together, alone = draw(augmentation, seeds), draw(augmentation, seeds[-1:])
    for here, there in zip(together, alone, strict=True):
        assert (here is None) == (there is None)
        if here is not None:
            np.testing.assert_array_equal(here[-1:], there)


def test_frequencies_and_means_of_ten_thousand_views():
    drawn = draw(EVERYTHING, np.arange(10_000))

    def near(found: float, expected: float, deviation: float) -> None:
        assert abs(found - expected) < 4.5 * deviation / 100  # of a mean of 10,000

    for name, share in (("flip", 0.5), ("grey", 0.2), ("solarise", 0.3)):
        near(getattr(drawn, name).mean(), share, math.sqrt(share * (1 - share)))
    near((drawn.blur > 0).mean(), 0.5, 0.5)
    near((drawn.erase[:, 2] > 0).mean(), 0.5, 0.5)
    changed = drawn.brightness != 1
    near(changed.mean(), 0.8, 0.4)
    for name in ("contrast", "saturation"):
        np.testing.assert_array_equal(getattr(drawn, name) != 1, changed)
    spread = 0.8 / math.sqrt(3)
    near(drawn.brightness[changed].mean(), 1.0, spread * 1.2)
    hue = np.arctan2(drawn.hue[:, 1], drawn.hue[:, 0]) / (2 * np.pi)
    near(hue[changed].mean(), 0.0, 0.2)
    y1, x1, y2, x2 = drawn.crop.T.astype(float)
    near(((y2 - y1) * (x2 - x1)).mean(), 0.55, 0.9 / math.sqrt(12))
    near((x1 + x2).mean() / 2, 0.5, 0.3)
    flags = np.stack([drawn.flip, changed, drawn.grey, drawn.blur > 0, drawn.solarise, drawn.erase[:, 2] > 0])
    assert np.abs(np.corrcoef(flags) - np.eye(6)).max() < 0.06
    factors = np.stack([drawn.brightness, drawn.contrast, drawn.saturation, hue, drawn.crop[:, 0]])
    assert np.abs(np.corrcoef(factors[:, changed]) - np.eye(5)).max() < 0.06


def test_one_strength_changes_nothing_else():
    seeds = np.arange(50)
    before, after = draw(EVERYTHING, seeds), draw(of("simclr", min_area=0.1, contrast=0.1), seeds)
    for name in ("crop", "flip", "brightness", "saturation", "hue", "grey", "blur"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_uniforms_are_those_of_splitmix64():
    from simpipe.learning.augmentation.parameters import _uniforms

    whole = 2**64

    def output(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % whole
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % whole
        return z ^ (z >> 31)

    assert output(1234567 + 0x9E3779B97F4A7C15) == 6457827717110365317, "the generator's published value"
    seeds = [0, 1, 2**63 + 5, whole - 1]
    expected = [
        [(output((output(s) + k * 0x9E3779B97F4A7C15) % whole) >> 11) / 2**53 for s in seeds]
        for k in (1, 2, 3)
    ]
    np.testing.assert_array_equal(_uniforms(seeds, 3), expected)


def test_seeds_and_parameters_stay_what_they_were():
    seed = view_seed("a" * 64, 2, 0)
    assert seed == 11916402305997419295
    assert len({view_seed(c, v, s) for c in ("a", "b") for v in (0, 1) for s in (0, 1)}) == 8
    drawn = draw(of("simclr", blur=1.0), [seed])
    close(drawn.crop, [[0.0113525, 0.1219991, 0.9527680, 0.9581736]], 1e-6)
    close([drawn.brightness[0], drawn.contrast[0], drawn.hue[0, 1]], [1.4526105, 0.3875674, 0.0419576], 1e-6)
    close(224 * drawn.blur, 0.9675758, 1e-6)


def test_drawing_costs_little():
    seeds = [view_seed(str(row), 0, 0) for row in range(128)]
    times = []
    for _ in range(20):
        start = time.process_time()
        draw(EVERYTHING, seeds)
        times.append(time.process_time() - start)
    assert min(times) < 0.005


# --- presets


def test_presets_take_overrides():
    assert of("none") == Augmentation() == Augmentation(**PRESETS["none"].to_json())
    assert of("light", flip=None, hue=0.1) == Augmentation(0.5, 0.5, 1.0, 0.3, hue=0.1)


@pytest.mark.parametrize(
    "values",
    [
        {"min_area": 0},
        {"min_area": 1.1},
        {"flip": -0.1},
        {"hue": 0.6},
        {"contrast": math.nan},
        {"saturation": math.inf},
    ],
)
def test_values_outside_their_range_are_refused(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        of("light", **values)


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match="'strong'") as caught:
        of("strong")
    assert "barlow" in caught.value.hint


# --- the contact sheet


def test_contact_sheet_has_the_plain_image_first(images):
    sheet = contact_sheet(images[:3], EVERYTHING, seed=7, columns=4)
    assert sheet.shape == (3 * SIDE + 4, 4 * SIDE + 6, 3) and sheet.dtype == np.uint8
    cell = SIDE + 2
    for row in range(3):
        np.testing.assert_array_equal(sheet[row * cell :, :SIDE][:SIDE], images[row])
        view = augment(images[row : row + 1], EVERYTHING, [view_seed(str(row), 2, 7)])[0]
        np.testing.assert_array_equal(sheet[row * cell :, 2 * cell :][:SIDE, :SIDE], view)
    assert (sheet[SIDE : SIDE + 2] == 128).all() and (sheet[:, SIDE : SIDE + 2] == 128).all()
    np.testing.assert_array_equal(sheet, contact_sheet(images[:3], EVERYTHING, seed=7, columns=4))
