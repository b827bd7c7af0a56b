"""The table of classes that evaluate leaves: how each label fares, and what it is taken for."""

import csv
from pathlib import Path

from simpipe.data.manifest import Samples
from simpipe.metrics.classification import ClassRow, class_rows
from simpipe.metrics.ladder import Scores
from simpipe.stages.tables import cell

CONFUSIONS = 3
COLUMNS = (
    *("block", "label_id", "label", "support", "precision", "recall", "recall_low", "recall_high"),
    *("f1", "map@r"),
    *(f"{name}_{place}" for place in range(1, CONFUSIONS + 1) for name in ("confused", "count")),
)
DIGITS = 6


def write_classes(
    path: Path, samples: Samples, names: list[str], seen: Scores | str, unseen: Scores | str
) -> None:
    """One row for each label of a block, by block and then label id; empty cells where there is no value.

    `block` is seen (test against train) or unseen (held-out labels among themselves). The label of the
    nearest image is what a query is called; `support` is the queries of the label, and `recall_low` to
    `recall_high` the 95 % Wilson interval of the share that is called right. `confused_1` is what its
    wrong ones are called most often, `count_1` times.
    """
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for scores in (seen, unseen):
            if not isinstance(scores, str):
                block, trained = scores.block, scores.evaluations["trained"]
                rows = class_rows(
                    samples.label_id[block.queries], trained.predicted, trained.values["map@r"], CONFUSIONS
                )
                writer.writerows(_cells(block.name, row, names) for row in rows)


def _cells(block: str, row: ClassRow, names: list[str]) -> list[str]:
    confused = [text for label, count in row.confused for text in (cell(names[label]), str(count))]
    values = (row.precision, row.recall, row.recall_low, row.recall_high, row.f1, row.map_at_r)
    return [
        *(block, str(row.label), cell(names[row.label]), str(row.support)),
        *("" if value is None else f"{value:.{DIGITS}g}" for value in values),
        *confused,
        *[""] * (2 * CONFUSIONS - len(confused)),
    ]
