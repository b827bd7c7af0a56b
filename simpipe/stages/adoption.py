"""Take the encoder of a finished run as it is: new data get their accuracy, and nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context
from simpipe.errors import DamagedError, UsageError
from simpipe.files import atomic_write, read_json, sha256_file
from simpipe.learning.backbones import is_path

if TYPE_CHECKING:
    from simpipe.config import Config


def adopt(ctx: Context) -> None:
    """Copy the encoder that `train.encoder` names, and say what of it matters for these data.

    Raises:
        UsageError: there is no encoder, or it needs code that is not trusted.
        DamagedError: its files are not what belongs together.
    """
    config: Config = ctx.config
    path = Path(str(config.train.encoder))
    record = _record(path)
    weights = path.parent / "encoder.weights.h5"
    if not weights.is_file() or sha256_file(weights) != record["weights_sha256"]:
        raise DamagedError(f"{weights} is missing or is not what {path} says", hint="train that run again")
    name = str(record["backbone"]["name"])
    if is_path(name) and not config.train.trust:
        raise UsageError(
            f"train.encoder: it is built on a network of its maker's, {name}, and loading that can run code",
            hint="set train.trust=true if you know the file",
        )
    run = path.parent.parent
    ctx.progress.note(f"the encoder of {run} is used as it is")
    images, labels = _known_to(ctx, run)
    if images:
        ctx.progress.note(
            f"{images:,} of the images that are tested here trained that encoder: the accuracy on them "
            "says little about new images"
        )
    if labels:
        ctx.progress.note(f"held out here, but known to the encoder and so not unseen: {', '.join(labels)}")
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


def _known_to(ctx: Context, run: Path) -> tuple[int, list[str]]:
    """What that run trained on and is a query here: how many images, and which held-out labels."""
    from simpipe.data.manifest import read_samples

    there = run / "ingest" / "samples.parquet"
    if not there.is_file():
        return 0, []
    old, new = read_samples(there), read_samples(ctx.path("ingest/samples.parquet"))
    trained = [*old.rows("train"), *old.rows("val")]
    held_out = [row for split in ("unseen_calib", "unseen_test") for row in new.rows(split)]
    tested = [*new.rows("val"), *new.rows("test"), *held_out]
    images = set(old.sha256[trained].tolist()) & set(new.sha256[tested].tolist())
    labels = set(old.label[trained].tolist()) & set(new.label[held_out].tolist())
    return len(images), sorted(labels - {""})
