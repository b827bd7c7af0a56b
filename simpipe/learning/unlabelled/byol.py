"""BYOL: predict what a slowly moving average of the network makes of the other view."""

from typing import Any

from simpipe.learning.unlabelled import View
from simpipe.learning.unlabelled.arrays import cosine_to_fixed


def byol(first: View, second: View) -> Any:
    """BYOL (Grill et al., arXiv:2006.07733, eq. 2, summed over both directions), with p predictions and
    t projections by the target network, through which no gradient goes, all scaled to length 1:

    mean_i ‖p1_i − t2_i‖² + mean_i ‖p2_i − t1_i‖², in [0, 8], where ‖p − t‖² = 2 − 2 s(p, t)
    """
    ahead = cosine_to_fixed(first.prediction, second.target)
    back = cosine_to_fixed(second.prediction, first.target)
    return 4 - 2 * (ahead + back)
