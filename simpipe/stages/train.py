"""Train the encoder: a metric-learning head on a pretrained backbone, and on demand some or all of that."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context, stage
from simpipe.errors import UsageError
from simpipe.files import atomic_write, read_json, sha256_file
from simpipe.stages.preparation import PREPARATION
from simpipe.stages.recipe import STRENGTHS, images_of, network_of, schedule_of, shape_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.learning.features import FeatureCache
    from simpipe.learning.network import Network
    from simpipe.learning.samplers import BatchPlan
    from simpipe.learning.scoring import Examples
    from simpipe.learning.trainer import Trained
    from simpipe.stages.views import Images, Prepared

SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE = 6, 8, 96
"""Of the picture that shows what the model sees: images, views of each, pixels."""


@stage(
    version=6,
    reads=("ingest/samples.parquet", "sampler/sampler.json"),
    uses=("ingest/manifest.parquet",),
    config=("train", *(f"augment.{name}" for name in ("preset", *STRENGTHS)), *PREPARATION, "seed"),
    outputs=("encoder.json", "encoder.weights.h5"),
    logs=("history.csv", "views.webp"),
)
def train(ctx: Context) -> None:
    """Train the encoder: a metric-learning head on a pretrained backbone."""
    config: Config = ctx.config
    history: list[dict[str, Any]] = []
    sheet = b""
    if config.train.encoder is not None:
        from simpipe.stages.adoption import adopt

        adopt(ctx)
    else:
        from simpipe.learning import load_framework

        load_framework()
        if config.train.method == "whiten" and config.train.mode == "unlabelled":
            from simpipe.stages.whitening import whiten

            whiten(ctx)
        else:
            history, sheet = _train(ctx)
    _write_history(ctx, history)
    atomic_write(ctx.out / "views.webp", sheet)


def _train(ctx: Context) -> "tuple[list[dict[str, Any]], bytes]":
    """Train as the configuration says; the records of all epochs, and the picture of augmented views."""
    from simpipe.data.manifest import read_samples
    from simpipe.learning.encoder import save_encoder
    from simpipe.learning.network import precision_of, set_precision
    from simpipe.learning.trainer import scope_of, strategy_for, train_network
    from simpipe.stages.sampler import plan_of, training_rows
    from simpipe.stages.views import prepare

    config: Config = ctx.config
    settings = config.train
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    document = read_json(ctx.path("sampler/sampler.json"))
    images = images_of(ctx, samples, training_rows(samples, document))
    prepared = prepare(ctx, images)
    plan = plan_of(document)
    if not _has_views(images, prepared):
        if plan.mode == "single_shot":
            raise UsageError(
                "training compares two views of an image (sampler.mode: single_shot, or no labels), and "
                "there is one of each",
                hint="set train.views=8 and an augment.preset; or give train.cache_gb more room",
            )
        plan = replace(plan, single_image="keep")  # or one view would be its own positive
    fit, val = _examples(ctx, images, prepared)

    trainings: list[Trained] = []
    for seed in range(config.seed, config.seed + settings.repeats):
        schedule = schedule_of(config, seed)
        strategy = strategy_for(schedule)
        with scope_of(strategy):
            network = network_of(ctx, images, seed)
        _standardise(ctx, network, images, prepared)
        if settings.head_epochs and network.body is not None and settings.mode == "labelled":
            _train_head(ctx, network, images, prepared, fit, val, replace(plan, seed=seed))
        set_precision(network, precision_of(settings.precision))
        folder = ctx.checkpoints / str(seed) if settings.repeats > 1 else ctx.checkpoints
        order = replace(plan, seed=seed)
        trainings.append(train_network(network, fit, val, order, schedule, ctx.progress, folder, strategy))
    best = max(trainings, key=lambda trained: trained.map_at_r or 0.0)
    set_precision(best.network, "float32")

    pretrained = _pretrained_map_at_r(images, prepared, fit, val)
    shipped = "trained"
    if settings.ship == "best" and pretrained is not None and pretrained > (best.map_at_r or 0.0):
        shipped = "pretrained"
        ctx.progress.note("the pretrained features are better on val than the trained ones: they are shipped")
    record = save_encoder(
        ctx.out,
        {
            "backbone": images.record,
            "feature_dim": images.dim,
            "mode": settings.mode,
            "samples_sha256": sha256_file(ctx.path("ingest/samples.parquet")),
            "shipped": shipped,
            "embedding_size": settings.embedding_size if shipped == "trained" else images.dim,
            "best_epoch": best.best_epoch,
            "val_map@r": {"trained": best.map_at_r, "pretrained": pretrained, **_spread(ctx, trainings)},
        },
        best.network,
        images.tuning,
        shape_of(config),
    )
    if prepared.activations is not None and shipped == "trained":
        _cache_tuned(ctx, record, images, prepared.activations, best.network)
    history = [
        {"repeat": number, **epoch}
        for number, trained in enumerate(trainings, 1)
        for epoch in trained.history
    ]
    return history, _sheet(ctx, images, prepared)


def _has_views(images: "Images", prepared: "Prepared") -> bool:
    """Whether two draws of a training image can be two pictures."""
    from simpipe.learning.augmentation import Augmentation
    from simpipe.learning.inputs import Pictures, Stored

    if isinstance(prepared.fit, Pictures):
        return prepared.fit.augmentation != Augmentation()
    kept = isinstance(prepared.fit, Stored) and bool(prepared.fit.views.any())
    return kept and images.augmentation != Augmentation()


def _standardise(ctx: Context, network: "Network", images: "Images", prepared: "Prepared") -> None:
    from simpipe.learning.head import standardise_on
    from simpipe.stages.views import scratch_features

    ids = images.ids(images.fit)
    standardise_on(network.head, scratch_features(ctx, prepared.features, ids, images.dim))


def _train_head(
    ctx: Context,
    network: "Network",
    images: "Images",
    prepared: "Prepared",
    fit: "Examples",
    val: "Examples",
    plan: "BatchPlan",
) -> None:
    """Train the head of `network` alone, on the pretrained features of plain images: that takes seconds.

    What follows then changes the backbone for a head that knows the labels, not for a random one (linear
    probing before fine-tuning: Kumar et al., arXiv:2202.10054).
    """
    from simpipe.learning.inputs import Stored
    from simpipe.learning.network import Network
    from simpipe.learning.trainer import train_network
    from simpipe.stages.views import scratch_features

    config: Config = ctx.config

    def features(part: "Examples", rows: "npt.NDArray[np.int64]") -> "Examples":
        array = scratch_features(ctx, prepared.features, images.ids(rows), images.dim)
        return replace(part, inputs=Stored.plain_only(array))

    schedule = replace(schedule_of(config, plan.seed), epochs=config.train.head_epochs)
    train_network(
        Network(network.head, network.head),
        features(fit, images.fit),
        features(val, images.val),
        replace(plan, single_image="keep"),
        schedule,
        ctx.progress,
    )


def _examples(ctx: Context, images: "Images", prepared: "Prepared") -> "tuple[Examples, Examples]":
    import numpy as np

    from simpipe.learning import scoring

    config: Config = ctx.config
    most = scoring.MOST[images.tuning.trainable == "frozen"]
    labels = images.samples.label_id
    if config.train.mode == "unlabelled":
        labels = np.full_like(labels, -1)
    fit, val = (
        scoring.Examples(
            inputs,
            labels[rows],
            images.samples.group_id[rows],
            scoring.sample(len(rows), count, config.seed),
        )
        for inputs, rows, count in zip(
            (prepared.fit, prepared.val), (images.fit, images.val), most, strict=True
        )
    )
    return fit, val


def _pretrained_map_at_r(
    images: "Images", prepared: "Prepared", fit: "Examples", val: "Examples"
) -> float | None:
    """MAP@R of the pooled features as they came, on the very images that the trained ones are scored on."""
    import numpy as np

    from simpipe.learning.head import normalise
    from simpipe.learning.scoring import map_at_r

    def features(part: "Examples", rows: "npt.NDArray[np.int64]") -> "npt.NDArray[np.float32]":
        vectors = np.empty((len(part.scored), images.dim), np.float32)
        prepared.features.read(images.ids(rows[part.scored]), vectors)
        normalise(vectors, vectors)
        return vectors

    return map_at_r(features(val, images.val), features(fit, images.fit), val, fit)


def _spread(ctx: Context, trainings: "list[Trained]") -> "dict[str, Any]":
    """What several trainings say together; nothing of one."""
    import numpy as np

    scores = [trained.map_at_r for trained in trainings]
    known = [score for score in scores if score is not None]
    if len(scores) < 2 or not known:
        return {}
    mean, deviation = float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    ctx.progress.note(f"MAP@R on val over {len(scores)} trainings: {mean:.3f} ± {deviation:.3f}")
    return {"repeats": scores, "mean": mean, "standard_deviation": deviation}


def _cache_tuned(
    ctx: Context, record: "dict[str, Any]", images: "Images", activations: "FeatureCache", network: "Network"
) -> None:
    """The features above the trained layers, from the cached activations: index then opens no image."""
    from simpipe.learning.encoder import tuned_recipe
    from simpipe.learning.inputs import CachedRows
    from simpipe.learning.network import body_extractor
    from simpipe.stages.features import feature_cache, fill

    ids = images.ids(images.everything)
    cached = CachedRows(activations, ids, network.model.input_shape[1:])
    fill(
        ctx,
        [feature_cache(ctx, tuned_recipe(record))],
        lambda: body_extractor(network),
        ids,
        lambda rows: (cached[rows[start : start + 1]][0] for start in range(len(rows))),
        4 * images.dim,
    )


def _sheet(ctx: Context, images: "Images", prepared: "Prepared") -> bytes:
    """A picture of some training images and augmented views of them; nothing where training saw none."""
    import numpy as np

    from simpipe.data.thumbnails import encode_webp, shrink
    from simpipe.learning.augmentation import contact_sheet
    from simpipe.stages.features import pixel_reader

    config: Config = ctx.config
    if not _has_views(images, prepared):
        return b""
    chosen = np.random.default_rng(config.seed).permutation(len(images.fit))[:SHEET_ROWS]
    read = pixel_reader(ctx, images.record, images.samples)
    shown = np.stack([shrink(image, SHEET_SIDE) for image in read(images.fit[np.sort(chosen)])])
    return encode_webp(contact_sheet(shown, images.augmentation, config.seed, SHEET_COLUMNS))


def _write_history(ctx: Context, history: "list[dict[str, Any]]") -> None:
    import csv

    from simpipe.learning.trainer import METRICS

    # without the seconds: the same training writes the same log
    names = ["repeat", "epoch", "val_map@r", *METRICS, "effective_rank"]
    with (ctx.out / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)
