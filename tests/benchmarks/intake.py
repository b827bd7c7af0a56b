"""What `simpipe ingest` costs: many small photos, very many tiny files, one very large photo.

DATA=photos/ python -m tests.benchmarks.intake     (rendered pictures if DATA is not given)

Memory is that of all processes together: their own pages, and their shares of shared ones (PSS; Linux).
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

SMALL, TINY, TINY_FOLDERS, LARGE = 20_000, 200_000, 2_000, (9_000, 6_667)
SAMPLE_SECONDS = 0.05


def originals(folder: str | None) -> Iterator[Image.Image]:
    """Photos, again and again."""
    if folder:
        yield from (Image.open(path).convert("RGB") for path in cycle(sorted(Path(folder).rglob("*.jpg"))))
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (200, 12, 16, 3), dtype=np.uint8)
    yield from (Image.fromarray(each).resize((320, 240), Image.Resampling.BICUBIC) for each in cycle(coarse))


def write_photos(root: Path, folder: str | None, count: int, labels: int = 10) -> None:
    """`count` JPEGs, none equal to another: every picture again and again, a few pixels changed."""
    rng = np.random.default_rng(1)
    for label in range(labels):
        (root / f"label{label}").mkdir(parents=True)
    for number, picture in enumerate(islice(originals(folder), count)):
        pixels = np.array(picture)
        row, column = rng.integers(0, (pixels.shape[0] - 8, pixels.shape[1] - 8))
        pixels[row : row + 8, column : column + 8] = rng.integers(0, 256, 3)
        path = root / f"label{number % labels}" / f"{number:06d}.jpg"
        Image.fromarray(pixels).save(path, quality=90)


def write_tiny(root: Path, count: int, folders: int) -> None:
    """`count` images of a few pixels, no two of equal bytes."""
    rng = np.random.default_rng(2)
    for folder in range(folders):
        place = root / f"label{folder:04d}"
        place.mkdir(parents=True)
        for number in range(count // folders):
            sink = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(sink, "PNG")
            (place / f"{number:03d}.png").write_bytes(sink.getvalue())


def plain_seconds(paths: list[Path]) -> float:
    """Just decoding, with two threads."""

    def load(path: Path) -> None:
        Image.open(path).convert("RGB").load()

    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(load, paths))
    return time.perf_counter() - started


def measured(*arguments: str, cwd: Path) -> tuple[float, float]:
    """Seconds on the wall of one command, and the peak memory of its processes together, in MB."""
    command = [sys.executable, "-c", "from simpipe.cli import main; main()", *arguments]
    started, peak = time.perf_counter(), 0
    with (cwd / "out.txt").open("w") as sink, subprocess.Popen(command, cwd=cwd, stdout=sink) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _family(process.pid))))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - started, peak / 1e3


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _pss(pid: int) -> int:
    """Proportional set size in kB; 0 if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def tell(what: str, count: int, seconds: float, megabytes: float) -> None:
    print(f"{what:40} {seconds:7.2f} s  {count / seconds:8,.0f}/s  {megabytes:6,.0f} MB", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_photos(place / "small", os.environ.get("DATA"), SMALL)
        paths = sorted((place / "small").rglob("*.jpg"))
        plain = min(plain_seconds(paths) for _ in range(2))
        print(f"{'plain decoding, two threads':40} {plain:7.2f} s  {SMALL / plain:8,.0f}/s")
        seconds, peak = measured("ingest", "small", cwd=place)
        tell(f"ingest {SMALL:,} photos", SMALL, seconds, peak)
        print(f"{'  against plain decoding':40} {seconds / plain:7.2f} x")
        tell("  the same again", SMALL, *measured("ingest", "small", cwd=place))
        bare = ("ingest", "small", "--name", "bare", "--set", "ingest.thumbnail_size=0")
        seconds, peak = measured(*bare, cwd=place)
        tell("  without thumbnails", SMALL, seconds, peak)
        print(f"{'  against plain decoding':40} {seconds / plain:7.2f} x")
        tell("  forced: everything is remembered", SMALL, *measured("ingest", "small", "--force", cwd=place))

        for count, folders in ((TINY // 10, TINY_FOLDERS // 10), (TINY, TINY_FOLDERS)):
            write_tiny(place / f"tiny{count}", count, folders)
            name = f"ingest {count:,} tiny files"
            tell(name, count, *measured("ingest", f"tiny{count}", "--name", f"t{count}", cwd=place))

        for side in ("a", "b"):
            (place / "two" / side).mkdir(parents=True)
            for number in range(3):
                grey = Image.new("RGB", (64, 64), (40 * number, 80, ord(side)))
                grey.save(place / "two" / side / f"{number}.jpg")
        _, before = measured("ingest", "two", "--name", "without", cwd=place)
        noise = np.random.default_rng(3).integers(0, 256, (600, 450, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(LARGE, Image.Resampling.BICUBIC).save(place / "two" / "a" / "large.jpg")
        seconds, after = measured("ingest", "two", "--name", "with", cwd=place)
        print(f"{'one JPEG of 60 megapixels':40} {seconds:7.2f} s  {'':10}  {after - before:+6,.0f} MB")


if __name__ == "__main__":
    main()
