"""The first screen: a sentence that says whether it works and whether training was worth it, and tiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simpipe.metrics.calibration import working_threshold
from simpipe.metrics.verdicts import judge
from simpipe.reporting.content import Content
from simpipe.reporting.origin import SUBJECTS, origin
from simpipe.reporting.text import clean, interval, number, percent, points, quoted
from simpipe.reporting.thresholds import asked
from simpipe.wording import count

FEW_IMAGES = 100
HEADLINES = (("seen", "accuracy@1"), ("unseen", "recall@1"))


@dataclass(frozen=True)
class Tile:
    """One number of the first screen. `tone` is good, bad, warn or empty."""

    name: str
    value: str
    note: str
    exact: float | None = None
    tone: str = ""
    anchor: str = ""
    """The section that shows more of it."""


def metric_of(metrics: dict[str, Any], block: str, name: str) -> dict[str, Any] | None:
    """A metric of a block, or None where the block has a reason instead or the metric no value."""
    found = metrics.get("blocks", {}).get(block, {}).get("metrics", {}).get(name)
    return found if isinstance(found, dict) and number(found) is not None else None


def reason_of(metrics: dict[str, Any], block: str) -> str:
    """Why a block was not measured; empty where it was."""
    found = metrics.get("blocks", {}).get(block)
    return "it was not measured" if found is None else clean(found["reason"]) if "reason" in found else ""


def headline(metrics: dict[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """The block, the name and the value of the metric that stands for the run: seen labels first."""
    for block, name in HEADLINES:
        metric = metric_of(metrics, block, name)
        if metric is not None:
            return block, name, metric
    return None


def gain_of(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The paired gain over the pretrained features in the headline's metric and block."""
    chosen = headline(metrics)
    for gain in metrics.get("gain") or []:
        if chosen and (gain.get("block"), gain.get("metric")) == chosen[:2] and number(gain) is not None:
            return dict(gain)
    return None


def verdict(content: Content) -> str:
    """One or two plain sentences."""
    chosen = headline(content.metrics)
    if chosen is None:
        return f"Nothing could be measured: {reason_of(content.metrics, 'seen')}."
    block, _, metric = chosen
    share = percent(number(metric))
    what = (
        f"The right label for {share} of new images of the labels it knows"
        if block == "seen"
        else f"For {share} of images of labels it never saw, the nearest other image has the same label"
    )
    return f"{what}. {worth(content)}".rstrip()


def worth(content: Content) -> str:
    """What the encoder is worth against the untrained features, in a sentence; empty where nothing tells."""
    gain, whose = gain_of(content.metrics), origin(content)
    if gain is None or whose == "pretrained":
        return ""
    subject, source = SUBJECTS[whose], f"the {clean(gain.get('from', 'pretrained'))} features"
    outcome = judge(gain)
    if outcome == "no interval":
        return f"There are too few labels to tell what {subject} changed."
    said = (
        f"made no measurable difference to {gain['metric']} of {source}{ranking(content, gain['block'])}"
        if outcome == "no measurable difference"
        else f"is {outcome} than {source} by {points(gain['value']).lstrip('+-')}"
    )
    return f"{subject[0].upper()}{subject[1:]} {said}."


def ranking(content: Content, block: str) -> str:
    """What was gained all the same, in how images are ranked; empty where nothing was."""
    for gain in content.metrics.get("gain") or []:
        if (gain["block"], gain["metric"]) == (block, "map@r") and judge(gain) == "better":
            return f", but raised map@r by {points(gain['value']).lstrip('+')}"
    return ""


def linear_map_note(content: Content) -> str:
    """Where a linear map of the untrained features does as well as the encoder; empty where none does."""
    rungs = {(rung["block"], rung["rung"]): rung["metrics"] for rung in content.metrics.get("ladder") or []}
    found = []
    for (block, name), labels in zip(HEADLINES, ("labels it knows", "labels it never saw"), strict=True):
        linear, trained = (number(rungs.get((block, rung), {}).get(name)) for rung in ("lda", "trained"))
        if linear is not None and trained is not None and linear >= trained:
            found.append(f"{percent(linear)} against {percent(trained)} on {labels}")
    if not found:
        return ""
    subject = SUBJECTS[origin(content)]
    return f"A linear map of the untrained features (lda) does as well as {subject}: {', '.join(found)}."


def worst_label(confusion: np.ndarray) -> tuple[int, int, int] | None:
    """The label id with the lowest recall, its hits and its queries; on a tie the one with more queries.

    None where every query was answered right.
    """
    queries = confusion.sum(axis=1)
    hits = np.diag(confusion)
    missed = np.flatnonzero(hits < queries)
    if not len(missed):
        return None
    worst = min(missed.tolist(), key=lambda c: (hits[c] / queries[c], -queries[c]))
    return worst, int(hits[worst]), int(queries[worst])


def tiles(content: Content) -> list[Tile]:
    """The tiles of the first screen, in order; what was not measured says why."""
    return [accuracy_tile(content), gain_tile(content), macro_tile(content), *threshold_tiles(content)]


def accuracy_tile(content: Content) -> Tile:
    chosen = headline(content.metrics)
    if chosen is None:
        return Tile("accuracy@1", "–", f"Not measured: {reason_of(content.metrics, 'seen')}.", tone="warn")
    block, name, metric = chosen
    queries = int(metric.get("n") or 0)
    notes = [f"{interval(metric)} n = {queries:,}".strip()]
    if block != "seen":
        notes.append(f"labels never seen; seen labels: {reason_of(content.metrics, 'seen')}")
    leaks = content.metrics.get("with_leaks") or {}
    leaky = number((leaks.get("metrics") or {}).get(name)) if block == "seen" else None
    if leaky is not None and percent(leaky) != percent(number(metric)):
        notes.append(f"{percent(leaky)} if copies in train counted")
    cleaned = content.metrics.get("after_cleaning") or {}
    clearer = number((cleaned.get("metrics") or {}).get(name)) if block == "seen" else None
    if clearer is not None and percent(clearer) != percent(number(metric)):
        doubtful = count(sum(cleaned["removed"].values()), "image")
        notes.append(f"{percent(clearer)} without {doubtful} of doubtful label, not trained again")
    few = queries < FEW_IMAGES
    if few:
        notes.append("few images: read the interval")
    tone = "warn" if few else ""
    return Tile(name, percent(number(metric)), " · ".join(notes), number(metric), tone, "ladder")


def gain_tile(content: Content) -> Tile:
    gain = gain_of(content.metrics)
    if gain is None:
        return Tile("gain over pretrained", "–", "Not measured.")
    outcome = judge(gain)
    flips = f"{gain.get('fixed') or 0:,} fixed, {gain.get('broken') or 0:,} broken"
    note = f"{interval(gain, signed=True)} · {flips} · {outcome}".removeprefix(" · ")
    tone = {"better": "good", "worse": "bad"}.get(outcome, "warn")
    name = f"gain over {clean(gain.get('from', 'pretrained'))}"
    return Tile(name, points(gain["value"]), note, gain["value"], tone, "ladder")


def macro_tile(content: Content) -> Tile:
    metric = metric_of(content.metrics, "seen", "macro_accuracy@1")
    if metric is None:
        return Tile(
            "accuracy, mean over labels",
            "–",
            f"Not measured: {reason_of(content.metrics, 'seen') or 'no value'}.",
        )
    notes = [interval(metric)] if interval(metric) else []
    worst = worst_label(content.confusion)
    if worst is not None:
        label, hits, queries = worst
        notes.append(f"worst: {quoted(content.labels[label])} {hits} of {queries}")
    shown = percent(number(metric))
    return Tile("accuracy, mean over labels", shown, " · ".join(notes), number(metric), anchor="labels")


def threshold_tiles(content: Content) -> list[Tile]:
    """What a threshold answers at what precision, and how many unknowns it lets in."""
    given = content.calibration.get("thresholds") or {}
    name = working_threshold(given)
    if name is None:
        return [Tile("answered", "–", "No threshold could be chosen.")]
    entry = given[name]
    on_test = entry.get("on_test") or {}
    answered = number(on_test.get("accepted"))
    right = percent(number(on_test.get("precision")))
    far = entry["distance"]
    note = (
        f"{right} of them right; similarity ≥ {1 - far:.3f} (distance ≤ {far:.3f}), chosen for {asked(name)}"
    )
    tile = Tile("answered", percent(answered), note, answered, anchor="thresholds")
    unknown = number(on_test.get("unknown_accept"))
    if unknown is None:
        why = reason_of(content.metrics, "open_set") or "no test image of an unknown label"
        return [tile, Tile("unknown let in", "–", f"Not measured: {why}.")]
    images = count(on_test.get("n_unknown") or 0, "image")
    note = f"of {images} with a label it never saw, called known by mistake"
    return [tile, Tile("unknown let in", percent(unknown), note, unknown, anchor="thresholds")]


def held_out(content: Content) -> list[str]:
    """The labels that no training image has, in the order of `labels`."""
    unseen = {
        int(label)
        for label, split in zip(content.label_id.tolist(), content.split, strict=True)
        if split.startswith("unseen")
    }
    return [content.labels[label] for label in sorted(unseen)]
