"""What of the configuration decides how a file becomes pixels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simpipe.data.preparation import Preparation

PREPARATION = ("ingest.resize", "ingest.copy_side", "ingest.background", "ingest.grey_range")
"""The keys that a stage which makes pixels declares."""


def preparation_of(settings: Any) -> "Preparation":
    """The preparation that the `ingest` section asks for."""
    from simpipe.data.preparation import Preparation

    return Preparation.of({name: getattr(settings, name) for name in Preparation._fields})
