"""Can the model say "I do not know this label", and "these two are the same"? Two parts of metrics.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.config.models import Evaluate
from simpipe.data.manifest import Samples
from simpipe.metrics import novelty, open_set, verification
from simpipe.metrics.evaluation import as_dict
from simpipe.metrics.intervals import Estimate
from simpipe.metrics.ladder import Scores, sample
from simpipe.metrics.pairs import Images, count_pairs
from simpipe.similarity import Neighbours

MIN_PAIRS = 10
WORST = 10
MOST_PAIRS = 100_000_000
COLUMNS = ("fnmr", "fmr", "positives", "negatives")


def open_set_document(
    samples: Samples,
    embeddings: npt.NDArray[np.float32],
    seen: Scores | str,
    unknown: Neighbours,
    settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """`blocks.open_set`: known test queries against images of held-out labels, by the nearest distance.

    `seen` is the block of the known queries, or why there is none; `unknown` the neighbours of the rows
    `unseen_test` as positions in the train gallery. Beside the contract's counts and metrics: `novelty`,
    other scores than the nearest distance, each with its paired gain; `by_class_size`, whether rare labels
    are taken for unknown.
    """
    rows = samples.rows("unseen_test")
    if isinstance(seen, str):
        return {"reason": seen}
    if len(rows) == 0:
        return {"reason": "no label is held out as unknown"}
    labels, groups = samples.label_id, samples.group_id
    train, queries, trained = samples.rows("train"), seen.block.queries, seen.evaluations["trained"]
    known = trained.neighbours
    counts = seen.summary("trained")["counts"]
    scale = counts["queries"] / len(queries)
    sides = open_set.Sides(labels[queries], groups[queries], labels[rows], groups[rows], scale)
    near, far = known.distances[:, 0], unknown.distances[:, 0]
    right = trained.values["accuracy@1"] == 1
    estimates = open_set.estimates(near, right, far, sides, settings.resamples, seed)
    k = novelty.neighbour_rank(labels[train], min(novelty.MAX_K, known.distances.shape[1]))
    scores: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
        "nearest": (near, far),
        "kth_nearest": (
            novelty.kth_distance(known.distances, k),
            novelty.kth_distance(unknown.distances, k),
        ),
    }
    fitted = novelty.fit_gaussians(embeddings[train], labels[train])
    if not isinstance(fitted, str):
        scores["relative_mahalanobis"] = (
            novelty.relative_mahalanobis(fitted, embeddings[queries]),
            novelty.relative_mahalanobis(fitted, embeddings[rows]),
        )
    compared = novelty.compare_scores(scores, sides, settings.resamples, seed)
    sizes = np.bincount(labels[train], minlength=int(labels.max()) + 1)
    of_match = sizes[labels[train[unknown.ids[:, 0]]]]
    bands = novelty.by_class_size(
        near, sizes[labels[queries]], far, of_match, sides, settings.resamples, seed
    )
    return {
        "counts": {
            "known": counts["queries"],
            "unknown": len(rows),
            "unknown_classes": len(np.unique(labels[rows])),
            **{name: counts[name] for name in ("sampled",) if name in counts},
        },
        "metrics": _metrics(estimates),
        "novelty": {
            "k": k,
            "scores": {name: _present(each._asdict()) for name, each in compared.items()}
            | ({"relative_mahalanobis": {"reason": fitted}} if isinstance(fitted, str) else {}),
            "better": [name for name, each in compared.items() if each.gain and (each.gain.low or 0) > 0],
        },
        "by_class_size": {"reason": bands}
        if isinstance(bands, str)
        else {"accepts": 0.95, "bands": [_present(band._asdict()) for band in bands]},
    }


def verification_document(
    samples: Samples,
    embeddings: npt.NDArray[np.float32],
    seen: Scores | str,
    unseen: Scores | str,
    settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """`verification`: error rates over pairs of images, for the blocks `seen` and `unseen`.

    `seen` pairs every test image with train, `unseen` the images of held-out labels with each other; a block
    that is not there gives its reason. Where few labels make more than `MOST_PAIRS` like pairs, a sample of
    the queries, a share of each label, meets the whole gallery.
    """

    def images(rows: npt.NDArray[np.int64]) -> Images:
        return Images(embeddings[rows], samples.label_id[rows], samples.group_id[rows])

    document: dict[str, Any] = {}
    for name, block in (("seen", seen), ("unseen", unseen)):
        if isinstance(block, str):
            document[name] = {"reason": block}
            continue
        rows, train = samples.rows("test" if name == "seen" else "unseen_test"), samples.rows("train")
        queries, gallery = images(rows), images(train) if name == "seen" else None
        positives, _ = count_pairs(queries, gallery)
        kept = sample(samples.label_id[rows], _affordable(len(rows), positives, gallery is None), seed)
        if len(kept) < len(rows):
            queries = images(rows[kept])
        found = verification.verify(queries, gallery, settings.resamples, seed)
        document[name] = {
            "counts": found.counts | {"queries": len(rows), "sampled": len(kept)},
            "negatives": "all"
            if found.counts["negatives"] == found.counts["negatives_in_all"]
            else "sampled",
            "metrics": _metrics(found.metrics),
            "thresholds": found.thresholds,
            "by_class": _by_class(found.classes, samples),
        }
    return document


def _affordable(queries: int, positives: int, among_themselves: bool) -> int:
    """How many of the queries have `MOST_PAIRS` like pairs."""
    share = MOST_PAIRS / max(positives, 1)
    return queries if share >= 1 else int(queries * (share**0.5 if among_themselves else share))


def _by_class(rates: verification.ClassRates | str, samples: Samples) -> dict[str, Any]:
    """The rates of each label at one threshold, how far they spread, and the labels that fare worst.

    Labels of less than `MIN_PAIRS` positive pairs stand in the list but not in the spread. `inconsistency`
    is the mean squared deviation over labels of the harmonic mean of `1 - FNMR` and `1 - FMR`, as in OPIS
    (Zhang et al. 2023, arXiv:2307.04047) at one threshold instead of a range of them.
    """
    if isinstance(rates, str):
        return {"reason": rates}
    first = np.searchsorted(samples.label_id, rates.labels)  # samples are sorted by label_id
    names = samples.label[first].tolist()
    counted = (rates.positives >= MIN_PAIRS) & (rates.negatives > 0)
    accepted, refused = 1.0 - rates.fnmr[counted], 1.0 - rates.fmr[counted]
    utility = 2.0 * accepted * refused / np.maximum(accepted + refused, 1e-12)
    worst = np.flatnonzero(counted)[np.argsort(utility, kind="stable")][:WORST]
    return {
        "fmr": rates.level,
        "labels_counted": int(counted.sum()),
        "spread": {
            "fnmr": _spread(rates.fnmr[counted]),
            "fmr": _spread(rates.fmr[counted]),
            "inconsistency": round(float(utility.var()), 12) if len(utility) else None,
        },
        "worst": [names[at] for at in worst.tolist()],
        "labels": [
            {"label": name, "fnmr": _number(fnmr), "fmr": _number(fmr), "positives": true, "negatives": false}
            for name, fnmr, fmr, true, false in zip(
                names, *(getattr(rates, column).tolist() for column in COLUMNS), strict=True
            )
        ],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 12)


def _spread(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Tenth, half and nine tenths of the labels have at most so much."""
    if not len(values):
        return {"p10": None, "median": None, "p90": None}
    p10, median, p90 = np.round(np.quantile(values, (0.1, 0.5, 0.9)), 12).tolist()
    return {"p10": p10, "median": median, "p90": p90}


def _metrics(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: as_dict(each) | {"formula": name} for name, each in estimates.items()}


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON: estimates as their dictionaries, tuples as lists, None left out."""
    return {
        name: as_dict(each) if isinstance(each, Estimate) else list(each) if isinstance(each, tuple) else each
        for name, each in fields.items()
        if each is not None
    }
