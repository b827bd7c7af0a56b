"""The maps of the page, drawn from the vectors of a run and the neighbours that are stored of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simpipe.config import Config
from simpipe.reporting.content import Layout
from simpipe.reporting.projection import project
from simpipe.reporting.projectors.umap import Settings


def draw_maps(
    vectors: Mapping[str, Path],
    undrawn: Mapping[str, Layout],
    label_id: npt.NDArray[np.int32],
    config: Config,
) -> list[Layout]:
    """Each layout with its map; the later ones begin at the first and are turned onto it.

    Args:
        vectors: name → `.npy` file, float32 `(n, d)`.
        undrawn: name → the neighbours by those vectors.
        label_id: int32 `(n,)`.
        config: its `report`, and its `seed` where there is no `report.map_seed`.

    Raises:
        StageError: see `project`.
    """
    wanted = config.report
    settings = Settings(wanted.neighbours, wanted.min_dist, wanted.spread, wanted.metric, wanted.densmap)
    maps: list[Layout] = []
    for name, known in undrawn.items():
        xy, said = project(
            np.load(vectors[name], mmap_mode="r"),
            known.neighbour_ids,
            known.neighbour_distances,
            config.seed if wanted.map_seed is None else wanted.map_seed,
            wanted.projector,
            settings,
            label_id=label_id,
            start=maps[0].xy if maps else None,
        )
        maps.append(replace(known, xy=xy, projection=said))
    return maps
