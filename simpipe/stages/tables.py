"""The tables that evaluate leaves for the report and for other programs."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Samples
from simpipe.metrics.classification import confusion_matrix
from simpipe.metrics.ladder import Scores
from simpipe.metrics.relations import class_similarity, confused_pairs, neighbour_shares
from simpipe.similarity import Neighbours, empty_neighbours


def test_to_train(seen: Scores | str, samples: Samples, k: int) -> Neighbours:
    """The neighbours of the test queries, as rows of the whole data set."""
    if isinstance(seen, str):
        return empty_neighbours(0, k)
    found = seen.evaluations["trained"].neighbours
    gallery = samples.rows("train").astype(np.int32)
    return Neighbours(np.where(found.ids >= 0, gallery[found.ids], -1), found.distances)


def write_neighbours(path: Path, **lists: Neighbours) -> None:
    """Each list as `NAME_ids` int32 (q, k), −1 for none, and `NAME_distances` float32 (q, k)."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, found in lists.items():
        arrays[f"{name}_ids"] = found.ids.astype(np.int32)
        arrays[f"{name}_distances"] = found.distances.astype(np.float32)
    np.savez(path, allow_pickle=False, **arrays)


def write_per_query(path: Path, samples: Samples, seen: Scores | str, unseen: Scores | str) -> None:
    """One row for each test query and block: prediction, distance, and each metric of the trained rung."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [
        _query_table(samples, samples.rows(split), name, scores)
        for name, split, scores in (("seen", "test", seen), ("unseen", "unseen_test", unseen))
        if not isinstance(scores, str)
    ]
    table = pa.concat_tables(parts, promote_options="default") if parts else pa.table({"row": pa.array([], "int32")})
    pq.write_table(table, path, compression="zstd")


def _query_table(samples: Samples, rows: npt.NDArray[np.int64], block: str, scores: Scores) -> Any:
    import pyarrow as pa

    evaluation = scores.evaluations["trained"]
    gallery = samples.label_id[samples.rows("train")] if block == "seen" else samples.label_id[rows]
    near = evaluation.neighbours.ids[:, 0]
    return pa.table(
        {
            "row": rows.astype(np.int32),
            "sample_id": samples.sample_id[rows].tolist(),
            "block": [block] * len(rows),
            "label_id": samples.label_id[rows].astype(np.int32),
            "predicted": np.where(near >= 0, gallery[near], -1).astype(np.int32),
            "distance": evaluation.neighbours.distances[:, 0].astype(np.float32),
            **{name: values.astype(np.float64) for name, values in evaluation.values.items()},
        }
    )


def confusion(seen: Scores | str, samples: Samples, classes: int) -> npt.NDArray[np.int64]:
    """Counts (C, C): true label by label of the nearest neighbour, over the seen block."""
    if isinstance(seen, str):
        return np.zeros((classes, classes), np.int64)
    evaluation = seen.evaluations["trained"]
    return confusion_matrix(samples.label_id[samples.rows("test")], evaluation.predicted, classes)


def write_confusion(path: Path, counts: npt.NDArray[np.int64], names: list[str]) -> None:
    """One row for each true label, one column for each predicted one."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["label", *map(cell, names)])
        writer.writerows([cell(name), *row] for name, row in zip(names, counts.tolist(), strict=True))


def cell(text: str) -> str:
    """`text` for a CSV file: a spreadsheet must not take a label or a file name for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def relations(
    embeddings: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    neighbour_ids: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
    names: list[str],
) -> dict[str, Any]:
    """The document of relations.json: how the labels stand to each other."""
    pairs = confused_pairs(counts)
    return {
        "schema": "simpipe.relations/1",
        "labels": names,
        "similarity": _numbers(class_similarity(embeddings, labels, len(names))),
        "neighbour_share": _numbers(neighbour_shares(neighbour_ids, labels, labels, len(names))),
        "confused": [
            {
                "label": names[pair.label],
                "predicted": names[pair.predicted],
                "count": pair.count,
                "share": pair.share,
            }
            for pair in pairs
        ],
    }


def _numbers(matrix: npt.NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(value, 6) for value in row] for row in matrix.tolist()]
