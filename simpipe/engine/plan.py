"""Which stages would run, and why. The same code plans a dry run, a real one, and `status`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simpipe.engine.keys import Reason, differences, key_document
from simpipe.engine.rundir import (
    RECEIPT,
    RunDir,
    damage,
    lists_other_files,
    read_receipt,
    readable_receipt,
    sealed_under,
)
from simpipe.engine.stage import Content, Stage, covers, declared
from simpipe.errors import DamagedError, NewerError, UpstreamError, UsageError
from simpipe.files import content_id, digest
from simpipe.progress import Progress, Silent


@dataclass(frozen=True)
class Request:
    """What is asked of a run.

    Attributes:
        source: the user's data.
        config: the configuration, and `values` the same, flat.
        selected: names of the stages to bring up to date, a stretch of the pipeline.
        forced: names of the stages to run even if they are fresh.
        files: configuration keys whose values are files: their contents count, not where they lie.
        copied: those of `files` whose content the run holds; where one is gone it is taken as it was.
        source_may_be_gone: take the source for unchanged where it cannot be found.
        remember: whether memos of hashed contents may be written.
        progress: who hears of long looks at the source.
        command: the command line that brings the whole run to what is asked; for messages.
        content: what each stage reads outside the run, by the stage's name; `look` fills it in.
        paths: the values of `files` before `look` put the files' hashes in their place.
    """

    source: Path
    config: Any
    values: Mapping[str, Any]
    selected: Sequence[str]
    forced: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    source_may_be_gone: bool = False
    remember: bool = True
    progress: Progress = field(default_factory=Silent)
    command: str = ""
    content: Mapping[str, Content] = field(default_factory=dict)
    paths: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assessment:
    """One stage as it stands.

    `state` is one of fresh; missing, stale, damaged: it will run; interrupted: it will go on from its
    checkpoint; finished: a killed run left it complete, and only its commit is to be done; pending: a stage
    before it will run, and what that gives decides.
    """

    stage: Stage
    state: str
    reasons: list[Reason] = field(default_factory=list)
    key_document: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """The stage's key; the empty text while it depends on stages that have not run."""
        return digest(self.key_document) if self.key_document else ""

    @property
    def runs(self) -> bool:
        """Whether there is something to do; a pending stage may still turn out fresh."""
        return self.state != "fresh"

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage.name,
            "state": self.state,
            "reasons": [reason.to_json() for reason in self.reasons],
        }


def select(
    names: Sequence[str], first: str | None = None, last: str | None = None, only: str | None = None
) -> list[str]:
    """The names from `first` to `last`, both included, or just `only`.

    Raises:
        UsageError: a name is unknown, or `first` comes after `last`.
    """
    if only is not None and (first or last):
        raise UsageError("--only cannot be combined with --from or --to")
    ends = (only or first or names[0], only or last or names[-1])
    for name in ends:
        if name not in names:
            import difflib

            close = difflib.get_close_matches(name, names, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"no stage is called {name!r}", hint=f"{guess}the stages are {', '.join(names)}")
    start, stop = map(names.index, ends)
    if start > stop:
        raise UsageError(
            f"--from {ends[0]} comes after --to {ends[1]}", hint=f"the order is {', '.join(names)}"
        )
    return list(names[start : stop + 1])


def look(run: RunDir, stages: Sequence[Stage], request: Request) -> Request:
    """`request` with the hashes of everything that lies outside the run directory.

    Raises:
        SimpipeError: the source cannot be used.
    """
    content = {stage.name: _content(run, stage, request) for stage in stages if stage.content}
    paths = {key: request.values[key] for key in request.files}
    hashed = {key: _file_hash(run, stages, request, key) for key in paths}
    return replace(request, content=content, values={**request.values, **hashed}, paths=paths)


def _file_hash(run: RunDir, stages: Sequence[Stage], request: Request, key: str) -> Any:
    """The hash of the file that `key` names; if it went away with the source, the one of the last time."""
    if request.values[key] is None:
        return None
    path = Path(str(request.values[key]))
    gone = request.source_may_be_gone and not request.source.is_dir()
    if (gone or key in request.copied) and not path.exists():
        for stage in stages:
            receipt = readable_receipt(run, stage.name) if covers(stage.config, key) else None
            if receipt:
                return receipt["key_doc"]["config"].get(key, request.values[key])
    return file_hash(request.values[key])


def _content(run: RunDir, stage: Stage, request: Request) -> Content:
    if (
        request.source_may_be_gone
        and not request.source.is_dir()
        and (receipt := readable_receipt(run, stage.name))
    ):
        last = receipt["key_doc"]["inputs"]
        return Content({name: value for name, value in last.items() if "/" not in name})
    return read_content(run, stage, request)


def read_content(run: RunDir, stage: Stage, request: Request) -> Content:
    """What the stage reads in the source folder, as it is now."""
    if stage.content is None:
        raise LookupError(f"{stage.name} reads nothing outside the run")
    values = declared({**request.values, **request.paths}, stage.config)
    return stage.content(request.source, values, run.cache, request.progress, request.remember)


def file_hash(value: Any) -> Any:
    """The hash of the file or SavedModel that `value` is the absolute path of; else `value` itself."""
    path = Path(str(value))
    known = path.is_absolute() and (path.is_file() or (path / "saved_model.pb").is_file())
    return content_id(path) if known else value


def assess(run: RunDir, stage: Stage, request: Request, dirty: frozenset[str] = frozenset()) -> Assessment:
    """How `stage` stands.

    Args:
        run: the run directory.
        stage: the stage.
        request: the wanted data and configuration, after `look`.
        dirty: names of stages that will run before it, whose outputs are not known yet.

    Raises:
        NewerError: a newer simpipe wrote the stage.
    """
    receipt, problem = _receipt_and_damage(run, stage)
    damaged = [Reason("damaged", detail=problem)] if problem else []
    waiting = sorted(stage.upstream & dirty)
    if waiting:
        if damaged:
            return Assessment(stage, "damaged", damaged)
        if receipt is None:
            return Assessment(stage, "missing", [Reason("missing")])
        return Assessment(stage, "pending", [Reason("upstream", key=name) for name in waiting])
    document = key_document(stage, _inputs(run, stage, request), request.values)
    if damaged:
        state, reasons = "damaged", damaged
    elif receipt is None:
        state, reasons = "missing", [Reason("missing")]
    else:
        reasons = differences(receipt["key_doc"], document)
        if stage.name in request.forced:
            reasons.append(Reason("forced", detail="asked for with --force"))
        state = "stale" if reasons else "fresh"
    if state != "fresh":
        state = _half_done(run, stage, digest(document), request) or state
    return Assessment(stage, state, reasons, document)


def _receipt_and_damage(run: RunDir, stage: Stage) -> tuple[dict[str, Any] | None, str | None]:
    """The receipt of the generation that counts, and what is damaged of it."""
    folder = run.standing(stage.name)
    try:
        receipt = read_receipt(folder)
    except NewerError:
        raise
    except DamagedError as error:
        return None, error.message
    if receipt is None:
        return None, None
    if lists_other_files(receipt, stage):
        return receipt, f"{folder / RECEIPT} lists other files than the stage writes"
    return receipt, next(damage(folder, receipt["outputs"]), None)


def _half_done(run: RunDir, stage: Stage, key: str, request: Request) -> str | None:
    """Whether a killed run has left the stage finished or interrupted, under the same key."""
    if stage.name not in request.forced and sealed_under(run, stage.name, key):
        return "finished"
    if any(run.checkpoints(stage.name, key).glob("[!.]*")):
        return "interrupted"
    return None


def plan(run: RunDir, stages: Sequence[Stage], request: Request) -> Iterator[Assessment]:
    """Assess the stages in order, as if those that are to run had not run yet."""
    dirty: frozenset[str] = frozenset()
    for stage in stages:
        assessment = assess(run, stage, request, dirty)
        if assessment.runs:
            dirty |= {stage.name}
        yield assessment


def _inputs(run: RunDir, stage: Stage, request: Request) -> dict[str, str]:
    inputs = dict(request.content[stage.name].hashes) if stage.content else {}
    for artifact in stage.reads:
        name, file = artifact.split("/")
        receipt = run.receipt(name)
        if receipt is None or file not in receipt["outputs"]:
            raise UpstreamError(f"{stage.name} needs {artifact}, which is not there")
        inputs[artifact] = "sha256:" + receipt["outputs"][file]["sha256"]
    return inputs
