"""What a paired gain of metrics.json says in a word, and what is to be done about training."""

from collections.abc import Mapping
from typing import Any, Literal

Verdict = Literal["better", "worse", "no measurable difference", "no interval"]

HEADLINES = ("accuracy@1", "recall@1")
"""The metric of each block that decides: of seen labels and of unseen ones."""

LABELS = {"unseen": "labels that it never saw", "seen": "new images of the labels that it knows"}
"""Unseen labels first: to do well on them is what a metric is learnt for."""


def judge(gain: Mapping[str, Any]) -> Verdict:
    """An interval that holds 0 shows no difference; without an interval nothing is shown."""
    low, high = gain.get("low"), gain.get("high")
    if low is None or high is None:
        return "no interval"
    return "better" if low > 0 else "worse" if high < 0 else "no measurable difference"


def training_advice(metrics: Mapping[str, Any]) -> str | None:
    """What to do about training; None where it pays, where nothing tells, or where nothing was trained.

    It pays where it raises MAP@R, which train.ship goes by, and does no harm to the headline.
    """
    if not metrics.get("trained_here", True):
        return None
    gains = metrics.get("gain") or []
    judged = {gain["block"]: judge(gain) for gain in gains if gain["metric"] in HEADLINES}
    ranks_better = {gain["block"] for gain in gains if gain["metric"] == "map@r" and judge(gain) == "better"}
    for block, what in LABELS.items():
        outcome = judged.get(block)
        if outcome == "worse" or (outcome == "no measurable difference" and block not in ranks_better):
            said = "is worse than" if outcome == "worse" else "does not beat"
            return (
                f"Training {said} the pretrained features on {what}: set train.ship to best, which keeps "
                "what is better on val."
            )
    return None
