"""Take the encoder of a finished run as it is: new data get their accuracy, and nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context
from simpipe.errors import DamagedError, UsageError
from simpipe.files import atomic_write, read_json, sha256_file, write_json
from simpipe.learning.backbones import is_path

if TYPE_CHECKING:
    from simpipe.config import Config
    from simpipe.config.training import Train


def adopt(ctx: Context) -> None:
    """Copy the encoder that `train.encoder` names, and say what of it matters for these data.

    Its record gets an entry `adopted`: `tested_images`, how many images of val, test and held-out labels
    there are here; `known_images`, how many of them trained the encoder; and `known_labels`, the held-out
    labels among those that trained it. The last two are null where the encoder's run cannot tell: it has
    other samples by now. Those that count are named by their hash in the encoder's record, and so in the key
    of this run's train stage.

    Raises:
        UsageError: there is no encoder, or it needs code that is not trusted.
        DamagedError: its files are not what belongs together.
    """
    config: Config = ctx.config
    record = require_encoder(config.train)
    folder = Path(str(config.train.encoder)).parent
    run = folder.parent
    ctx.progress.note(f"the encoder of {run} is used as it is")
    taught = run / "ingest" / "samples.parquet"
    told = taught.is_file() and sha256_file(taught) == record.get("samples_sha256")
    adopted = _known(ctx, taught if told and "adopted" not in record else None)
    if images := adopted["known_images"]:
        ctx.progress.note(
            f"{images:,} of the images that are tested here trained that encoder: the accuracy on them "
            "says little about new images"
        )
    if labels := adopted["known_labels"]:
        ctx.progress.note(f"held out here, but known to the encoder and so not unseen: {', '.join(labels)}")
    atomic_write(ctx.out / "encoder.weights.h5", (folder / "encoder.weights.h5").read_bytes())
    write_json(ctx.out / "encoder.json", record | {"adopted": adopted})


def require_encoder(settings: "Train") -> dict[str, Any]:
    """The record of the encoder that `train.encoder` names; raises what `adopt` does."""
    path = Path(str(settings.encoder))
    record = _record(path)
    weights = path.parent / "encoder.weights.h5"
    if not weights.is_file() or sha256_file(weights) != record["weights_sha256"]:
        raise DamagedError(f"{weights} is missing or is not what {path} says", hint="train that run again")
    name = str(record["backbone"]["name"])
    if is_path(name) and not settings.trust:
        raise UsageError(
            f"train.encoder: it is built on a network of its maker's, {name}, and loading that can run code",
            hint="set train.trust=true if you know the file",
        )
    return record


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"train.encoder: there is no encoder {path}",
            hint="give the folder of a finished run, such as runs/baseline",
        )
    record = read_json(path)
    try:
        parts = record["tuning"], record["weights_sha256"], record["backbone"]["name"]
        known = record["schema"] == "simpipe.encoder/1" and all(parts)
    except (LookupError, TypeError):
        known = False
    if not known:
        raise UsageError(
            f"train.encoder: {path} is no encoder of this version of simpipe",
            hint="bring that run up to date first: simpipe train --run …",
        )
    document: dict[str, Any] = record
    return document


def _known(ctx: Context, taught: Path | None) -> dict[str, Any]:
    """What the samples `taught` trained on and is a query here: see `adopt`."""
    import numpy as np

    from simpipe.data.manifest import read_samples

    new = read_samples(ctx.path("ingest/samples.parquet"))
    held_out = np.isin(new.split, ("unseen_calib", "unseen_test"))
    tested = held_out | np.isin(new.split, ("val", "test"))
    count = int(tested.sum())
    if taught is None:
        return {"tested_images": count, "known_images": None, "known_labels": None}
    old = read_samples(taught)
    trained = np.isin(old.split, ("train", "val"))
    images = np.isin(new.sha256[tested], old.sha256[trained])
    labels = set(old.label[trained].tolist()) & set(new.label[held_out].tolist())
    return {
        "tested_images": count,
        "known_images": int(images.sum()),
        "known_labels": sorted(labels - {""}),
    }
