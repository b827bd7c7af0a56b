"""What a user can ask of training: the batches, the augmentation, the encoder and how it learns."""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from simpipe.config.fields import Int, Section, Texts, conflict, is_path, not_one_of

SamplerMode = Literal["multi_shot", "single_shot", "coverage"]
Balance = Literal["none", "sqrt", "class", "effective"]
SingleImage = Literal["augment", "keep"]
Preset = Literal["none", "light", "simclr", "barlow"]
Mode = Literal["labelled", "unlabelled"]
Method = Literal["whiten", "simclr", "simsiam", "byol", "barlow", "vicreg"]
Backbone = Literal[
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_b0",
    "efficientnet_v2_b1",
    "efficientnet_v2_b2",
    "efficientnet_v2_b3",
    "efficientnet_v2_s",
    "efficientnet_v2_m",
    "efficientnet_v2_l",
    "resnet50",
]
Pooling = Literal["avg", "gem", "max"]
Trainable = Literal["frozen", "partial", "full"]
Loss = Literal[
    "triplet",
    "pn",
    "multisimilarity",
    "circle",
    "soft_nearest_neighbour",
    "lifted_structure",
    "multi_negatives_rank",
    "supcon",
    "proxy_anchor",
    "proxy_nca",
    "norm_softmax",
    "arcface",
    "cosface",
    "subcenter_arcface",
    "soft_triple",
]
Mining = Literal["hard", "semi_hard", "easy"]
Distance = Literal["cosine", "euclidean", "squared_euclidean", "inner_product"]
Precision = Literal["auto", "float32", "bfloat16"]
Ship = Literal["trained", "best"]

LOSS_PARAMETERS: dict[str, tuple[str, ...]] = {
    "triplet": ("distance", "margin", "soft_margin", "mining"),
    "pn": ("distance", "margin", "soft_margin"),
    "multisimilarity": ("distance", "alpha", "beta", "base", "epsilon"),
    "circle": ("distance", "margin", "scale"),
    "soft_nearest_neighbour": ("distance", "temperature"),
    "lifted_structure": ("distance", "margin"),
    "multi_negatives_rank": ("distance", "scale"),
    "supcon": ("distance", "temperature"),
    "proxy_anchor": ("margin", "alpha"),
    "proxy_nca": ("temperature",),
    "norm_softmax": ("temperature",),
    "arcface": ("margin", "scale"),
    "cosface": ("margin", "scale"),
    "subcenter_arcface": ("margin", "scale", "centres"),
    "soft_triple": ("margin", "scale", "centres", "gamma", "tau"),
}
"""The keys of `train` that each loss takes; null is the loss's own default."""

CROSS_BATCH = (
    "triplet",
    "multisimilarity",
    "circle",
    "soft_nearest_neighbour",
    "multi_negatives_rank",
    "supcon",
)
"""The losses that can compare with embeddings of earlier batches."""


class Sampler(Section):
    """Composing the training batches."""

    mode: SamplerMode = Field(
        default="multi_shot",
        description="Some labels and some images of each (multi_shot), the same with every image at least "
        "once per epoch (coverage), or each image its own label and two views of it (single_shot)",
    )
    classes_per_batch: Int = Field(default=16, ge=2, description="Labels in a batch; at least 2")
    examples_per_class_per_batch: Int = Field(
        default=8, ge=2, description="Images of each label in a batch; at least 2"
    )
    class_list: Texts | None = Field(
        default=None, description="The labels to train on, such as [cats, dogs]; null is all"
    )
    total_examples_per_class: Int | None = Field(
        default=None,
        ge=1,
        description="Most different images of a label to train on; at least 1; null is all",
    )
    balance: Balance = Field(
        default="sqrt",
        description="How often a label is drawn: by the number of its images (none), by the square root of "
        "that number, all equally often (class), or by its effective number (Cui et al. 2019)",
    )
    effective_beta: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Beta of balance: effective, 0 to below 1; null is 1 - 1 / median size of a label",
    )
    coverage: float = Field(
        default=1.0,
        gt=0,
        description="Draws per epoch, as a multiple of the number of training images; above 0",
    )
    min_batches: Int = Field(
        default=20,
        ge=1,
        description="Batches per epoch, at least: few images then take more steps, within max_repeat",
    )
    max_repeat: Int = Field(default=10, ge=1, description="Most draws of one image per epoch; at least 1")
    hard_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the batches in which labels meet that were confused on val after the last "
        "epoch; 0 to 1",
    )
    single_image: SingleImage = Field(
        default="augment",
        description="A label with one image: its augmented views are its positives (augment), or it has none "
        "(keep)",
    )


class Augment(Section):
    """The augmented versions of the training images. Null is what the preset says."""

    preset: Preset = Field(
        default="light",
        description="Crop, flip and brightness (light), or the recipe of SimCLR or of Barlow Twins",
    )
    warmup: Int = Field(
        default=0, ge=0, description="First epochs in which only the images themselves are drawn; at least 0"
    )
    min_area: float | None = Field(
        default=None, gt=0, le=1, description="Smallest share of the area that a crop keeps; above 0, up to 1"
    )
    flip: float | None = Field(default=None, ge=0, le=1, description="Probability of a mirror image; 0 to 1")
    jitter: float | None = Field(
        default=None, ge=0, le=1, description="Probability that colours are changed at all; 0 to 1"
    )
    brightness: float | None = Field(
        default=None, ge=0, le=1, description="Largest change of the brightness, as a share; 0 to 1"
    )
    contrast: float | None = Field(
        default=None, ge=0, le=1, description="Largest change of the contrast, as a share; 0 to 1"
    )
    saturation: float | None = Field(
        default=None, ge=0, le=1, description="Largest change of the saturation, as a share; 0 to 1"
    )
    hue: float | None = Field(
        default=None, ge=0, le=0.5, description="Largest turn of the hue, as a share of the circle; 0 to 0.5"
    )
    grey: float | None = Field(default=None, ge=0, le=1, description="Probability of a grey image; 0 to 1")
    blur: float | None = Field(default=None, ge=0, le=1, description="Probability of a blurred image; 0 to 1")
    solarise: float | None = Field(
        default=None, ge=0, le=1, description="Probability that bright pixels are inverted; 0 to 1"
    )
    erase: float | None = Field(
        default=None, ge=0, le=1, description="Probability that a rectangle is painted over; 0 to 1"
    )


class Train(Section):
    """The encoder and how it learns."""

    backbone: str = Field(
        default="efficientnet_lite0",
        description="The pretrained network below the head; or the path of one of your own, a .keras file or "
        "a SavedModel folder (relative to the configuration file), see trust",
        examples=list(get_args(Backbone)),
    )
    trust: bool = Field(
        default=False,
        description="Whether a backbone of your own may run its code: loading such a file runs what is in it",
    )
    weights: str = Field(
        default="imagenet",
        description="Weights of the backbone: imagenet, none, or the path of a weights file "
        "(relative to the configuration file)",
    )
    input_size: Int | None = Field(
        default=None,
        ge=32,
        description="Side of the square input, pixels; at least 32; null is the backbone's own",
    )
    pooling: Pooling = Field(
        default="avg", description="From the feature map to one vector: average, generalised mean, max"
    )
    gem_p: float = Field(
        default=3.0, ge=1, le=20, description="Exponent of the generalised mean, gem only; 1 to 20"
    )
    gem_learn: bool = Field(
        default=False, description="Whether that exponent is learned; gem with partial or full only"
    )
    encoder: str | None = Field(
        default=None,
        description="The folder of a finished run whose encoder is used as it is, and nothing is trained "
        "(relative to the configuration file); null trains one",
    )
    mode: Mode = Field(default="labelled", description="Whether training looks at the labels")
    method: Method = Field(
        default="whiten",
        description="How to train without labels, unlabelled only: whiten the pretrained features, which "
        "trains nothing, or a self-supervised method",
    )
    trainable: Trainable = Field(
        default="frozen",
        description="What is trained besides the head: nothing (frozen), the last block groups of the "
        "backbone (partial), or all of it (full)",
    )
    unfreeze: Int = Field(
        default=2, ge=1, description="Block groups of the backbone that are trained, partial only; at least 1"
    )
    views: Int = Field(
        default=0,
        ge=0,
        le=63,
        description="Augmented versions kept of each training image beside the image itself, more for labels "
        "with few images; 0 to 63; full draws a new version each time",
    )
    cache_gb: float = Field(
        default=8.0,
        ge=0,
        description="Most that the activations below the trained groups may take on disk, gigabytes, partial "
        "only; above it there are fewer views, and in the end none is kept; at least 0",
    )
    embedding_size: Int = Field(default=128, ge=1, description="Dimensions of the embedding; at least 1")
    hidden: Int = Field(
        default=256, ge=0, description="Units of the head's hidden layer; at least 0; 0 is no such layer"
    )
    dropout: float = Field(
        default=0.3,
        ge=0,
        le=0.9,
        description="Share of the head's inputs that is dropped in training; 0 to 0.9",
    )
    loss: Loss = Field(default="supcon", description="The metric loss; its parameters follow")
    distance: Distance | None = Field(
        default=None,
        description="How far two embeddings are; null is the loss's own, cosine for most",
    )
    temperature: float | None = Field(
        default=None, gt=0, description="Temperature of the similarities; above 0; null is the loss's own"
    )
    margin: float | None = Field(default=None, ge=0, description="Margin; at least 0; null is the loss's own")
    soft_margin: bool | None = Field(
        default=None, description="Whether softplus takes the place of the margin; null is false"
    )
    mining: Mining | None = Field(
        default=None, description="Which negatives, and of hard and easy which positives, count; null is hard"
    )
    scale: float | None = Field(
        default=None, gt=0, description="Scale of the similarities; above 0; null is the loss's own"
    )
    centres: Int | None = Field(
        default=None, ge=1, description="Centres of each label; at least 1; null is the loss's own"
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        description="Weight of positives; above 0; null is the loss's own",
    )
    beta: float | None = Field(default=None, gt=0, description="Weight of negatives; above 0; null is 40")
    base: float | None = Field(
        default=None, ge=-1, le=1, description="Similarity that pairs are compared with; -1 to 1; null is 0.5"
    )
    epsilon: float | None = Field(
        default=None, ge=0, description="Slack of the pair mining; at least 0; null is 0.1"
    )
    gamma: float | None = Field(
        default=None, gt=0, description="Temperature of the centres of a label; above 0; null is 0.1"
    )
    tau: float | None = Field(
        default=None, ge=0, description="Weight of the pull between centres; at least 0; null is 0.2"
    )
    xbm: Int = Field(
        default=0,
        ge=0,
        description="Embeddings of earlier batches that the loss also compares with (cross-batch memory); "
        "at least 0; 0 is off",
    )
    lr: float = Field(default=4e-3, gt=0, description="Peak learning rate of the head; above 0")
    backbone_lr: float = Field(
        default=3e-4, gt=0, description="Peak learning rate of the backbone, partial and full only; above 0"
    )
    proxy_lr: float = Field(
        default=4e-2, gt=0, description="Peak learning rate of a loss's proxies or centres; above 0"
    )
    weight_decay: float = Field(
        default=1e-4, ge=0, description="Decoupled weight decay of the optimizer; at least 0"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of a step's gradient; above 0; null is no limit"
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="Share of all steps in which the learning rates rise to their peaks; 0 to 0.5",
    )
    margin_warmup: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of all steps in which an angular margin rises to its value; 0 to 1",
    )
    head_epochs: Int = Field(
        default=0,
        ge=0,
        description="Epochs in which the head learns alone, before partial or full training; at least 0",
    )
    epochs: Int = Field(default=20, ge=1, description="Most epochs; at least 1")
    patience: Int = Field(
        default=8, ge=1, description="Epochs without a better MAP@R on val before training stops; at least 1"
    )
    precision: Precision = Field(
        default="auto",
        description="Numbers in training: float32, bfloat16 with float32 weights, or auto: bfloat16 on a GPU "
        "that has it; full and partial only",
    )
    repeats: Int = Field(
        default=1,
        ge=1,
        le=20,
        description="Trainings with different seeds; the best on val is kept, mean and spread are told; "
        "1 to 20",
    )
    ship: Ship = Field(
        default="trained",
        description="Which encoder goes on: the trained one, or the best on val, the pretrained included",
    )

    @field_validator("backbone")
    @classmethod
    def _backbone_is_known_or_a_path(cls, backbone: str) -> str:
        if backbone in get_args(Backbone) or is_path(backbone):
            return backbone
        raise ValueError(not_one_of(backbone, get_args(Backbone)))

    @field_validator("weights")
    @classmethod
    def _weights_are_known_or_a_path(cls, weights: str) -> str:
        if weights in ("imagenet", "none") or is_path(weights):
            return weights
        raise ValueError(
            f"{weights!r} is neither imagenet nor none; a file is written with its folder or suffix"
        )

    @model_validator(mode="after")
    def _a_loss_gets_only_what_it_takes(self) -> Self:
        takes = LOSS_PARAMETERS[self.loss]
        for name in sorted({name for names in LOSS_PARAMETERS.values() for name in names}):
            if getattr(self, name) is not None and name not in takes:
                others = ", ".join(loss for loss, names in LOSS_PARAMETERS.items() if name in names)
                raise conflict(
                    (f"train.{name}", "train.loss"),
                    f"the loss {self.loss} has no {name}. Set it to null, or take one that has: {others}",
                )
        return self

    @model_validator(mode="after")
    def _a_loss_gets_one_margin(self) -> Self:
        if self.soft_margin and self.margin is not None:
            raise conflict(
                ("train.margin", "train.soft_margin"),
                "a soft margin takes the place of a margin. Set one of the two to null",
            )
        return self

    @model_validator(mode="after")
    def _gem_can_learn(self) -> Self:
        if self.gem_learn and (self.pooling != "gem" or self.trainable == "frozen"):
            raise conflict(
                ("train.gem_learn", "train.pooling", "train.trainable"),
                "an exponent is learned with train.pooling: gem, and train.trainable: partial or full, only. "
                "Set train.gem_learn to false, or those",
            )
        return self

    @model_validator(mode="after")
    def _methods_are_for_training_without_labels(self) -> Self:
        if self.method != "whiten" and self.mode == "labelled":
            raise conflict(
                ("train.method", "train.mode"),
                f"{self.method} trains without labels, and train.mode is labelled. Set it to unlabelled, or "
                "take the preset unlabelled",
            )
        return self

    @model_validator(mode="after")
    def _methods_have_views(self) -> Self:
        unlabelled = self.mode == "unlabelled" and self.method != "whiten"
        if unlabelled and self.trainable != "full" and not self.views:
            raise conflict(
                ("train.views", "train.method"),
                f"{self.method} compares two views of an image, and train.views is 0. Set it to 8 or so",
            )
        return self

    @model_validator(mode="after")
    def _memory_suits_the_loss(self) -> Self:
        if self.xbm and self.mode == "unlabelled":
            raise conflict(
                ("train.xbm", "train.mode"), "earlier batches count with labels only. Set train.xbm to 0"
            )
        if self.xbm and self.loss not in CROSS_BATCH:
            raise conflict(
                ("train.xbm", "train.loss"),
                f"the loss {self.loss} cannot look at earlier batches. Set train.xbm to 0, or take one of "
                f"{', '.join(CROSS_BATCH)}",
            )
        return self
