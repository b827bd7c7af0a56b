"""The pixels of views: batched, in a few passes over the images.

The order is that of SimCLR (arXiv:2002.05709, appendix A) and BYOL (arXiv:2006.07733, appendix B): crop and
flip, colour, blur, solarise; then erase. All up to the blur is linear, and is cut to 0…255 once, after it.
Without cuts in between brightness, contrast, saturation and hue commute, so that one matrix and one offset
for each view do what those papers do in a random order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.learning.augmentation.parameters import Drawn, Seeds, draw, view_seed
from simpipe.learning.augmentation.presets import Augmentation

LUMA = np.array([19595, 38470, 7471], np.float32) / 65536
"""ITU-R 601 as Pillow has it, in 16 bits: what follows from it is exact in float32."""

YIQ = np.array([LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
CHROMA = np.eye(3) - LUMA
"""RGB → RGB − luma."""
TURN = np.linalg.inv(YIQ) @ [[0, 0, 0], [0, 0, 1], [0, -1, 0]] @ YIQ
"""RGB → RGB − luma, turned by a quarter circle, red towards green."""

GUTTER = 2


def apply(images: Any, drawn: Drawn) -> Any:
    """The views of `images`, uint8 or float (n, s, s, 3) in 0…255, as float32 (n, s, s, 3) in 0…255.

    Eager, in a `tf.function`, or in the map of a `tf.data.Dataset`: `drawn` may hold tensors, and its Nones
    still say what is left out. Crops are sampled bilinearly without antialiasing, which none needs: it is
    only ever enlarged, since the image has the size that the view gets.

    Nothing here takes a cosine or a root: of those TensorFlow's last bit depends on the place in the tensor.
    """
    import tensorflow as tf

    cropped = drawn.crop is not None or drawn.flip is not None
    views = tf.cast(_cropped(images, drawn) if cropped else images, tf.float32)
    colours = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.grey)
    coloured = any(part is not None for part in colours)
    if coloured:
        views = _coloured(views, drawn)
    if drawn.blur is not None:
        views = _blurred(views, drawn.blur)
    if coloured or drawn.blur is not None:
        views = tf.clip_by_value(views, 0.0, 255.0)
    if drawn.solarise is not None:
        # the others are compared with what is never less: 510 − v
        views = tf.minimum(views, _each(tf.where(drawn.solarise, 255.0, 510.0)) - views)
    if drawn.erase is not None:
        views = tf.where(_inside(drawn.erase, tf.shape(views)[1]), drawn.colour[:, None, None], views)
    return tf.ensure_shape(views, images.shape)


def _each(values: Any) -> Any:
    """One value for each image: (n,) → (n, 1, 1, 1)."""
    return values[:, None, None, None]


def _cropped(images: Any, drawn: Drawn) -> Any:
    """Crop, enlarge and mirror in one pass: a box whose x1 is greater than its x2 is read backwards."""
    import tensorflow as tf

    n, side = tf.shape(images)[0], images.shape[1] or tf.shape(images)[1]
    if drawn.crop is None:
        boxes = tf.tile([[0.0, 0.0, 1.0, 1.0]], (n, 1))
    else:  # a coordinate that rounding pushes over the edge would be painted black
        boxes = tf.clip_by_value(drawn.crop, 1e-6, 1 - 1e-6)
    if drawn.flip is not None:
        boxes = tf.where(drawn.flip[:, None], tf.gather(boxes, (0, 3, 2, 1), axis=1), boxes)
    return tf.image.crop_and_resize(images, boxes, tf.range(n), (side, side))


def _coloured(views: Any, drawn: Drawn) -> Any:
    """One affine map for each view, of its luma Y, the mean of Y, and its chroma C = RGB − Y:

    brightness · (contrast · (Y + saturation · turned C) + (1 − contrast) · mean Y).

    The hue turns in YIQ, which keeps Y, as the hexagon of HSV does not. Grey is a saturation of 0.
    """
    import tensorflow as tf

    n, side = tf.shape(views)[0], tf.shape(views)[1]
    brightness, contrast, saturation = (
        tf.ones([n]) if factors is None else factors for factors in drawn[2:5]
    )
    gain = brightness * contrast
    if drawn.saturation is None and drawn.hue is None and drawn.grey is None:
        result = views * _each(gain)
    else:
        if drawn.grey is not None:
            saturation = tf.where(drawn.grey, 0.0, saturation)
        cosine, sine = (1.0, 0.0) if drawn.hue is None else tf.unstack(drawn.hue, axis=1)
        along, across = saturation * cosine, saturation * sine
        # from the identity: a view for which nothing was drawn stays as it is to the bit
        matrix = tf.eye(3) + (along - 1)[:, None, None] * tf.constant(CHROMA.T, tf.float32)
        matrix += across[:, None, None] * tf.constant(TURN.T, tf.float32)
        flat = tf.matmul(tf.reshape(views, (n, side * side, 3)), gain[:, None, None] * matrix)
        result = tf.reshape(flat, tf.shape(views))
    if drawn.contrast is not None:
        mean = tf.reduce_sum(tf.reduce_mean(views, (1, 2)) * LUMA, 1)
        result += _each(brightness * (1 - contrast) * mean)
    return result


def _blurred(views: Any, sigma: Any) -> Any:
    """The Gaussian blur of those views that have one, as two products with a matrix, down and across.

    Beyond its edges an image goes on mirrored, the outermost pixels twice; the matrix folds that back in.
    """
    import tensorflow as tf

    rows, size = tf.where(sigma > 0), tf.shape(views)[1]
    # more than 4 σ, in whole vectors: of a broken one TensorFlow takes the exponentials in another way
    reach = 16 * (size // 400 + 1)
    i, j = tf.range(size)[:, None], tf.range(size)[None]
    apart = tf.stack([tf.abs(i - j), i + j + 1, 2 * size - 1 - i - j])
    wide = tf.gather(sigma, rows) * tf.cast(size, tf.float32)
    weights = tf.exp(-0.5 * (tf.range(reach, dtype=tf.float32) / wide) ** 2)
    weights /= 2 * tf.reduce_sum(weights, 1, keepdims=True) - 1
    matrix = tf.einsum("nd,ijd->nij", weights, tf.reduce_sum(tf.one_hot(apart, reach), 0))
    down = tf.einsum("nij,njwc->niwc", matrix, tf.gather(views, rows[:, 0]))
    return tf.tensor_scatter_nd_update(views, rows, tf.einsum("nij,nhjc->nhic", matrix, down))


def _inside(boxes: Any, size: Any) -> Any:
    """Which pixels have their centre in their image's box, bool (n, s, s, 1)."""
    import tensorflow as tf

    centres = (tf.range(size, dtype=tf.float32) + 0.5) / tf.cast(size, tf.float32)
    y1, x1, y2, x2 = (edge[:, None] for edge in tf.unstack(boxes, axis=1))
    rows, columns = (centres >= y1) & (centres < y2), (centres >= x1) & (centres < x2)
    return rows[:, :, None, None] & columns[:, None, :, None]


def augment(images: npt.NDArray[np.uint8], augmentation: Augmentation, seeds: Seeds) -> npt.NDArray[np.uint8]:
    """The views of `images`, uint8 (n, s, s, 3), one for each of `seeds` (n,), rounded to uint8."""
    import tensorflow as tf

    views = apply(images, draw(augmentation, seeds))
    rounded: npt.NDArray[np.uint8] = tf.cast(tf.round(views), tf.uint8).numpy()
    return rounded


def contact_sheet(
    images: npt.NDArray[np.uint8], augmentation: Augmentation, seed: int, columns: int
) -> npt.NDArray[np.uint8]:
    """What training sees, in one picture: a row for each image, first as it is, then augmented views of it.

    Args:
        images: uint8 (n, s, s, 3). Small ones do: views are drawn in shares of the side.
        augmentation: how the views are made.
        seed: the view in row r and column c has the seed `view_seed(str(r), c, seed)`.
        columns: pictures in a row, the plain one included.

    Returns:
        uint8 (n·s + (n − 1)·g, columns·s + (columns − 1)·g, 3), with gutters of g = `GUTTER` pixels, grey.
    """
    n, side = images.shape[:2]
    cell = side + GUTTER
    sheet = np.full((n * cell - GUTTER, columns * cell - GUTTER, 3), 128, np.uint8)
    for column in range(columns):
        seeds = [view_seed(str(row), column, seed) for row in range(n)]
        views = augment(images, augmentation, seeds) if column else images
        for row, view in enumerate(views):
            sheet[row * cell :][:side, column * cell :][:, :side] = view
    return sheet
