"""Choose the thresholds from which on an image is called unknown, and verify them on test.

Without labels nothing can be right or wrong; what can be known is how near an image of the same kind comes
to the train images. `familiar_0.95` is the distance that 95 % of such images do not exceed.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from simpipe.engine.stage import Context, stage
from simpipe.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config.models import Calibrate
    from simpipe.data.manifest import Samples

FAMILIAR = "0.95"
NO_LABELS = "the images have no labels"


@stage(
    version=1,
    reads=("ingest/samples.parquet", "index/embeddings.npy"),
    config=("calibrate",),
    outputs=("calibration.json",),
)
def calibrate(ctx: Context) -> None:
    """Choose the distances from which on an image is "unknown", and verify them on test."""
    import numpy as np

    from simpipe.config import Config
    from simpipe.data.manifest import read_samples
    from simpipe.metrics.calibration import choose_thresholds, operating_point

    config: Config = ctx.config
    settings = config.calibrate
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    embeddings = np.load(ctx.path("index/embeddings.npy"), mmap_mode="r")
    if (samples.label_id < 0).all():
        write_json(ctx.out / "calibration.json", _without_labels(samples, embeddings, target_names(settings)))
        return
    calibration = _queries(samples, embeddings, ("val", "unseen_calib"), settings)
    test = _queries(samples, embeddings, ("test", "unseen_test"), settings)

    chosen = choose_thresholds(*calibration, target_names(settings))
    thresholds: dict[str, Any] = {}
    for name, threshold in chosen.items():
        thresholds[name] = {"distance": threshold.distance, "target": name}
        if threshold.distance is None:
            thresholds[name] |= {"reason": threshold.reason, "on_calibration": None, "on_test": None}
            continue
        thresholds[name]["on_calibration"] = operating_point(*calibration, threshold.distance)
        thresholds[name]["on_test"] = operating_point(*test, threshold.distance)
    write_json(
        ctx.out / "calibration.json",
        {
            "schema": "simpipe.calibration/1",
            "gallery": "train",
            "match": settings.match,
            "k": 1 if settings.match == "nearest" else settings.k,
            "queries": {"known": "val", "unknown": "unseen_calib"},
            "unknown_labels": {
                "calibration": len(np.unique(samples.label_id[samples.rows("unseen_calib")])),
                "test": len(np.unique(samples.label_id[samples.rows("unseen_test")])),
            },
            "thresholds": thresholds,
        },
    )


def target_names(settings: "Calibrate") -> list[str]:
    """The thresholds that a configuration asks for: optimal, precision_0.95, unknown_accept_0.10, …"""

    def level(share: float) -> str:
        digits = Decimal(str(share))
        return str(digits) if -int(digits.as_tuple().exponent) >= 2 else f"{share:.2f}"

    return [
        "optimal",
        *(f"precision_{level(share)}" for share in settings.precision),
        *(f"unknown_accept_{level(share)}" for share in settings.unknown_accept),
    ]


def _without_labels(
    samples: "Samples", embeddings: "npt.NDArray[np.float32]", targets: list[str]
) -> dict[str, Any]:
    """The document of calibration.json where no image has a label."""
    import numpy as np

    from simpipe.metrics.calibration import familiar, operating_point
    from simpipe.similarity import nearest

    def reach(split: str) -> "npt.NDArray[np.float32]":
        """How far each image of a split is from its nearest in train, its own duplicate group left out."""
        rows, train = samples.rows(split), samples.rows("train")
        groups = samples.group_id
        return nearest(embeddings[rows], embeddings[train], 1, groups[rows], groups[train]).distances[:, 0]

    def point(distances: "npt.NDArray[np.float32]", threshold: float) -> dict[str, Any]:
        """All images are taken for known; what needs a label is null."""
        known = np.ones(len(distances), bool)
        found = operating_point(distances, ~known, known, threshold)
        kept = ("accepted", "n_")
        return {name: value if name.startswith(kept) else None for name, value in found.items()}

    nothing = {"distance": None, "reason": NO_LABELS, "on_calibration": None, "on_test": None}
    thresholds: dict[str, Any] = {name: {"target": name, **nothing} for name in targets}
    chosen = familiar(reach("val"), FAMILIAR)
    if chosen.distance is None:
        thresholds[chosen.target] = {**nothing, "target": chosen.target, "reason": chosen.reason}
    else:
        thresholds[chosen.target] = {
            "distance": chosen.distance,
            "target": chosen.target,
            "on_calibration": point(reach("val"), chosen.distance),
            "on_test": point(reach("test"), chosen.distance),
        }
    return {
        "schema": "simpipe.calibration/1",
        "reason": NO_LABELS,
        "gallery": "train",
        "match": "nearest",
        "k": 1,
        "queries": {"known": "val", "unknown": None},
        "unknown_labels": {"calibration": 0, "test": 0},
        "thresholds": thresholds,
    }


class _Queries(NamedTuple):
    distance: "npt.NDArray[np.float32]"
    correct: "npt.NDArray[np.bool_]"
    known: "npt.NDArray[np.bool_]"


def _queries(
    samples: Any, embeddings: "npt.NDArray[np.float32]", splits: tuple[str, ...], settings: "Calibrate"
) -> _Queries:
    """The match of each image of `splits` in the train gallery, its own duplicate group left out."""
    import numpy as np

    from simpipe.search.matching import match
    from simpipe.similarity import nearest

    gallery = samples.rows("train")
    rows = np.concatenate([samples.rows(split) for split in splits])
    labels = samples.label_id[gallery]
    k = 1 if settings.match == "nearest" else settings.k
    neighbours = nearest(
        embeddings[rows], embeddings[gallery], k, samples.group_id[rows], samples.group_id[gallery]
    )
    matched = match(neighbours, labels, settings.match, k)
    known = np.isin(samples.label_id[rows], labels)
    return _Queries(matched.distances, matched.labels == samples.label_id[rows], known)
