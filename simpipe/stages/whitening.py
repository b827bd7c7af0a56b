"""Pretrained features, whitened: the floor of training without labels."""

from dataclasses import replace
from typing import TYPE_CHECKING

from simpipe.engine.stage import Context
from simpipe.files import sha256_file
from simpipe.stages.recipe import images_of

if TYPE_CHECKING:
    from simpipe.config import Config


def whiten(ctx: Context) -> None:
    """Write an encoder whose head whitens the pooled features; nothing is trained."""
    from simpipe.data.manifest import read_samples
    from simpipe.learning.encoder import save_encoder
    from simpipe.learning.head import HeadShape, set_linear
    from simpipe.learning.network import Tuning, head_only
    from simpipe.learning.unlabelled.whiten import fit_whitening
    from simpipe.stages.views import prepare, scratch_features

    config: Config = ctx.config
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    images = images_of(ctx, samples, samples.rows("train"))
    tuning = Tuning("frozen", pooling=images.tuning.pooling, gem_p=images.tuning.gem_p)
    images = replace(images, tuning=tuning, views=images.views * 0)
    prepared = prepare(ctx, images)
    features = scratch_features(ctx, prepared.features, images.ids(images.fit), images.dim)
    whitening = fit_whitening(features, config.train.embedding_size)
    size = whitening.projection.shape[1]
    if size < config.train.embedding_size:
        ctx.progress.note(f"the embedding has {size} dimensions: {len(features)} images span no more")
    shape = HeadShape(size, 0, 0.0)
    network = head_only(images.dim, shape)
    set_linear(network.head, whitening.mean, whitening.projection)
    save_encoder(
        ctx.out,
        {
            "backbone": images.record,
            "feature_dim": images.dim,
            "mode": "unlabelled",
            "samples_sha256": sha256_file(ctx.path("ingest/samples.parquet")),
            "shipped": "trained",
            "embedding_size": size,
            "best_epoch": 0,
            "val_map@r": {"trained": None, "pretrained": None},
        },
        network,
        tuning,
        shape,
    )
