"""Embed every usable image and build the search index."""

from typing import TYPE_CHECKING

from simpipe.engine.stage import Context, stage
from simpipe.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simpipe.search import VectorIndex

QUALITY_QUERIES = 1000
QUALITY_K = 10


@stage(
    version=2,
    reads=("ingest/samples.parquet", "train/encoder.json", "train/encoder.weights.h5"),
    uses=("ingest/manifest.parquet",),
    config=("index", "seed"),
    outputs=("embeddings.npy", "pretrained.npy", "index.json", "index.bin"),
    logs=("index_quality.json",),
)
def index(ctx: Context) -> None:
    """Embed every usable image and build the search index."""
    import time

    from simpipe import search
    from simpipe.config import Config
    from simpipe.data.manifest import read_samples
    from simpipe.learning import load_framework
    from simpipe.learning.encoder import Encoder, feature_recipe, tuned_recipe
    from simpipe.learning.head import normalise
    from simpipe.stages.features import cached_features, new_matrix

    load_framework()
    config: Config = ctx.config
    samples = read_samples(ctx.path("ingest/samples.parquet"))
    encoder = Encoder.open(ctx.path("train/encoder.json").parent)
    count = len(samples.sample_id)
    backbone = encoder.record["backbone"]
    given, tuned = feature_recipe(backbone), tuned_recipe(encoder.record)
    cache = cached_features(ctx, given, encoder.pretrained_extractor, samples, backbone, encoder.feature_dim)
    own = cache
    if tuned != given:
        own = cached_features(ctx, tuned, encoder.extractor, samples, backbone, encoder.feature_dim)

    settings = config.index
    # the two matrices, and the graph: its vectors again, and its links
    vectors = 4 * (encoder.feature_dim + 2 * encoder.dim)
    ctx.require_space(count * (vectors + 10 * settings.m))
    pretrained = new_matrix(ctx.out / "pretrained.npy", count, encoder.feature_dim)
    embeddings = new_matrix(ctx.out / "embeddings.npy", count, encoder.dim)
    own.read(samples.sha256.tolist(), pretrained)
    encoder.embed(pretrained, embeddings)
    if own is not cache:
        cache.read(samples.sha256.tolist(), pretrained)
    normalise(pretrained, pretrained)

    parameters = {name: getattr(settings, name) for name in ("m", "ef_construction", "ef_search")}
    started = time.monotonic()
    built = search.build(settings.backend, embeddings, parameters)
    seconds = time.monotonic() - started
    built.save(ctx.out / "index.bin")
    quality = _quality(built, embeddings, config.seed)
    write_json(
        ctx.out / "index.json",
        {
            "schema": "simpipe.index/1",
            "backend": settings.backend,
            "parameters": parameters,
            "count": count,
            "dim": encoder.dim,
            "distance": "cosine distance, 1 - s",
        },
    )
    write_json(
        ctx.out / "index_quality.json",
        {
            "build_seconds": round(seconds, 3),
            "bytes": (ctx.out / "index.bin").stat().st_size,
            **quality,
        },
    )
    recall = quality[f"recall@{QUALITY_K}"]
    if isinstance(recall, float) and recall < 0.95:
        ctx.progress.note(
            f"the index finds {recall:.1%} of the true {QUALITY_K} nearest; raise index.ef_search or index.m"
        )


def _quality(
    built: "VectorIndex", embeddings: "npt.NDArray[np.float32]", seed: int
) -> dict[str, float | int]:
    """Recall against exact search, and speed, on a sample of the images as queries."""
    import time

    import numpy as np

    from simpipe.similarity import nearest

    k = min(QUALITY_K, len(embeddings))
    rows = np.random.default_rng(seed).permutation(len(embeddings))[:QUALITY_QUERIES]
    queries = np.asarray(embeddings[np.sort(rows)])
    started = time.monotonic()
    found = built.search(queries, k)
    seconds = time.monotonic() - started
    exact = nearest(queries, embeddings, k)
    # equal distances are equally right, whichever of the images is named
    hits = found.distances <= exact.distances[:, -1:] + 1e-5
    return {
        "queries": len(queries),
        f"recall@{QUALITY_K}": float(hits.mean()),
        "queries_per_second": round(len(queries) / max(seconds, 1e-9)),
    }
