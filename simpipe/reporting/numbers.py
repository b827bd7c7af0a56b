"""Numbers beside the headline: other galleries, other questions, and what a probability is worth."""

from typing import Any, NamedTuple

from markupsafe import Markup

from simpipe.reporting.svg import add, drawing, markup
from simpipe.reporting.text import clean, interval, number, percent
from simpipe.wording import count


class Row(NamedTuple):
    """A question, its answer with an interval, and what is to be known about it."""

    question: str
    answer: str
    note: str


def rows(metrics: dict[str, Any]) -> list[Row]:
    """What metrics.json has beside blocks, ladder and gain; a row is left out where it was not measured."""
    return [*sampled(metrics), *copies(metrics), *cleaned(metrics), *matched(metrics), *pairs(metrics)]


def sampled(metrics: dict[str, Any]) -> list[Row]:
    found = []
    for name, block in (metrics.get("blocks") or {}).items():
        counts = block.get("counts") or {}
        if "sampled" in counts:
            told = f"{counts['sampled']:,} of {counts['queries']:,}"
            found.append(Row(f"Queries of {name} labels that were asked", told, "The gallery is whole."))
    return found


def copies(metrics: dict[str, Any]) -> list[Row]:
    found = metrics.get("with_leaks") or {}
    if not found.get("leaking_queries"):
        return []
    images = count(found["leaking_queries"], "test image")
    note = f"{images} with a copy in train, which the headline does not count."
    return [Row("accuracy@1 if copies in train counted", _told(found["metrics"]["accuracy@1"]), note)]


def cleaned(metrics: dict[str, Any]) -> list[Row]:
    found = metrics.get("after_cleaning") or {}
    if not found:
        return []
    removed = count(sum(found["removed"].values()), "image")
    note = f"Without {removed} whose label is in doubt, and without training again: a guess on the high side."
    return [Row("accuracy@1 after cleaning", _told(found["metrics"]["accuracy@1"]), note)]


def matched(metrics: dict[str, Any]) -> list[Row]:
    found = metrics.get("matched") or {}
    if not found:
        return []
    return [
        Row(
            f"recall@1 of {name} labels, {count(found['classes'], 'label')} at a time",
            _told(block["recall@1"]),
            "Seen and unseen compare at equal numbers of labels only.",
        )
        for name, block in found["blocks"].items()
    ]


def pairs(metrics: dict[str, Any]) -> list[Row]:
    found = []
    for name, block in (metrics.get("verification") or {}).items():
        error = (block.get("metrics") or {}).get("eer")
        if error is None or number(error) is None:
            continue
        few = block["metrics"]["fnmr@fmr=1e-2"]
        missed = number(few)
        note = (
            f"{clean(few['reason'])}."
            if missed is None
            else f"Where 1 % of unlike pairs pass, {percent(missed)} of like ones do not."
        )
        worst = ", ".join(f"“{clean(label)}”" for label in block["by_class"].get("worst", [])[:3])
        note += f" Worst: {worst}." if worst else ""
        found.append(Row(f"Equal error rate of pairs of images, {name} labels", _told(error), note))
    return found


def probability(calibration: dict[str, Any]) -> str:
    """What the probability of an answer is worth, in one sentence; empty where there is none."""
    found = calibration.get("probability") or {}
    test = found.get("on_test")
    if not found.get("knots"):
        return f"No probability of an answer: {clean(found['reason'])}." if found.get("reason") else ""
    if not test:
        why = clean(found.get("untested") or "there are no test images")
        return f"Answers carry a probability of being right. It is not verified: {why}."
    error, by_chance = (f"{test['ece'][name]:.3f}" for name in ("value", "by_chance"))
    return (
        f"Answers carry a probability of being right. On test it is off by {error} on average, of which "
        f"{by_chance} is to be expected by chance."
        + ("" if test["brier"]["value"] < test["brier"]["constant"] else " Do not rely on it.")
    )


def reliability(calibration: dict[str, Any]) -> Markup | None:
    """How often answers of each probability are right on test, with 95 % intervals; None without a test."""
    test = (calibration.get("probability") or {}).get("on_test")
    if not test:
        return None
    left, wide, high = 48, 320, 240
    told = ", ".join(
        f"{percent(each['predicted'])}: {percent(each['observed'])}" for each in test["reliability"]
    )
    root = drawing(
        left + wide + 22, high + 54, f"share of right answers by probability: {told}", "reliability"
    )
    for tick in range(0, 101, 25):
        y, x = 10 + high * (1 - tick / 100), left + wide * tick / 100
        add(root, "line", x1=left, x2=left + wide, y1=y, y2=y, class_="grid")
        add(root, "text", f"{tick} %", x=left - 6, y=y + 4, class_="tick end")
        add(root, "text", f"{tick} %", x=x, y=high + 26, class_="tick middle")
    add(root, "line", x1=left, x2=left + wide, y1=10 + high, y2=10, class_="mark")
    for each in test["reliability"]:
        x = left + wide * each["predicted"]
        low, top = (10 + high * (1 - each[name]) for name in ("low", "high"))
        add(root, "line", x1=x, x2=x, y1=low, y2=top, class_="rung best whisker")
        dot = add(root, "circle", cx=x, cy=10 + high * (1 - each["observed"]), r=5, class_="rung best")
        add(dot, "title", f"{count(each['n'], 'answer')} of {percent(each['predicted'])}")
    add(root, "text", "probability that was given", x=left, y=high + 44, class_="tick")
    return markup(root)


def _told(metric: dict[str, Any]) -> str:
    return f"{percent(number(metric))} {interval(metric)}".strip()
