"""SimSiam: predict the other view, whose own gradient is stopped."""

from typing import Any

from simpipe.learning.unlabelled import View
from simpipe.learning.unlabelled.arrays import cosine_to_fixed


def simsiam(first: View, second: View) -> Any:
    """SimSiam (Chen & He, arXiv:2011.10566, eqs. 1–4), with s the cosine similarity, p predictions and
    t targets through which no gradient goes:

    −1/2 mean_i s(p1_i, t2_i) − 1/2 mean_i s(p2_i, t1_i), in [−1, 1]; −1 where every prediction is right
    """
    ahead = cosine_to_fixed(first.prediction, second.target)
    back = cosine_to_fixed(second.prediction, first.target)
    return -(ahead + back) / 2
