"""Augmentation: a view of an image is a pure function of the image, of a preset and of a seed.

`draw` makes the parameters with numpy, for each view from its own seed; `apply` computes the pixels with
TensorFlow, a whole batch at once. A view depends on nothing else in its batch.
"""

from simpipe.learning.augmentation.parameters import Drawn, draw, view_seed
from simpipe.learning.augmentation.pixels import apply, augment, contact_sheet
from simpipe.learning.augmentation.presets import PRESETS, Augmentation, of

__all__ = ["PRESETS", "Augmentation", "Drawn", "apply", "augment", "contact_sheet", "draw", "of", "view_seed"]
