"""What the exact metrics cost beside a plain search: all ranks of all positives against faiss's 100 nearest.

python -m tests.benchmarks.metrics 20000 100000 1000000

Embeddings of 128 dimensions in 1,000 classes, well separated ("good") and almost random ("weak"); every
image asks all others. Each measurement is a process of its own, the two sides of a pair one after the
other. Beyond `PAIRED` images the queries are a sample, as `evaluate` takes it, and faiss is left out. faiss
is no dependency of simpipe: `pip install faiss-cpu` somewhere to compare.
"""

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

DIMS, CLASSES = 128, 1000
SPREAD = {"good": 1.0, "weak": 30.0}
PAIRED = 200_000
FAISS_K = 100


def make(count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and labels; in one piece of memory."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(count) % CLASSES)
    centres = rng.standard_normal((CLASSES, DIMS), np.float32)
    vectors = rng.standard_normal((count, DIMS), np.float32)
    vectors *= np.float32(spread)
    for start in range(0, count, 10_000):
        rows = slice(start, start + 10_000)
        vectors[rows] += centres[labels[rows]]
        vectors[rows] /= np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    return vectors, labels


def metrics(vectors: np.ndarray, labels: np.ndarray) -> str:
    from simpipe.metrics.evaluation import evaluate_queries
    from simpipe.metrics.ladder import BUDGET, Block, within_budget

    rows = np.arange(len(labels))
    block = Block("unseen", rows, rows, labels, rows, "classes")
    asked = rows if len(rows) <= PAIRED else within_budget(block, [DIMS], 0, BUDGET).queries
    queries = vectors if len(asked) == len(rows) else vectors[asked]
    found = evaluate_queries(queries, vectors, labels[asked], labels, asked, rows)
    return f"map@r {np.nanmean(found.values['map@r']):.4f}, {len(asked):,} queries"


def faiss(vectors: np.ndarray, labels: np.ndarray) -> str:
    import faiss

    index = faiss.IndexFlatIP(DIMS)
    index.add(vectors)
    ids = index.search(vectors, FAISS_K)[1]
    return f"same label {np.mean(labels[ids[:, 1]] == labels):.4f}"


def measure(side: str, spread: str, count: int) -> dict[str, object]:
    """Wall and processor seconds, and peak memory in GB, of a process that does one side only."""
    command = [sys.executable, "-m", "tests.benchmarks.metrics", "--one", side, spread, str(count)]
    environment = os.environ if side == "metrics" else os.environ | _coretype()
    return json.loads(
        subprocess.run(command, check=True, text=True, capture_output=True, env=environment).stdout
    )


def _coretype() -> dict[str, str]:
    """The OpenBLAS in faiss's wheel is old and knows no new processors: let it use the kernels of numpy's."""
    from threadpoolctl import threadpool_info

    kernels = [each["architecture"] for each in threadpool_info() if each.get("internal_api") == "openblas"]
    return {"OPENBLAS_CORETYPE": kernels[0]} if kernels and "OPENBLAS_CORETYPE" not in os.environ else {}


def one(side: str, spread: str, count: int) -> None:
    vectors, labels = make(count, SPREAD[spread])
    wall, processor = time.perf_counter(), time.process_time()
    note = {"metrics": metrics, "faiss": faiss}[side](vectors, labels)
    spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    unit = 1e9 if sys.platform == "darwin" else 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps({**spent, "peak": peak, "note": note}))


def main(counts: list[int]) -> None:
    with_faiss = importlib.util.find_spec("faiss") is not None
    if not with_faiss:
        print("faiss is not installed: no comparison, only our own times (pip install faiss-cpu)")
    for count in counts:
        for spread in SPREAD:
            sides = ["metrics", "faiss"] if with_faiss and count <= PAIRED else ["metrics"]
            taken = {side: measure(side, spread, count) for side in sides}
            for side, each in taken.items():
                seconds = f"{each['wall']:7.1f} s  {each['processor']:7.1f} s of processor"
                print(f"{count:9,} {spread}  {side:8} {seconds}  {each['peak']:5.2f} GB   {each['note']}")
            if "faiss" in taken:
                ratios = [taken["metrics"][unit] / taken["faiss"][unit] for unit in ("wall", "processor")]
                print(f"{'':9} {spread}  metrics / faiss: {ratios[0]:.2f} wall, {ratios[1]:.2f} processor")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main([int(count) for count in sys.argv[1:]] or [20_000, 100_000])
