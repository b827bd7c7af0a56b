"""Vector indexes behind one interface, and the match they lead to.

A backend is named here as text, so that listing the names loads no library. Every backend speaks of
cosine distance `1 − s`, in [0, 2], ascending.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simpipe.similarity import Neighbours

BACKENDS: dict[str, str] = {
    "nmslib": "simpipe.search.nmslib_hnsw",
    "exact": "simpipe.search.exact",
}


class VectorIndex(Protocol):
    """Finds the nearest of the vectors it was built from; ids are their row numbers."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Neighbours:
        """The `k` nearest of each query (n, d); all L2-normalised."""

    def save(self, path: Path) -> None:
        """Write one file that `load` reads."""


def build(backend: str, vectors: npt.NDArray[np.float32], parameters: Mapping[str, Any]) -> VectorIndex:
    """An index of `vectors` (n, d), L2-normalised, by the backend of that name."""
    built: VectorIndex = import_module(BACKENDS[backend]).build(vectors, **parameters)
    return built


def load(
    backend: str, path: Path, vectors: npt.NDArray[np.float32], parameters: Mapping[str, Any]
) -> VectorIndex:
    """The index saved at `path`. The caller has checked the file's hash: native code trusts its content."""
    loaded: VectorIndex = import_module(BACKENDS[backend]).load(path, vectors, **parameters)
    return loaded
