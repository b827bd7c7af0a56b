"""The sub-centre ArcFace loss."""

from typing import Any

from simpipe.learning.losses.proxies import cosines, cross_entropy, one_hot, widen_angle


def subcenter_arcface(
    embeddings: Any,
    labels: Any,
    proxies: Any,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
    centres: int = 3,
) -> Any:
    """Sub-centre ArcFace (Deng et al., ECCV 2020): ArcFace to the nearest of a class's centres.

    The proxies have shape (classes · centres, d), the centres of a class one after the other. Wrongly
    labelled images gather at a centre of their own and leave the others clean. `margin` is in radians.
    """
    from keras import ops

    own = one_hot(labels, proxies.shape[0] // centres)
    each = ops.reshape(cosines(embeddings, proxies), (-1, own.shape[1], centres))
    return cross_entropy(scale * widen_angle(ops.max(each, axis=2), own, margin), own)
