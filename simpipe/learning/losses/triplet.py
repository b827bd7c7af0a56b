"""The triplet loss, with three ways to choose the triplets."""

from typing import Any

from simpipe.learning.losses.pairs import FAR, largest, smallest, valid_anchors, valid_pairs

MINING = ("hard", "semi_hard", "easy")


def triplet(
    distance: Any,
    positives: Any,
    negatives: Any,
    *,
    margin: float = 0.1,
    soft_margin: bool = False,
    mining: str = "hard",
) -> Any:
    """Triplet: max(0, d_p − d_n + margin), or with `soft_margin` log(1 + exp(d_p − d_n)), with `mining`

    - `hard`: for each anchor the farthest positive and the nearest negative (batch hard, Hermans et al.,
      arXiv:1703.07737, eq. 5);
    - `easy`: the nearest positive and the nearest negative (easy positive, Xuan et al., arXiv:1904.04370);
    - `semi_hard`: for each positive pair the nearest of the negatives with d_p < d_n < d_p + margin
      (FaceNet, Schroff et al., arXiv:1503.03832, §3.2); a pair without one does not count in the mean.
    """
    if mining == "semi_hard":
        negative = nearest_beyond(distance, negatives)
        counted = valid_pairs(positives, negatives) & (negative < distance + margin)
        return hinge(distance - negative, margin, soft_margin), counted
    choose = largest if mining == "hard" else smallest
    gap = choose(distance, positives) - smallest(distance, negatives)
    return hinge(gap[:, 0], margin, soft_margin), valid_anchors(positives, negatives)


def hinge(gap: Any, margin: float, soft_margin: bool) -> Any:
    """The cost of gaps d_p − d_n, of any shape; a soft margin has no width."""
    from keras import ops

    return ops.softplus(gap) if soft_margin else ops.relu(gap + margin)


def nearest_beyond(distance: Any, negatives: Any) -> Any:
    """For each pair (i, j) the distance of i's nearest negative that is farther than j, (n, m), or `FAR`."""
    import tensorflow as tf  # keras.ops.searchsorted knows one row only
    from keras import ops

    ascending = ops.sort(ops.where(negatives, distance, FAR), axis=1)
    ascending = ops.concatenate([ascending, ops.full_like(ascending[:, :1], FAR)], axis=1)
    place = tf.searchsorted(ops.stop_gradient(ascending), ops.stop_gradient(distance), side="right")
    return ops.take_along_axis(ascending, place, axis=1)
