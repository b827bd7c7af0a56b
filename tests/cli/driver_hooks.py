"""What can be done to the real command from inside its process, before it starts; see `commands.driven`."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from simpipe import stages
from simpipe.engine import child
from simpipe.engine.stage import Context, keys_read


def around(name: str, act: Callable[[Context, Callable[[Context], None]], None]) -> None:
    """Let `act(context, run)` take the place of a stage's work, in this process."""

    [stage] = (stage for stage in stages.PIPELINE if stage.name == name)
    run = stage.run
    # in place: whoever has imported the pipeline already has this object
    vars(stage).update(run=lambda ctx: act(ctx, run), own_process=False)


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


def interrupt_training(epoch: int) -> None:
    """Send this process what Ctrl-C sends, at the end of this epoch of training."""
    from simpipe.learning import trainer

    end_epoch = trainer._State.end_epoch

    def ended(state: trainer._State, *arguments: float) -> None:
        end_epoch(state, *arguments)
        if state.epoch == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    trainer._State.end_epoch = ended


def enter_namespace(pid: int) -> None:
    """See the file systems that the process `pid` sees; the working folder stays."""
    libc, here = ctypes.CDLL(None, use_errno=True), Path.cwd()
    for kind in ("user", "mnt"):
        with Path(f"/proc/{pid}/ns/{kind}").open() as namespace:
            assert libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
    os.chdir(here)


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
