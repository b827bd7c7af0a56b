"""What a user can ask for: one frozen model per stage, each key with its unit, its range and its default.

`Config()` is the baseline. Types are strict: `true` is no number, `"3"` is no number, and a whole number
may be written `1e3`. NaN and infinity are refused everywhere.
"""

import re
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from simpipe.config.fields import (
    TABLES,
    Fraction,
    Int,
    Range,
    Section,
    Targets,
    Texts,
    check_pattern,
    conflict,
)
from simpipe.config.projectors import PROJECTORS, known_projector
from simpipe.config.training import Augment, Sampler, Train

Resize = Literal["squash", "crop", "pad"]
Labels = Literal["required", "none"]
Layout = Literal["auto", "labels"]
LabelTwins = Literal["refuse", "merge", "keep"]
SplitBy = Literal["sample", "label"]
Copies = Literal["auto", "all", "none"]
Backend = Literal["nmslib", "exact"]
Match = Literal["nearest", "majority", "weighted", "balanced"]
MapMetric = Literal["cosine", "euclidean"]
Projector = Annotated[str, AfterValidator(known_projector)]


class Ingest(Section):
    """Reading the images and splitting them."""

    labels: Labels = Field(
        default="required",
        description="Whether each image needs a label; none takes them all without",
    )
    label_from: str = Field(
        default="first",
        description="What of a path is the label: its first folder, the folder the image lies in (leaf), all "
        "its folders (path), or what a regular expression finds, such as regex:^(?P<label>[^_/]+)_",
    )
    label_twins: LabelTwins = Field(
        default="refuse",
        description="Labels that differ in case, spaces or Unicode form only: refuse, merge or keep them",
    )
    layout: Layout = Field(
        default="auto",
        description="Whether folders called train, val and test are splits (auto) or labels like any other",
    )
    table: str | None = Field(
        default=None,
        description="A CSV, TSV, Parquet or JSONL file with the columns path and label, perhaps split and "
        "group, instead of labels from folders (relative to the configuration file); null is none",
    )
    group_from: str | None = Field(
        default=None,
        description="A regular expression on the path; images with the same match (its group called group, "
        "if there is one) stay in one split, such as one product or patient; null is none",
    )
    ignore: Texts = Field(
        default=(), description="Names and paths to pass over, with wildcards, such as '*_mask.png'"
    )
    follow_links: bool = Field(default=False, description="Whether linked folders are looked into")
    exclude: str | None = Field(
        default=None,
        description="A findings.csv whose rows marked in the column exclude are left out (relative to the "
        "configuration file); null is none",
    )
    resize: Resize = Field(
        default="squash",
        description="How an image becomes square: squash it, crop its centre, or pad it",
    )
    background: str = Field(default="#ffffff", description="What lies behind transparent pixels, as #rrggbb")
    grey_range: Range | None = Field(
        default=None,
        description="The values that are black and white in 16-bit and float images, such as [0, 4095]; null "
        "stretches each image by itself",
    )
    max_bad: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the files that may be unreadable before ingest gives up, 0 to 1",
    )
    val: Fraction = Field(
        default=0.1, description="Share of the images for validation, above 0; val + test below 1"
    )
    test: Fraction = Field(
        default=0.2, description="Share of the images for the test, above 0; val + test below 1"
    )
    unseen: float = Field(
        default=0.2,
        ge=0,
        le=0.5,
        description="Share of the labels held out to measure unseen classes and unknowns, 0 to 0.5; 0 is off",
    )
    split_by: SplitBy = Field(
        default="sample",
        description="What is split: the images of each label, or the labels too: then the shares of val and "
        "test are shares of the labels, held out whole, and `unseen` is not used",
    )
    split_seed: Int = Field(
        default=0, ge=0, lt=2**32, description="Seed of the splits, apart from `seed`; 0 to 2^32 - 1"
    )
    near_duplicate_bits: Int = Field(
        default=4,
        ge=0,
        le=16,
        description="Two images are near-duplicates up to this Hamming distance of their perceptual hashes, "
        "in bits of 64; 0 to 16",
    )
    max_pixels: Int = Field(
        default=100_000_000,
        ge=1,
        le=178_956_970,  # where Pillow itself refuses
        description="Images of more pixels (width x height) are refused; 1 to 178956970",
    )
    min_side: Int = Field(
        default=1, ge=1, description="Images with a shorter side are refused, pixels; at least 1"
    )
    cache: Copies = Field(
        default="auto",
        description="Which images get an upright sRGB copy in the cache: those that are large or are no "
        "plain JPEG or PNG (auto), all (the folder may then go away), or none",
    )
    copy_side: Int = Field(
        default=384,
        ge=64,
        le=4096,
        description="Shorter side of the copy of a larger image, pixels; 64 to 4096, at least the input of "
        "the backbone",
    )
    thumbnail_size: Int = Field(
        default=96,
        ge=0,
        le=256,
        description="Side of a thumbnail, pixels; 32 to 256, or 0 for none: the page then has no pictures",
    )

    @field_validator("thumbnail_size")
    @classmethod
    def _can_be_recognised(cls, value: int) -> int:
        if 0 < value < 32:
            raise ValueError(f"{value} is too small; it must be at least 32, or 0 for none")
        return value

    @field_validator("label_from")
    @classmethod
    def _a_way_to_the_label(cls, value: str) -> str:
        kind, colon, pattern = value.partition(":")
        if kind == "regex" and colon:
            check_pattern(pattern, ("label",))
        elif value not in ("first", "leaf", "path"):
            raise ValueError(f"{value!r} is not one of first, leaf, path, regex:PATTERN")
        return value

    @field_validator("group_from")
    @classmethod
    def _a_way_to_the_group(cls, value: str | None) -> str | None:
        if value is not None:
            check_pattern(value, ())
        return value

    @field_validator("background")
    @classmethod
    def _a_colour(cls, value: str) -> str:
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError(f"{value!r} is no colour; write it as #rrggbb, such as '#ffffff'")
        return value.lower()

    @field_validator("grey_range")
    @classmethod
    def _from_dark_to_light(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}]: the first value must be below the second")
        return value

    @field_validator("table")
    @classmethod
    def _a_kind_of_table(cls, value: str | None) -> str | None:
        if value is not None and PurePath(value).suffix.lower() not in TABLES:
            raise ValueError(f"{value!r} is no table; it must end with {', '.join(TABLES)}")
        return value

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> Self:
        if self.val + self.test >= 1:
            raise conflict(
                ("ingest.test", "ingest.val"),
                f"ingest.val + ingest.test is {self.val + self.test:g}. "
                "It must be below 1: the rest is what training gets",
            )
        return self


class Index(Section):
    """The search index."""

    backend: Backend = Field(
        default="nmslib", description="nmslib is an approximate HNSW graph; exact compares with all"
    )
    m: Int = Field(
        default=16, ge=2, le=128, description="Links of a node in the graph, nmslib only; 2 to 128"
    )
    ef_construction: Int = Field(
        default=100, ge=1, description="Candidates held while the graph is built, nmslib only; at least 1"
    )
    ef_search: Int = Field(
        default=100, ge=1, description="Candidates held in a search, nmslib only; at least 1"
    )


class Calibrate(Section):
    """The thresholds from which on an image is called unknown."""

    match: Match = Field(
        default="nearest",
        description="Who names a query: its nearest neighbour, most of k, k weighted by similarity, or k "
        "weighted so that a label of few images counts as much as one of many (balanced)",
    )
    k: Int = Field(default=5, ge=1, description="Neighbours that vote, unused by nearest; at least 1")
    precision: Targets = Field(
        default=(0.95,), description="A threshold for each of these precisions, above 0 and below 1"
    )
    recall: Targets = Field(
        default=(),
        description="A threshold for each of these recalls, the smallest to reach it; above 0 and below 1",
    )
    unknown_accept: Targets = Field(
        default=(0.1,),
        description="A threshold for each of these shares of unknown images that are accepted, "
        "above 0 and below 1",
    )
    unknown_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the images to be queried whose label is expected to be unknown, for the "
        "probability that an answer is right; 0 up to 1",
    )


class Evaluate(Section):
    """What is measured, and how surely."""

    neighbours: Int = Field(default=20, ge=5, le=100, description="Neighbours stored per image; 5 to 100")
    resamples: Int = Field(
        default=2000, ge=100, description="Bootstrap resamples of an interval; at least 100"
    )


class Report(Section):
    """The page."""

    title: str | None = Field(default=None, description="Title of the page; null is the name of the run")
    projector: Projector = Field(
        default="umap",
        description="How the map of the embeddings is drawn: umap, pca, or a projector that an installed "
        "package brings, by its name",
        examples=list(PROJECTORS),
    )
    neighbours: Int = Field(
        default=15,
        ge=2,
        description="Neighbours UMAP looks at, at least 2 and at most evaluate.neighbours; umap only",
    )
    min_dist: float = Field(
        default=1.0, ge=0, description="Least distance of two points on the map, umap only; 0 to spread"
    )
    spread: float = Field(
        default=3.0, ge=0.1, le=10, description="How far points of a group lie apart, umap only; 0.1 to 10"
    )
    metric: MapMetric = Field(
        default="cosine", description="Distance of the embeddings that the map goes by, umap only"
    )
    densmap: bool = Field(
        default=False, description="Whether dense groups are drawn dense, umap only; takes twice as long"
    )
    map_seed: Int | None = Field(
        default=None, ge=0, lt=2**32, description="Seed of the map; 0 to 2^32 - 1, null is seed"
    )
    before: bool = Field(
        default=True,
        description="Whether a second map shows the images before training, by the pretrained features",
    )
    max_mb: Int = Field(default=15, ge=1, description="Largest size of the page, megabytes; at least 1")

    @model_validator(mode="after")
    def _points_of_a_group_fit(self) -> Self:
        if self.min_dist > self.spread:
            raise conflict(
                ("report.min_dist", "report.spread"),
                f"report.min_dist is {self.min_dist:g}, more than report.spread, {self.spread:g}. "
                "Lower one or raise the other",
            )
        return self


class Config(Section):
    """A whole configuration; every key has a default."""

    seed: Int = Field(
        default=0, ge=0, lt=2**32, description="Seed of every random choice but the splits; 0 to 2^32 - 1"
    )
    ingest: Ingest = Field(default_factory=Ingest)
    sampler: Sampler = Field(default_factory=Sampler)
    augment: Augment = Field(default_factory=Augment)
    train: Train = Field(default_factory=Train)
    index: Index = Field(default_factory=Index)
    calibrate: Calibrate = Field(default_factory=Calibrate)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    report: Report = Field(default_factory=Report)

    @field_validator(
        "ingest", "sampler", "augment", "train", "index", "calibrate", "evaluate", "report", mode="before"
    )
    @classmethod
    def _empty_section_is_default(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _copies_are_large_enough(self) -> Self:
        if self.train.input_size is not None and self.train.input_size > self.ingest.copy_side:
            raise conflict(
                ("train.input_size", "ingest.copy_side"),
                f"the network looks at {self.train.input_size} pixels (train.input_size), but copies of "
                f"large images have {self.ingest.copy_side} (ingest.copy_side). Lower one or raise the other",
            )
        return self

    @model_validator(mode="after")
    def _methods_have_something_to_compare(self) -> Self:
        strengths = self.augment.model_dump(exclude={"preset", "warmup"})
        plain = self.augment.preset == "none" and not any(strengths.values())
        if plain and self.train.mode == "unlabelled" and self.train.method != "whiten":
            raise conflict(
                ("augment.preset", "train.method"),
                f"{self.train.method} compares two augmented views of an image, and augment.preset is none. "
                "Set it to barlow or simclr",
            )
        return self

    @model_validator(mode="after")
    def _map_uses_stored_neighbours(self) -> Self:
        if self.report.neighbours > self.evaluate.neighbours:
            raise conflict(
                ("report.neighbours", "evaluate.neighbours"),
                f"the map looks at {self.report.neighbours} neighbours (report.neighbours), but "
                f"{self.evaluate.neighbours} are stored (evaluate.neighbours). Lower one or raise the other",
            )
        return self
