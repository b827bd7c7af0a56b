"""The page of images without labels: what is like what, and nothing about right and wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.metrics.clusters import CLEAR
from simpipe.reporting.content import Content
from simpipe.reporting.next_steps import Step, kinds
from simpipe.reporting.text import clean, number, percent
from simpipe.reporting.verdict import Tile
from simpipe.wording import count

GROUPS = 60
EXAMPLES = 20
NEAREST = 6
LEFT_OUT = (
    "The images have no labels, so nothing can be called right or wrong: accuracy, the ladder, confusions, "
    "mistakes, label errors and thresholds for unknown labels are left out. Put images into one folder for "
    "each label, and run again, to have them."
)


@dataclass(frozen=True)
class Group:
    """A group of look-alikes: its number among `Content.labels`, its size, the rows of its typical images."""

    number: int
    name: str
    size: int
    typical: list[int]


@dataclass(frozen=True)
class Example:
    """An image, and the images nearest to it with their similarities."""

    row: int
    nearest: list[tuple[int, float]]


def groups(content: Content) -> list[Group]:
    """The groups, the largest first; images in none are in no group here."""
    sizes = np.bincount(content.label_id, minlength=len(content.labels))
    typical = [np.flatnonzero(content.typical & (content.label_id == each)) for each in range(len(sizes) - 1)]
    return [
        Group(each, content.labels[each], int(sizes[each]), rows.tolist())
        for each, rows in enumerate(typical)
    ]


def examples(content: Content) -> list[Example]:
    """Some images with their nearest. The rows are in the order of content hashes: even steps are random."""
    n = len(content.label_id)
    rows = np.unique(np.linspace(0, n - 1, min(n, EXAMPLES)).astype(int)).tolist() if n else []
    return [
        Example(
            row,
            [
                (int(other), 1 - float(distance))
                for other, distance in zip(
                    content.neighbour_ids[row, :NEAREST],
                    content.neighbour_distances[row, :NEAREST],
                    strict=True,
                )
                if other >= 0
            ],
        )
        for row in rows
    ]


def rows_shown(content: Content) -> list[int]:
    """Every row whose picture this page needs, apart from the findings."""
    rows = [row for group in groups(content) for row in group.typical]
    for example in examples(content):
        rows += [example.row, *(row for row, _ in example.nearest)]
    return list(dict.fromkeys(rows))


def verdict(content: Content) -> str:
    """One or two plain sentences."""
    facts = content.metrics["unlabelled"]
    said = f"{count(facts['images'], 'image')} without labels"
    if facts["clusters"]:
        loose = "" if clear(content) else "loose "
        found = count(facts["clusters"], f"{loose}group")
        said = f"{percent(facts['clustered'])} of {said} fall into {found} of look-alikes"
    else:
        said = f"{said}, and no group of look-alikes among them"
    copies = kinds(content)["duplicate"]
    there = "There is" if copies == 1 else "There are"
    return f"{said}. {there} {count(copies, 'pair')} of copies." if copies else f"{said}."


def clear(content: Content) -> bool:
    """Whether the groups are more than any set of images would show."""
    together = content.metrics["unlabelled"]["together"]
    return together is not None and together >= CLEAR


def tiles(content: Content) -> list[Tile]:
    """The tiles of the first screen."""
    facts, found = content.metrics["unlabelled"], kinds(content)
    inside = facts["clustered"]
    note = "none was found"
    if facts["clusters"]:
        note = f"of the images, in {count(facts['clusters'], 'group')}; the largest has {facts['largest']:,}"
    return [
        Tile("in groups", percent(inside), note, inside, "" if clear(content) else "warn", "groups"),
        Tile(
            "copies", f"{found['duplicate']:,}", "pairs of one image twice, or nearly", found["duplicate"],
            anchor="duplicates",
        ),
        Tile(
            "outliers", f"{found['outlier']:,}", "far from every other image", found["outlier"],
            anchor="findings-outlier" if found["outlier"] else "",
        ),
        familiar_tile(content),
    ]  # fmt: skip


def familiar_tile(content: Content) -> Tile:
    entry = familiar(content)
    if entry is None or number(entry.get("distance")) is None:
        why = clean((entry or {}).get("reason") or "it was not chosen")
        return Tile("familiar", "–", f"No threshold: {why}.")
    nearer = number((entry.get("on_test") or {}).get("accepted"))
    told = "there are no test images to verify it on"
    if nearer is not None:
        told = f"{percent(nearer)} of the test images have a training image so near"
    similarity = 1 - entry["distance"]
    told += f"; as a distance {entry['distance']:.3f}"
    return Tile("familiar from similarity", f"{similarity:.3f}", told, similarity, anchor="thresholds")


def familiar(content: Content) -> dict[str, Any] | None:
    """The threshold that needs no labels."""
    thresholds = content.calibration.get("thresholds") or {}
    return next((entry for name, entry in thresholds.items() if name.startswith("familiar_")), None)


def next_steps(content: Content) -> list[Step]:
    """What to do, most useful first."""
    return list(_steps(content))


def _steps(content: Content) -> Iterator[Step]:
    facts, found = content.metrics["unlabelled"], kinds(content)
    if facts["clusters"]:
        yield Step(f"Look at the {count(facts['clusters'], 'group')}: each may be a label.", "groups")
    if found["duplicate"]:
        pairs = count(found["duplicate"], "pair")
        yield Step(f"Look at {pairs} of copies; findings.csv marks those that can go.", "findings-duplicate")
    if found["outlier"]:
        yield Step(f"Look at {count(found['outlier'], 'outlier')}.", "findings-outlier")
    if found["unreadable"]:
        files = count(found["unreadable"], "file")
        yield Step(f"Replace {files} that could not be read.", "findings-unreadable")
    yield Step("Judge by eye whether the nearest images are alike: no number here can.", "neighbours")


def screen(content: Content) -> dict[str, Any]:
    """What the templates of this page need, in the place of the evidence about labels."""
    all_groups = groups(content)
    return {
        "verdict": verdict(content),
        "tiles": tiles(content),
        "steps": next_steps(content),
        "left_out": LEFT_OUT,
        "groups": all_groups[:GROUPS],
        "groups_hidden": max(0, len(all_groups) - GROUPS),
        "alone": int((content.label_id == len(content.labels) - 1).sum()),
        "clear": clear(content),
        "together": content.metrics["unlabelled"]["together"],
        "examples": examples(content),
        "neighbours_kept": content.metrics["unlabelled"]["neighbours_kept"],
        "familiar": familiar(content),
    }
