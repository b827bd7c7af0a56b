"""Gather what is conspicuous from everything the run knows, and write it as one table."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simpipe.data.manifest import Manifest, Samples
from simpipe.data.scan import display
from simpipe.metrics import findings, health, label_errors
from simpipe.metrics.findings import Finding
from simpipe.similarity import Neighbours
from simpipe.stages.relations import Related
from simpipe.stages.tables import cell

COLUMNS = (
    *("kind", "severity", "score", "sample_id", "path", "label", "other", "detail", "exclude"),
    *("exclude_other", "suggestion", "other_id"),
)
SEVERITIES = ("high", "medium", "low")


def collect(
    samples: Samples,
    names: list[str],
    pretrained: Neighbours,
    trained: Neighbours,
    duplicate_pairs: list[list[str]],
    manifest: Manifest,
    related: Related,
    *,
    taught: bool,
) -> list[Finding]:
    """All findings, the gravest first; without labels those that need none.

    Args:
        samples: the images.
        names: the labels by id; none where the images have no labels.
        pretrained: nearest neighbours of all images in the pretrained features, own group left out.
        trained: the same in the embedding.
        duplicate_pairs: (sample id, sample id, exact | near) from ingest.
        manifest: names the files that could not be read.
        related: how the labels stand to each other, and the health of the embedding.
        taught: whether training was told the labels of the train images.
    """
    row_of = {sample_id: row for row, sample_id in enumerate(samples.sample_id.tolist())}
    known = [(row_of[first], row_of[second], kind) for first, second, kind in duplicate_pairs]
    pairs = known + findings.similar_pairs(pretrained.ids, pretrained.distances)
    labels = samples.label_id
    # without labels nothing is tested, so that a copy in another split is a copy like any other
    split = samples.split.tolist() if names else [""] * len(samples)
    # in a collapsed embedding the neighbours are those that come first, and mean nothing
    near = None if related.health.collapsed else trained.ids
    known_labels = samples.label_id if names else None
    found = [
        *(_of_labels(samples, names, pretrained, near, related, taught=taught) if names else []),
        *health.collapse(related.health),
        *(health.hubs(near, known_labels) if near is not None else []),
        *findings.duplicate_findings(pairs, labels, split),
        *findings.outliers(pretrained.distances, labels),
        *findings.unreadable(
            (row["path"], f"{row['reason']}: {row['detail']}") for row in manifest.quarantined()
        ),
    ]
    return sorted(found, key=lambda each: (SEVERITIES.index(each.severity), each.kind, -each.score))


def _of_labels(
    samples: Samples,
    names: list[str],
    pretrained: Neighbours,
    trained_ids: npt.NDArray[np.int32] | None,
    related: Related,
    *,
    taught: bool,
) -> list[Finding]:
    labels = samples.label_id
    wrong = label_errors.label_errors(pretrained.ids, labels, names, trained_ids)
    found = [
        *wrong,
        *label_errors.splits(pretrained.ids, labels, names),
        *findings.small_classes(labels, names),
    ]
    if trained_ids is None:
        return found
    if taught:
        known = np.isin(np.arange(len(labels)), [each.row for each in wrong if each.row is not None])
        found += label_errors.hard(trained_ids, labels, names, samples.split == "train", known)
    return [*found, *label_errors.merges(trained_ids, labels, names, related.separability)]


def write_findings(
    path: Path, found: list[Finding], samples: Samples, names: list[str], manifest: Manifest
) -> None:
    """Write findings.csv; the columns are those of `COLUMNS`.

    `exclude` and `exclude_other` are cells for a person's marks, for the image and for the one it is set
    against: see `ingest.exclude`.
    """
    located = manifest.paths_by_sample

    def shown(row: int | None) -> str:
        return "" if row is None else display(located[samples.sample_id[row]])

    def sample_id(row: int | None) -> str:
        return "" if row is None else str(samples.sample_id[row])

    def label(row: int | None) -> str:
        return "" if row is None or not names else names[samples.label_id[row]]

    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for each in found:
            record: dict[str, Any] = {
                "kind": each.kind,
                "severity": each.severity,
                "score": f"{each.score:.4f}",
                "sample_id": sample_id(each.row),
                "path": cell(each.path or shown(each.row)),
                "label": cell(each.label or label(each.row)),
                "other": cell(each.other_label or shown(each.other_row)),
                "detail": cell(each.detail),
                "exclude": "yes" if each.exclude else "",
                "exclude_other": "",
                "suggestion": cell(each.suggestion),
                "other_id": sample_id(each.other_row),
            }
            writer.writerow(record)
