"""Time whole commands as a user feels them: a first run, the same again, help and status.

DATA=photos/ make bench        (sample_data/ if not given)
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5


def timed(*arguments: str, cwd: Path) -> tuple[float, str]:
    """Seconds on the wall of one command, and what it wrote to stdout."""
    command = [sys.executable, "-c", "from simpipe.cli import main; main()", *arguments]
    started = time.perf_counter()
    result = subprocess.run(command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE)
    return time.perf_counter() - started, result.stdout


def main() -> None:
    data = Path(os.environ.get("DATA", "sample_data")).absolute()
    with tempfile.TemporaryDirectory() as folder:
        run = ("run", str(data), "--config", "baseline", "--json")
        seconds, output = timed(*run, cwd=Path(folder))
        for stage in json.loads(output)["stages"]:
            print(f"{stage['stage']:28} {stage['seconds']:8.1f} s")
        print(f"{'first run, nothing cached':28} {seconds:8.1f} s")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        unit = 1e9 if sys.platform == "darwin" else 1e6
        print(f"{'largest process':28} {peak / unit:8.2f} GB")
        for name, arguments in {
            "the same command again": run,
            "simpipe status": ("status",),
            "simpipe --help": ("--help",),
        }.items():
            best = min(timed(*arguments, cwd=Path(folder))[0] for _ in range(REPEATS))
            print(f"{name + f', best of {REPEATS}':28} {best:8.2f} s")


if __name__ == "__main__":
    main()
