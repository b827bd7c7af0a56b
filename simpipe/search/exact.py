"""Exact search by brute force: for small data, and as the truth that others are measured against."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simpipe import similarity
from simpipe.similarity import Neighbours


@dataclass(frozen=True)
class ExactIndex:
    """The vectors themselves."""

    vectors: npt.NDArray[np.float32]

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Neighbours:
        return similarity.nearest(queries, self.vectors, k)

    def save(self, path: Path) -> None:
        """Nothing to keep: the embeddings are an artifact of their own."""
        path.write_bytes(b"exact search needs no index; see embeddings.npy\n")


def build(vectors: npt.NDArray[np.float32], m: int, ef_construction: int, ef_search: int) -> ExactIndex:
    """The parameters are those of HNSW and have no meaning here."""
    return ExactIndex(vectors)


def load(
    path: Path, vectors: npt.NDArray[np.float32], m: int, ef_construction: int, ef_search: int
) -> ExactIndex:
    return ExactIndex(vectors)
