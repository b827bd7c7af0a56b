"""The findings as groups of one kind, each finding with the rows whose pictures show it."""

from dataclasses import dataclass, replace
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
PAIRED = ("duplicate_conflict", "leak", "duplicate")
SECTIONS = {"label-errors": ("label_error",), "duplicates": PAIRED}
"""The kinds of each section, in order; every other kind is in the last section, `other-findings`."""
OTHER = "other-findings"
RELABELLED = ("label_error", "hard")
"""The kinds that set an image against another label: images of that label are shown beside it."""
EVIDENCE = 3


@dataclass(frozen=True)
class Finding:
    """One finding. `row` and `other_row` are images, where it is about images.

    `evidence` are the nearest images of the other label; `also` says where else the image is listed.
    """

    row: int | None
    path: str
    label: str | None
    other_row: int | None
    other_label: str | None
    other: str
    score: float | None
    detail: str
    split: str = ""
    other_split: str = ""
    evidence: tuple[int, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """All findings of one kind; `left_out` more are only in findings.csv, `above` are said elsewhere.

    `rows` are the images of all of them.
    """

    kind: str
    title: str
    advice: str
    count: int
    items: list[Finding]
    left_out: int
    paired: bool
    above: int = 0
    rows: frozenset[int] = frozenset()

    @property
    def shown(self) -> int:
        """How many are said under this kind."""
        return self.count - self.above


def groups(content: Content) -> list[Group]:
    """The findings by kind, the kinds that call for action first; within a kind the highest score first.

    A pair of copies that is in two kinds is shown once, under the graver, which says the other.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for finding in content.findings:
        by_kind.setdefault(str(finding["kind"]), []).append(finding)
    rows = Rows(content)
    titles = TITLES if content.labelled else TITLES | WITHOUT_LABELS
    known = [kind for kind in TITLES if kind in by_kind]
    found = []
    said: dict[frozenset[int], str] = {}
    leaks = {pair_of(resolve(finding, rows, content)) for finding in by_kind.get("leak", [])}
    for kind in [*known, *sorted(set(by_kind) - set(TITLES))]:
        ranked = sorted(by_kind[kind], key=lambda finding: -(number(finding.get("score")) or 0.0))
        title, advice = titles.get(kind, (kind, ""))
        items = [resolve(finding, rows, content) for finding in ranked]
        images = frozenset(row for item in items for row in (item.row, item.other_row) if row is not None)
        above = 0
        if kind in PAIRED:
            fresh = [item for item in items if said.get(pair_of(item), kind) == kind]
            above = len(items) - len(fresh)
            items = fresh
            said |= {pair: kind for item in items if (pair := pair_of(item))}
        shown = [with_notes(item, kind, leaks, content) for item in items[:MOST]]
        left_out = len(items) - len(shown)
        found.append(Group(kind, title, advice, len(ranked), shown, left_out, kind in PAIRED, above, images))
    return found


def sections(found: list[Group]) -> dict[str, list[Group]]:
    """The groups of each section of the page: every kind is in exactly one."""
    by_kind = {group.kind: group for group in found}
    placed = {name: [by_kind[kind] for kind in kinds if kind in by_kind] for name, kinds in SECTIONS.items()}
    taken = {kind for kinds in SECTIONS.values() for kind in kinds}
    return placed | {OTHER: [group for group in found if group.kind not in taken]}


def pair_of(item: Finding) -> frozenset[int]:
    """The two images of a pair; empty where one of them is not known."""
    if item.row is None or item.other_row is None:
        return frozenset()
    return frozenset((item.row, item.other_row))


def with_notes(item: Finding, kind: str, leaks: set[frozenset[int]], content: Content) -> Finding:
    """The finding with what else the page says of its image, and with images that show what is meant."""
    also = []
    if kind == "duplicate_conflict" and pair_of(item) in leaks - {frozenset()}:
        also.append("also across train and test")
    if kind in RELABELLED and item.row is not None:
        if content.correct[item.row] == 0:
            also.append("also a mistake")
        item = replace(item, evidence=nearest_of_label(content, item.row, item.other_label, kind == "hard"))
    return replace(item, also=tuple(also))


def nearest_of_label(content: Content, row: int, label: str | None, after: bool) -> tuple[int, ...]:
    """The first neighbours of an image that carry `label`.

    They are those in the embedding if `after`, else those before training, which pulls a wrong label into
    its place.
    """
    ids = content.neighbour_ids if after or content.before is None else content.before.neighbour_ids
    near = [int(other) for other in ids[row] if other >= 0]
    return tuple([other for other in near if label_of(content, other) == label][:EVIDENCE])


class Rows:
    """Looks up the row of a path or of a sample id, and knows the labels."""

    def __init__(self, content: Content) -> None:
        self.labels = set(content.labels)
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
    about_label = other != "" and finding["kind"] not in PAIRED and other in rows.labels
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
        "" if row is None else content.split[row],
        "" if other_row is None else content.split[other_row],
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
    both = [
        row for group in found for item in group.items for row in (item.row, item.other_row, *item.evidence)
    ]
    return list(dict.fromkeys(row for row in both if row is not None))
