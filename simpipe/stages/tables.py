"""The tables that evaluate leaves for the report and for other programs."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Samples
from simpipe.metrics.classification import confusion_matrix
from simpipe.metrics.clusters import Clusters
from simpipe.metrics.ladder import Scores
from simpipe.similarity import Neighbours, empty_neighbours, neighbour_vote

VOTERS = 5
PER_QUERY = (
    *("accuracy@1", "accuracy@5", "recall@1", "recall@5", "recall@10", "true_recall@5", "true_recall@10"),
    *("precision@5", "precision@10", "r_precision", "map@r", "mrr", "ap"),
)


def test_to_train(seen: Scores | str, samples: Samples, k: int) -> Neighbours:
    """The neighbours of the queries of the seen block, in their order, as rows of the whole data set."""
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


def write_per_query(
    path: Path, samples: Samples, seen: Scores | str, unseen: Scores | str, unknown: Neighbours
) -> None:
    """One row for each query of a block: what it was called, at which distance, and each metric's value.

    `block` is seen, unseen (held-out labels among themselves) or unknown (held-out labels against the
    train gallery). `vote_share` is the share of the vote that the nearest one's label got among five.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    train, unseen_test = samples.rows("train"), samples.rows("unseen_test")
    parts = [_query_table(samples, unseen_test, "unknown", train, unknown, {})]
    for scores in (seen, unseen):
        if not isinstance(scores, str):
            block, trained = scores.block, scores.evaluations["trained"]
            found = trained.neighbours
            parts.append(
                _query_table(samples, block.queries, block.name, block.gallery, found, trained.values)
            )
    pq.write_table(pa.concat_tables(parts, promote_options="default"), path, compression="zstd")


def _query_table(
    samples: Samples,
    rows: npt.NDArray[np.integer[Any]],
    block: str,
    gallery: npt.NDArray[np.integer[Any]],
    found: Neighbours,
    values: Mapping[str, npt.NDArray[np.float64]],
) -> Any:
    import pyarrow as pa

    predicted, share = neighbour_vote(*found, samples.label_id[gallery], VOTERS, "nearest")
    metrics = {name: values.get(name, np.full(len(rows), np.nan)) for name in PER_QUERY}
    return pa.table(
        {
            "row": rows.astype(np.int32),
            "sample_id": pa.array(samples.sample_id[rows].tolist(), pa.string()),
            "block": pa.array([block] * len(rows), pa.string()),
            "label_id": samples.label_id[rows].astype(np.int32),
            "predicted": predicted,
            "vote_share": share,
            "distance": found.distances[:, 0].astype(np.float32),
            **metrics,
        }
    )


def write_clusters(path: Path, samples: Samples, clusters: Clusters | None) -> None:
    """One row for each image, in the order of samples.parquet; none where the images have labels.

    `sample_id`; `cluster` int32, 0 the largest, −1 in none; `probability` float32 in [0, 1];
    `representative`, whether it is one of the most typical of its cluster.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = clusters or Clusters(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, bool))
    table = pa.table(
        {
            "sample_id": pa.array(samples.sample_id[: len(found.cluster)].tolist(), pa.string()),
            "cluster": found.cluster,
            "probability": found.probability,
            "representative": found.representative,
        }
    )
    pq.write_table(table, path, compression="zstd")


def confusion(seen: Scores | str, samples: Samples, classes: int) -> npt.NDArray[np.int64]:
    """Counts (C, C): true label by label of the nearest neighbour, over the seen block."""
    if isinstance(seen, str):
        return np.zeros((classes, classes), np.int64)
    evaluation = seen.evaluations["trained"]
    return confusion_matrix(samples.label_id[seen.block.queries], evaluation.predicted, classes)


def write_confusion(path: Path, counts: npt.NDArray[np.int64], names: list[str]) -> None:
    """One row for each true label, one column for each predicted one."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["label", *map(cell, names)])
        writer.writerows([cell(name), *row] for name, row in zip(names, counts.tolist(), strict=True))


def cell(text: str) -> str:
    """`text` for a CSV file: a spreadsheet must not take a label or a file name for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
