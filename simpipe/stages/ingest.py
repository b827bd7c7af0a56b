"""Read the folder: which files are images, what they are labelled, and which split each goes to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Content, Context, stage
from simpipe.files import digest, write_json
from simpipe.progress import Progress

if TYPE_CHECKING:
    from simpipe.config import Config
    from simpipe.data.intake import Intake
    from simpipe.data.scan import Fingerprint


ROW_BYTES, BYTES_PER_PIXEL = 400, 0.3
"""What an image takes in the tables, and a pixel of its thumbnail: measured on photos, rounded up."""


def fingerprint_of(source: Path, cache: Path, progress: Progress, remember: bool = True) -> "Fingerprint":
    """The candidate images and their hashes, from the stat cache where nothing was touched."""
    from simpipe.data.scan import fingerprint

    memo = cache / "stat" / f"{digest(str(source))[:16]}.json"
    return fingerprint(source, memo, progress=progress, remember=remember and cache.is_dir())


def content(source: Path, cache: Path, progress: Progress, remember: bool) -> Content:
    """One hash over the paths and contents of all images."""
    found = fingerprint_of(source, cache, progress, remember)
    return Content({"data": found.digest}, {file.path: file.sha256 for file in found.files})


@stage(
    version=1,
    config=("ingest",),
    outputs=("manifest.parquet", "samples.parquet", "labels.json", "ingest.json", "thumbnails.parquet"),
    content=content,
)
def ingest(ctx: Context) -> None:
    """Read the images, set bad files and duplicates apart, and split by label."""
    from simpipe.data.intake import Settings, build, examine
    from simpipe.data.manifest import write_manifest, write_samples
    from simpipe.data.thumbnails import write_thumbnails

    config: Config = ctx.config
    settings = config.ingest
    found = fingerprint_of(ctx.source, ctx.cache, ctx.progress)
    ctx.require_space(round(len(found.files) * (ROW_BYTES + settings.thumbnail_size**2 * BYTES_PER_PIXEL)))
    examined = examine(
        ctx.source,
        found.files,
        max_pixels=settings.max_pixels,
        thumbnail_size=settings.thumbnail_size,
        resize_rule=settings.resize,
        progress=ctx.progress,
    )
    intake = build(
        found,
        examined,
        Settings(
            max_bad=settings.max_bad,
            near_duplicate_bits=settings.near_duplicate_bits,
            val=settings.val,
            test=settings.test,
            unseen=settings.unseen,
            split_seed=settings.split_seed,
        ),
    )
    write_manifest(ctx.out / "manifest.parquet", intake.manifest)
    write_samples(ctx.out / "samples.parquet", intake.samples)
    write_thumbnails(ctx.out / "thumbnails.parquet", intake.thumbnails)
    write_json(ctx.out / "labels.json", {"schema": "simpipe.labels/1", "labels": intake.labels})
    summary = _summary(found, intake)
    write_json(ctx.out / "ingest.json", summary)
    ctx.progress.note(_sentence(summary))


def _summary(found: "Fingerprint", intake: "Intake") -> dict[str, Any]:
    """The document of ingest.json: what was seen, what was set apart, what is held out."""
    ids = intake.samples.sample_id
    quarantined = [row for row in intake.manifest if row["status"] == "quarantined"]
    splits = sorted(set(intake.samples.split.tolist()))
    return {
        "schema": "simpipe.ingest/1",
        "files": {
            "images": len(intake.samples),
            "quarantined": len(quarantined),
            "ignored": dict(sorted(found.ignored.items())),
        },
        "labels": len(intake.labels),
        "splits": {split: len(intake.samples.rows(split)) for split in splits},
        "predefined_splits": intake.predefined_splits,
        "held_out_labels": {
            split: [label["name"] for label in intake.labels if set(label["splits"]) == {split}]
            for split in ("unseen_calib", "unseen_test")
        },
        "oversized_duplicate_groups": intake.oversized_groups,
        "duplicate_pairs": [
            [str(ids[first]), str(ids[second]), kind] for first, second, kind in intake.pairs
        ],
    }


def _sentence(summary: dict[str, Any]) -> str:
    files = summary["files"]
    held_out = [name for names in summary["held_out_labels"].values() for name in names]
    parts = [f"{files['images']:,} images of {summary['labels']:,} labels"]
    if files["quarantined"]:
        parts.append(f"{files['quarantined']:,} unreadable, set apart")
    if summary["duplicate_pairs"]:
        pairs = len(summary["duplicate_pairs"])
        parts.append(f"{pairs:,} duplicate pair{'s' * (pairs != 1)}")
    if held_out:
        parts.append(f"held out as unknown: {', '.join(held_out)}")
    return "; ".join(parts)
