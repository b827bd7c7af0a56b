"""What an augmentation may do, and the presets."""

import math
from dataclasses import asdict, dataclass, replace

from simpipe.errors import UsageError

LIMITS = {"brightness": math.inf, "contrast": math.inf, "saturation": math.inf, "hue": 0.5}
"""The greatest value of what is no share and no probability."""


@dataclass(frozen=True)
class Augmentation:
    """How views are made; what keeps its default is not done.

    Attributes:
        min_area: smallest share of the image's area that a crop keeps, in (0, 1]; 1: no crop. Areas are
            uniform in [min_area, 1], aspects log-uniform in [3/4, 4/3] as far as they fit.
        flip: probability of a mirror image, left and right exchanged.
        jitter: probability that the four colour factors are drawn.
        brightness, contrast, saturation: strengths ≥ 0; each factor is uniform in
            [max(0, 1 − strength), 1 + strength].
        hue: the hue turns by a share of the full circle that is uniform in [−hue, hue]; at most 0.5.
        grey: probability of a picture in shades of grey.
        blur: probability of a Gaussian blur; its standard deviation is uniform in 0.1…2 pixels at a side of
            224, and in proportion at others.
        solarise: probability that values above the middle are inverted.
        erase: probability that a rectangle is painted over in one random colour.

    Raises:
        UsageError: a value outside its range.
    """

    min_area: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    solarise: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.to_json().items():
            most = LIMITS.get(name, 1.0)
            if not (math.isfinite(value) and 0 <= value <= most) or (name == "min_area" and value == 0):
                least = "more than 0" if name == "min_area" else "at least 0"
                raise UsageError(
                    f"{name} of the augmentation is {value}",
                    hint=f"it must be {least}" + (f" and at most {most:g}" if most < math.inf else ""),
                )

    def to_json(self) -> dict[str, float]:
        """All values by name."""
        return asdict(self)


PRESETS = {
    "none": Augmentation(),
    # for labelled images, where colour and fine detail often are the label
    "light": Augmentation(min_area=0.5, flip=0.5, jitter=1.0, brightness=0.3),
    # arXiv:2002.05709, appendix A, with the strength of its ImageNet runs, 1.0
    "simclr": Augmentation(
        min_area=0.08, flip=0.5, jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
        grey=0.2, blur=0.5,
    ),
    # arXiv:2103.03230, section 2.2, that is arXiv:2006.07733, appendix B, where the two views differ in blur
    # (1.0 and 0.1) and solarise (0 and 0.2). Here all views are drawn alike, with the means of the two
    "barlow": Augmentation(
        min_area=0.08, flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1,
        grey=0.2, blur=0.55, solarise=0.1,
    ),
}  # fmt: skip


def of(preset: str, **overrides: float | None) -> Augmentation:
    """The augmentation named `preset`, with those `overrides` that are not None.

    Raises:
        UsageError: no such preset, or a value outside its range.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no augmentation {preset!r}", hint=f"one of {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **{name: value for name, value in overrides.items() if value is not None})
