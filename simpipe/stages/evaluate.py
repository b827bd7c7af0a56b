"""Measure: how good, how sure, worth training or not, what to mend first."""

from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context, stage
from simpipe.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.data.manifest import Samples
    from simpipe.metrics.ladder import Scores
    from simpipe.similarity import Neighbours

MIN_UNSEEN_CLASSES = 5
NO_LABELS = "the images have no labels"
NEIGHBOUR_BYTES = 8
MANY = 20_000
"""From so many images on, neighbours in the wide pretrained features are looked for in fewer dimensions."""
SUSPECT = ("label_error", "duplicate_conflict")
"""Findings whose images the score after cleaning leaves out."""


@stage(
    version=4,
    reads=(
        "ingest/samples.parquet",
        "ingest/manifest.parquet",
        "ingest/labels.json",
        "ingest/ingest.json",
        "ingest/thumbnails.parquet",
        "sampler/sampler.json",
        "train/encoder.json",
        "index/embeddings.npy",
        "index/pretrained.npy",
        "calibrate/calibration.json",
    ),
    config=("evaluate", "seed"),
    outputs=(
        "metrics.json",
        "per_query.parquet",
        "neighbours.npz",
        "relations.json",
        "confusion.csv",
        "classes.csv",
        "findings.csv",
        "clusters.parquet",
    ),
)
def evaluate(ctx: Context) -> None:
    """Measure accuracy, retrieval and unknowns with intervals; find what is wrong with the data."""
    import numpy as np

    from simpipe.data.manifest import read_manifest, read_samples
    from simpipe.metrics.clusters import find_clusters, structure
    from simpipe.metrics.reduction import nearest_by_reduction
    from simpipe.similarity import nearest
    from simpipe.stages import findings, relations, tables
    from simpipe.stages.classes import write_classes

    config: Config = ctx.config
    k = config.evaluate.neighbours
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    names = [label["name"] for label in read_json(ctx.path("ingest/labels.json"))["labels"]]
    embeddings = np.load(ctx.path("index/embeddings.npy"), mmap_mode="r")
    pretrained = np.load(ctx.path("index/pretrained.npy"), mmap_mode="r")

    # two lists of neighbours for every image; the rest is small beside them
    ctx.require_space(len(samples) * (2 * k * NEIGHBOUR_BYTES + 200))
    ctx.progress.begin("ladder")
    seen: Scores | str = NO_LABELS
    unseen: Scores | str = NO_LABELS
    if names:
        seen, unseen = _blocks(ctx, samples, embeddings, pretrained)
    unknown = _to_train(samples, embeddings, "unseen_test", k)

    ctx.progress.begin("neighbours")
    groups = samples.group_id
    all_to_all = nearest(embeddings, embeddings, k, groups, groups)
    pretrained_all = (
        nearest(pretrained, pretrained, k, groups, groups)
        if len(samples) <= MANY
        else nearest_by_reduction(pretrained, k, groups, seed=config.seed)
    )
    tables.write_neighbours(
        ctx.out / "neighbours.npz",
        test_to_train=tables.test_to_train(seen, samples, k),
        all_to_all=all_to_all,
        pretrained_all_to_all=pretrained_all,
    )
    clusters = None if names else find_clusters(embeddings, groups, config.seed)
    tables.write_clusters(ctx.out / "clusters.parquet", samples, clusters)
    tables.write_per_query(ctx.out / "per_query.parquet", samples, seen, unseen, unknown)

    ctx.progress.begin("findings")
    trained, taught = _origin(ctx)
    confusion = tables.confusion(seen, samples, len(names))
    tables.write_confusion(ctx.out / "confusion.csv", confusion, names)
    write_classes(ctx.out / "classes.csv", samples, names, seen, unseen)
    related = relations.relate(embeddings, samples, all_to_all.ids, names, _threshold(ctx), config.seed)
    write_json(
        ctx.out / "relations.json",
        relations.relations(related, samples.label_id, all_to_all.ids, confusion, names),
    )
    manifest = read_manifest(ctx.path("ingest/manifest.parquet"))
    found = findings.collect(
        samples,
        names,
        pretrained_all,
        all_to_all,
        read_json(ctx.path("ingest/ingest.json"))["duplicate_pairs"],
        manifest,
        related,
        taught=taught,
    )
    findings.write_findings(ctx.out / "findings.csv", found, samples, names, manifest)

    ctx.progress.begin("metrics")
    suspects = np.zeros(len(samples), bool)
    for finding in found:
        if finding.kind in SUSPECT:
            suspects[[row for row in (finding.row, finding.other_row) if row is not None]] = True
    metrics = _metrics(config, samples, embeddings, seen, unseen, unknown, suspects)
    metrics["trained_here"] = trained
    if clusters is not None:
        metrics["unlabelled"] = structure(clusters, pretrained_all.ids, all_to_all.ids)
    write_json(ctx.out / "metrics.json", metrics)


def _threshold(ctx: Context) -> float | None:
    """The distance up to which two images match, as calibration chose it; None where it found none."""
    thresholds = read_json(ctx.path("calibrate/calibration.json"))["thresholds"]
    found: float | None = thresholds["optimal"]["distance"]
    return found


def _origin(ctx: Context) -> tuple[bool, bool]:
    """Whether the encoder was trained in this run, and whether it learnt from its labels."""
    record = read_json(ctx.path("train/encoder.json"))
    trained = record["shipped"] == "trained" and read_json(ctx.path("sampler/sampler.json"))["training"]
    return trained, trained and record["mode"] == "labelled"


def _blocks(
    ctx: Context,
    samples: "Samples",
    embeddings: "npt.NDArray[np.float32]",
    pretrained: "npt.NDArray[np.float32]",
) -> "tuple[Scores | str, Scores | str]":
    """The seen and the unseen block, or why there is none."""
    import numpy as np

    from simpipe.data.thumbnails import has_thumbnails, pixel_features
    from simpipe.metrics.ladder import Block, climb, fitted_rungs, pixel_rung, project_all

    config: Config = ctx.config
    train, test, unseen_test = (samples.rows(split) for split in ("train", "test", "unseen_test"))
    known = read_json(ctx.path("train/encoder.json"))["backbone"]["pretrained"]
    base = "pretrained" if known else "untrained"
    thumbnails = ctx.path("ingest/thumbnails.parquet")
    pixels = {"thumbnail": pixel_rung(pixel_features(thumbnails))} if has_thumbnails(thumbnails) else {}
    rungs = {
        **pixels,
        base: pretrained,
        **project_all(pretrained, fitted_rungs(pretrained, train, samples.label_id)),
        "trained": embeddings,
    }

    def scores(block: Block) -> "Scores":
        return climb(
            block, rungs, base, "trained", config.evaluate.neighbours, config.evaluate.resamples, config.seed
        )

    shared = (samples.label_id, samples.group_id)
    seen: Scores | str = "there are no test images of labels that training has seen"
    if len(test) and len(train):
        seen = scores(Block("seen", test, train, *shared, "groups"))
    classes = len(np.unique(samples.label_id[unseen_test]))
    unseen: Scores | str = (
        f"{classes} labels are held out for the test of unseen labels; {MIN_UNSEEN_CLASSES} are needed"
    )
    if classes >= MIN_UNSEEN_CLASSES:
        unseen = scores(Block("unseen", unseen_test, unseen_test, *shared, "classes"))
    return seen, unseen


def _metrics(
    config: "Config",
    samples: "Samples",
    embeddings: "npt.NDArray[np.float32]",
    seen: "Scores | str",
    unseen: "Scores | str",
    unknown: "Neighbours",
    suspects: "npt.NDArray[np.bool_]",
) -> dict[str, Any]:
    """The document of metrics.json."""
    from simpipe.metrics.ladder import shortcut
    from simpipe.metrics.protocol import matched_blocks, score_after_cleaning
    from simpipe.stages.unknowns import open_set_document, verification_document

    settings, seed = config.evaluate, config.seed
    blocks = {
        name: {"reason": block} if isinstance(block, str) else block.summary("trained")
        for name, block in (("seen", seen), ("unseen", unseen))
    }
    blocks["open_set"] = open_set_document(samples, embeddings, seen, unknown, settings, seed)
    measured = [block for block in (seen, unseen) if not isinstance(block, str)]
    document = {
        "schema": "simpipe.metrics/1",
        "blocks": blocks,
        "ladder": [entry for block in measured for entry in block.ladder],
        "gain": [entry for block in measured for entry in block.gain],
        "shortcut": {} if isinstance(seen, str) else shortcut(seen.ladder),
        "with_leaks": {},
        "after_cleaning": {},
        "matched": {},
        "verification": verification_document(samples, embeddings, seen, unseen, settings, seed),
    }
    if not isinstance(seen, str):
        document["with_leaks"] = _with_leaks(config, samples, embeddings, seen)
        if suspects[seen.block.queries].any() or suspects[seen.block.gallery].any():
            document["after_cleaning"] = score_after_cleaning(
                seen.block, embeddings, suspects, settings.resamples, seed
            )
    if len(measured) == 2:
        document["matched"] = matched_blocks(
            [block.block for block in measured], embeddings, settings.resamples, seed
        )
    return document


def _to_train(samples: "Samples", embeddings: "npt.NDArray[np.float32]", split: str, k: int) -> "Neighbours":
    """The nearest train images of a split, as positions in the gallery; its own group left out."""
    from simpipe.similarity import nearest

    rows, train = samples.rows(split), samples.rows("train")
    return nearest(embeddings[rows], embeddings[train], k, samples.group_id[rows], samples.group_id[train])


def _with_leaks(
    config: "Config", samples: "Samples", embeddings: "npt.NDArray[np.float32]", seen: "Scores"
) -> dict[str, Any]:
    """The seen block's metrics with duplicates left in the gallery: only the query itself is hidden."""
    import numpy as np

    from simpipe.metrics.evaluation import evaluate_queries, summarise

    test, train = seen.block.queries, seen.block.gallery
    rows = np.arange(len(samples.label_id))
    labels = samples.label_id
    evaluation = evaluate_queries(
        embeddings[test], embeddings[train], labels[test], labels[train], rows[test], rows[train]
    )
    leaking = np.isin(samples.group_id[test], samples.group_id[train])
    summary = summarise(
        evaluation, labels[test], samples.group_id[test], config.evaluate.resamples, config.seed
    )
    return {"leaking_queries": int(leaking.sum()), "metrics": summary["metrics"]}
