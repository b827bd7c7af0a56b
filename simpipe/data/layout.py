"""Which label, split and group each file has: by its folders, by a pattern in its path, or by a table."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from simpipe.data.scan import Entry, Found, Ignored, Listing, display, lies_in, shown, some, walk
from simpipe.data.table import SPLIT_NAMES, locate, read_table, split_of
from simpipe.errors import DataError, UsageError

MANY_LABELS = 1_000
"""From here on, labels of fewer than two images on average are taken for ids."""
LONGEST = 500
"""Characters of a label: the path of a file has hardly more."""
EXPECTED = "One sub-folder per label is expected, such as cats/1.jpg and dogs/1.jpg."


@dataclass(frozen=True)
class Rules:
    """How a folder is read; see the `ingest` section of the configuration.

    `label_from` is first, leaf, path, or `regex:PATTERN`, searched in the relative path, with a group called
    label and perhaps split and group. It is not looked at without labels, or with a table. `group_from` is
    a pattern, too: its group called group, or the whole match. Labels are in Unicode normal form C, so that
    `label_twins` "keep" leaves apart what differs in case or in spaces around it.
    """

    labels: Literal["required", "none"] = "required"
    label_from: str = "first"
    label_twins: Literal["refuse", "merge", "keep"] = "refuse"
    layout: Literal["auto", "labels"] = "auto"
    group_from: str | None = None
    table: Path | None = None
    ignore: tuple[str, ...] = ()
    follow_links: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Rules":
        """The rules in a flat configuration."""
        given = {field.name: values[f"ingest.{field.name}"] for field in fields(cls)}
        table = given["table"]
        return cls(
            **{**given, "table": None if table is None else Path(table), "ignore": tuple(given["ignore"])}
        )


class _Place(NamedTuple):
    """What a pattern or a table says of a file."""

    label: str | None
    split: str | None
    group: str | None


_DEFAULT = Rules()


def list_files(root: Path, rules: Rules = _DEFAULT) -> Listing:
    """List the candidate images below `root`, or in the table, each with its label, split and group.

    If the folders that hold images are named only train|training, val|valid|validation|dev and
    test|testing (any case; train and at least one more), they are splits, and the labels lie below them,
    unless `rules.layout` is "labels" or a table or a pattern names the splits. See `walk` for what is
    passed over.

    Raises:
        UsageError: `root` is missing or is no folder, the table is missing, or a pattern is none.
        DiskError: a folder or the table may not be read.
        DataError: no images, images without a label or whose label cannot be told, label names that differ
            only in spelling, fewer than two labels, or a table that cannot be used.
    """
    _refuse_no_folder(root)
    walked = walk(os.fspath(root), follow_links=rules.follow_links, ignore=rules.ignore)
    entries, ignored = walked.entries, walked.ignored
    given: list[_Place] | None = None
    notes: list[str] = []
    if rules.table is not None:
        rows, notes = read_table(rules.table, labels=rules.labels == "required")
        entries, rows, ignored = locate(
            os.fspath(root), rules.table, rows, walked, follow_links=rules.follow_links
        )
        given = [_Place(row.label, row.split, row.group) for row in rows]
    if not entries:
        raise _no_images(root, ignored)
    paths = [entry.path for entry in entries]
    if rules.table is None and rules.labels == "required" and rules.label_from.startswith("regex:"):
        given = _by_pattern(root, paths, _pattern("label_from", rules.label_from.removeprefix("regex:")))

    splits: list[str | None] = [place.split for place in given or ()] or [None] * len(paths)
    split_folders = _split_folders(paths) if rules.layout == "auto" and not any(splits) else []
    if split_folders:
        splits = [SPLIT_NAMES[path.split("/", 1)[0].lower()] for path in paths]
        notes.append(
            f"the folders {', '.join(split_folders)} are taken as splits, not as labels; "
            "ingest.layout=labels changes that"
        )
    elif rules.layout == "auto" and rules.table is None and (note := _note_on_split_names(paths)):
        notes.append(note)
    labels: list[str | None] = [None] * len(paths)
    if rules.labels == "required":
        if given:
            raw = [place.label or "" for place in given]
        else:
            raw = _folder_labels(root, paths, split_folders, rules.label_from)
            if rules.label_from == "first":
                notes += _notes_on_folders(paths, walked.folders, split_folders)
        name_of = _label_names(root, paths, raw, rules.label_twins, notes)
        labels = [name_of[label] for label in raw]
    groups = _groups(root, paths, given, rules.group_from, notes)
    notes += _notes_on_files(root, entries, walked.links)
    files = [Found(*each) for each in zip(*zip(*entries, strict=True), labels, splits, groups, strict=True)]
    return Listing(files, ignored, notes)


def _refuse_no_folder(root: Path) -> None:
    if not root.exists():
        raise UsageError(f"no such folder: {root}", hint="Give the folder that has one sub-folder per label.")
    if not root.is_dir():
        raise UsageError(
            f"{root} is a file, not a folder",
            hint="Give the folder that has one sub-folder per label. An archive must be unpacked first.",
        )


def _no_images(root: Path, ignored: Sequence[Ignored]) -> DataError:
    reasons = Counter(each.reason for each in ignored)
    passed_over = ", ".join(f"{reasons[reason]:,} {reason}" for reason in sorted(reasons))
    return DataError(
        f"no images in {root}" + (f" (passed over: {passed_over})" if reasons else ""), hint=EXPECTED
    )


def _split_folders(paths: Sequence[str]) -> list[str]:
    """The first folders, if they are splits."""
    names = sorted({path.split("/", 1)[0] if "/" in path else "" for path in paths})
    splits = {SPLIT_NAMES.get(name.lower()) for name in names}
    return names if None not in splits and "train" in splits and len(splits) > 1 else []


def _note_on_split_names(paths: Sequence[str]) -> str | None:
    """Where folders called train and test stand beside others, and so are labels."""
    names = sorted({path.split("/", 1)[0] for path in paths if "/" in path})
    like_splits = [name for name in names if name.lower() in SPLIT_NAMES]
    others = [name for name in names if name.lower() not in SPLIT_NAMES]
    if len({SPLIT_NAMES[name.lower()] for name in like_splits}) < 2:
        return None
    return (
        f"the folders {', '.join(like_splits)} are labels here, not splits, since there are others beside "
        f"them ({some(map(shown, others))}); ingest.ignore can pass those over"
    )


def _folder_labels(
    root: Path, paths: Sequence[str], split_folders: Sequence[str], label_from: str
) -> list[str]:
    """The label of each file by its folders below the split, as the disk spells it."""
    folders = [path.split("/")[1 if split_folders else 0 : -1] for path in paths]
    outside = [path for path, parts in zip(paths, folders, strict=True) if not parts]
    if outside:
        layout = f"Or are {' and '.join(split_folders)} labels? Then set ingest.layout=labels."
        noun = "1 image lies" if len(outside) == 1 else f"{len(outside):,} images lie"
        raise DataError(
            f"{noun} in {root} outside any label folder: {some(map(shown, outside))}",
            hint="Move each image into a folder named after its label, pass it over with ingest.ignore, or "
            "name the labels in a table (ingest.table). ingest.labels=none takes images without labels. "
            f"{layout * bool(split_folders)}".rstrip(),
        )
    if label_from == "first":
        return [parts[0] for parts in folders]
    if label_from == "path":
        return ["/".join(parts) for parts in folders]
    if label_from != "leaf":
        raise UsageError(
            f"ingest.label_from is {label_from!r}", hint="It is first, leaf, path, or regex:PATTERN."
        )
    parent_of: dict[str, str] = {}
    for leaf, parent in sorted({(parts[-1], "/".join(parts[:-1])) for parts in folders}):
        other = parent_of.setdefault(leaf, parent)
        if other != parent:
            one, two = (repr(display(f"{each}/{leaf}".lstrip("/"))) for each in (other, parent))
            raise DataError(
                f"two label folders in {root} have one name: {one} and {two}",
                hint="Set ingest.label_from=path, so that the folders above tell them apart.",
            )
    return [parts[-1] for parts in folders]


def _pattern(setting: str, text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"ingest.{setting}: {text!r} is no regular expression ({error})",
            hint="See the syntax of Python's module re.",
        ) from error
    if setting == "label_from" and "label" not in pattern.groupindex:
        raise UsageError(
            f"ingest.label_from: {text!r} has no group called label",
            hint="Put the label in (?P<label>…), such as regex:^(?P<label>[^_/]+)_",
        )
    return pattern


def _by_pattern(root: Path, paths: Sequence[str], pattern: re.Pattern[str]) -> list[_Place]:
    places: list[_Place] = []
    without: list[str] = []
    odd: list[str] = []
    for path in map(display, paths):
        match = pattern.search(path)
        found = match.groupdict() if match else {}
        label, split = found.get("label") or "", found.get("split")
        if not label.strip():
            without.append(path)
        if "split" in pattern.groupindex and not split_of(split or ""):
            odd.append(path)
        places.append(_Place(label, split_of(split or ""), found.get("group") or None))
    for what, named in (("label", without), ("split (train, val or test)", odd)):
        if named:
            raise DataError(
                f"ingest.label_from finds no {what} in {len(named):,} of {len(paths):,} paths in {root}: "
                + some(map(shown, named)),
                hint="Mend the pattern, or pass the files over with ingest.ignore.",
            )
    return places


def _label_names(
    root: Path, paths: Sequence[str], raw: Sequence[str], twins: str, notes: list[str]
) -> dict[str, str]:
    """Label as found → label, in Unicode normal form C; see `Rules.label_twins` for twins."""
    counts = Counter(raw)
    name_of = {each: unicodedata.normalize("NFC", display(each)) for each in counts}
    spellings: dict[str, list[str]] = defaultdict(list)
    for each in sorted(counts, key=os.fsencode):
        spellings[unicodedata.normalize("NFC", name_of[each].casefold()).strip()].append(each)
    if long := [name for name in name_of.values() if len(name) > LONGEST]:
        raise DataError(
            f"a label in {root} has {len(long[0]):,} characters, more than {LONGEST}: {shown(long[0][:60])}…",
            hint="Is the right column or pattern taken for the label?",
        )
    several = [same for same in spellings.values() if len(same) > 1]
    if several and twins == "refuse":
        raise _twins(root, paths, raw, several)
    if several and twins == "merge":
        for same in several:
            images: Counter[str] = Counter()
            for each in same:
                images[name_of[each]] += counts[each]
            name_of |= dict.fromkeys(same, min(images, key=lambda name: (-images[name], name.encode())))
        told = (" = ".join(_told(same)) + f" → {name_of[same[0]]!r}" for same in several)
        notes.append(f"labels that differ only in spelling are merged: {some(told)}")
    names = set(name_of.values())
    if len(names) < 2:
        raise DataError(
            f"only one label in {root}: {next(iter(names))!r}",
            hint="At least two label folders with images are needed. Is the right folder given?",
        )
    if len(names) > MANY_LABELS and len(raw) < 2 * len(names):
        notes.append(f"{len(names):,} labels for {len(raw):,} images: these look like ids, not labels")
    return name_of


def _twins(root: Path, paths: Sequence[str], raw: Sequence[str], several: Sequence[list[str]]) -> DataError:
    example = dict(zip(reversed(raw), reversed(paths), strict=True))
    one, two = several[0][:2]
    both = [
        f"{told} ({shown(example[each])})" for each, told in zip((one, two), _told([one, two]), strict=True)
    ]
    more = f", and {len(several) - 1:,} more pairs" if len(several) > 1 else ""
    return DataError(
        f"two labels in {root} differ only in spelling: {' and '.join(both)}{more}",
        hint="Give them names that differ, or set ingest.label_twins to merge or keep.",
    )


def _told(spellings: Sequence[str]) -> list[str]:
    """Spellings for people; by their code points where they look the same."""
    forms = {unicodedata.normalize("NFC", display(each)) for each in spellings}
    return [repr(display(each)) if len(forms) == len(spellings) else ascii(each) for each in spellings]


def _groups(
    root: Path,
    paths: Sequence[str],
    given: Sequence[_Place] | None,
    group_from: str | None,
    notes: list[str],
) -> list[str | None]:
    """The group that each file's table or pattern names, or else `group_from`."""
    groups: list[str | None] = [place.group for place in given or ()] or [None] * len(paths)
    if group_from is not None:
        pattern = _pattern("group_from", group_from)
        name = "group" if "group" in pattern.groupindex else 0
        groups = [
            group or ((match[name] or None) if (match := pattern.search(display(path))) else None)
            for group, path in zip(groups, paths, strict=True)
        ]
        if not any(groups):
            raise DataError(
                f"ingest.group_from matches no path in {root}, such as {some(map(shown, paths))}",
                hint="Mend the pattern, or leave it out.",
            )
    without = groups.count(None)
    if 0 < without < len(groups):
        notes.append(f"{without:,} of {len(groups):,} images have no group; each counts as its own")
    return groups


def _notes_on_folders(
    paths: Sequence[str], folders: Sequence[str], split_folders: Sequence[str]
) -> list[str]:
    """Where labels are the first folders: that there are folders below them, and which have no image."""
    notes = []
    level = 2 if split_folders else 1
    depths = Counter(path.count("/") - level for path in paths)
    if max(depths):
        told = ", ".join(f"{depths[depth]:,} at depth {depth}" for depth in sorted(depths))
        notes.append(
            f"labels are the first folders, but images lie in folders below them, too ({told}); "
            "ingest.label_from=leaf or path takes those as labels"
        )
    used = {"/".join(path.split("/", level)[:level]) + "/" for path in paths}
    empty = [
        folder
        for folder in folders
        if folder.count("/") == level
        and folder not in used
        and (not split_folders or folder.split("/")[0] in split_folders)
    ]
    if empty:
        notes.append(f"label folders without an image: {len(empty):,} ({some(map(shown, empty))})")
    return notes


def _notes_on_files(root: Path, entries: Sequence[Entry], links: Sequence[str]) -> list[str]:
    """How many links lead out of the folder, and whether the paths of a table look like those of Windows."""
    notes = []
    real_root, listed = os.path.realpath(root), {entry.path for entry in entries} if links else set()
    outside = sum(
        not lies_in(real_root, f"{root}/{path}") for path in links if path in listed or path.endswith("/")
    )
    if outside:
        notes.append(f"links that lead out of the folder and are followed: {outside:,}")
    missing = [entry.path for entry in entries if entry.size < 0]
    if missing:
        hint = "; write / for \\ in paths" if any("\\" in path for path in missing) else ""
        notes.append(f"files that the table lists and that are not there: {len(missing):,}{hint}")
    return notes
