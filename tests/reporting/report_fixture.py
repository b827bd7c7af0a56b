"""A made-up run: coloured squares of a few labels, with names that try to break the page."""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from simpipe.reporting.content import Content, Layout

HOSTILE = [
    "<img src=x onerror=__xss=1>",
    "</script><script>__xss=1</script>",
    "{{7*7}}",
    "@x{safe}",
    "$$x$$",
    "🍎 apple",
    "תפוח",
    "long " * 60,
    "007",
    "__proto__",
    '"><svg onload=__xss=1>',
    "bidi \u202etxt\u2028line",
    "",
    "javascript:__xss=1",
]
PLAIN = ["Royal Gala", "Pink Lady", "Golden Delicious", "Granny Smith", "Red Beet", "Zucchini"]
METRICS = ("accuracy@1", "accuracy@5", "macro_accuracy@1", "recall@1", "recall@5", "map@r", "mrr")


def colour(row: int) -> tuple[int, int, int]:
    """The colour of the picture of `row`; far apart for rows that are close."""
    rgb = colorsys.hsv_to_rgb(row * 0.618034 % 1, 0.55 + 0.4 * (row % 3) / 2, 0.9 - 0.25 * (row % 2))
    return tuple(int(255 * part) for part in rgb)  # type: ignore[return-value]


def picture(row: int, size: int = 96) -> bytes:
    """A JPEG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour(row)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def metric(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - 0.031), "high": min(1.0, value + 0.028), "n": n}


def vectors(rng: np.random.Generator, label_id: np.ndarray, noise: float, d: int = 16) -> np.ndarray:
    middles = rng.normal(size=(label_id.max() + 1, d))
    found = middles[label_id] + rng.normal(size=(len(label_id), d)) * noise
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def nearest(
    queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery rows of each query row, never itself, padded with -1."""
    distance = 1 - queries @ gallery.T
    distance[np.arange(len(queries))[:, None] == rows[None, :]] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, : min(k, len(rows))]
    found = np.take_along_axis(distance, order, axis=1)
    ids = np.where(np.isfinite(found), rows[order], -1).astype(np.int32)
    return ids, np.where(np.isfinite(found), found, 0).astype(np.float32)


def content(
    n: int = 300, labels: list[str] | None = None, noise: float = 1.1, seed: int = 0, k: int = 12
) -> Content:
    """A whole run of n images; `noise` decides how many mistakes it makes."""
    rng = np.random.default_rng(seed)
    names = [*HOSTILE, *PLAIN] if labels is None else labels
    label_id = np.arange(n) % len(names)
    embeddings = vectors(rng, label_id, noise)
    unseen = set(range(len(names) - 2, len(names))) if len(names) >= 10 else set()
    turns = ("train", "train", "test", "val", "train")
    split = [
        ("unseen_calib", "unseen_test")[label % 2] if label in unseen else turns[row // len(names) % 5]
        for row, label in enumerate(label_id.tolist())
    ]
    rows = np.arange(n)
    ids, distances = nearest(embeddings, embeddings, rows, k)
    train = rows[[part == "train" for part in split]]
    test = rows[[part == "test" for part in split]]
    test_ids, test_distances = nearest_of(embeddings, test, train, k)
    predicted, correct, confidence = answer(n, label_id, test, test_ids, test_distances)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (label_id[test], np.maximum(predicted[test], 0)), 1)
    paths = [f"{split[row]}/{label}/photo {row}.jpg" for row, label in enumerate(names[i] for i in label_id)]
    if n > 5:
        paths[5] = "not-utf8-\udcff/photo <b>5</b>.jpg"
    return Content(
        title="Apples & <i>pears</i>",
        run_name="baseline",
        metrics=metrics(len(test), float((correct[test] == 1).mean()) if len(test) else 0.0),
        calibration=calibration(),
        findings=findings(names, label_id, paths, predicted, test),
        relations=relations(names, confusion, embeddings, label_id),
        confusion=confusion,
        labels=names,
        history=[
            {"epoch": e + 1, "loss": 2.0 / (e + 1), "val_map@r": 0.9 - 0.5 / (e + 1), "lr": 1e-3 / (e + 1)}
            for e in range(12)
        ],
        ingest={"files": {"seen": n + 7, "used": n, "quarantined": 3, "ignored": 4}},
        sampler={"classes_per_batch": 16, "samples_per_class": 4, "steps": 600},
        encoder={"backbone": "efficientnet-lite0", "embedding_size": 16, "ship": "trained"},
        index_quality={"backend": "nmslib", "recall@10": 0.9991},
        environment=[
            ("simpipe", "0.1.0"),
            ("command", "simpipe run /home/someone/data/apples --config baseline.yaml"),
            ("seed", "1"),
        ],
        sample_id=[f"{row:016x}" for row in range(n)],
        path=paths,
        label_id=label_id,
        split=split,
        xy=flat(embeddings),
        predicted=predicted,
        correct=correct,
        confidence=confidence,
        neighbour_ids=ids,
        neighbour_distances=distances,
        test_rows=test,
        test_ids=test_ids,
        test_distances=test_distances,
        thumbnails=pictures,
        projection={"method": "umap", "preserved": 0.61, "preserved_k": 15, "n_neighbors": 15, "seed": 1},
        before=before(label_id, noise, k),
        unknown_distances=np.sort(rng.uniform(0.1, 0.9, 30)).astype(np.float32),
    )


def pictures(rows: Sequence[int]) -> list[bytes]:
    return [picture(row) for row in rows]


def nearest_of(
    embeddings: np.ndarray, test: np.ndarray, train: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    if not len(test) or not len(train):
        return np.zeros((len(test), 0), np.int32), np.zeros((len(test), 0), np.float32)
    distance = 1 - embeddings[test] @ embeddings[train].T
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return train[order].astype(np.int32), np.take_along_axis(distance, order, axis=1).astype(np.float32)


def answer(
    n: int, label_id: np.ndarray, test: np.ndarray, ids: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vote of three: predicted, correct and confidence of every row."""
    predicted, correct, confidence = np.full(n, -1), np.full(n, -1), np.full(n, np.nan)
    for row, near, far in zip(test, ids, distances, strict=True):
        votes: dict[int, float] = {}
        for other, distance in zip(near[:3], far[:3], strict=True):
            votes[int(label_id[other])] = votes.get(int(label_id[other]), 0.0) + 1 - float(distance)
        if votes:
            predicted[row] = max(votes, key=lambda label: votes[label])
            confidence[row] = votes[predicted[row]] / sum(votes.values())
        correct[row] = int(predicted[row] == label_id[row])
    return predicted, correct, confidence


def before(label_id: np.ndarray, noise: float, k: int) -> Layout:
    """The same images by features that know less of the labels."""
    features = vectors(np.random.default_rng(1), label_id, 2 * noise)
    rows = np.arange(len(label_id))
    said = {"method": "umap", "preserved": 0.42, "preserved_k": 15, "n_neighbors": 15, "seed": 1}
    return Layout(flat(features), *nearest(features, features, rows, k), said)


def flat(embeddings: np.ndarray) -> np.ndarray:
    from simpipe.reporting.projectors.pca import pca

    return pca(embeddings)


def metrics(n: int, accuracy: float) -> dict[str, Any]:
    if not n:
        return {"blocks": {"seen": {"reason": "no test images"}}, "ladder": [], "gain": []}
    names = {name: metric(max(0.0, accuracy - 0.01 * i), n) for i, name in enumerate(METRICS)}
    rungs = ("chance", "thumbnail", "pretrained", "whitened", "lda", "trained")
    share = np.linspace(0.05, accuracy, len(rungs))
    return {
        "blocks": {
            "seen": {"counts": {"queries": n}, "metrics": names},
            "unseen": {"counts": {}, "metrics": {"recall@1": metric(0.71, 40), "map@r": metric(0.44, 40)}},
            "open_set": {"counts": {}, "metrics": {"auroc": metric(0.9, 80)}},
        },
        "ladder": [
            {"rung": rung, "block": block, "metrics": {name: metric(float(value), n) for name in METRICS}}
            for block in ("seen", "unseen")
            for rung, value in zip(rungs, share, strict=True)
        ],
        "gain": [
            {
                "metric": "accuracy@1", "block": "seen", "from": "pretrained", "to": "trained",
                "value": 0.079, "low": 0.064, "high": 0.095, "n": n, "fixed": 17, "broken": 3, "p": 0.001,
            }
        ],
        "with_leaks": {"metrics": {"accuracy@1": metric(min(1.0, accuracy + 0.02), n)}},
    }  # fmt: skip


def calibration() -> dict[str, Any]:
    def side(precision: float) -> dict[str, Any]:
        return {
            "precision": precision, "recall": 0.81, "f1": 0.87, "accepted": 0.88, "unknown_accept": 0.12,
            "n_known": 54, "n_unknown": 30,
        }  # fmt: skip

    return {
        "gallery": "train",
        "match": "nearest",
        "k": 3,
        "thresholds": {
            "optimal": {"distance": 0.41, "on_calibration": side(0.93), "on_test": side(0.92)},
            "precision_0.95": {
                "distance": 0.33,
                "target": 0.95,
                "on_calibration": side(0.951),
                "on_test": side(0.944),
            },
            "unknown_accept_0.10": {
                "distance": None,
                "target": 0.1,
                "reason": "0.1 needs 9 unknown queries",
                "on_calibration": None,
                "on_test": None,
            },
        },
    }


def findings(
    names: list[str], label_id: np.ndarray, paths: list[str], predicted: np.ndarray, test: np.ndarray
) -> list[dict[str, Any]]:
    n = len(paths)

    def line(kind: str, row: int, other: str, score: float, detail: str = "") -> dict[str, Any]:
        return {
            "kind": kind, "severity": "warning", "score": score, "sample_id": f"{row:016x}",
            "path": paths[row], "label": names[label_id[row]], "other": other, "detail": detail,
            "exclude": False,
        }  # fmt: skip

    wrong = [row for row in test.tolist() if predicted[row] >= 0 and predicted[row] != label_id[row]]
    found = [line("label_error", row, names[predicted[row]], 0.9, "5 of 5 neighbours") for row in wrong[:15]]
    if n > 60:
        found += [line("duplicate", row, paths[row + 20], 0.99) for row in range(3)]
        found += [line("duplicate_conflict", 4, paths[9], 0.98), line("leak", 40, f"{41:016x}", 0.97)]
        found += [line("outlier", 7, "", 0.8), line("merge", 8, names[1], 0.7, "AUC 0.55")]
        found.append(
            {"kind": "unreadable", "path": "train/bad <b>.jpg", "detail": "truncated", "score": float("nan")}
        )
    return found


def relations(
    names: list[str], confusion: np.ndarray, embeddings: np.ndarray, label_id: np.ndarray
) -> dict[str, Any]:
    means = np.array([embeddings[label_id == label].mean(axis=0) for label in range(len(names))])
    off = confusion * (1 - np.eye(len(names), dtype=int))
    order = np.argsort(-off, axis=None, kind="stable")
    cells = [
        tuple(int(part) for part in np.unravel_index(cell, off.shape))
        for cell in order[: int((off > 0).sum())]
    ]
    return {
        "confused": [
            {
                "label": names[a],
                "predicted": names[b],
                "count": int(off[a, b]),
                "share": off[a, b] / confusion[a].sum(),
            }
            for a, b in cells
        ],
        "labels": names,
        "similarity": (means @ means.T).tolist(),
    }


def large(n: int, labels: int = 80, k: int = 10) -> Content:
    """A run of any size, made in a moment, with pictures whose texture, and so whose size, is that of photos.

    Neighbours are not searched but drawn, nine of ten with the same label.
    """
    rng = np.random.default_rng(0)
    names = [f"label {label}" for label in range(labels)]
    label_id = rng.integers(labels, size=n)
    middles = rng.normal(size=(labels, 2)) * 6
    towards = middles / np.linalg.norm(middles, axis=1, keepdims=True)
    rows = np.arange(n)
    part = np.array(["train", "val", "test"])[rng.choice(3, n, p=[0.7, 0.1, 0.2])]
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    ids, distances = drawn(rng, label_id, rows, rows, k)
    xy = (middles[label_id] + rng.normal(size=(n, 2))).astype(np.float32)
    test_ids, test_distances = drawn(rng, label_id, test, train, k)
    predicted, correct, confidence = np.full(n, -1), np.full(n, -1), np.full(n, np.nan)
    predicted[test] = label_id[test_ids[:, 0]]
    correct[test] = predicted[test] == label_id[test]
    confidence[test] = rng.uniform(0.4, 1, len(test))
    confusion = np.zeros((labels, labels), int)
    np.add.at(confusion, (label_id[test], predicted[test]), 1)
    paths = [f"{names[label]}/photo {row:06}.jpg" for row, label in enumerate(label_id.tolist())]
    return replace(
        content(10 * labels, names),
        metrics=metrics(len(test), float((correct[test] == 1).mean())),
        findings=findings(names, label_id, paths, predicted, test),
        relations=relations(names, confusion, towards[label_id], label_id),
        confusion=confusion,
        sample_id=[f"{row:016x}" for row in range(n)],
        path=paths,
        label_id=label_id,
        split=part.tolist(),
        xy=xy,
        predicted=predicted,
        correct=correct,
        confidence=confidence,
        neighbour_ids=ids,
        neighbour_distances=distances,
        test_rows=test,
        test_ids=test_ids,
        test_distances=test_distances,
        thumbnails=photos,
        before=Layout(
            (middles[label_id] + 4 * rng.normal(size=(n, 2))).astype(np.float32),
            *drawn(rng, label_id, rows, rows, k),
            {"method": "umap", "preserved": 0.42, "preserved_k": 15, "n_neighbors": 15, "seed": 1},
        ),
    )


def drawn(
    rng: np.random.Generator, label_id: np.ndarray, asked: np.ndarray, pool: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """k rows of `pool` for each row asked, never itself, most with its label; distances ascend."""
    by_label = pool[np.argsort(label_id[pool], kind="stable")]
    size = np.bincount(label_id[pool], minlength=label_id.max() + 1)
    own = label_id[asked][:, None]
    turn = rng.integers(0, size.max(), (len(asked), 1)) + np.arange(k)
    ids = by_label[(np.cumsum(size) - size)[own] + turn % size[own]]
    ids = np.where(rng.random(ids.shape) < 0.1, rng.choice(pool, ids.shape), ids)
    ids = np.where(ids == asked[:, None], pool[(np.searchsorted(pool, ids) + 1) % len(pool)], ids)
    return ids.astype(np.int32), np.sort(rng.uniform(0.05, 0.6, ids.shape), axis=1).astype(np.float32)


def photos(rows: Sequence[int]) -> list[bytes]:
    return [textures()[row % len(textures())] for row in rows]


@cache
def textures(number: int = 64, size: int = 96) -> list[bytes]:
    """JPEGs of noise with the spectrum of photos; as WebP tiles they are as large as photos of clothing."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1
    made = []
    for _ in range(number):
        planes = np.fft.ifft2(np.fft.fft2(rng.normal(size=(4, size, size))) / frequency**1.6).real
        planes /= planes.std(axis=(1, 2), keepdims=True)
        light, tint = planes[0][..., None], np.moveaxis(planes[1:], 0, -1)
        pixels = rng.uniform(60, 200, 3) + 45 * light + 11 * tint
        stream = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
        made.append(stream.getvalue())
    return made
