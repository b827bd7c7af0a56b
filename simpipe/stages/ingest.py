"""Read the folder: which files are images, what they are labelled, and which split each goes to."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Content, Context, stage
from simpipe.errors import DamagedError
from simpipe.files import digest, write_json
from simpipe.progress import Progress
from simpipe.wording import count

if TYPE_CHECKING:
    from simpipe.config import Config
    from simpipe.data.fingerprint import Fingerprint
    from simpipe.data.layout import Rules
    from simpipe.data.manifest import Samples


ROW_BYTES, BYTES_PER_PIXEL = 2_500, 0.6
"""What an image takes in the tables and in the memo of it, and a pixel of its thumbnail, kept in both:
measured on photos, rounded up. Copies in the cache are not foreseen."""


def fingerprint_of(
    source: Path, rules: "Rules", cache: Path, progress: Progress, remember: bool = True
) -> "Fingerprint":
    """The candidate images and their hashes, from the stat cache where nothing was touched."""
    from simpipe.data.fingerprint import fingerprint

    memo = cache / "stat" / f"{digest(str(source))[:16]}.json"
    return fingerprint(source, memo, rules, progress=progress, remember=remember and cache.is_dir())


def content(
    source: Path, values: Mapping[str, Any], cache: Path, progress: Progress, remember: bool
) -> Content:
    """One hash over the paths and contents of all images, and of the label table if there is one.

    Where there are HEIF images it also counts whether they can be read.
    """
    from simpipe.data.foreign import HEIF_SUFFIXES, heif_reader
    from simpipe.data.layout import Rules

    found = fingerprint_of(source, Rules.of(values), cache, progress, remember)
    hashes = {"data": found.digest}
    if any(file.path.lower().endswith(HEIF_SUFFIXES) for file in found.files):
        hashes["HEIF reader"] = heif_reader()
    return Content(hashes, {file.path: file.sha256 for file in found.files})


@stage(
    version=2,
    config=("ingest",),
    outputs=(
        *("manifest.parquet", "samples.parquet", "labels.json", "ingest.json", "quarantined.csv"),
        "thumbnails.parquet",
    ),
    logs=("ignored.csv",),
    content=content,
)
def ingest(ctx: Context) -> None:
    """Read the images, set bad files and duplicates apart, and split by label."""
    from simpipe.config.models import Ingest
    from simpipe.data.equality import pixel_digests
    from simpipe.data.examine import Options, examine
    from simpipe.data.intake import Quarantined, Settings, build
    from simpipe.data.layout import Rules
    from simpipe.data.manifest import write_manifest, write_samples
    from simpipe.data.scan import Ignored
    from simpipe.data.threads import worker_count
    from simpipe.data.thumbnails import write_thumbnails
    from simpipe.stages.summary import sentence, summary

    config: Config = ctx.config
    settings = config.ingest
    values = {f"ingest.{name}": getattr(settings, name) for name in Ingest.model_fields}
    found = fingerprint_of(ctx.source, Rules.of(values), ctx.cache, ctx.progress)
    ctx.require_space(round(len(found.files) * (ROW_BYTES + settings.thumbnail_size**2 * BYTES_PER_PIXEL)))
    workers = worker_count()
    options = Options.of(values)
    examined = examine(
        ctx.source, found.files, options, ctx.cache, scratch=ctx.out, workers=workers, progress=ctx.progress
    )
    excluded = _excluded(settings.exclude, found, ctx.progress)
    intake = build(
        found,
        examined,
        Settings(
            max_bad=settings.max_bad,
            near_duplicate_bits=settings.near_duplicate_bits,
            val=settings.val,
            test=settings.test,
            unseen=settings.unseen,
            split_by=settings.split_by,
            split_seed=settings.split_seed,
        ),
        lambda numbers: pixel_digests(ctx.source, found.files, numbers, options.preparation, workers=workers),
        excluded,
    )
    write_manifest(ctx.out / "manifest.parquet", intake.manifest)
    write_samples(ctx.out / "samples.parquet", intake.samples)
    write_thumbnails(ctx.out / "thumbnails.parquet", examined.thumbnails(intake.rows))
    write_json(ctx.out / "labels.json", {"schema": "simpipe.labels/1", "labels": intake.labels})
    document = summary(intake)
    write_json(ctx.out / "ingest.json", document)
    _write_csv(ctx.out / "quarantined.csv", Quarantined._fields, intake.quarantined)
    _write_csv(ctx.out / "ignored.csv", Ignored._fields, found.ignored)
    for note in (*found.notes, *_moved(ctx, intake.samples), sentence(document)):
        ctx.progress.note(note)


def _excluded(path: str | None, found: "Fingerprint", progress: Progress) -> set[int]:
    """The numbers of the files that the user took out."""
    from simpipe.data.exclusion import excluded_files, read_exclusion
    from simpipe.data.intake import sample_ids

    if path is None:
        return set()
    rows = read_exclusion(Path(path))
    excluded, unmatched = excluded_files(rows, found.files, sample_ids(found.files))
    progress.note(f"left out, as {path} says: {count(len(excluded), 'image')}")
    if unmatched:
        progress.note(f"{unmatched:,} of its {len(rows):,} marked rows fit no image of the folder")
    return excluded


def _moved(ctx: Context, samples: "Samples") -> list[str]:
    """What became of the images of the last generation, for the user."""
    from simpipe.data.manifest import read_samples
    from simpipe.data.moves import moves, moves_sentence

    try:
        before = read_samples(ctx.last / "samples.parquet")
    except DamagedError:
        return []
    told = moves_sentence(moves(before, samples))
    return [told] if told else []


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    from simpipe.data.scan import display
    from simpipe.stages.tables import cell

    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([cell(display(value or "")) for value in row] for row in rows)
