"""Whose encoder the page is about: trained in this run, or taken as it is."""

from typing import Literal

from simpipe.reporting.content import Content

Origin = Literal["trained", "given", "pretrained", "fitted"]

NOTES: dict[Origin, str] = {
    "trained": "",
    "given": "Nothing was trained in this run: it works with a finished encoder, as train.encoder asks. "
    "Images that trained it may be among those that are tested here, which would flatter the numbers; "
    "log.jsonl says how many were found. Whose encoder it is stands in the environment, below.",
    "pretrained": "Training was not better on val than the pretrained features, so that the run works with "
    "these as they are (train.ship is best).",
    "fitted": "Nothing was trained in this run.",
}
"""What is to be said before any number of the encoder."""

SUBJECTS: dict[Origin, str] = {
    "trained": "training",
    "given": "the finished encoder",
    "pretrained": "the encoder",
    "fitted": "the encoder",
}
"""What is compared with the untrained features, inside a sentence."""


def origin(content: Content) -> Origin:
    """Where the encoder comes from, as far as the run's documents say."""
    if content.encoder.get("shipped") == "pretrained":
        return "pretrained"
    if content.metrics.get("trained_here", True):
        return "trained"
    given = str(content.sampler.get("reason", "")).startswith("a finished encoder")
    return "given" if given else "fitted"
