"""What ingest found, for a person who has to act on it: counts, trouble, and where the full lists are."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from simpipe.engine.rundir import RunDir

ORDER = ("train", "val", "test", "unseen_calib", "unseen_test")


def intake_lines(run: RunDir) -> list[str]:
    """The summary of a run's intake, a line each."""
    from simpipe.data.scan import printable

    folder = run.stage("ingest")
    found = json.loads((folder / "ingest.json").read_bytes())
    ignored = _ignored(folder / "ignored.csv")
    lines = [("", ""), ("images", _images(found, ignored))]
    lines.append(("splits", " · ".join(f"{s} {found['splits'][s]:,}" for s in ORDER if s in found["splits"])))
    if found["labels"]:
        lines.append(("labels", _labels(found)))
    lines += [("quarantined", _counted(reason, each)) for reason, each in found["quarantined"].items()]
    lines += [("ignored", f"{count:,} {reason}") for reason, count in sorted(ignored.items())]
    if found["warnings"]:
        told = ", ".join(f"{count:,} {name}" for name, count in found["warnings"].items())
        lines.append(("accepted", f"with a warning: {told}"))
    if any(found["duplicates"].values()):
        lines.append(("duplicates", _duplicates(found)))
    lines += [("look at", _worst(each)) for each in found["worst_labels"]]
    lines += [("note", text) for text in found["notes"]]
    if found["files"]["quarantined"]:
        lines.append(("full list", str(folder / "quarantined.csv")))
    if ignored:
        lines.append(("full list", str(folder / "ignored.csv")))
    return [f"{head:12} {printable(text)}".rstrip() for head, text in lines] + [""]


def intake_document(run: RunDir) -> dict[str, Any] | None:
    """What ingest found, for `--json`: its document, but for the list of all pairs of duplicates."""
    path = run.stage("ingest") / "ingest.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_bytes())
    ignored = _ignored(run.stage("ingest") / "ignored.csv")
    del found["duplicate_pairs"]
    return {**found, "ignored": dict(sorted(ignored.items()))}


def _images(found: dict[str, Any], ignored: Counter[str]) -> str:
    files = found["files"]
    parts = [f"{files['images']:,} ok", f"{files['quarantined']:,} quarantined"]
    parts.append(f"{ignored.total():,} ignored")
    if files["excluded"]:
        parts.append(f"{files['excluded']:,} excluded")
    return " · ".join(parts)


def _labels(found: dict[str, Any]) -> str:
    (large, most), (small, fewest) = found["largest_label"], found["smallest_label"]
    given = ", with the splits of the data set" if found["predefined_splits"] else ""
    return f"{found['labels']:,}, from {most:,} images ({large}) to {fewest:,} ({small}){given}"


def _counted(reason: str, each: dict[str, Any]) -> str:
    more = ", …" if each["files"] > len(each["examples"]) else ""
    return f"{each['files']:,} {reason}: {', '.join(each['examples'])}{more}"


def _duplicates(found: dict[str, Any]) -> str:
    said = {"exact": "of equal bytes", "pixels": "of equal pixels", "near": "nearly equal"}
    pairs = [f"{count:,} {said[kind]}" for kind, count in found["duplicates"].items() if count]
    told = f"{', '.join(pairs)} (pairs)"
    if found["conflicts"]:
        told += f"; {found['conflicts']:,} under two labels"
    if found["leaks"]:
        told += f"; {found['leaks']:,} in two splits of the data set"
    return told


def _worst(label: dict[str, Any]) -> str:
    trouble = [
        f"{label[name]:,} {text}"
        for name, text in (("quarantined", "not usable"), ("conflicts", "also under another label"))
        if label[name]
    ]
    return f"{label['name']}: {label['images']:,} images, {', '.join(trouble)}"


def _ignored(path: Path) -> Counter[str]:
    """How many names were passed over, by reason; it is a log, and may be lost."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return Counter(row["reason"] for row in csv.DictReader(stream))
    except (OSError, KeyError, csv.Error, UnicodeDecodeError):
        return Counter()
