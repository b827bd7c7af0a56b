"""Train the encoder: a metric-learning head on the cached features of a frozen backbone."""

from typing import TYPE_CHECKING

from simpipe.engine.stage import Context, stage
from simpipe.errors import UsageError
from simpipe.files import read_json
from simpipe.stages.preparation import PREPARATION, preparation_of

if TYPE_CHECKING:
    from simpipe.config import Config
    from simpipe.data.manifest import Samples
    from simpipe.learning.features import FeatureCache
    from simpipe.learning.trainer import Examples, Schedule, Trained


@stage(
    version=3,
    reads=("ingest/samples.parquet", "sampler/sampler.json"),
    uses=("ingest/manifest.parquet",),
    config=("train", *PREPARATION, "seed"),
    outputs=("encoder.json", "encoder.weights.h5"),
    logs=("history.csv",),
)
def train(ctx: Context) -> None:
    """Train the encoder: a metric-learning head on a pretrained backbone."""
    import numpy as np

    from simpipe.data.manifest import read_samples
    from simpipe.learning import backbones, load_framework
    from simpipe.learning.encoder import backbone_record, save_encoder
    from simpipe.learning.features import extractor
    from simpipe.learning.head import HeadShape
    from simpipe.learning.samplers import BatchPlan
    from simpipe.learning.trainer import sample, train_head
    from simpipe.stages.features import cached_features

    load_framework()
    config: Config = ctx.config
    settings = config.train
    backbone = backbones.build(
        settings.backbone, weights=settings.weights, input_size=settings.input_size, seed=config.seed
    )
    preparation = preparation_of(config.ingest)
    if backbone.input_size > preparation.copy_side:
        raise UsageError(
            f"{backbone.name} looks at {backbone.input_size} pixels, but copies of large images have "
            f"{preparation.copy_side} (ingest.copy_side)",
            hint=f"--set ingest.copy_side={backbone.input_size}, or a smaller train.input_size",
        )
    record = backbone_record(backbone, settings.weights, settings.pooling, preparation.to_json(), config.seed)
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    feature_dim = int(backbone.model.output_shape[-1])
    # all images at once, so that index, which needs the others too, does not build the backbone again
    cache = cached_features(
        ctx,
        record,
        lambda: extractor(backbone, settings.pooling),
        samples,
        np.arange(len(samples)),
        feature_dim,
    )
    fit, val = _examples(ctx, cache, samples, feature_dim)
    val = sample(val, config.seed)

    sampler = read_json(ctx.path("sampler/sampler.json"))
    plan = BatchPlan(**{name: value for name, value in sampler.items() if name != "schema"})
    shape = HeadShape(settings.embedding_size, settings.hidden, settings.dropout)
    trained = train_head(fit, val, shape, plan, _schedule(config), ctx.progress, ctx.checkpoints)

    pretrained = _pretrained_map_at_r(fit, val)
    shipped = "trained"
    if settings.ship == "best" and pretrained is not None and pretrained > (trained.map_at_r or 0.0):
        shipped = "pretrained"
        ctx.progress.note("the pretrained features are better on val than the trained head: they are shipped")
    save_encoder(
        ctx.out,
        {
            "backbone": record,
            "feature_dim": feature_dim,
            "head": {
                "embedding_size": shape.embedding_size,
                "hidden": shape.hidden,
                "dropout": shape.dropout,
            },
            "shipped": shipped,
            "embedding_size": shape.embedding_size if shipped == "trained" else feature_dim,
            "best_epoch": trained.best_epoch,
            "val_map@r": {"trained": trained.map_at_r, "pretrained": pretrained},
        },
        trained.head,
    )
    _write_history(ctx, trained)


def _examples(
    ctx: Context, cache: "FeatureCache", samples: "Samples", dim: int
) -> "tuple[Examples, Examples]":
    """The features of train and val; on disk, in files without a name that vanish with the process."""
    import tempfile
    from pathlib import Path

    from simpipe.learning.trainer import Examples
    from simpipe.stages.features import feature_file

    rows = {split: samples.rows(split) for split in ("train", "val")}
    ctx.require_space(4 * dim * sum(map(len, rows.values())))
    with tempfile.TemporaryDirectory(dir=ctx.out) as scratch:
        fit, val = (
            Examples(
                feature_file(Path(scratch) / split, cache, samples, rows[split], dim),
                samples.label_id[rows[split]],
                samples.group_id[rows[split]],
            )
            for split in ("train", "val")
        )
    return fit, val


def _schedule(config: "Config") -> "Schedule":
    from simpipe.learning.losses import LOSSES
    from simpipe.learning.trainer import Schedule

    settings = config.train
    return Schedule(
        loss=settings.loss,
        loss_parameters={name: getattr(settings, name) for name in LOSSES[settings.loss][1]},
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        epochs=settings.epochs,
        patience=settings.patience,
        seed=config.seed,
    )


def _pretrained_map_at_r(fit: "Examples", val: "Examples") -> float | None:
    import numpy as np

    from simpipe.learning.head import normalise
    from simpipe.learning.trainer import map_at_r

    gallery, queries = np.empty_like(fit.features), np.empty_like(val.features)
    normalise(fit.features, gallery)
    normalise(val.features, queries)
    return map_at_r(queries, gallery, val, fit)


def _write_history(ctx: Context, trained: "Trained") -> None:
    import csv

    with (ctx.out / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["epoch", "loss", "val_map@r"])
        writer.writeheader()
        writer.writerows(trained.history)
