"""Run the stages that need it, one after the other, and commit each."""

import errno
import json
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from simpipe.engine.child import run_in_child
from simpipe.engine.plan import Assessment, Request, assess
from simpipe.engine.provenance import provenance
from simpipe.engine.rundir import RunDir, commit, prepare_staging, seal
from simpipe.engine.stage import Context, DeclaredConfig, Stage
from simpipe.errors import DataError, DiskError, SimpipeError, StageError
from simpipe.progress import Progress


class Listener(Progress, Protocol):
    """Who hears of the run: the progress of each stage, its start, and its end."""

    def stage_starts(self, assessment: Assessment) -> None: ...

    def stage_ends(self, outcome: "Outcome") -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one stage: `action` is ran, or fresh where nothing had to be done."""

    stage: str
    action: str
    seconds: float
    reasons: list[Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "action": self.action,
            "seconds": round(self.seconds, 3),
            "reasons": [reason.to_json() for reason in self.reasons],
        }


def execute(run: RunDir, stages: Sequence[Stage], request: Request, listener: Listener) -> list[Outcome]:
    """Bring the selected stages up to date; called under the run's lock, after `require_upstream`.

    Each stage is assessed when its turn comes, so that one whose upstream ran again with the same
    result is not run.

    Raises:
        DataError: the source changed while a stage read it; nothing was committed.
        StageError: a stage failed; the stages before it are committed, the old generation stands.
    """
    outcomes = []
    for stage in stages:
        if stage.name not in request.selected:
            continue
        assessment = assess(run, stage, request, frozenset())
        seconds = 0.0
        if assessment.runs:
            listener.stage_starts(assessment)
            started = time.monotonic()
            _run_stage(run, stage, assessment, request, listener)
            seconds = time.monotonic() - started
        action = "ran" if assessment.runs else "fresh"
        outcomes.append(Outcome(stage.name, action, seconds, assessment.reasons))
        listener.stage_ends(outcomes[-1])
    return outcomes


def _run_stage(
    run: RunDir, stage: Stage, assessment: Assessment, request: Request, listener: Listener
) -> None:
    started, clock = datetime.now(UTC), time.monotonic()
    with _failures_named(run, stage):
        staging = prepare_staging(run, stage)
        context = Context(
            stage,
            run.path,
            staging,
            request.source,
            run.cache,
            DeclaredConfig(request.config, stage.config),
            listener,
        )
        (run_in_child if stage.own_process else stage.run)(context)
        _refuse_changed_source(run, stage, assessment, request)
        receipt = {
            "stage": stage.name,
            "key": assessment.key,
            "key_doc": assessment.key_document,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
            "provenance": provenance(),
        }
        seal(staging, stage, receipt)
        commit(run, stage.name)
    _log(run, stage=stage.name, event="committed", seconds=receipt["seconds"])


def _refuse_changed_source(run: RunDir, stage: Stage, assessment: Assessment, request: Request) -> None:
    if stage.content is None or assessment.key_document is None:
        return
    before, after = (
        assessment.key_document["inputs"],
        stage.content(request.source, run.cache, request.progress),
    )
    if any(before[name] != value for name, value in after.items()):
        raise DataError(
            f"{request.source} changed while {stage.name} read it; nothing was committed",
            hint="run the same command again when the data are at rest",
        )


@contextmanager
def _failures_named(run: RunDir, stage: Stage) -> Iterator[None]:
    """Turn what can go wrong in a stage into an error with an exit code; the details go to log.jsonl."""
    try:
        yield
    except SimpipeError as error:
        _log(run, stage=stage.name, event="failed", error=error.message)
        raise
    except OSError as error:
        _log(run, stage=stage.name, event="failed", error=traceback.format_exc())
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO):
            raise DiskError(f"{stage.name}: {error.strerror}: {error.filename or run.path}") from error
        raise StageError(f"{stage.name} failed: {error}", hint=_see(run)) from error
    except MemoryError as error:
        _log(run, stage=stage.name, event="failed", error=traceback.format_exc())
        raise StageError(f"{stage.name} ran out of memory", hint=_see(run)) from error
    except Exception as error:
        _log(run, stage=stage.name, event="failed", error=traceback.format_exc())
        raise StageError(f"{stage.name} failed: {type(error).__name__}: {error}", hint=_see(run)) from error


def _see(run: RunDir) -> str:
    return f"this is a fault of simpipe; the details are at the end of {run.path / 'log.jsonl'}"


def _log(run: RunDir, **record: Any) -> None:
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **record})
    with (run.path / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
