"""What an embedding looks like while it is trained: distances of pairs, and how many directions it uses."""

from typing import Any

import numpy as np
import numpy.typing as npt

PAIR_DISTANCES = (
    "positive_min",
    "positive_mean",
    "positive_max",
    "negative_min",
    "negative_mean",
    "negative_max",
    "gap",
)
"""Keys of `pair_distances`, in their order."""


def pair_distances(embeddings: Any, labels: Any) -> dict[str, Any]:
    """Cosine distances, in [0, 2], of all pairs of a batch, as scalar tensors named by `PAIR_DISTANCES`.

    For use inside a training step: `embeddings` (n, d) are L2-normalised, `labels` (n,) integers, both
    tensors. A positive is a pair of one label, a negative one of two; no row pairs with itself.

    `gap` is negative_min − positive_max, with its sign: above 0 one threshold parts all positives of the
    batch from all negatives. Without a positive or without a negative what needs it is NaN: an epoch's
    mean leaves that batch out.
    """
    from keras import ops

    distances = 1.0 - ops.matmul(embeddings, ops.transpose(embeddings))
    distances = ops.clip(ops.stop_gradient(distances), 0.0, 2.0)
    same = ops.equal(labels[:, None], labels[None, :])
    itself = ops.eye(ops.shape(labels)[0], dtype="bool")
    # both at once: in a step of a small head each operation costs as much as the numbers in it
    pairs = ops.stack([ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)])
    count = ops.sum(ops.cast(pairs, distances.dtype), axis=(1, 2))
    masked = ops.where(pairs, distances, 0.0)
    missing = ops.where(count > 0, 0.0, float("nan"))
    least = ops.min(ops.where(pairs, distances, 2.0), axis=(1, 2)) + missing
    mean = ops.sum(masked, axis=(1, 2)) / count
    most = ops.max(masked, axis=(1, 2)) + missing
    values = [part[kind] for kind in (0, 1) for part in (least, mean, most)]
    return dict(zip(PAIR_DISTANCES, [*values, least[1] - most[0]], strict=True))


def effective_rank(embeddings: npt.NDArray[np.floating[Any]]) -> float:
    """How many directions `embeddings` (n, d) use: from 1 to min(n, d); 0 where all are zero.

    exp(−Σ p_i log p_i), p_i = σ_i / Σ σ with σ the singular values (Roy & Vetterli, EUSIPCO 2007, eqs.
    2–4), not centred. For a sample once an epoch: in every step it would cost more than the step.
    """
    vectors = np.asarray(embeddings, np.float64)
    gram = vectors.T @ vectors if len(vectors) > vectors.shape[1] else vectors @ vectors.T
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    singular = singular[singular > 0]
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
