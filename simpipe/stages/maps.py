"""The maps of the page, drawn from the vectors of a run and the neighbours that are stored of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.reporting.projection import project
from simpipe.reporting.projectors.umap import Settings

Map = tuple[npt.NDArray[np.float32], dict[str, Any]]


def draw_maps(
    vectors: Mapping[str, Path],
    stored: Path,
    label_id: npt.NDArray[np.int32],
    projector: str,
    settings: Settings,
    seed: int,
) -> list[Map]:
    """Of each of `vectors` the places, float32 `(n, 2)`, and what `project` says of them.

    The later maps begin at the first and are turned onto it.

    Args:
        vectors: the name of their neighbours in `stored` → `.npy` file, float32 `(n, d)`.
        stored: `neighbours.npz`.
        label_id: int32 `(n,)`.
        projector, settings, seed: as in `project`.

    Raises:
        StageError: see `project`.
    """
    neighbours = np.load(stored, allow_pickle=False)
    maps: list[Map] = []
    for name, file in vectors.items():
        found = project(
            np.load(file, mmap_mode="r"),
            neighbours[f"{name}_ids"],
            neighbours[f"{name}_distances"],
            seed,
            projector,
            settings,
            label_id=label_id,
            start=maps[0][0] if maps else None,
        )
        maps.append(found)
    return maps
