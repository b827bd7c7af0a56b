"""Which stages would run, and why. The same code plans a dry run, a real one, and `status`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simpipe.engine.keys import Reason, differences, key_document
from simpipe.engine.rundir import RunDir, damage
from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError, UpstreamError, UsageError
from simpipe.files import digest
from simpipe.progress import Progress, Silent


@dataclass(frozen=True)
class Request:
    """What is asked of a run.

    Attributes:
        source: the user's data.
        config: the configuration, and `values` the same, flat.
        selected: names of the stages to bring up to date, a stretch of the pipeline.
        forced: names of the stages to run even if they are fresh.
        source_may_be_gone: take the source for unchanged where it cannot be found.
        progress: who hears of long looks at the source.
    """

    source: Path
    config: Any
    values: Mapping[str, Any]
    selected: Sequence[str]
    forced: frozenset[str] = frozenset()
    source_may_be_gone: bool = False
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class Assessment:
    """One stage as it stands. `state` is fresh, stale, missing, damaged or pending."""

    stage: Stage
    state: str
    reasons: list[Reason] = field(default_factory=list)
    key_document: dict[str, Any] | None = None

    @property
    def key(self) -> str | None:
        return digest(self.key_document) if self.key_document else None

    @property
    def runs(self) -> bool:
        """Whether the stage is to be executed; a pending one may still turn out fresh."""
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


def assess(run: RunDir, stage: Stage, request: Request, dirty: frozenset[str]) -> Assessment:
    """How `stage` stands.

    Args:
        run: the run directory.
        stage: the stage.
        request: the wanted data and configuration.
        dirty: names of stages that will run before it, whose outputs are not known yet.
    """
    receipt, problem = None, None
    try:
        receipt = run.receipt(stage.name)
        problem = damage(run.stage(stage.name), receipt) if receipt else None
    except DamagedError as error:
        problem = error.message
    waiting = sorted(stage.upstream & dirty)
    if waiting:
        reasons = [Reason("upstream", key=name) for name in waiting]
        if problem:
            reasons = [Reason("damaged", detail=problem)]
        return Assessment(stage, "pending" if receipt and not problem else "missing", reasons)
    document = key_document(stage, _inputs(run, stage, request), request.values)
    if problem:
        return Assessment(stage, "damaged", [Reason("damaged", detail=problem)], document)
    if receipt is None:
        return Assessment(stage, "missing", [Reason("missing")], document)
    reasons = differences(receipt["key_doc"], document)
    if stage.name in request.forced:
        reasons.append(Reason("forced", detail="asked for with --force"))
    return Assessment(stage, "stale" if reasons else "fresh", reasons, document)


def plan(run: RunDir, stages: Sequence[Stage], request: Request) -> Iterator[Assessment]:
    """Assess the stages in order, as if those that are to run had not run yet."""
    dirty: frozenset[str] = frozenset()
    for stage in stages:
        assessment = assess(run, stage, request, dirty)
        if assessment.runs:
            dirty |= {stage.name}
        yield assessment


def require_upstream(run: RunDir, stages: Sequence[Stage], request: Request) -> None:
    """Refuse to start where a stage before the selected ones is not fresh.

    Raises:
        UpstreamError: names the stage, the reason and the command that mends it.
        DamagedError: an artifact before the selected stages is damaged.
    """
    before = stages[: [stage.name for stage in stages].index(request.selected[0])]
    for assessment in plan(run, before, request):
        if not assessment.runs:
            continue
        name = assessment.stage.name
        why = "; ".join(map(str, assessment.reasons))
        hint = f"simpipe run {request.source} --name {run.name} --to {name}"
        if assessment.state == "damaged":
            raise DamagedError(f"{why}", hint=f"rebuild it: {hint}")
        raise UpstreamError(
            f"{request.selected[0]} needs {name}, which is {assessment.state} ({why})", hint=hint
        )


def content_hashes(run: RunDir, stage: Stage, request: Request) -> dict[str, str]:
    """The hashes of what the stage reads outside the run; those of the last time where the source is gone."""
    if stage.content is None:
        return {}
    receipt = run.receipt(stage.name)
    if request.source_may_be_gone and receipt and not request.source.is_dir():
        return {name: value for name, value in receipt["key_doc"]["inputs"].items() if "/" not in name}
    return dict(stage.content(request.source, run.cache, request.progress))


def require_same_data(run: RunDir, stages: Sequence[Stage], request: Request) -> None:
    """Refuse other data under a run's name; moved or copied data are the same data.

    Raises:
        UsageError: root and content both differ from what the run was made of.
    """
    try:
        source = Path(run.describe()["source"])
    except FileNotFoundError:
        return
    if source == request.source:
        return
    for stage in stages:
        receipt = run.receipt(stage.name) if stage.content else None
        if receipt is None:
            continue
        for name, value in content_hashes(run, stage, request).items():
            if receipt["key_doc"]["inputs"].get(name) != value:
                raise UsageError(
                    f"{run.path} is about other data: {source}",
                    hint=f"give this run a name of its own: --name {run.name}-{request.source.name}",
                )


def _inputs(run: RunDir, stage: Stage, request: Request) -> dict[str, str]:
    inputs = content_hashes(run, stage, request)
    for artifact in stage.reads:
        name, file = artifact.split("/")
        receipt = run.receipt(name)
        if receipt is None or file not in receipt["outputs"]:
            raise UpstreamError(f"{stage.name} needs {artifact}, which is not there")
        inputs[artifact] = "sha256:" + receipt["outputs"][file]["sha256"]
    return inputs
