"""What can be done to the real command from inside its process, before it starts; see `commands.driven`."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from simpipe import stages
from simpipe.engine import child
from simpipe.engine.stage import Context, Stage, keys_read


def around(name: str, act: Callable[[Context, Callable[[Context], None]], None]) -> None:
    """Let `act(context, run)` take the place of a stage's work, in this process."""

    def acted(stage: Stage) -> Stage:
        if stage.name != name:
            return stage
        return replace(stage, run=lambda ctx: act(ctx, stage.run), own_process=False)

    stages.PIPELINE = tuple(map(acted, stages.PIPELINE))


def record(path: str) -> None:
    """Write down which keys and artifacts each stage reads: `{stage: {"keys": […], "artifacts": […]}}`.

    An artifact is read when it is opened by its declared path, or by Python or HDF5 behind its back.
    """
    import h5py

    seen: dict[str, dict[str, set[str]]] = {}
    opened: list[object] = []
    whereabouts, open_h5 = Context.path, h5py.File.__init__

    def asked(ctx: Context, artifact: str) -> Path:
        opened.append(ctx.run_folder / artifact)
        return whereabouts(ctx, artifact)

    def open_recorded(self: object, name: object, *arguments: object, **options: object) -> None:
        opened.append(name)
        open_h5(self, name, *arguments, **options)

    def act(ctx: Context, run: Callable[[Context], None]) -> None:
        opened.clear()
        run(ctx)
        paths = {Path(os.fsdecode(each)) for each in opened if isinstance(each, str | os.PathLike)}
        below = [path for path in paths if path.is_relative_to(ctx.run_folder)]
        artifacts = {path.relative_to(ctx.run_folder).as_posix() for path in below}
        seen[ctx.stage.name] = {
            "keys": set(keys_read(ctx.config)),
            "artifacts": {each for each in artifacts if each[0] != "." and each != "log.jsonl"},
        }
        Path(path).write_text(json.dumps(seen, default=sorted))

    Context.path, h5py.File.__init__ = asked, open_recorded
    sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
    for name in stages.STAGE_NAMES:
        around(name, act)


def one_processor() -> None:
    """Make the process believe in one processor."""
    os.cpu_count = lambda: 1


def kill_the_child() -> None:
    """Kill the process of a stage as soon as it is there, as the system does when memory runs out."""
    listen = child._listen

    def killed(*arguments: object) -> object:
        for process in multiprocessing.active_children():
            process.kill()
        return listen(*arguments)

    child._listen = killed
