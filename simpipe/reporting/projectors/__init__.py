"""Ways to draw a map of the embeddings: one table, one file each, and those that packages add.

A projector is a function `(embeddings, ids, distances, seed) -> xy`: float32 `(n, d)` of L2-normalised rows,
int `(n, k)` and float `(n, k)` for each image's nearest neighbours and their cosine distances, nearest
first, itself and its copies left out, -1 where there are fewer; and a whole number, of which all its random
choices follow. It gives two finite numbers for each image. A package adds one by an entry point:

    [project.entry-points."simpipe.projectors"]
    tsne = "my_package.maps:tsne"

Then `report.projector: tsne` draws the page's map with it.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from simpipe.errors import StageError

Projector = Callable[..., Any]

PROJECTORS = {
    "umap": "simpipe.reporting.projectors.umap:umap",
    "pca": "simpipe.reporting.projectors.pca:pca",
}
"""Name → "module:function" of those that come with simpipe; the configuration knows the names too."""

GROUP = "simpipe.projectors"


def projector(name: str) -> Projector:
    """The projector called `name`, of simpipe or of an installed package.

    Raises:
        StageError: there is none, or it cannot be loaded.
    """
    if name in PROJECTORS:
        module, function = PROJECTORS[name].split(":")
        found: Projector = getattr(import_module(module), function)
        return found
    offered = list(entry_points(group=GROUP, name=name))
    if not offered:
        raise StageError(f"report.projector: no installed package has a projector {name!r}")
    try:
        found = offered[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise StageError(
            f"report.projector: {name} ({offered[0].value}) cannot be loaded: {why}",
            hint="mend or install the package that has it, or set report.projector=umap",
        ) from error
    return found
