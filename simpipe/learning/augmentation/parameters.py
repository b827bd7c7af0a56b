"""The parameters of views: for each view from its own seed, by numpy, thousands in a millisecond."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simpipe.learning.augmentation.presets import Augmentation

ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop."""

SIGMA = (0.1 / 224, 2.0 / 224)
"""Standard deviation of the blur, as a share of the side (arXiv:2002.05709, appendix A: 0.1…2 pixels)."""

ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)
"""Random erasing: s_l, s_h and r_1 of arXiv:1708.04896."""

Seeds = Sequence[int] | npt.NDArray[np.uint64]
_Uniform = npt.NDArray[np.float64]


class Drawn(NamedTuple):
    """The parameters of n views. What the augmentation never does is None, and `apply` leaves it out.

    Attributes:
        crop: float32 (n, 4): y1, x1, y2, x2 in [0, 1]; 0 and 1 are the centres of the outermost pixels.
        flip: bool (n,).
        brightness, contrast, saturation: float32 (n,), factors; 1 changes nothing.
        hue: float32 (n, 2), the cosine and sine of the angle that it turns by; a third of a circle turns
            red to green, (1, 0) changes nothing.
        grey: bool (n,).
        blur: float32 (n,), the standard deviation as a share of the side, at most `SIGMA[1]`; 0: none.
        solarise: bool (n,).
        erase: float32 (n, 4): like `crop`, but 0 and 1 are the edges of the image; an empty box: nothing.
        colour: float32 (n, 3), the colour of the erased box, 0…255.
    """

    crop: Any = None
    flip: Any = None
    brightness: Any = None
    contrast: Any = None
    saturation: Any = None
    hue: Any = None
    grey: Any = None
    blur: Any = None
    solarise: Any = None
    erase: Any = None
    colour: Any = None


def view_seed(content_id: str, view: int, seed: int) -> int:
    """The seed, in [0, 2⁶⁴), of view number `view` of an image, which is known by its content."""
    return int.from_bytes(hashlib.sha256(f"{seed} {view} {content_id}".encode()).digest()[:8], "little")


def draw(augmentation: Augmentation, seeds: Seeds) -> Drawn:
    """The parameters of one view for each of `seeds` (n,), from that seed alone.

    Each parameter has random numbers of its own: to change one probability or strength changes nothing
    else of a view.
    """
    a, u = augmentation, _uniforms(seeds, 22)
    jittered = u[5] < a.jitter

    def factor(strength: float, uniform: _Uniform) -> npt.NDArray[np.float32] | None:
        if not (a.jitter and strength):
            return None
        drawn = _between(uniform, max(0.0, 1 - strength), 1 + strength)
        return np.where(jittered, drawn, 1.0).astype(np.float32)

    return Drawn(
        crop=_boxes(u[:4], (a.min_area, 1.0), ASPECT) if a.min_area < 1 else None,
        flip=u[4] < a.flip if a.flip else None,
        brightness=factor(a.brightness, u[6]),
        contrast=factor(a.contrast, u[7]),
        saturation=factor(a.saturation, u[8]),
        hue=_circle(jittered * _between(u[9], -a.hue, a.hue)) if a.jitter and a.hue else None,
        grey=u[10] < a.grey if a.grey else None,
        blur=((u[11] < a.blur) * _between(u[12], *SIGMA)).astype(np.float32) if a.blur else None,
        solarise=u[13] < a.solarise if a.solarise else None,
        erase=(u[14] < a.erase)[:, None] * _boxes(u[15:19], ERASED_AREA, ERASED_ASPECT) if a.erase else None,
        colour=(255 * u[19:22].T).astype(np.float32) if a.erase else None,
    )


def _uniforms(seeds: Seeds, count: int) -> _Uniform:
    """Numbers in [0, 1), (count, n): the first of one SplitMix64 generator for each seed."""
    state = _mixed(np.asarray(seeds, np.uint64))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    whole = _mixed(state + steps[:, None]) >> np.uint64(11)
    return whole.astype(np.float64) * 2.0**-53


def _mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function, a bijection (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _between(uniform: _Uniform, low: float, high: float) -> _Uniform:
    return low + (high - low) * uniform


def _circle(turns: _Uniform) -> npt.NDArray[np.float32]:
    """Cosine and sine of angles (n,) in turns, float32 (n, 2)."""
    angles = 2 * np.pi * turns
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def _boxes(u: _Uniform, areas: tuple[float, float], aspects: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Boxes (n, 4) in the unit square from four uniforms each.

    Areas are uniform. Of the aspects only those are drawn with which the area fits, so that none is drawn
    twice; the usual rejection makes large areas rarer than it says.
    """
    area = _between(u[0], *areas)
    low, high = np.log(np.maximum(aspects[0], area)), np.log(np.minimum(aspects[1], 1 / area))
    aspect = np.exp(low + (high - low) * u[1])
    height, width = np.minimum(np.sqrt(area / aspect), 1), np.minimum(np.sqrt(area * aspect), 1)
    top, left = (1 - height) * u[2], (1 - width) * u[3]
    return np.stack([top, left, top + height, left + width], 1).astype(np.float32)
