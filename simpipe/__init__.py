"""simpipe: from a folder of labelled images to a metric-learning baseline and an honest report.

import simpipe

run = simpipe.open("runs/baseline")
for result in run.query(["photo.jpg"], k=5):
    print(result.match.label, [neighbour.path for neighbour in result.neighbours])
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`simpipe.open`, loaded at its first use: `import simpipe` stays free of everything else."""
    if name == "open":
        from simpipe.runs import open_run

        return open_run
    raise AttributeError(f"module 'simpipe' has no attribute {name!r}")
