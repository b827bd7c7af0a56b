"""The PN loss: a triplet whose negative is to be far from the positive too."""

from typing import Any

from simpipe.learning.losses.pairs import FAR, largest, smallest, valid_anchors
from simpipe.learning.losses.triplet import hinge


def pn(
    distance: Any, positives: Any, negatives: Any, *, margin: float = 0.1, soft_margin: bool = False
) -> Any:
    """PN (Szubert et al., ivis, doi:10.1038/s41598-019-45301-0): for each anchor a

    max(0, d_ap − min(d_an, d_pn) + margin),  or with `soft_margin` log(1 + exp(d_ap − min(d_an, d_pn)))

    with p its farthest positive and n its nearest negative. The gallery is the anchors: m = n.
    """
    from keras import ops

    farthest = ops.argmax(ops.where(positives, distance, -FAR), axis=1)
    nearest = ops.argmin(ops.where(negatives, distance, FAR), axis=1)
    rows = ops.take(distance, farthest, axis=0)
    between = ops.take_along_axis(rows, nearest[:, None], axis=1)
    negative = ops.minimum(smallest(distance, negatives), between)
    gap = largest(distance, positives) - negative
    return hinge(gap[:, 0], margin, soft_margin), valid_anchors(positives, negatives)
