"""SimCLR: tell the other view of an image from all other images."""

from typing import Any

from simpipe.learning.distances import unit
from simpipe.learning.unlabelled import View

ITSELF = -1e9
"""Stands for minus infinity under an exponential: finite, so that its gradient is 0 and not NaN."""


def simclr(first: View, second: View, *, temperature: float = 0.1) -> Any:
    """NT-Xent (Chen et al., arXiv:2002.05709, eq. 1), with s the cosine similarity of projections:

    mean over all 2n views i, j being the other view of i's image, of
    −log( exp(s_ij/T) / Σ_{k ≠ i} exp(s_ik/T) )

    T = 0.1 is the paper's best on ImageNet (table 5). Raise it, up to 0.5, where many images of a batch
    are of one kind, so that the nearest negatives, likely of the same kind, are pushed away less.
    """
    from keras import ops

    views = unit(ops.concatenate([first.projection, second.projection]))
    logits = ops.matmul(views, ops.transpose(views)) / temperature
    positives = ops.sum(unit(first.projection) * unit(second.projection), axis=1) / temperature
    others = ops.where(ops.eye(ops.shape(views)[0]) > 0, ITSELF, logits)
    return ops.mean(ops.logsumexp(others, axis=1)) - ops.mean(positives)
