"""HNSW (Malkov & Yashunin, arXiv:1603.09320) by NMSLIB."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.progress import quiet_stderr
from simpipe.similarity import Neighbours


class NmslibIndex:
    """An HNSW graph in memory.

    Args:
        index: NMSLIB's object, with its graph.
        ef_search: width of the search; NMSLIB forgets it whenever a graph is built or loaded.
        size: how many vectors it holds.
    """

    def __init__(self, index: Any, ef_search: int, size: int) -> None:
        self._index, self._size = index, size
        index.setQueryTimeParams({"efSearch": ef_search})

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Neighbours:
        ids = np.full((len(queries), k), -1, np.int32)
        distances = np.full((len(queries), k), np.inf, np.float32)
        found = self._index.knnQueryBatch(queries, k=min(k, self._size), num_threads=os.cpu_count())
        for row, (near, apart) in enumerate(found):
            ids[row, : len(near)] = near
            distances[row, : len(near)] = np.clip(apart, 0.0, 2.0)
        return Neighbours(ids, distances)

    def save(self, path: Path) -> None:
        try:
            self._index.saveIndex(str(path), save_data=False)
        except RuntimeError as error:  # all that its stream tells of a full disk
            raise OSError(errno.EIO, f"nmslib could not write it ({error})", str(path)) from error


def build(vectors: npt.NDArray[np.float32], m: int, ef_construction: int, ef_search: int) -> NmslibIndex:
    """Build the graph with M = `m` links a node."""
    index = _empty()
    index.addDataPointBatch(np.ascontiguousarray(vectors))
    index.createIndex(
        {"M": m, "efConstruction": ef_construction, "post": 0, "indexThreadQty": os.cpu_count()},
        print_progress=False,
    )
    return NmslibIndex(index, ef_search, len(vectors))


def load(
    path: Path, vectors: npt.NDArray[np.float32], m: int, ef_construction: int, ef_search: int
) -> NmslibIndex:
    """Load a graph; it holds its vectors itself."""
    index = _empty()
    index.loadIndex(str(path), load_data=False)
    return NmslibIndex(index, ef_search, len(vectors))


def _empty() -> Any:
    with quiet_stderr():  # the wheel advises to compile it oneself
        import nmslib

    return nmslib.init(method="hnsw", space="cosinesimil", data_type=nmslib.DataType.DENSE_VECTOR)
