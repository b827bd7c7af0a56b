"""The names that `report.projector` takes, found without the libraries that draw maps."""

from simpipe.config.fields import not_one_of

PROJECTORS = ("umap", "pca")
"""Those that come with simpipe."""

GROUP = "simpipe.projectors"
"""The entry point group of those that other packages bring."""


def known_projector(name: str) -> str:
    """`name`, if there is such a projector; the installed packages are only looked at for other names.

    Raises:
        ValueError: there is none; it lists those that there are.
    """
    if name in PROJECTORS:
        return name
    from importlib.metadata import entry_points

    names = (*PROJECTORS, *sorted(set(entry_points(group=GROUP).names) - set(PROJECTORS)))
    if name not in names:
        raise ValueError(not_one_of(name, names))
    return name
