"""Choose the thresholds from which on an image is called unknown, and verify them on test."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from simpipe.engine.stage import Context, stage
from simpipe.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config.models import Calibrate


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
