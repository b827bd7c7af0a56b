"""How long `status` and a run with nothing to do take on a run of many images.

python -m tests.benchmarks.scale 5000 100000

The data are files of random bytes with image names, and the artifacts are random bytes of the size that real
ones have for as many images: neither command looks inside. Keys, receipts and hashes are real.
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from simpipe.cli.rundirs import publish_report, request_of, save_request
from simpipe.config import Config
from simpipe.engine.plan import Request, assess, look
from simpipe.engine.rundir import RunDir, commit, new_staging, seal
from simpipe.stages import PIPELINE, STAGE_NAMES
from tests.benchmarks.__main__ import timed

LABELS = 100
FILE_BYTES = 1000
BYTES_PER_IMAGE = {
    "manifest.parquet": 200,
    "samples.parquet": 120,
    "thumbnails.parquet": 2500,
    "embeddings.npy": 4 * 128,
    "pretrained.npy": 4 * 1280,
    "index.bin": 4 * 128 + 200,
    "neighbours.npz": 2 * 20 * 8,
    "per_query.parquet": 40,
    "projection.npy": 8,
    "projection_before.npy": 8,
    "map.csv": 125,
    "findings.csv": 10,
}
FIXED_BYTES = {"report.html": 12_000_000, "encoder.weights.h5": 1_500_000}
REPEATS = 5


def make_data(root: Path, count: int) -> None:
    for label in range(LABELS):
        folder = root / f"label{label:03d}"
        folder.mkdir(parents=True)
        for number in range(count // LABELS):
            (folder / f"{number:06d}.jpg").write_bytes(os.urandom(FILE_BYTES))


def make_run(run: RunDir, source: Path, count: int) -> None:
    """A finished run: every stage sealed under the key that it would have."""
    run.cache.mkdir(parents=True)
    run.path.mkdir()
    request: Request = look(run, PIPELINE, request_of(source, Config(), STAGE_NAMES))
    save_request(run, replace(request, values=request_of(source, Config(), STAGE_NAMES).values))
    for stage in PIPELINE:
        assessment = assess(run, stage, request)
        staging = new_staging(run, stage.name)
        for name in (*stage.outputs, *stage.logs):
            size = FIXED_BYTES.get(name, 2000 + count * BYTES_PER_IMAGE.get(name, 0))
            (staging / name).write_bytes(os.urandom(size))
        receipt = {"stage": stage.name, "key": assessment.key, "key_doc": assessment.key_document}
        seal(staging, stage, receipt)
        commit(run, stage.name, staging)
    publish_report(run)


def main(counts: list[int]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            make_data(place / "data", count)
            make_run(RunDir(place / "runs" / "baseline"), place / "data", count)
            timed("run", "data", "--json", cwd=place)  # fills the stat cache
            for name, arguments in {
                "status": ("status",),
                "run, nothing to do": ("run", "data", "--json"),
            }.items():
                seconds = sorted(timed(*arguments, cwd=place)[0] for _ in range(REPEATS))
                print(f"{count:8,} images  {name:20} {seconds[0]:6.2f} s best, {seconds[-1]:6.2f} s worst")


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [5000, 100_000])
