"""The JSON Schemas (draft 2020-12) of the documents that other programs may rely on."""

import json
from importlib.resources import files
from typing import Any

METRICS = "simpipe.metrics"
"""The package whose artifacts are described here; that of what commands print is `simpipe.cli`."""


def schema_names(package: str = METRICS) -> list[str]:
    """The schemas that come with a package, such as `metrics-1`."""
    return sorted(path.name.removesuffix(".json") for path in (files(package) / "schemas").iterdir())


def load_schema(name: str, package: str = METRICS) -> dict[str, Any]:
    """The schema `name` of a package. Raises KeyError where it has none of that name."""
    if name not in schema_names(package):
        raise KeyError(f"no schema {name!r}; there are {', '.join(schema_names(package))}")
    schema: dict[str, Any] = json.loads((files(package) / "schemas" / f"{name}.json").read_text("utf-8"))
    return schema
