"""Take the encoder of a finished run as it is: new data get their accuracy, and nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context
from simpipe.errors import DamagedError, UsageError
from simpipe.files import atomic_write, read_json, sha256_file

if TYPE_CHECKING:
    from simpipe.config import Config


def adopt(ctx: Context) -> None:
    """Copy the encoder that `train.encoder` names, and say what of it matters for these data.

    Raises:
        UsageError: there is no encoder, or the copies that ingest keeps are too small for it.
        DamagedError: its files are not what belongs together.
    """
    config: Config = ctx.config
    path = Path(str(config.train.encoder))
    record = _record(path)
    weights = path.parent / "encoder.weights.h5"
    if not weights.is_file() or sha256_file(weights) != record["weights_sha256"]:
        raise DamagedError(f"{weights} is missing or is not what {path} says", hint="train that run again")
    backbone = record["backbone"]
    if backbone["input_size"] > config.ingest.copy_side:
        raise UsageError(
            f"the encoder looks at {backbone['input_size']} pixels, but copies of large images have "
            f"{config.ingest.copy_side} (ingest.copy_side)",
            hint=f"--set ingest.copy_side={backbone['input_size']}",
        )
    run = path.parent.parent
    ctx.progress.note(f"the encoder of {run} is used as it is")
    if len(seen := _trained_on(ctx, run)):
        ctx.progress.note(
            f"{len(seen):,} of the images that are tested here trained that encoder: the accuracy on them "
            "says little about new images"
        )
    atomic_write(ctx.out / "encoder.weights.h5", weights.read_bytes())
    atomic_write(ctx.out / "encoder.json", path.read_bytes())


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"train.encoder: there is no encoder {path}",
            hint="give the folder of a finished run, such as runs/baseline",
        )
    record = read_json(path)
    try:
        known = record["schema"] == "simpipe.encoder/1" and record["tuning"] and record["weights_sha256"]
    except (LookupError, TypeError):
        known = False
    if not known:
        raise UsageError(
            f"train.encoder: {path} is no encoder of this version of simpipe",
            hint="bring that run up to date first: simpipe train --run …",
        )
    document: dict[str, Any] = record
    return document


def _trained_on(ctx: Context, run: Path) -> set[str]:
    """Contents of test images here that are train or val images there; none where that is not known."""
    from simpipe.data.manifest import read_samples

    there = run / "ingest" / "samples.parquet"
    if not there.is_file():
        return set()
    old, new = read_samples(there), read_samples(ctx.path("ingest/samples.parquet"))
    used = {content for split in ("train", "val") for content in old.sha256[old.rows(split)].tolist()}
    return used & set(new.sha256[new.rows("test")].tolist())
