"""Draw the page: reads every artifact, computes the maps, computes nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simpipe.engine.stage import Context, stage
from simpipe.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.config import Config
    from simpipe.data.manifest import Samples
    from simpipe.reporting.content import Content, Layout
    from simpipe.reporting.sheets import Encoded
    from simpipe.stages.maps import Map

BYTES_PER_IMAGE = 300
"""Two places, and a line of map.csv."""


@stage(
    version=6,
    reads=(
        "ingest/samples.parquet",
        "ingest/manifest.parquet",
        "ingest/labels.json",
        "ingest/ingest.json",
        "ingest/thumbnails.parquet",
        "train/encoder.json",
        "index/embeddings.npy",
        "index/pretrained.npy",
        "calibrate/calibration.json",
        "evaluate/metrics.json",
        "evaluate/per_query.parquet",
        "evaluate/neighbours.npz",
        "evaluate/relations.json",
        "evaluate/confusion.csv",
        "evaluate/classes.csv",
        "evaluate/findings.csv",
        "evaluate/clusters.parquet",
    ),
    uses=("sampler/sampler_report.json", "train/history.csv", "train/views.webp", "index/index_quality.json"),
    config=("report", "seed"),
    outputs=(
        "report.html",
        "projection.npy",
        "projection_before.npy",
        "map.csv",
        "mistakes.csv",
        "threshold_curve.csv",
    ),
    own_process=True,
)
def report(ctx: Context) -> None:
    """Draw the page: one self-contained file that opens offline."""
    import numpy as np

    from simpipe.data.manifest import read_samples
    from simpipe.engine.child import beside
    from simpipe.reporting.map import load_bokeh
    from simpipe.reporting.page import thumbnails
    from simpipe.reporting.projectors.umap import Settings
    from simpipe.stages.maps import draw_maps

    config: Config = ctx.config
    settings = config.report
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    stored = ctx.path("evaluate/neighbours.npz")
    vectors = {"all_to_all": ctx.path("index/embeddings.npy")}
    if settings.before and read_json(ctx.path("evaluate/metrics.json"))["trained_here"]:
        vectors["pretrained_all_to_all"] = ctx.path("index/pretrained.npy")

    ctx.require_space(settings.max_mb * 1_000_000 + BYTES_PER_IMAGE * len(samples))
    ctx.progress.begin("map", len(samples), "images")
    shape = Settings(
        settings.neighbours, settings.min_dist, settings.spread, settings.metric, settings.densmap
    )
    seed = config.seed if settings.map_seed is None else settings.map_seed
    # not in a thread: UMAP does not let go of Python's lock
    with beside(draw_maps, vectors, stored, samples.label_id, settings.projector, shape, seed) as maps:
        neighbours = np.load(stored, allow_pickle=False)
        content = _content(ctx, samples, neighbours, *(_undrawn(neighbours, name) for name in vectors))
        pictures = thumbnails(content)
        load_bokeh()
        content = _with_maps(content, *maps())
        _write(ctx, content, pictures)


def _write(ctx: Context, content: "Content", pictures: "Encoded") -> None:
    """The page, and the tables beside it."""
    import numpy as np

    from simpipe.reporting.page import render
    from simpipe.stages.evidence import write_curve, write_map, write_mistakes

    settings = ctx.config.report
    ctx.progress.begin("page")
    page = render(content, settings.max_mb, pictures).encode("utf-8", errors="replace")
    if len(page) > settings.max_mb * 1_000_000:
        size = f"{len(page) / 1_000_000:.1f} MB"
        ctx.progress.note(f"without thumbnails the page still takes {size}, more than report.max_mb")
    (ctx.out / "report.html").write_bytes(page)
    _save(ctx.out / "projection.npy", content.xy)
    before = np.empty((0, 2), np.float32) if content.before is None else content.before.xy
    _save(ctx.out / "projection_before.npy", before)
    write_map(ctx.out / "map.csv", content)
    write_mistakes(ctx.out / "mistakes.csv", content)
    write_curve(ctx.out / "threshold_curve.csv", content)


def _undrawn(neighbours: Any, name: str) -> "Layout":
    """The neighbours of every image by some vectors, and no map of them yet."""
    import numpy as np

    from simpipe.reporting.content import Layout

    ids, distances = neighbours[f"{name}_ids"], neighbours[f"{name}_distances"]
    return Layout(np.zeros((len(ids), 2), np.float32), ids, distances, {})


def _with_maps(content: "Content", after: "Map", before: "Map | None" = None) -> "Content":
    from dataclasses import replace

    xy, projection = after
    second = content.before and before and replace(content.before, xy=before[0], projection=before[1])
    return replace(content, xy=xy, projection=projection, before=second)


def _save(path: "Path", array: "npt.NDArray[np.float32]") -> None:
    import io

    import numpy as np

    stream = io.BytesIO()  # np.save does not say why it cannot write
    np.save(stream, array, allow_pickle=False)
    path.write_bytes(stream.getvalue())


def _content(
    ctx: Context,
    samples: "Samples",
    neighbours: Any,
    after: "Layout",
    before: "Layout | None" = None,
) -> "Content":
    """Everything that the page shows, gathered from the artifacts, and the maps as they are."""
    import pandas as pd

    from simpipe.data.manifest import read_manifest
    from simpipe.data.scan import display
    from simpipe.data.thumbnails import read_thumbnails
    from simpipe.reporting.content import Content
    from simpipe.stages.tables import VOTERS

    config: Config = ctx.config
    located = read_manifest(ctx.path("ingest/manifest.parquet")).paths_by_sample
    calibration = read_json(ctx.path("calibrate/calibration.json"))
    queries = pd.read_parquet(ctx.path("evaluate/per_query.parquet"))
    thumbnails = ctx.path("ingest/thumbnails.parquet")

    def pictures(rows: Sequence[int]) -> list[bytes]:
        return read_thumbnails(thumbnails, rows)

    return Content(
        title=config.report.title or ctx.run_folder.name,
        run_name=ctx.run_folder.name,
        metrics=read_json(ctx.path("evaluate/metrics.json")),
        calibration=calibration,
        findings=[{**row, "score": float(row["score"])} for row in _csv(ctx, "evaluate/findings.csv")],
        relations=read_json(ctx.path("evaluate/relations.json")),
        confusion=_confusion(ctx),
        classes=_csv(ctx, "evaluate/classes.csv"),
        history=[
            {key: float(value) for key, value in row.items() if value}
            for row in (_csv(ctx, "train/history.csv") if _recorded(ctx, "train/history.csv") else [])
        ],
        ingest={
            key: value
            for key, value in read_json(ctx.path("ingest/ingest.json")).items()
            if key in ("files", "labels", "splits", "duplicates", "conflicts", "leaks", "held_out_labels")
        },
        sampler=_log(ctx, "sampler/sampler_report.json"),
        encoder=read_json(ctx.path("train/encoder.json")),
        index_quality=_log(ctx, "index/index_quality.json"),
        environment=_environment(ctx),
        sample_id=samples.sample_id.tolist(),
        path=[display(located[sample_id]) for sample_id in samples.sample_id.tolist()],
        **_labels(ctx, samples),
        split=samples.split.tolist(),
        xy=after.xy,
        **_per_image(queries, len(samples)),
        neighbour_ids=after.neighbour_ids,
        neighbour_distances=after.neighbour_distances,
        test_rows=_of_block(queries, "seen")["row"].to_numpy(),
        test_ids=neighbours["test_to_train_ids"],
        test_distances=neighbours["test_to_train_distances"],
        thumbnails=pictures,
        projection=after.projection,
        before=before,
        views=ctx.path("train/views.webp").read_bytes() if _recorded(ctx, "train/views.webp") else None,
        voters=VOTERS,
        **_matched(ctx, samples, queries, calibration),
    )


def _labels(ctx: Context, samples: "Samples") -> dict[str, Any]:
    """The labels; without, the groups that were found, of which the last is that of the images in none."""
    import numpy as np
    import pandas as pd

    names = [label["name"] for label in read_json(ctx.path("ingest/labels.json"))["labels"]]
    table = pd.read_parquet(ctx.path("evaluate/clusters.parquet"))
    if names:
        return {"labels": names, "label_id": samples.label_id}
    cluster = table["cluster"].to_numpy()
    count = int(cluster.max(initial=-1)) + 1
    return {
        "labelled": False,
        "labels": [*(f"group {number + 1}" for number in range(count)), "no group"],
        "label_id": np.where(cluster < 0, count, cluster).astype(np.int32),
        "typical": table["representative"].to_numpy(),
    }


def _of_block(queries: Any, block: str) -> Any:
    return queries[queries["block"] == block]


def _per_image(queries: Any, count: int) -> dict[str, Any]:
    """Prediction, correctness and confidence of every image; −1 and NaN where it was no query."""
    import numpy as np

    seen = _of_block(queries, "seen")
    rows = seen["row"].to_numpy()
    predicted, correct, confidence = np.full(count, -1), np.full(count, -1), np.full(count, np.nan)
    predicted[rows] = seen["predicted"].to_numpy()
    correct[rows] = seen["accuracy@1"].to_numpy().astype(int)
    confidence[rows] = seen["vote_share"].to_numpy()
    return {"predicted": predicted, "correct": correct, "confidence": confidence}


def _matched(ctx: Context, samples: "Samples", queries: Any, calibration: dict[str, Any]) -> dict[str, Any]:
    """What thresholds are compared with, by the rule of calibration, and how sure the answers were.

    The probability is that of the match: where its label is not the answer on the page, there is none.
    """
    import numpy as np

    from simpipe.stages.evidence import matches

    embeddings = np.load(ctx.path("index/embeddings.npy"), mmap_mode="r")
    blocks = {name: _of_block(queries, name) for name in ("seen", "unknown")}
    rows = {name: block["row"].to_numpy() for name, block in blocks.items()}
    seen, unknown = (matches(embeddings, samples, each, calibration) for each in rows.values())
    probability = np.full(len(samples), np.nan)
    same = seen.label == blocks["seen"]["predicted"].to_numpy()
    probability[rows["seen"][same]] = seen.probability[same]
    return {
        "match_distances": seen.distance,
        "match_correct": seen.label == samples.label_id[rows["seen"]],
        "unknown_distances": unknown.distance,
        "probability": probability,
    }


def _confusion(ctx: Context) -> "npt.NDArray[np.int64]":
    import numpy as np
    import pandas as pd

    table = pd.read_csv(ctx.path("evaluate/confusion.csv"), dtype=str, keep_default_na=False)
    return table.iloc[:, 1:].to_numpy().astype(np.int64)


def _csv(ctx: Context, artifact: str) -> list[dict[str, str]]:
    import csv

    from simpipe.data.exclusion import unguarded

    with ctx.path(artifact).open(encoding="utf-8", newline="") as stream:
        return [{key: unguarded(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def _log(ctx: Context, artifact: str) -> dict[str, Any]:
    return dict(read_json(ctx.path(artifact))) if _recorded(ctx, artifact) else {}


def _recorded(ctx: Context, artifact: str) -> bool:
    """Whether a log is there as its stage left it. Nothing depends on a log: the page goes without it."""
    from simpipe.engine.rundir import damage, read_receipt

    folder, file = ctx.path(artifact).parent, ctx.path(artifact).name
    expected = (read_receipt(folder) or {"logs": {}})["logs"].get(file)
    problem = next(damage(folder, {file: expected}), None) if expected else f"{artifact} has no receipt"
    if problem:
        ctx.progress.note(f"{problem}; the page goes without it")
    return problem is None


def _environment(ctx: Context) -> list[tuple[str, str]]:
    """Versions, machine and the time of each stage, from the receipts.

    They are in no key, and neither is the run's name, which may change with its folder: a page that is
    otherwise up to date is not drawn again for them, and no stage reads it. The template keeps them apart,
    in the head and in the element `measured`; all the rest of the page follows from the key.
    """
    from simpipe.engine.rundir import read_receipt

    stages = dict.fromkeys(artifact.split("/")[0] for artifact in ctx.stage.reads)
    receipts = {name: receipt for name in stages if (receipt := read_receipt(ctx.run_folder / name))}
    rows = [(f"{name} took", f"{receipt['seconds']:.1f} s") for name, receipt in receipts.items()]
    train = receipts.get("train")
    if train and (given := train["key_doc"]["config"].get("train.encoder")):
        rows.append(("encoder of the run", Path(given).parent.parent.name))
    made = receipts["evaluate"]["provenance"]
    versions = {"simpipe": made["simpipe"], "python": made["python"], **made["libraries"]}
    rows += [(library, str(version)) for library, version in versions.items() if version]
    return [*rows, ("platform", f"{made['platform']}, {made['machine']}, {made['cpus']} CPUs")]
