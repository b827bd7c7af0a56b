"""Four toy stages under the real command line, which can be held where a test wants to disturb them.

`python toy_stages.py run DATA …` is `simpipe run DATA …` with these stages instead of the seven real ones.
With `HOLD=place` the process says `held` (and its number) in the file `$HELD`, and stays at that place:
hashing, learning and drawing hear of a wish to stop, or go on once `$HELD.release` is there; native ones
never come back; `forking` ends a forked worker, and goes on if that one dies like any other process.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import simpipe.stages
from simpipe.engine.stage import Content, Context, stage
from simpipe.files import atomic_write, digest, sha256_file, write_json
from simpipe.progress import Progress

EPOCHS = 4


def content(
    source: Path, values: Mapping[str, Any], cache: Path, progress: Progress, remember: bool
) -> Content:
    progress.begin("hashing", 1, "files")
    stay("hashing", progress)
    stay("native hashing", progress)
    found = {"numbers.txt": sha256_file(source / "numbers.txt")}
    progress.advance()
    return Content({"data": found["numbers.txt"]}, found)


@stage(version=1, outputs=("numbers.json",), content=content)
def gather(ctx: Context) -> None:
    """Read the numbers."""
    numbers = (ctx.source / "numbers.txt").read_text().split()
    ctx.progress.note(f"{len(numbers)} numbers … Zürich → Köln")
    write_json(ctx.out / "numbers.json", numbers)


@stage(
    version=1,
    reads=("gather/numbers.json",),
    config=("seed", "train.epochs"),
    outputs=("weights.json",),
    logs=("history.json",),
)
def learn(ctx: Context) -> None:
    """Hash a number some times over, with checkpoints; the log tells which epochs were computed."""
    kept, computed = ctx.checkpoints / "epoch.json", []
    state = {"epoch": 0, "value": digest([ctx.path("gather/numbers.json").read_text(), ctx.config.seed])}
    if kept.is_file():
        state = json.loads(kept.read_bytes())
    ctx.progress.begin("learning", EPOCHS, "epochs")
    while state["epoch"] < EPOCHS:
        state = {"epoch": state["epoch"] + 1, "value": digest([state, ctx.config.train.epochs])}
        computed.append(state["epoch"])
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, json.dumps(state))
        if state["epoch"] == 2:
            for place in ("learning", "native learning", "forking", "flooding"):
                stay(place, ctx.progress)
        ctx.progress.advance(1, "loss 0.5")
    write_json(ctx.out / "weights.json", state)
    write_json(ctx.out / "history.json", computed)


@stage(version=1, reads=("learn/weights.json",), config=("index.m",), outputs=("table.json",))
def arrange(ctx: Context) -> None:
    """Arrange the weights in a table."""
    write_json(ctx.out / "table.json", [ctx.path("learn/weights.json").read_text(), ctx.config.index.m])


@stage(version=1, reads=("arrange/table.json",), outputs=("report.html",), own_process=True)
def report(ctx: Context) -> None:
    """Write the page, in a process of its own."""
    ctx.progress.begin("page")
    stay("drawing", ctx.progress)
    stay("native drawing", ctx.progress)
    (ctx.out / "report.html").write_text(f"<p>{ctx.path('arrange/table.json').read_text()}")


def stay(place: str, progress: Progress) -> None:
    """Stay here if this is the place that `HOLD` names."""
    if os.environ.get("HOLD") != place:
        return
    held = Path(os.environ["HELD"])
    atomic_write(held, f"held {os.getpid()}")
    match place:
        case "flooding":
            while True:
                progress.note("a line that nobody reads")
        case "forking":
            alive, say = os.pipe()
            worker = os.fork()
            if not worker:
                os.write(say, b"!")
                time.sleep(1000)
            os.read(alive, 1)
            os.kill(worker, signal.SIGTERM)
            assert os.waitpid(worker, 0)[1] == signal.SIGTERM
        case "hashing" | "learning" | "drawing":
            while not held.with_suffix(".release").exists():
                progress.advance(0)
                time.sleep(0.01)
        case _:
            time.sleep(1000)


TOYS = (gather, learn, arrange, report)


def install() -> None:
    """Put the toys in the place of the real stages; before the command line is imported."""
    simpipe.stages.PIPELINE = TOYS
    simpipe.stages.STAGE_NAMES = tuple(toy.name for toy in TOYS)


if __name__ == "__main__":
    install()
    from simpipe.cli import main

    sys.exit(main())
