"""How densely the map is filled, as a picture that lies under its points."""

import base64
import io
from collections.abc import Sequence

import numpy as np

FROM = 20_000
CELLS = 512
GREY = 128
"""Half-way between a light page and a dark one."""
MOST_OPAQUE = 150
STEPS = 15


Frame = tuple[float, float, float, float]
"""Left, right, bottom and top."""


def frame(layouts: Sequence[np.ndarray]) -> Frame:
    """What the map shows: the points of all layouts, float `(n, 2)` each, with a margin; never empty."""
    xy = np.vstack(layouts).astype(float)
    if not len(xy):
        return -1.0, 1.0, -1.0, 1.0
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.where(high > low, (high - low) * 0.06, 1.0)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    return left, right, bottom, top


def framed(xy: np.ndarray, limits: Frame) -> np.ndarray:
    """Coordinates within a frame, uint16 `(n, 2)`: 0 is left or bottom, 65535 right or top."""
    left, right, bottom, top = limits
    share = (xy - [left, bottom]) / [right - left, top - bottom]
    return np.rint(share * 65535).astype(np.uint16)


def density(xy: np.ndarray, limits: Frame) -> str:
    """How many points are around each place of the frame, on a log scale: a PNG of one grey, as data URI."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    left, right, bottom, top = limits
    counts, _, _ = np.histogram2d(xy[:, 1], xy[:, 0], bins=CELLS, range=((bottom, top), (left, right)))
    amount = np.log1p(gaussian_filter(counts * 20, 3))
    level = np.rint(amount / max(float(amount.max()), 1e-12) * STEPS)  # few levels: a small file
    alpha = (level * (MOST_OPAQUE / STEPS)).astype(np.uint8)[::-1]
    stream = io.BytesIO()
    Image.fromarray(np.dstack([np.full_like(alpha, GREY), alpha])).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
