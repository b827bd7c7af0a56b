"""The table of classes: its cells, its order, and names that a spreadsheet would run."""

import csv
from types import SimpleNamespace

import numpy as np

from simpipe.metrics.evaluation import evaluate_queries
from simpipe.metrics.intervals import wilson
from simpipe.metrics.ladder import Block, Scores
from simpipe.stages.classes import COLUMNS, write_classes

NAMES = ["=cmd", "b", "c", "d"]


def scored(block, vectors):
    queries, gallery, labels = block.queries, block.gallery, block.labels
    evaluation = evaluate_queries(
        *(vectors[queries], vectors[gallery], labels[queries], labels[gallery]),
        *(block.exclude[queries], block.exclude[gallery]),
    )
    return Scores(block, {"trained": evaluation}, [], [])


def test_rows_of_both_blocks(tmp_path):
    """Class 0 is told apart, one of two queries of 1 is called 0, and 2 and 3 are not in train."""
    angles = np.radians([0, 2, 90, 92, 1, 3, 91, 5, 180, 181, 270, 272])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels, rows = np.array([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3]), np.arange(12)
    seen = scored(Block("seen", rows[4:8], rows[:4], labels, rows, "groups"), vectors)
    unseen = scored(Block("unseen", rows[8:], rows[8:], labels, rows, "classes"), vectors)
    samples = SimpleNamespace(label_id=labels)
    write_classes(tmp_path / "classes.csv", samples, NAMES, seen, unseen)
    table = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert list(table[0]) == list(COLUMNS)
    assert [(row["block"], row["label_id"]) for row in table] == [
        *(("seen", "0"), ("seen", "1"), ("unseen", "2"), ("unseen", "3"))
    ]
    first, second = table[:2]
    assert (first["label"], first["support"], first["recall"]) == ("'=cmd", "2", "1")
    assert (first["precision"], first["f1"]) == ("0.666667", "0.8")
    assert first["confused_1"] == first["count_1"] == ""
    assert (second["recall"], second["confused_1"], second["count_1"]) == ("0.5", "'=cmd", "1")
    low, high = wilson(1, 2)
    assert (second["recall_low"], second["recall_high"]) == (f"{low:.6g}", f"{high:.6g}")
    assert second["map@r"] == "0.5"
    write_classes(tmp_path / "none.csv", samples, NAMES, "no labels", "no labels")
    assert (tmp_path / "none.csv").read_text().strip() == ",".join(COLUMNS)
