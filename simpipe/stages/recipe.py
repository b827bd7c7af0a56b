"""What the configuration says about training, in the words of the learning room."""

from typing import TYPE_CHECKING

from simpipe.engine.stage import Context
from simpipe.errors import UsageError
from simpipe.stages.preparation import preparation_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.config.training import Train
    from simpipe.data.manifest import Samples
    from simpipe.learning.augmentation import Augmentation
    from simpipe.learning.head import HeadShape
    from simpipe.learning.network import Network
    from simpipe.learning.trainer import Schedule
    from simpipe.stages.views import Images

STRENGTHS = (
    *("min_area", "flip", "jitter", "brightness", "contrast", "saturation", "hue"),
    *("grey", "blur", "solarise", "erase"),
)

LOSS_PARAMETERS = (
    *("distance", "temperature", "margin", "soft_margin", "mining", "scale", "centres"),
    *("alpha", "beta", "base", "epsilon", "gamma", "tau"),
)
"""The keys of `train` that some loss takes."""


def require_network(settings: "Train") -> None:
    """Refuse a network that is not to be had, as far as that can be told without loading a framework.

    Raises:
        UsageError, DamagedError: what training would say, or `adopt` of a finished encoder.
    """
    if settings.encoder is not None:
        from simpipe.stages.adoption import require_encoder

        require_encoder(settings)
        return
    from simpipe.learning.backbones import is_path, own
    from simpipe.learning.backbones.lite import VARIANTS, imagenet_file
    from simpipe.learning.backbones.weights import require_weights_file

    name, weights = settings.backbone, settings.weights
    if is_path(name):
        own.require_network(name, weights, settings.trust)
    elif weights not in ("imagenet", "none"):
        require_weights_file(weights)
    elif weights == "imagenet" and name in VARIANTS:
        imagenet_file(name)


def images_of(ctx: Context, samples: "Samples", fit: "npt.NDArray[np.int64]") -> "Images":
    """The backbone, and what training will see of the images."""
    import numpy as np

    from simpipe.learning import backbones
    from simpipe.learning.encoder import backbone_record
    from simpipe.learning.network import Tuning
    from simpipe.stages.views import Images, views_of

    config: Config = ctx.config
    settings = config.train
    backbone = backbones.build(
        settings.backbone,
        weights=settings.weights,
        input_size=settings.input_size,
        seed=config.seed,
        trust=settings.trust,
    )
    preparation = preparation_of(config.ingest)
    if backbone.input_size > preparation.copy_side:
        raise UsageError(
            f"{backbone.name} looks at {backbone.input_size} pixels, but copies of large images have "
            f"{preparation.copy_side} (ingest.copy_side)",
            hint=f"--set ingest.copy_side={backbone.input_size}, or a smaller train.input_size",
        )
    tuning = Tuning(
        settings.trainable, settings.unfreeze, settings.pooling, settings.gem_p, settings.gem_learn
    )
    record = backbone_record(
        backbone, settings.weights, tuning, preparation.to_json(), config.seed, settings.trust
    )
    labels = samples.label_id[fit] if settings.mode == "labelled" else np.full(len(fit), -1)
    return Images(
        samples=samples,
        backbone=backbone,
        record=record,
        tuning=tuning,
        fit=fit,
        val=samples.rows("val"),
        augmentation=_augmentation_of(config),
        views=views_of(labels, settings.views if settings.trainable != "full" else 0),
        cache_bytes=settings.cache_gb * 1e9,
        seed=config.seed,
    )


def _augmentation_of(config: "Config") -> "Augmentation":
    from simpipe.learning import augmentation

    return augmentation.of(
        config.augment.preset, **{name: getattr(config.augment, name) for name in STRENGTHS}
    )


def shape_of(config: "Config") -> "HeadShape":
    from simpipe.learning.head import HeadShape

    return HeadShape(config.train.embedding_size, config.train.hidden, config.train.dropout)


def network_of(ctx: Context, images: "Images", seed: int) -> "Network":
    """A network that was not trained; what it trains of the backbone is its own."""
    from simpipe.learning import backbones
    from simpipe.learning.network import build_network, head_only

    config: Config = ctx.config
    if images.tuning.trainable == "frozen":
        return head_only(images.dim, shape_of(config), seed)
    record = images.record
    backbone = backbones.build(
        record["name"],
        weights=record["weights"],
        input_size=record["input_size"],
        seed=record["seed"],
        trust=record["trust"],
    )
    return build_network(backbone, images.tuning, shape_of(config), seed)


def schedule_of(config: "Config", seed: int) -> "Schedule":
    from simpipe.learning.losses import LOSSES
    from simpipe.learning.trainer import Schedule
    from simpipe.learning.unlabelled import METHODS

    settings = config.train
    method = settings.method if settings.mode == "unlabelled" else None
    takes = METHODS[method].parameters if method else LOSSES[settings.loss].parameters
    # all are looked at, whatever the loss: a key that is declared is read
    named = {name: getattr(settings, name) for name in LOSS_PARAMETERS}
    return Schedule(
        loss=settings.loss,
        parameters={name: value for name, value in named.items() if name in takes},
        method=method,
        memory=settings.xbm,
        lr=settings.lr,
        backbone_lr=settings.backbone_lr,
        proxy_lr=settings.proxy_lr,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        warmup=settings.warmup,
        margin_warmup=settings.margin_warmup,
        epochs=settings.epochs,
        patience=settings.patience,
        seed=seed,
    )
