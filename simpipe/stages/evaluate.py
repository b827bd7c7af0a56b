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


@stage(
    version=2,
    reads=(
        "ingest/samples.parquet",
        "ingest/manifest.parquet",
        "ingest/labels.json",
        "ingest/ingest.json",
        "ingest/thumbnails.parquet",
        "train/encoder.json",
        "index/embeddings.npy",
        "index/pretrained.npy",
    ),
    config=("evaluate", "seed"),
    outputs=(
        "metrics.json",
        "per_query.parquet",
        "neighbours.npz",
        "relations.json",
        "confusion.csv",
        "findings.csv",
        "clusters.parquet",
    ),
)
def evaluate(ctx: Context) -> None:
    """Measure accuracy, retrieval and unknowns with intervals; find what is wrong with the data."""
    import numpy as np

    from simpipe.data.manifest import read_manifest, read_samples
    from simpipe.metrics.clusters import find_clusters, structure
    from simpipe.similarity import nearest
    from simpipe.stages import findings, tables

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
    metrics = _metrics(config, samples, embeddings, seen, unseen, unknown)

    ctx.progress.begin("neighbours")
    groups = samples.group_id
    all_to_all = nearest(embeddings, embeddings, k, groups, groups)
    pretrained_all = nearest(pretrained, pretrained, k, groups, groups)
    clusters = None
    if not names:
        clusters = find_clusters(embeddings, groups, config.seed)
        metrics["unlabelled"] = structure(clusters, pretrained_all.ids, all_to_all.ids)
    write_json(ctx.out / "metrics.json", metrics)
    tables.write_clusters(ctx.out / "clusters.parquet", samples, clusters)
    test_to_train = tables.test_to_train(seen, samples, k)
    tables.write_neighbours(
        ctx.out / "neighbours.npz",
        test_to_train=test_to_train,
        all_to_all=all_to_all,
        pretrained_all_to_all=pretrained_all,
    )

    ctx.progress.begin("findings")
    manifest = read_manifest(ctx.path("ingest/manifest.parquet"))
    tables.write_per_query(ctx.out / "per_query.parquet", samples, seen, unseen, unknown)
    confusion = tables.confusion(seen, samples, len(names))
    tables.write_confusion(ctx.out / "confusion.csv", confusion, names)
    write_json(
        ctx.out / "relations.json",
        tables.relations(embeddings, samples.label_id, all_to_all.ids, confusion, names),
    )
    findings.write_findings(
        ctx.out / "findings.csv",
        findings.collect(
            samples,
            names,
            pretrained_all,
            all_to_all,
            read_json(ctx.path("ingest/ingest.json"))["duplicate_pairs"],
            manifest,
        ),
        samples,
        names,
        manifest,
    )


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
) -> dict[str, Any]:
    """The document of metrics.json."""
    blocks = {
        name: {"reason": block} if isinstance(block, str) else block.summary("trained")
        for name, block in (("seen", seen), ("unseen", unseen))
    }
    blocks["open_set"] = _open_set(config, samples, seen, unknown)
    measured = [block for block in (seen, unseen) if not isinstance(block, str)]
    return {
        "schema": "simpipe.metrics/1",
        "blocks": blocks,
        "ladder": [entry for block in measured for entry in block.ladder],
        "gain": [entry for block in measured for entry in block.gain],
        "with_leaks": _with_leaks(config, samples, embeddings) if not isinstance(seen, str) else {},
    }


def _to_train(samples: "Samples", embeddings: "npt.NDArray[np.float32]", split: str, k: int) -> "Neighbours":
    """The nearest train images of a split, as positions in the gallery; its own group left out."""
    from simpipe.similarity import nearest

    rows, train = samples.rows(split), samples.rows("train")
    return nearest(embeddings[rows], embeddings[train], k, samples.group_id[rows], samples.group_id[train])


def _open_set(
    config: "Config", samples: "Samples", seen: "Scores | str", found: "Neighbours"
) -> dict[str, Any]:
    """Known test queries against images of held-out labels, by the distance of their nearest neighbour."""
    import numpy as np

    from simpipe.metrics.evaluation import as_dict
    from simpipe.metrics.open_set import open_set_estimates

    unknown = samples.rows("unseen_test")
    if isinstance(seen, str):
        return {"reason": seen}
    if len(unknown) == 0:
        return {"reason": "no label is held out as unknown"}
    test = samples.rows("test")
    evaluation = seen.evaluations["trained"]
    estimates = open_set_estimates(
        evaluation.neighbours.distances[:, 0],
        evaluation.values["accuracy@1"] == 1,
        samples.label_id[test],
        samples.group_id[test],
        found.distances[:, 0],
        samples.label_id[unknown],
        samples.group_id[unknown],
        config.evaluate.resamples,
        config.seed,
    )
    return {
        "counts": {
            "known": len(test),
            "unknown": len(unknown),
            "unknown_classes": len(np.unique(samples.label_id[unknown])),
        },
        "metrics": {name: as_dict(estimate) for name, estimate in estimates.items()},
    }


def _with_leaks(
    config: "Config", samples: "Samples", embeddings: "npt.NDArray[np.float32]"
) -> dict[str, Any]:
    """The seen block's metrics with duplicates left in the gallery: only the query itself is hidden."""
    import numpy as np

    from simpipe.metrics.evaluation import evaluate_queries, summarise

    test, train = samples.rows("test"), samples.rows("train")
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
