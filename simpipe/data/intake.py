"""From what was found and examined to the tables of ingest: what is used, what goes together, which split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simpipe.data.duplicates import Duplicates, Kind, duplicate_groups
from simpipe.data.manifest import Manifest, Samples, manifest_of
from simpipe.data.notes import duplicate_notes, label_notes, split_notes
from simpipe.data.scan import display, shown
from simpipe.data.splits import SPLITS, SplitBy, assign_splits, complete_predefined
from simpipe.errors import DataError

if TYPE_CHECKING:
    from simpipe.data.examine import Examined
    from simpipe.data.fingerprint import Fingerprint, HashedFile

EXAMPLES = 5  # files named in an error

PixelDigests = Callable[[list[int]], Sequence[str]]


@dataclass(frozen=True)
class Settings:
    """What `build` decides by; see the `ingest` section of the configuration."""

    max_bad: float
    near_duplicate_bits: int
    val: float
    test: float
    unseen: float
    split_seed: int
    split_by: SplitBy = "sample"
    max_group: int = 50


class Quarantined(NamedTuple):
    """A file that could not be used, for people: `path` as text, its label and why."""

    path: str
    label: str | None
    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Intake:
    """All that ingest writes.

    `manifest` is in the order of the paths; `samples`, `rows` (the number of each one's file, int64 of shape
    (n,)) and the row numbers of `pairs` (i, j, kind) are in the samples' order. `labels` are
    `{"id", "name", "count", "splits": {split: count}}`, none where no labels are used.
    `oversized_groups` counts the sets of near copies that were too large to be kept together.
    `notes` are sentences for a person.
    """

    manifest: Manifest
    samples: Samples
    rows: NDArray[np.int64]
    labels: list[dict[str, Any]]
    pairs: list[tuple[int, int, Kind]]
    oversized_groups: int
    predefined_splits: bool
    notes: list[str]

    @cached_property
    def quarantined(self) -> list[Quarantined]:
        """The files that could not be used, in the order of the paths."""
        names = Quarantined._fields
        return [Quarantined(*(row[name] for name in names)) for row in self.manifest.quarantined()]  # type: ignore[literal-required]


def build(
    fingerprint: Fingerprint,
    examined: Examined,
    settings: Settings,
    pixel_digests: PixelDigests,
    excluded: Collection[int],
) -> Intake:
    """The tables of ingest, a pure function of what was found.

    Nothing in them depends on the order or the times of files; names count only for the manifest, and to
    number images of equal bytes, label and split.

    Args:
        fingerprint: the files, n of them.
        examined: n outcomes, as of `examine(root, fingerprint.files)`.
        settings: shares, limits and the seed of the splits.
        pixel_digests: of some files, given by their numbers, what is equal if their pixels are; or "".
        excluded: the numbers of the files that the user took out. They do not count as bad, nor at all.

    Raises:
        DataError: more than `max_bad` of the files are unusable, or all of one label's, or no image is left,
            or of labelled ones fewer than two labels.
    """
    files = fingerprint.files
    by_path = sorted(range(len(files)), key=lambda number: os.fsencode(files[number].path))
    counted = [number for number in by_path if number not in excluded]
    _refuse_bad(files, examined, counted, settings.max_bad)
    ids = sample_ids(files)
    usable = [number for number in counted if examined.reason[number] is None]
    names = _names(files, usable)
    _refuse_few(files, names, usable)
    id_of: dict[str | None, int] = {None: -1, **{name: number for number, name in enumerate(names)}}

    used = sorted(usable, key=ids.__getitem__)
    used.sort(key=lambda number: id_of[files[number].label])
    rows = np.array(used, np.int64)
    sha256 = [files[number].sha256 for number in used]
    label_id = np.array([id_of[files[number].label] for number in used], np.int32)
    duplicates = _duplicates(files, examined, rows, sha256, settings, pixel_digests)
    split = _split(
        [files[number].split for number in used], sha256, label_id, duplicates.group, names, settings
    )
    sample_id = np.array([ids[number] for number in used], np.str_)
    samples = Samples(
        sample_id=sample_id,
        sha256=np.array(sha256, np.str_),
        label=np.array([*names, ""], np.str_)[label_id],
        label_id=label_id,
        split=split,
        group=sample_id[np.unique(duplicates.group, return_index=True)[1]][duplicates.group],
    )
    labels = _labels(names, samples)
    predefined = files[used[0]].split is not None
    gone = _names(files, range(len(files)), but=names)
    return Intake(
        manifest=manifest_of(_manifest(files, examined, by_path, rows, samples, excluded)),
        samples=samples,
        rows=rows,
        labels=labels,
        pairs=duplicates.pairs,
        oversized_groups=duplicates.oversized,
        predefined_splits=predefined,
        notes=[
            *label_notes(labels, gone),
            *duplicate_notes(duplicates, samples, settings.max_group),
            *split_notes(labels, samples, predefined, settings.split_by, settings.unseen),
        ],
    )


def sample_ids(files: Sequence[HashedFile]) -> list[str]:
    """The first 16 digits of each content hash; repeats are numbered by label, split and path from -2 on.

    The id of a file that could not be read is empty.
    """
    stems = [file.sha256[:16] for file in files]
    count = Counter(stems)
    repeated = [number for number, stem in enumerate(stems) if stem and count[stem] > 1]

    def rank(number: int) -> tuple[str, str, str, bytes]:
        file = files[number]
        return file.sha256, file.label or "", file.split or "", os.fsencode(file.path)

    seen: Counter[str] = Counter()
    for number in sorted(repeated, key=rank):
        stem = stems[number]
        seen[stem] += 1
        if seen[stem] > 1:
            stems[number] = f"{stem}-{seen[stem]}"
    return stems


def _names(files: Sequence[HashedFile], numbers: Iterable[int], but: Collection[str] = ()) -> list[str]:
    """The labels of some files, in the order of their bytes."""
    found = {files[number].label for number in numbers} - {None, *but}
    return sorted((label for label in found if label is not None), key=str.encode)


def _refuse_bad(
    files: Sequence[HashedFile], examined: Examined, counted: Sequence[int], max_bad: float
) -> None:
    """Many unusable files are a wrong folder or a broken copy, not noise."""
    bad = [number for number in counted if examined.reason[number] is not None]
    if len(bad) > max_bad * len(counted):
        raise DataError(
            f"{len(bad):,} of {len(counted):,} files are not usable, more than {max_bad:.1%}: "
            f"{_tell(files, examined, bad)}",
            hint="Do the paths of the table count from its folder, with / and in this case?"
            if all(examined.reason[number] == "missing" for number in bad)
            else "Repair or remove them, or allow more with ingest.max_bad.",
        )
    usable = _names(files, (number for number in counted if examined.reason[number] is None))
    if lost := _names(files, bad, but=usable):
        of_lost = [number for number in bad if files[number].label == lost[0]]
        more = f" (and of {len(lost) - 1} more labels)" if len(lost) > 1 else ""
        raise DataError(
            f"no image of the label {lost[0]!r} is usable{more}: {_tell(files, examined, of_lost)}",
            hint="Repair the images or remove the folder.",
        )


def _refuse_few(files: Sequence[HashedFile], names: Sequence[str], usable: Sequence[int]) -> None:
    """What is left when the excluded images are out must be something to learn from."""
    labelled = any(file.label is not None for file in files)
    if not usable or (labelled and len(names) < 2):
        left = f"only the label {names[0]!r} is" if names else "no image is"
        raise DataError(
            f"{left} left of {len(files):,} files",
            hint="Exclude fewer of them. Are the right folder and the right ingest.exclude given?",
        )


def _tell(files: Sequence[HashedFile], examined: Examined, bad: Sequence[int]) -> str:
    counts = Counter(str(examined.reason[number]) for number in bad)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
    named = "; ".join(f"{shown(files[k].path)} ({examined.detail[k]})" for k in bad[:EXAMPLES])
    return f"{reasons}. {named}" + ("; …" if len(bad) > EXAMPLES else "")


def _duplicates(
    files: Sequence[HashedFile],
    examined: Examined,
    rows: NDArray[np.int64],
    sha256: Sequence[str],
    settings: Settings,
    pixel_digests: PixelDigests,
) -> Duplicates:
    return duplicate_groups(
        sha256,
        examined.phash[rows],
        lambda images: examined.miniatures[rows[images]],
        np.stack([examined.width[rows], examined.height[rows]], axis=1),
        [files[number].group for number in rows.tolist()],
        lambda images: pixel_digests(rows[images].tolist()),
        settings.near_duplicate_bits,
        settings.max_group,
    )


def _split(
    given: Sequence[str | None],
    sha256: Sequence[str],
    label_id: NDArray[np.int32],
    group: NDArray[np.int64],
    names: Sequence[str],
    settings: Settings,
) -> NDArray[np.str_]:
    """The split of each sample; images without labels are split like those of one."""
    key_of: dict[int, str] = {}
    for number, sha in zip(group.tolist(), sha256, strict=True):
        key_of[number] = min(key_of.get(number, sha), sha)
    keys = [key_of[number] for number in group.tolist()]
    label = np.maximum(label_id, 0)
    seed = settings.split_seed
    if given[0] is not None:
        if "train" not in given:
            raise DataError(
                "no usable image is in the split train of these data",
                hint="Name one of the splits train, or set ingest.layout: labels.",
            )
        return complete_predefined(np.array(given), label, group, keys, val=settings.val, split_seed=seed)
    shares = {"val": settings.val, "test": settings.test, "unseen": settings.unseen}
    return assign_splits(label, group, keys, names, **shares, split_seed=seed, by=settings.split_by)


def _labels(names: Sequence[str], samples: Samples) -> list[dict[str, Any]]:
    of_split = {name: samples.label_id[samples.split == name] for name in SPLITS}
    table = {name: np.bincount(ids, minlength=len(names)) for name, ids in of_split.items() if names}
    return [
        {
            "id": number,
            "name": name,
            "count": sum(int(counts[number]) for counts in table.values()),
            "splits": {split: int(counts[number]) for split, counts in table.items() if counts[number]},
        }
        for number, name in enumerate(names)
    ]


def _manifest(
    files: Sequence[HashedFile],
    examined: Examined,
    order: Sequence[int],
    rows: NDArray[np.int64],
    samples: Samples,
    excluded: Collection[int],
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The columns of the manifest, one row per file, in `order`; one at a time, for there are millions."""
    row_of = np.full(len(files), -1)
    row_of[rows] = np.arange(len(rows))

    def pick(column: Sequence[Any], of_excluded: str | None = None) -> list[Any]:
        if of_excluded is None:
            return [column[number] for number in order]
        return [of_excluded if number in excluded else column[number] for number in order]

    def of_sample(column: NDArray[np.str_]) -> list[str | None]:
        return [str(column[row]) if row >= 0 else None for row in row_of[list(order)].tolist()]

    def fact(column: NDArray[np.int32]) -> list[int | None]:
        known = [value if examined.format[number] else None for number, value in enumerate(column.tolist())]
        return pick(known)

    yield "path", [display(files[number].path) for number in order]
    yield "path_bytes", [os.fsencode(files[number].path) for number in order]
    yield "label", [files[number].label for number in order]
    yield "group", [files[number].group for number in order]
    yield "split", of_sample(samples.split)
    yield "status", pick(["quarantined" if reason else "ok" for reason in examined.reason], "ignored")
    yield "reason", pick(examined.reason, "excluded")
    yield "detail", pick(examined.detail, "marked in the file of ingest.exclude")
    yield "sample_id", of_sample(samples.sample_id)
    yield "sha256", [files[number].sha256 for number in order]
    yield "size", [files[number].size for number in order]
    yield "copy", pick(examined.copy)
    yield "format", pick(examined.format)
    yield "width", fact(examined.width)
    yield "height", fact(examined.height)
    yield "warnings", pick(examined.warnings)
