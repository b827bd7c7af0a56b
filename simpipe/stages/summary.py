"""The document of ingest.json: what was seen, what was set apart, which labels need a look."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from simpipe.data.intake import Intake

NAMED = 6
"""Held-out labels that are named in the sentence."""

EXAMPLES = 3
"""Files named for each reason."""

WORST = 10
"""Labels with trouble that are named."""

KINDS = ("exact", "pixels", "near")


def summary(intake: Intake) -> dict[str, Any]:
    """Counts, examples and notes of an intake; `duplicate_pairs` are (sample id, sample id, kind)."""
    samples, labels = intake.samples, intake.labels
    ids, label_id, split = samples.sample_id, samples.label_id, samples.split
    status = Counter(intake.manifest.table.column("status").to_pylist())
    quarantined: dict[str, list[str]] = defaultdict(list)
    for row in intake.quarantined:
        quarantined[row.reason].append(row.path)
    warnings = Counter(intake.manifest.table.column("warnings").combine_chunks().flatten().to_pylist())
    equal = [(i, j) for i, j, kind in intake.pairs if kind != "near"]
    two_labels = [(i, j) for i, j in equal if label_id[i] != label_id[j]]
    by_size = sorted(labels, key=lambda label: label["count"])
    return {
        "schema": "simpipe.ingest/1",
        "files": {
            "images": status["ok"],
            "quarantined": status["quarantined"],
            "excluded": status["ignored"],
        },
        "quarantined": {
            reason: {"files": len(paths), "examples": paths[:EXAMPLES]}
            for reason, paths in sorted(quarantined.items())
        },
        "warnings": dict(sorted(warnings.items())),
        "labels": len(labels),
        "smallest_label": [by_size[0]["name"], by_size[0]["count"]] if labels else None,
        "largest_label": [by_size[-1]["name"], by_size[-1]["count"]] if labels else None,
        "splits": dict(sorted(Counter(split.tolist()).items())),
        "predefined_splits": intake.predefined_splits,
        "held_out_labels": {
            each: [label["name"] for label in labels if set(label["splits"]) == {each}]
            for each in ("unseen_calib", "unseen_test")
        },
        "duplicates": {each: sum(kind == each for *_, kind in intake.pairs) for each in KINDS},
        "conflicts": len(two_labels),
        "leaks": sum(bool(split[i] != split[j]) for i, j, _ in intake.pairs),
        "worst_labels": _worst_labels(intake, two_labels),
        "oversized_duplicate_groups": intake.oversized_groups,
        "notes": intake.notes,
        "duplicate_pairs": [[str(ids[i]), str(ids[j]), kind] for i, j, kind in intake.pairs],
    }


def sentence(document: Mapping[str, Any]) -> str:
    """The document of ingest.json in one line, for the terminal while a run goes on."""
    files, pairs = document["files"], len(document["duplicate_pairs"])
    of = f"of {document['labels']:,} labels" if document["labels"] else "without labels"
    parts = [f"{files['images']:,} images {of}"]
    if files["quarantined"]:
        reasons = ", ".join(f"{each['files']:,} {why}" for why, each in document["quarantined"].items())
        parts.append(f"{files['quarantined']:,} set apart ({reasons})")
    if pairs:
        parts.append(f"{pairs:,} duplicate pair{'s' * (pairs != 1)}")
    held_out = [name for names in document["held_out_labels"].values() for name in names]
    if held_out:
        more = ", …" if len(held_out) > NAMED else ""
        parts.append(f"held out as unknown: {', '.join(held_out[:NAMED])}{more}")
    return f"{'; '.join(parts)}; `simpipe ingest` tells more"


def _worst_labels(intake: Intake, two_labels: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The labels with the largest share of images that are not usable or stand under another label, too."""
    lost = Counter(row.label for row in intake.quarantined)
    names = intake.samples.label
    conflicts = Counter(str(names[row]) for row in {row for pair in two_labels for row in pair})
    found = [
        {
            "name": label["name"],
            "images": label["count"],
            "quarantined": lost[label["name"]],
            "conflicts": conflicts[label["name"]],
        }
        for label in intake.labels
        if lost[label["name"]] or conflicts[label["name"]]
    ]
    found.sort(key=lambda each: -(each["quarantined"] + each["conflicts"]) / each["images"])
    return found[:WORST]
