"""Resolve the batch plan that training follows."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context, stage
from simpipe.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.data.manifest import Samples
    from simpipe.learning.samplers import BatchPlan


@stage(
    version=2,
    reads=("ingest/samples.parquet",),
    config=(
        "sampler",
        "augment.warmup",
        "train.encoder",
        "train.mode",
        "train.method",
        "train.views",
        "train.trainable",
        "seed",
    ),
    outputs=("sampler.json",),
    logs=("sampler_report.json",),
)
def sampler(ctx: Context) -> None:
    """Resolve the batch plan: which images make up each training batch."""
    import numpy as np

    from simpipe.data.manifest import read_samples
    from simpipe.errors import DataError
    from simpipe.learning.samplers import BatchPlan, describe_epoch

    config: Config = ctx.config
    if reason := _no_training(config):
        ctx.progress.note(f"nothing is sampled: {reason}")
        write_json(ctx.out / "sampler.json", {"schema": "simpipe.sampler/1", "training": False})
        write_json(ctx.out / "sampler_report.json", {"reason": reason})
        return
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    if config.train.mode == "labelled" and (samples.label_id < 0).all():
        raise DataError(
            "training needs labels, and ingest took the images without (ingest.labels is none)",
            hint="train without labels: --config unlabelled; or label the images by folders or by a table, "
            "and set ingest.labels=required",
        )
    settings = config.sampler
    plan = BatchPlan(
        classes_per_batch=settings.classes_per_batch,
        examples_per_class_per_batch=settings.examples_per_class_per_batch,
        balance=settings.balance,
        coverage=settings.coverage,
        min_batches=settings.min_batches,
        max_repeat=settings.max_repeat,
        seed=config.seed,
        mode=settings.mode if config.train.mode == "labelled" else "single_shot",
        effective_beta=settings.effective_beta,
        hard_share=settings.hard_share,
        warmup_epochs=config.augment.warmup,
        single_image=settings.single_image,
    )
    document = {
        "schema": "simpipe.sampler/1",
        "training": True,
        "class_list": settings.class_list,
        "total_examples_per_class": settings.total_examples_per_class,
        **plan.to_json(),
    }
    rows = training_rows(samples, document)
    classes = len(np.unique(samples.label_id[rows]))
    if config.train.mode == "labelled" and classes < 2:
        raise DataError(
            f"training needs images of at least two labels, and the split leaves {classes}",
            hint="add images, hold out fewer with ingest.val, ingest.test and ingest.unseen, or name more "
            "labels in sampler.class_list",
        )
    write_json(ctx.out / "sampler.json", document)
    views = None if config.train.trainable == "full" else config.train.views
    write_json(ctx.out / "sampler_report.json", describe_epoch(samples.label_id[rows], plan, views=views))


def _no_training(config: "Config") -> str:
    """Why no batch will be needed; the empty text where there will be some."""
    if config.train.encoder is not None:
        return "a finished encoder is used (train.encoder)"
    if config.train.method == "whiten" and config.train.mode == "unlabelled":
        return "whitening trains nothing (train.method)"
    return ""


def plan_of(document: "dict[str, Any]") -> "BatchPlan":
    """The batch plan in `sampler.json`."""
    from simpipe.learning.samplers import BatchPlan

    return BatchPlan(**{field.name: document[field.name] for field in fields(BatchPlan)})


def training_rows(samples: "Samples", document: "dict[str, Any]") -> "npt.NDArray[np.int64]":
    """The samples that `sampler.json` lets training see."""
    from simpipe.learning.samplers import select

    rows = samples.rows("train")
    if document["class_list"] is None and document["total_examples_per_class"] is None:
        return rows
    chosen = select(
        samples.label[rows].tolist(),
        samples.sha256[rows].tolist(),
        document["class_list"],
        document["total_examples_per_class"],
        document["seed"],
    )
    return rows[chosen]
