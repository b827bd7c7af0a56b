"""The JSON Schemas (draft 2020-12) of the documents that other programs may rely on."""

import json
from importlib.resources import files
from typing import Any

SCHEMAS = ("metrics-1", "calibration-1")


def load_schema(name: str) -> dict[str, Any]:
    """The schema `metrics-1` or `calibration-1`. Raises KeyError for other names."""
    if name not in SCHEMAS:
        raise KeyError(f"no schema {name!r}; there are {', '.join(SCHEMAS)}")
    schema: dict[str, Any] = json.loads((files(__package__) / "schemas" / f"{name}.json").read_text("utf-8"))
    return schema
