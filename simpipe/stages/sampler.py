"""Resolve the batch plan that training follows."""

from simpipe.engine.stage import Context, stage
from simpipe.files import write_json


@stage(
    version=1,
    reads=("ingest/samples.parquet",),
    config=("sampler", "seed"),
    outputs=("sampler.json",),
    logs=("sampler_report.json",),
)
def sampler(ctx: Context) -> None:
    """Resolve the batch plan: which images make up each training batch."""
    import numpy as np

    from simpipe.config import Config
    from simpipe.data.manifest import read_samples
    from simpipe.errors import DataError
    from simpipe.learning.samplers import BatchPlan, describe_epoch

    config: Config = ctx.config
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    labels = samples.label_id[samples.rows("train")]
    if (samples.label_id < 0).all():
        raise DataError(
            "training needs labels, and ingest took the images without (ingest.labels is none)",
            hint="label them by folders or by a table, and set ingest.labels=required",
        )
    classes = len(np.unique(labels))
    if classes < 2:
        raise DataError(
            f"training needs images of at least two labels, and the split leaves {classes}",
            hint="add images, or hold out fewer with ingest.val, ingest.test and ingest.unseen",
        )
    plan = BatchPlan(
        classes_per_batch=min(config.sampler.classes_per_batch, classes),
        examples_per_class_per_batch=config.sampler.examples_per_class_per_batch,
        balance=config.sampler.balance,
        coverage=config.sampler.coverage,
        min_batches=config.sampler.min_batches,
        max_repeat=config.sampler.max_repeat,
        seed=config.seed,
    )
    write_json(ctx.out / "sampler.json", {"schema": "simpipe.sampler/1", **plan.to_json()})
    write_json(ctx.out / "sampler_report.json", describe_epoch(labels, plan))
