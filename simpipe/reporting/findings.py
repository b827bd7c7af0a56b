"""The findings as groups of one kind, each finding with the rows whose pictures show it."""

from dataclasses import dataclass
from typing import Any

from simpipe.reporting.content import Content
from simpipe.reporting.text import number

MOST = 200
TITLES = {
    "collapse": (
        "The embedding collapsed",
        "All images lie nearly in one point, so that no number of this run says much about the images.",
    ),
    "label_error": (
        "Likely label errors",
        "The neighbours agree on another label. Disagreement is no proof: look.",
    ),
    "duplicate_conflict": (
        "One image, two labels",
        "Copies of an image that carry different labels: one is wrong.",
    ),
    "hard": (
        "Not learnt",
        "Training was told the label, and the embedding still puts the image under another one.",
    ),
    "leak": ("Near-copies in train and test", "The test image is hardly new: it flatters the result."),
    "duplicate": ("Duplicates", "Copies with one label: harmless, but they weigh twice."),
    "outlier": ("Outliers", "Far from all images of their label: another thing, or a bad photo."),
    "merge": ("Labels that look like one", "Merge them, or add images that show the difference."),
    "split": ("Labels that look like two", "The label falls into two groups that have little in common."),
    "hub": ("Hubs", "Neighbours of far too many images: often blank or blurred."),
    "small_class": ("Labels with few images", "Too few to learn from or to measure."),
    "unreadable": ("Unreadable files", "They were left out."),
}
WITHOUT_LABELS = {
    "duplicate": ("Copies", "One image twice, or nearly: harmless, but they weigh twice."),
    "outlier": ("Outliers", "Far from all other images: another thing, or a bad photo."),
}
"""What is said in another way where there are no labels."""
PAIRED = ("duplicate", "duplicate_conflict", "leak")


@dataclass(frozen=True)
class Finding:
    """One finding. `row` and `other_row` are images, where it is about images."""

    row: int | None
    path: str
    label: str | None
    other_row: int | None
    other_label: str | None
    other: str
    score: float | None
    detail: str


@dataclass(frozen=True)
class Group:
    """All findings of one kind; `left_out` more are only in findings.csv."""

    kind: str
    title: str
    advice: str
    count: int
    items: list[Finding]
    left_out: int
    paired: bool


def groups(content: Content) -> list[Group]:
    """The findings by kind, the kinds that call for action first; within a kind the highest score first."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for finding in content.findings:
        by_kind.setdefault(str(finding["kind"]), []).append(finding)
    rows = Rows(content)
    titles = TITLES if content.labelled else TITLES | WITHOUT_LABELS
    known = [kind for kind in TITLES if kind in by_kind]
    found = []
    for kind in [*known, *sorted(set(by_kind) - set(TITLES))]:
        ranked = sorted(by_kind[kind], key=lambda finding: -(number(finding.get("score")) or 0.0))
        title, advice = titles.get(kind, (kind, ""))
        items = [resolve(finding, rows, content) for finding in ranked[:MOST]]
        found.append(Group(kind, title, advice, len(ranked), items, len(ranked) - len(items), kind in PAIRED))
    return found


class Rows:
    """Looks up the row of a path or of a sample id."""

    def __init__(self, content: Content) -> None:
        self.by_path = {path: row for row, path in enumerate(content.path)}
        self.by_id: dict[str, list[int]] = {}
        for row, sample in enumerate(content.sample_id):
            self.by_id.setdefault(sample, []).append(row)

    def find(self, path: str, sample: str, but: int | None = None) -> int | None:
        """The row with this path, or else the first with this sample id; never the row `but`."""
        candidates = [self.by_path.get(path), *self.by_id.get(sample, [])]
        return next((row for row in candidates if row is not None and row != but), None)


def resolve(finding: dict[str, Any], rows: Rows, content: Content) -> Finding:
    """A line of findings.csv with its images found; empty cells may be None or NaN."""
    path, sample, label, other, detail = (
        cell(finding, name) for name in ("path", "sample_id", "label", "other", "detail")
    )
    row = rows.find(path, sample)
    about_label = other != "" and finding["kind"] not in PAIRED and other in content.labels
    other_row = None if about_label or not other else rows.find(other, other, but=row)
    return Finding(
        row,
        path or ("" if row is None else content.path[row]),
        label or None if row is None else label_of(content, row),
        other_row,
        other if about_label else None if other_row is None else label_of(content, other_row),
        "" if about_label else other if other_row is None else content.path[other_row],
        number(finding.get("score")),
        detail,
    )


def label_of(content: Content, row: int) -> str:
    """The label of an image."""
    return content.labels[int(content.label_id[row])]


def cell(finding: dict[str, Any], name: str) -> str:
    """A cell as text; a missing one, also pandas' NaN, is empty."""
    value = finding.get(name)
    return "" if value is None or value != value else str(value)


def rows_shown(found: list[Group]) -> list[int]:
    """Every row that a finding shows, once, in order."""
    both = [row for group in found for item in group.items for row in (item.row, item.other_row)]
    return list(dict.fromkeys(row for row in both if row is not None))
