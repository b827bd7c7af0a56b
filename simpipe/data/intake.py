"""From a fingerprint to the tables of ingest: every image read once, decoded once, and placed in a split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simpipe.data.decode import BadImage, ResizeRule, decode_with_facts
from simpipe.data.duplicates import Duplicates, Kind, duplicate_groups
from simpipe.data.manifest import ManifestRow, Samples
from simpipe.data.picture import Picture, picture_of
from simpipe.data.scan import Fingerprint, HashedFile, display
from simpipe.data.splits import SPLITS, assign_splits, complete_predefined
from simpipe.data.threads import map_ahead
from simpipe.errors import DataError
from simpipe.progress import Progress, track

EXAMPLES = 5  # files named in an error


@dataclass(frozen=True, eq=False)
class Examined:
    """One file's outcome: `picture`, or `reason` (a `decode.Reason` or "unreadable") and `detail`."""

    picture: Picture | None
    reason: str | None = None
    detail: str | None = None

    @property
    def status(self) -> Literal["ok", "quarantined"]:
        return "quarantined" if self.picture is None else "ok"


@dataclass(frozen=True)
class Settings:
    """What `build` decides by; see the `ingest` section of the configuration."""

    max_bad: float
    near_duplicate_bits: int
    val: float
    test: float
    unseen: float
    split_seed: int
    max_group: int = 50


@dataclass(frozen=True, eq=False)
class Intake:
    """All that ingest writes.

    `manifest` is in the order of the paths; `samples`, `thumbnails` and the row numbers of `pairs` (i, j,
    exact | near) are in the samples' order. `labels` are `{"id", "name", "count", "splits": {split: count}}`.
    `oversized_groups` counts the sets of near copies that were too large to be kept together.
    """

    manifest: list[ManifestRow]
    samples: Samples
    labels: list[dict[str, Any]]
    pairs: list[tuple[int, int, Kind]]
    thumbnails: list[bytes]
    oversized_groups: int
    predefined_splits: bool


def examine(
    root: Path,
    files: Sequence[HashedFile],
    *,
    max_pixels: int,
    thumbnail_size: int,
    resize_rule: ResizeRule,
    workers: int = 2,
    progress: Progress,
) -> list[Examined]:
    """Read each of `files` once and decode it once: its facts, hashes and thumbnail, or why there are none.

    Raises:
        DataError: a file's bytes are no longer those of its fingerprint.
    """

    def one(file: HashedFile) -> Examined:
        raw = _read(root, file)
        if raw is None:
            return Examined(None, "unreadable", "the file could not be opened or read")
        try:
            decoded = decode_with_facts(raw, max_pixels, at_least=thumbnail_size)
            return Examined(picture_of(decoded, file.path, thumbnail_size, resize_rule))
        except BadImage as error:
            return Examined(None, error.reason, error.detail)

    return list(track(progress, map_ahead(one, files, workers), "reading", len(files), "images"))


def build(fingerprint: Fingerprint, examined: Sequence[Examined], settings: Settings) -> Intake:
    """The tables of ingest, a pure function of what was found.

    Nothing in them depends on the order or the times of files; names count only for the manifest, and to
    number images of equal bytes, label and split.

    Args:
        fingerprint: the files, n of them.
        examined: n outcomes, as of `examine(root, fingerprint.files)`.
        settings: shares, limits and the seed of the splits.

    Raises:
        DataError: more than `max_bad` of the files are unusable, or all of one label's, or fewer than two
            labels have a usable image.
    """
    files = fingerprint.files
    _refuse_bad(files, examined, settings.max_bad)
    names = sorted({file.label for file in files}, key=str.encode)
    id_of = {name: number for number, name in enumerate(names)}

    chosen = [number for number, outcome in enumerate(examined) if outcome.picture is not None]
    ids = _sample_ids([files[number] for number in chosen])
    order = sorted(range(len(chosen)), key=lambda k: (id_of[files[chosen[k]].label], ids[k]))
    rows = [chosen[k] for k in order]
    sample_id = [ids[k] for k in order]

    used = [files[number] for number in rows]
    pictures = [picture for number in rows if (picture := examined[number].picture) is not None]
    sha256 = [file.sha256 for file in used]
    label_id = np.array([id_of[file.label] for file in used], np.int32)
    duplicates = _duplicates(sha256, pictures, settings)
    split = _split(used, label_id, duplicates.group, names, settings)
    first = np.unique(duplicates.group, return_index=True)[1]
    ids_in_order = np.array(sample_id, np.str_)
    samples = Samples(
        sample_id=ids_in_order,
        sha256=np.array(sha256, np.str_),
        label=np.array([file.label for file in used], np.str_),
        label_id=label_id,
        split=split,
        group=ids_in_order[first[duplicates.group]],
    )
    row_of = {number: row for row, number in enumerate(rows)}
    return Intake(
        manifest=[
            _manifest_row(file, outcome, samples, row_of.get(number))
            for number, (file, outcome) in enumerate(zip(files, examined, strict=True))
        ],
        samples=samples,
        labels=_labels(names, samples),
        pairs=duplicates.pairs,
        thumbnails=[picture.thumbnail for picture in pictures],
        oversized_groups=duplicates.oversized,
        predefined_splits=used[0].split is not None,
    )


def _read(root: Path, file: HashedFile) -> bytes | None:
    """The file's bytes; None if they could not be read when the fingerprint was taken."""
    if not file.sha256:
        return None
    try:
        raw = (root / file.path).read_bytes()
    except OSError as error:
        raise _changed(file, f" ({error.strerror})") from error
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise _changed(file)
    return raw


def _changed(file: HashedFile, why: str = "") -> DataError:
    return DataError(
        f"{display(file.path)} changed while it was read{why}",
        hint="Wait until the data are complete, and run the same command again.",
    )


def _refuse_bad(files: Sequence[HashedFile], examined: Sequence[Examined], max_bad: float) -> None:
    """Many unusable files are a wrong folder or a broken copy, not noise."""
    bad = [(file, each) for file, each in zip(files, examined, strict=True) if each.picture is None]
    usable = {file.label for file, each in zip(files, examined, strict=True) if each.picture is not None}
    lost = sorted({file.label for file in files} - usable)
    if len(bad) > max_bad * len(files):
        raise DataError(
            f"{len(bad):,} of {len(files):,} files are not usable, more than {max_bad:.1%}: {_tell(bad)}",
            hint="Repair or remove them, or allow more with ingest.max_bad.",
        )
    if lost:
        of_lost = [(file, each) for file, each in bad if file.label == lost[0]]
        more = f" (and of {len(lost) - 1} more labels)" if len(lost) > 1 else ""
        raise DataError(
            f"no image of the label {lost[0]!r} is usable{more}: {_tell(of_lost)}",
            hint="Repair the images or remove the folder.",
        )


def _tell(bad: Sequence[tuple[HashedFile, Examined]]) -> str:
    counts = Counter(str(each.reason) for _, each in bad)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
    shown = "; ".join(f"{display(file.path)} ({each.detail})" for file, each in bad[:EXAMPLES])
    return f"{reasons}. {shown}" + ("; …" if len(bad) > EXAMPLES else "")


def _sample_ids(files: Sequence[HashedFile]) -> list[str]:
    """The first 16 digits of each content hash; repeats are numbered by label, split and path from -2 on."""
    order = sorted(
        range(len(files)),
        key=lambda k: (files[k].sha256, files[k].label, files[k].split or "", os.fsencode(files[k].path)),
    )
    seen: Counter[str] = Counter()
    ids = [""] * len(files)
    for k in order:
        stem = files[k].sha256[:16]
        seen[stem] += 1
        ids[k] = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"
    return ids


def _duplicates(sha256: Sequence[str], pictures: Sequence[Picture], settings: Settings) -> Duplicates:
    return duplicate_groups(
        sha256,
        np.array([picture.phash for picture in pictures], np.uint64),
        np.stack([picture.miniature for picture in pictures]),
        settings.near_duplicate_bits,
        settings.max_group,
    )


def _split(
    files: Sequence[HashedFile],
    label_id: NDArray[np.int32],
    group: NDArray[np.int64],
    names: Sequence[str],
    settings: Settings,
) -> NDArray[np.str_]:
    key_of: dict[int, str] = {}
    for number, file in zip(group.tolist(), files, strict=True):
        key_of[number] = min(key_of.get(number, file.sha256), file.sha256)
    keys = [key_of[number] for number in group.tolist()]
    given = [file.split for file in files if file.split is not None]
    if given:
        return complete_predefined(
            np.array(given), label_id, group, keys, val=settings.val, split_seed=settings.split_seed
        )
    return assign_splits(
        label_id,
        group,
        keys,
        names,
        val=settings.val,
        test=settings.test,
        unseen=settings.unseen,
        split_seed=settings.split_seed,
    )


def _labels(names: Sequence[str], samples: Samples) -> list[dict[str, Any]]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for label, split in zip(samples.label_id.tolist(), samples.split.tolist(), strict=True):
        counts[label][split] += 1
    return [
        {
            "id": number,
            "name": name,
            "count": counts[number].total(),
            "splits": {split: counts[number][split] for split in SPLITS if counts[number][split]},
        }
        for number, name in enumerate(names)
    ]


def _manifest_row(file: HashedFile, outcome: Examined, samples: Samples, row: int | None) -> ManifestRow:
    picture = outcome.picture
    return {
        "path": display(file.path),
        "path_bytes": os.fsencode(file.path),
        "label": file.label,
        "split": None if row is None else str(samples.split[row]),
        "status": outcome.status,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "sample_id": None if row is None else str(samples.sample_id[row]),
        "sha256": file.sha256,
        "size": file.size,
        "format": picture.format if picture else None,
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "warnings": list(picture.warnings) if picture else [],
    }
