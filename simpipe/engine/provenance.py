"""With what a stage was made: recorded in its receipt, never part of its key."""

import os
import platform
from importlib import metadata
from typing import Any

LIBRARIES = (
    "tensorflow",
    "keras",
    "nmslib",
    "numpy",
    "scikit-learn",
    "pillow",
    "pyarrow",
    "umap-learn",
    "bokeh",
)


def provenance() -> dict[str, Any]:
    """Versions and machine, as a JSON document."""
    return {
        "simpipe": _version("simpipe"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
