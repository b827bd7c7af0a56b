"""What to do next: at most five sentences, each with the section that has the evidence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simpipe.metrics.verdicts import training_advice
from simpipe.reporting.content import Content
from simpipe.reporting.text import percent, quoted
from simpipe.reporting.thresholds import table
from simpipe.wording import count

MOST = 5
SMALL_CLASS = 5
NOTABLE_PAIR = 3


@dataclass(frozen=True)
class Step:
    """A thing to do, and the anchor of its evidence."""

    text: str
    anchor: str


def next_steps(content: Content) -> list[Step]:
    """The most useful things to do, most useful first."""
    candidates = (
        collapsed(content),
        wrong_labels(content),
        conflicts(content),
        training(content),
        shortcut(content),
        confusions(content),
        small_classes(content),
        never_found(content),
        thresholds(content),
        unreadable(content),
    )
    steps = [step for found in candidates for step in found][:MOST]
    return steps or [
        Step("Nothing stands out. Look at the map, then try a longer or a larger training.", "map")
    ]


def training(content: Content) -> Iterator[Step]:
    advice = training_advice(content.metrics)
    if advice and not kinds(content)["collapse"]:
        yield Step(advice, "ladder")


def collapsed(content: Content) -> Iterator[Step]:
    if kinds(content)["collapse"]:
        yield Step(
            "The embedding collapsed: lower train.lr, or take another train.loss.", "findings-collapse"
        )


def shortcut(content: Content) -> Iterator[Step]:
    found = content.metrics.get("shortcut") or {}
    if found.get("suspicious"):
        reached = percent(found["thumbnail"])
        yield Step(
            f"Look for a shortcut: pixels of tiny thumbnails alone name {reached} rightly. Backgrounds, "
            "colours or sizes may give the labels away.",
            "ladder",
        )


def wrong_labels(content: Content) -> Iterator[Step]:
    suspects = kinds(content)["label_error"]
    if suspects:
        yield Step(f"Check {count(suspects, 'likely label error')}.", "label-errors")


def conflicts(content: Content) -> Iterator[Step]:
    number_of = kinds(content)
    if number_of["duplicate_conflict"]:
        pairs = count(number_of["duplicate_conflict"], "pair")
        yield Step(f"Decide on {pairs} of copies under two labels.", "findings-duplicate_conflict")
    if number_of["leak"]:
        images = count(number_of["leak"], "test image")
        yield Step(f"Look at {images} with a near-copy in train: this flatters the result.", "findings-leak")


def confusions(content: Content) -> Iterator[Step]:
    errors = int((content.correct == 0).sum())
    pairs = [pair for pair in content.relations.get("confused") or [] if pair["count"] >= NOTABLE_PAIR]
    if not pairs or not errors:
        return
    pair = max(pairs, key=lambda pair: pair["count"])
    weight = f"{count(pair['count'], 'time')}, {percent(min(1.0, pair['count'] / errors))} of all mistakes"
    text = f"Tell {quoted(pair['label'])} from {quoted(pair['predicted'])}: taken for it {weight}."
    yield Step(text, "confused")


def small_classes(content: Content) -> Iterator[Step]:
    train = np.array([split == "train" for split in content.split], bool)
    sizes = np.bincount(content.label_id[train], minlength=len(content.labels))
    small = np.flatnonzero((sizes > 0) & (sizes < SMALL_CLASS))
    if len(small):
        names = ", ".join(quoted(content.labels[label]) for label in small[:3])
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        yield Step(f"Collect more images: fewer than {SMALL_CLASS} to train on for {names}{more}.", "labels")


def never_found(content: Content) -> Iterator[Step]:
    missed = np.flatnonzero((content.confusion.sum(axis=1) > 0) & (np.diag(content.confusion) == 0))
    if len(missed):
        names = ", ".join(quoted(content.labels[label]) for label in missed[:3])
        more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
        yield Step(f"Never recognised: {names}{more}. Look at their images.", "labels")


def thresholds(content: Content) -> Iterator[Step]:
    unknown = "unseen_calib" in content.split  # without unknown images the one for them is not a fault
    unmet = [
        entry
        for entry in table(content.calibration)
        if entry.distance is None and (unknown or not entry.name.startswith("unknown"))
    ]
    if unmet:
        yield Step(f"No threshold for “{unmet[0].name}”: {unmet[0].reason}.", "thresholds")


def unreadable(content: Content) -> Iterator[Step]:
    files = kinds(content)["unreadable"]
    if files:
        yield Step(f"Replace {count(files, 'file')} that could not be read.", "findings-unreadable")


def kinds(content: Content) -> Counter[str]:
    """How many findings there are of each kind."""
    return Counter(str(finding["kind"]) for finding in content.findings)
