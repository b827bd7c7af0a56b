"""Choose the thresholds from which on an image is called unknown, and how likely an answer is right.

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
UNMET = {"distance": None, "on_calibration": None, "on_test": None, "held": None}


@stage(
    version=2,
    reads=("ingest/samples.parquet", "index/embeddings.npy"),
    config=("calibrate",),
    outputs=("calibration.json",),
)
def calibrate(ctx: Context) -> None:
    """Choose the distances from which on an image is "unknown", and verify them on test."""
    import numpy as np

    from simpipe.config import Config
    from simpipe.data.manifest import read_samples
    from simpipe.metrics.calibration import choose_thresholds, few_unknown, held, operating_point

    config: Config = ctx.config
    settings = config.calibrate
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    embeddings = np.load(ctx.path("index/embeddings.npy"), mmap_mode="r")
    if (samples.label_id < 0).all():
        write_json(ctx.out / "calibration.json", _without_labels(samples, embeddings, target_names(settings)))
        return
    calibration = _queries(samples, embeddings, ("val", "unseen_calib"), settings)
    test = _queries(samples, embeddings, ("test", "unseen_test"), settings)

    thresholds: dict[str, Any] = {}
    for name, chosen in choose_thresholds(*calibration.answers, target_names(settings)).items():
        if chosen.distance is None:
            thresholds[name] = {**UNMET, "target": name, "reason": chosen.reason}
            continue
        on_calibration, on_test = (
            operating_point(*queries.answers, chosen.distance, queries.labels, queries.groups)
            for queries in (calibration, test)
        )
        thresholds[name] = {
            "distance": chosen.distance,
            "target": name,
            "on_calibration": on_calibration,
            "on_test": on_test,
            "held": held(name, on_test),
        }
        caution = chosen.caution or (few_unknown(on_test) if name.startswith("unknown_accept") else None)
        if caution:
            thresholds[name]["caution"] = caution
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
            "probability": _probability(calibration, test, settings.unknown_share),
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
        *(f"recall_{level(share)}" for share in settings.recall),
        *(f"unknown_accept_{level(share)}" for share in settings.unknown_accept),
    ]


def _without_labels(
    samples: "Samples", embeddings: "npt.NDArray[np.float32]", targets: list[str]
) -> dict[str, Any]:
    """The document of calibration.json where no image has a label."""
    import numpy as np

    from simpipe.metrics.calibration import familiar, held, operating_point
    from simpipe.similarity import nearest

    def reach(split: str) -> "npt.NDArray[np.float32]":
        """How far each image of a split is from its nearest in train, its own duplicate group left out."""
        rows, train = samples.rows(split), samples.rows("train")
        groups = samples.group_id
        return nearest(embeddings[rows], embeddings[train], 1, groups[rows], groups[train]).distances[:, 0]

    def point(split: str, distances: "npt.NDArray[np.float32]", threshold: float) -> dict[str, Any]:
        """All images are taken for known; what needs a label is null."""
        known, rows = np.ones(len(distances), bool), samples.rows(split)
        found = operating_point(
            distances, ~known, known, threshold, samples.label_id[rows], samples.group_id[rows]
        )
        kept = ("accepted", "n_")
        return {name: value if name.startswith(kept) else None for name, value in found.items()}

    thresholds: dict[str, Any] = {name: {**UNMET, "target": name, "reason": NO_LABELS} for name in targets}
    near = reach("val")
    chosen = familiar(near, FAMILIAR)
    if chosen.distance is None:
        thresholds[chosen.target] = {**UNMET, "target": chosen.target, "reason": chosen.reason}
    else:
        on_test = point("test", reach("test"), chosen.distance)
        thresholds[chosen.target] = {
            "distance": chosen.distance,
            "target": chosen.target,
            "on_calibration": point("val", near, chosen.distance),
            "on_test": on_test,
            "held": held(chosen.target, on_test),
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
        "probability": {"knots": None, "reason": NO_LABELS},
    }


class _Queries(NamedTuple):
    """What became of each query [n]: see `simpipe.metrics.probability`."""

    distance: "npt.NDArray[np.float32]"
    margin: "npt.NDArray[np.float32]"
    correct: "npt.NDArray[np.bool_]"
    known: "npt.NDArray[np.bool_]"
    labels: "npt.NDArray[np.int32]"
    groups: "npt.NDArray[np.int32]"

    @property
    def answers(self) -> "tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]":
        """What thresholds need."""
        return self.distance, self.correct, self.known


def _queries(
    samples: "Samples", embeddings: "npt.NDArray[np.float32]", splits: tuple[str, ...], settings: "Calibrate"
) -> _Queries:
    """The match of each image of `splits` in the train gallery, its own duplicate group left out."""
    import numpy as np

    from simpipe.search.matching import find_matches

    gallery = samples.rows("train")
    rows = np.concatenate([samples.rows(split) for split in splits])
    labels, groups = samples.label_id, samples.group_id
    matched, margin = find_matches(
        embeddings[rows],
        embeddings[gallery],
        labels[gallery],
        settings.match,
        1 if settings.match == "nearest" else settings.k,
        groups[rows],
        groups[gallery],
    )
    known = np.isin(labels[rows], labels[gallery])
    return _Queries(
        matched.distances, margin, matched.labels == labels[rows], known, labels[rows], groups[rows]
    )


def _probability(calibration: _Queries, test: _Queries, unknown_share: float) -> dict[str, Any]:
    """How the probability that an answer is right comes from a match, and what it is worth on test."""
    from simpipe.metrics.probability import fit_probability, verify_probability

    distance, margin, correct, known = calibration[:4]
    share = 0.0 if known.all() else unknown_share
    fitted = fit_probability(distance, margin, correct, known, share)
    if isinstance(fitted, str):
        return {"knots": None, "reason": fitted}
    given = fitted.of(test.distance, test.margin)
    untested = "no test image has an unknown label" if share and len(test.known) and test.known.all() else ""
    return {
        "score": "margin_weight * margin - (1 - margin_weight) * distance",
        "margin_weight": fitted.margin_weight,
        "knots": {"score": fitted.scores.tolist(), "probability": fitted.probabilities.tolist()},
        "unknown_share": share,
        "counts": {
            "right": int((correct & known).sum()),
            "wrong": int((~correct & known).sum()),
            "unknown": int((~known).sum()),
        },
        "on_test": None
        if untested
        else verify_probability(given, test.correct, test.known, test.labels, test.groups, share),
        **({"untested": untested} if untested else {}),
    }
