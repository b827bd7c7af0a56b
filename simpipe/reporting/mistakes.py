"""The mistakes, ranked and of four kinds: what went wrong, and which neighbours made it so."""

from typing import Any

import numpy as np

from simpipe.metrics.calibration import working_threshold
from simpipe.reporting.content import Content
from simpipe.reporting.findings import Group
from simpipe.reporting.measures import NEAREST
from simpipe.reporting.thresholds import asked, known_queries, match_distances

MOST = 5_000
"""Of each kind, so many are listed on the page."""
KINDS = {
    "unanimous": (
        "the nearest agree",
        "All {voters} nearest agree on the wrong label: is the image's own label right?",
    ),
    "tie": (
        "near tie",
        "Among the {voters} nearest another label has as many votes as the answer, or one less.",
    ),
    "far": (
        "no close image of the true label",
        "The true label is not among the {stored} nearest: more images like this one would help.",
    ),
    "rejected": (
        "rejected though known",
        "Farther from the training images than the threshold for {asked} allows, so that it is called "
        "unknown: also images whose answer would be right. A larger distance (Thresholds) answers more.",
    ),
}
"""Each kind: its name, and what it means."""
BADGES = {
    "label_error": "likely label error",
    "duplicate_conflict": "has a copy under another label",
    "hard": "not learnt",
    "leak": "has a copy in another split",
    "duplicate": "has a copy",
    "outlier": "outlier",
}
"""What a mistake is called that is a finding, too."""


def ranked(content: Content, rows: np.ndarray | None = None) -> np.ndarray:
    """The rows of wrongly answered queries, or of `rows`, the surest answer first.

    By probability where there is one, then by the share of the vote.
    """
    found = np.flatnonzero(content.correct == 0) if rows is None else rows
    sure, vote = (-np.nan_to_num(each[found]) for each in (chance(content), content.confidence))
    ordered: np.ndarray = found[np.lexsort((vote, sure))]
    return ordered


def chance(content: Content) -> np.ndarray:
    """The probability that the answer is right, float `(n,)`; NaN where there is none."""
    given = content.probability
    return np.full(len(content.label_id), np.nan) if given is None else given


def kinds(content: Content) -> dict[str, np.ndarray]:
    """The rows of each kind, the surest answer first. An image may be in several, or in none."""
    wrong = content.correct[content.test_rows] == 0
    near = content.test_ids[:, :NEAREST]
    label = np.where(near >= 0, content.label_id[near], -1)
    votes = label[:, : content.voters]
    answer, truth = content.predicted[content.test_rows], content.label_id[content.test_rows]
    lead = np.array([_lead(row, own) for row, own in zip(votes.tolist(), answer.tolist(), strict=True)], int)
    full = (votes == answer[:, None]).all(axis=1) & (answer >= 0) & (votes.shape[1] > 0)
    masks = {
        "unanimous": wrong & full,
        "tie": wrong & (lead <= 1) & (answer >= 0),
        "far": wrong & ~(label == truth[:, None]).any(axis=1),
        "rejected": rejected(content),
    }
    return {kind: ranked(content, content.test_rows[mask]) for kind, mask in masks.items()}


def _lead(votes: list[int], answer: int) -> int:
    """By how many votes the answer leads the strongest other label; negative where it is outvoted."""
    others = [vote for vote in votes if vote not in (answer, -1)]
    return votes.count(answer) - max((others.count(vote) for vote in set(others)), default=0)


def rejected(content: Content) -> np.ndarray:
    """Which test queries of a label that has train images the working threshold turns away, bool `(q,)`."""
    given = content.calibration.get("thresholds") or {}
    name = working_threshold(given)
    if name is None:
        return np.zeros(len(content.test_rows), bool)
    return known_queries(content) & ~(match_distances(content) <= float(given[name]["distance"]))


def chips(content: Content, found: dict[str, np.ndarray]) -> list[tuple[str, str, int, str]]:
    """For each kind: its key, its name, how many images it has, what it means."""
    given = content.calibration.get("thresholds") or {}
    name = working_threshold(given)
    stored = min(NEAREST, content.test_ids.shape[1])
    words = {
        "voters": min(content.voters, stored),
        "stored": stored,
        "asked": "" if name is None else asked(name),
    }
    return [
        (kind, title, len(found[kind]), told.format(**words))
        for kind, (title, told) in KINDS.items()
        if kind != "rejected" or name is not None
    ]


def script_data(
    content: Content, found: dict[str, np.ndarray], findings: list[Group], place: np.ndarray
) -> dict[str, Any]:
    """What `mistakes.js` reads beside the data that all parts share.

    Args:
        content: the run, with n images.
        found: the rows of each kind.
        findings: by kind.
        place: int `(n,)`: the row on the page of each image, -1 of one that the page does not hold.
    """

    def on_page(rows: np.ndarray) -> list[int]:
        return [row for row in place[rows].tolist() if row >= 0]

    listed = set(on_page(np.concatenate([ranked(content), *found.values()])))
    also: dict[int, list[str]] = {}
    for group in findings:
        if group.kind in BADGES:
            for row in sorted({int(place[row]) for row in group.rows} & listed):
                also.setdefault(row, []).append(BADGES[group.kind])
    sure = np.full(int(place.max(initial=-1)) + 1, np.nan)
    sure[place[place >= 0]] = chance(content)[place >= 0]
    return {
        "kinds": {kind: on_page(rows[:MOST]) for kind, rows in found.items()},
        "probability": {str(row): round(float(sure[row]), 4) for row in sorted(listed) if sure[row] >= 0},
        "also": {str(row): titles for row, titles in sorted(also.items())},
    }


def columns(content: Content) -> list[str]:
    """The columns of `table`."""
    own = ("sample_id", "path", "label", "predicted", "wrong", *KINDS, "vote", "probability")
    of_one = ("", "_label", "_similarity")
    nearest = [f"nearest_{place + 1}{what}" for place in range(content.voters) for what in of_one]
    return [*own, "true_label_rank", *nearest]


def table(content: Content) -> list[dict[str, Any]]:
    """One row for each mistake, then for each image that is only rejected; the surest answer first."""
    found = kinds(content)
    members = {kind: set(rows.tolist()) for kind, rows in found.items()}
    query = {int(row): index for index, row in enumerate(content.test_rows)}
    rejected_only = found["rejected"][content.correct[found["rejected"]] != 0]
    sure = chance(content)
    lines = []
    for row in [*ranked(content).tolist(), *rejected_only.tolist()]:
        near = content.test_ids[query[row]] if row in query else np.zeros(0, int)
        far = content.test_distances[query[row]] if row in query else np.zeros(0)
        own = np.flatnonzero((near >= 0) & (content.label_id[near] == content.label_id[row]))
        line: dict[str, Any] = {
            "sample_id": content.sample_id[row],
            "path": content.path[row],
            "label": content.labels[content.label_id[row]],
            "predicted": content.labels[content.predicted[row]] if content.predicted[row] >= 0 else "",
            "wrong": bool(content.correct[row] == 0),
            **{kind: row in rows for kind, rows in members.items()},
            "vote": float(content.confidence[row]),
            "probability": float(sure[row]),
            "true_label_rank": int(own[0]) + 1 if len(own) else None,
        }
        for place in range(content.voters):
            there = place < len(near) and near[place] >= 0
            line |= {
                f"nearest_{place + 1}": content.path[near[place]] if there else "",
                f"nearest_{place + 1}_label": content.labels[content.label_id[near[place]]] if there else "",
                f"nearest_{place + 1}_similarity": 1 - float(far[place]) if there else None,
            }
        lines.append(line)
    return lines
