"""Whose encoder the page is about: trained in this run, or taken as it is."""

from typing import Literal

from simpipe.reporting.content import Content

Origin = Literal["trained", "given", "pretrained", "fitted"]

NOTES: dict[Origin, str] = {
    "trained": "",
    "given": "Nothing was trained in this run: it works with a finished encoder, as train.encoder asks. "
    "Whose encoder it is stands in the environment, below.",
    "pretrained": "Training was not better on val than the pretrained features, so that the run works with "
    "these as they are (train.ship is best).",
    "fitted": "Nothing was trained in this run.",
}
"""What is to be said of the encoder before any number; of a finished one see `note`, too."""

SUBJECTS: dict[Origin, str] = {
    "trained": "training",
    "given": "the finished encoder",
    "pretrained": "the encoder",
    "fitted": "the encoder",
}
"""What is compared with the untrained features, inside a sentence."""


def origin(content: Content) -> Origin:
    """Where the encoder comes from, as far as the run's documents say."""
    reason = str(content.sampler.get("reason", ""))
    if "adopted" in content.encoder or reason.startswith("a finished encoder"):  # the latter in older runs
        return "given"
    if content.encoder.get("shipped") == "pretrained":
        return "pretrained"
    return "trained" if content.metrics.get("trained_here", True) else "fitted"


def note(content: Content) -> str:
    """What is to be said before any number of the encoder; empty where nothing is."""
    whose = origin(content)
    return f"{NOTES[whose]} {familiar(content)}" if whose == "given" else NOTES[whose]


def familiar(content: Content) -> str:
    """How many of the images that are tested here trained the finished encoder, in a sentence."""
    adopted = content.encoder.get("adopted") or {}
    known = adopted.get("known_images")
    if known is None:
        return (
            "Images that trained it may be among those that are tested here, which would flatter the "
            "numbers; how many is not known."
        )
    if not known:
        return "None of the images that are tested here trained it."
    tested = f"{adopted['tested_images']:,} images of val and test here"
    return f"{known:,} of the {tested} trained it, which flatters the numbers."
