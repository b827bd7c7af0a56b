"""Four toy stages under the real command line: milliseconds each, with real configuration keys.

`python toy_pipeline.py run DATA …` is `simpipe run DATA …` with these stages instead of the seven real ones.
"""

import json
import os
import sys
from pathlib import Path

import simpipe.stages
from simpipe.engine.stage import Context, stage
from simpipe.files import atomic_write, canonical_json, digest, write_json
from simpipe.stages.ingest import content

EPOCHS = 3


@stage(version=1, config=("ingest",), outputs=("samples.json",), logs=("speed.json",), content=content)
def gather(ctx: Context) -> None:
    """List the files; like ingest, it reads the user's folder and keeps a stat cache."""
    sizes = {
        path.relative_to(ctx.source).as_posix(): min(path.stat().st_size, ctx.config.ingest.max_pixels)
        for path in sorted(ctx.source.rglob("*.png"))
    }
    write_json(ctx.out / "samples.json", sizes)
    (ctx.out / "speed.json").write_text(json.dumps({"process": os.getpid()}))


@stage(
    version=1,
    reads=("gather/samples.json",),
    config=("seed",),
    outputs=("weights.json",),
    logs=("history.json",),
)
def learn(ctx: Context) -> None:
    """Hash a number some times over; like train, it goes on from its last checkpoint.

    The log tells which epochs this process computed.
    """
    stop_at_gate()
    checkpoint = ctx.checkpoints / "epoch.json"
    state = {"epoch": 0, "value": digest([ctx.path("gather/samples.json").read_text(), ctx.config.seed])}
    if checkpoint.is_file():
        state = json.loads(checkpoint.read_bytes())
    computed = []
    ctx.progress.begin("learning", EPOCHS, "epochs")
    while state["epoch"] < EPOCHS:
        state = {"epoch": state["epoch"] + 1, "value": digest(state)}
        computed.append(state["epoch"])
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(checkpoint, canonical_json(state))
        ctx.progress.advance()
    write_json(ctx.out / "weights.json", state)
    (ctx.out / "history.json").write_text(json.dumps({"computed": computed}))


@stage(version=1, reads=("learn/weights.json",), config=("index.m",), outputs=("table.bin", "table.json"))
def arrange(ctx: Context) -> None:
    """Write two files, one of them in two parts, with neither care nor atomicity: as libraries do."""
    seed = ctx.path("learn/weights.json").read_text()
    with (ctx.out / "table.bin").open("wb", buffering=0) as stream:
        for part in range(2):
            stream.write(bytes.fromhex(digest([seed, part, ctx.config.index.m])) * 40)
    (ctx.out / "table.json").write_text(json.dumps({"m": ctx.config.index.m}))


@stage(version=1, reads=("arrange/table.bin",), uses=("learn/history.json",), outputs=("report.html",))
def report(ctx: Context) -> None:
    """Write the page, which the command line copies to the top of the run."""
    assert ctx.path("learn/history.json").is_file()
    (ctx.out / "report.html").write_text(f"<p>{ctx.path('arrange/table.bin').read_bytes().hex()}")


TOYS = (gather, learn, arrange, report)
OUTPUTS = {toy.name: set(toy.outputs) for toy in TOYS}
INSTALL = "import toy_pipeline; toy_pipeline.install()"
"""For `warm.Server`."""


def stop_at_gate() -> None:
    """Wait where a test wants to look: tell the process's number through one pipe, wait at another.

    With TOY_WORKER, leave a forked worker behind, which waits there even after this process is dead.
    """
    if "TOY_GATE" not in os.environ:
        return
    gate = Path(os.environ["TOY_GATE"])
    with (gate / "open").open("rb") as entrance:
        worker = os.fork() if "TOY_WORKER" in os.environ else os.getpid()
        if worker:
            (gate / "arrived").write_text(f"{os.getpid()} {worker}")
        entrance.read()
        if not worker:
            os._exit(0)


def install() -> None:
    """Put the toys in the place of the real stages; before the command line is imported."""
    assert "simpipe.cli.app" not in sys.modules
    simpipe.stages.PIPELINE = TOYS
    simpipe.stages.STAGE_NAMES = tuple(OUTPUTS)


if __name__ == "__main__":
    install()
    from simpipe.cli import main

    main()
