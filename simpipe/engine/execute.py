"""Run the stages that need it, one after the other, and commit each."""

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from simpipe.engine.child import run_in_child
from simpipe.engine.journal import record
from simpipe.engine.plan import Assessment, Request, assess
from simpipe.engine.provenance import provenance, version
from simpipe.engine.requirements import changed_inputs
from simpipe.engine.rundir import (
    RunDir,
    commit,
    discard,
    new_staging,
    seal,
    sealed_under,
    tidy,
)
from simpipe.engine.stage import Context, DeclaredConfig, Stage
from simpipe.errors import DataError, SimpipeError, StageError
from simpipe.files import DISK_ERRORS, disk_error
from simpipe.progress import Progress


class Listener(Progress, Protocol):
    """Who hears of the run: the progress of each stage, its start, and its end."""

    def stage_starts(self, assessment: Assessment) -> None: ...

    def stage_ends(self, outcome: "Outcome") -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one stage.

    `action` is ran; committed, where a killed run had finished it; or fresh, where nothing had to be done.
    """

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
    """Bring the selected stages up to date; called under the run's lock, after `look` and `require_upstream`.

    Each stage is assessed when its turn comes, so that one whose upstream ran again with the same
    result is not run.

    Raises:
        DataError: an input changed while a stage ran; nothing was committed.
        StageError: a stage failed; the stages before it are committed, the old generation stands.
        DiskError: no space or no permission; as for a failed stage.
        Stopped: the listener was asked to stop; what the stage saved for later is kept.
    """
    outcomes = []
    for stage in stages:
        if stage.name not in request.selected:
            continue
        with _failures_named(run, stage):
            assessment = assess(run, stage, request)
            started = time.monotonic()
            action = _bring_up_to_date(run, assessment, request, listener)
            seconds = time.monotonic() - started if assessment.runs else 0.0
            outcomes.append(Outcome(stage.name, action, seconds, assessment.reasons))
            listener.stage_ends(outcomes[-1])
    return outcomes


def _bring_up_to_date(run: RunDir, assessment: Assessment, request: Request, listener: Listener) -> str:
    """Do what the assessment asks for; returns the outcome's action."""
    stage = assessment.stage
    if assessment.state == "fresh":
        tidy(run, stage.name)
        return "fresh"
    listener.stage_starts(assessment)
    record(run.path, "started", **assessment.to_json())
    if assessment.state == "finished" and (sealed := sealed_under(run, stage.name, assessment.key)):
        commit(run, stage.name, sealed)
        action = "committed"
    else:
        _run_stage(run, assessment, request, listener)
        action = "ran"
    record(run.path, action, stage=stage.name)
    return action


def _run_stage(run: RunDir, assessment: Assessment, request: Request, listener: Listener) -> None:
    stage, started, clock = assessment.stage, datetime.now().astimezone(), time.monotonic()
    staging = new_staging(run, stage.name)
    context = Context(
        stage,
        run.path,
        staging,
        run.checkpoints(stage.name, assessment.key),
        run.standing(stage.name),
        request.source,
        run.cache,
        DeclaredConfig(request.config, stage.config),
        listener,
    )
    try:
        (run_in_child if stage.own_process else stage.run)(context)
        changed = changed_inputs(run, stage, request, assessment.key_document or {})
        if changed:
            raise DataError(
                f"input changed while {stage.name} ran: {'; '.join(changed)}. Nothing was committed",
                hint="run the same command again when the data are at rest",
            )
        receipt = {
            "simpipe": version("simpipe"),
            "stage": stage.name,
            "key": assessment.key,
            "key_doc": assessment.key_document,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
            "provenance": provenance(request.values),
        }
        seal(staging, stage, receipt)
    except BaseException:
        discard(staging)
        raise
    commit(run, stage.name, staging)


@contextmanager
def _failures_named(run: RunDir, stage: Stage) -> Iterator[None]:
    """Turn what can go wrong in a stage into an error with an exit code; the details go to log.jsonl."""
    try:
        yield
    except SimpipeError as error:
        record(run.path, error.code, stage=stage.name, error=error.message)
        raise
    except (Exception, SystemExit) as error:
        record(run.path, "failed", stage=stage.name, error=traceback.format_exc())
        raise _named(error, run, stage) from error


def _named(error: BaseException, run: RunDir, stage: Stage) -> SimpipeError:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return disk_error(error, stage.name, run.path, _bytes_in(run.stage(stage.name)))
    hint = f"the details are at the end of {run.path / 'log.jsonl'}"
    if isinstance(error, MemoryError):
        return StageError(f"{stage.name} ran out of memory", hint=hint)
    told = str(error) or "no message"
    return StageError(f"{stage.name} failed: {type(error).__name__}: {told}", hint=hint)


def _bytes_in(folder: Path) -> int:
    """What a stage's last generation takes: the best guess at what the next one needs."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
