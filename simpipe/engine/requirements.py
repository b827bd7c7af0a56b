"""What must hold before stages run, and after: the rest is fresh, the data are the same, nothing changed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simpipe.engine.plan import Request, file_hash, plan, read_content
from simpipe.engine.provenance import drift
from simpipe.engine.rundir import RunDir, readable_receipt
from simpipe.engine.stage import Stage, covers
from simpipe.errors import DamagedError, NewerError, UpstreamError, UsageError
from simpipe.files import sha256_file

NAMED = 3
"""Changed files of the user that are named; one that copies a thousand images has understood by then."""


def require_upstream(run: RunDir, stages: Sequence[Stage], request: Request) -> None:
    """Refuse to start where a stage before the selected ones is not fresh, or one is not ours to replace.

    Raises:
        NewerError: a newer simpipe wrote a stage, before the selected ones or after.
        UpstreamError: names the stage, the reason and the command that mends it.
        DamagedError: an artifact before the selected stages is damaged.
    """
    for stage in stages:
        readable_receipt(run, stage.name)
    before = stages[: [stage.name for stage in stages].index(request.selected[0])]
    for assessment in plan(run, before, request):
        if not assessment.runs:
            continue
        name = assessment.stage.name
        why = "; ".join(map(str, assessment.reasons))
        hint = f"{request.command or run.command(request.source)} --to {before[-1].name}"
        if assessment.state == "damaged":
            raise DamagedError(f"{why}", hint=f"rebuild it: {hint}")
        raise UpstreamError(
            f"{request.selected[0]} needs {name}, which is {assessment.state} ({why})", hint=hint
        )


def require_same_data(run: RunDir, stages: Sequence[Stage], request: Request) -> None:
    """Refuse other data under a run's name; moved or copied data are the same data.

    Raises:
        UsageError: root and content both differ from what the run was made of.
    """
    source: Path | None
    try:
        source = Path(run.describe()["source"])
    except FileNotFoundError:
        return
    except NewerError:
        raise
    except DamagedError:
        source = None  # the content alone tells
    if source == request.source:
        return
    for stage in stages:
        receipt = readable_receipt(run, stage.name) if stage.content else None
        if receipt is None:
            continue
        for name, value in request.content[stage.name].hashes.items():
            if receipt["key_doc"]["inputs"].get(name) != value:
                raise UsageError(
                    f"{run.path} is about other data{f': {source}' if source else ''}",
                    hint=f"give this run a name of its own: --name {run.name}-{request.source.name}",
                )


def changed_inputs(run: RunDir, stage: Stage, request: Request, key_document: Mapping[str, Any]) -> list[str]:
    """Which of the stage's inputs are no longer what its key says, a sentence each: read again from disk."""
    told = [
        f"{run.path / artifact} has other content or is gone"
        for artifact in stage.reads
        if _hash(run.path / artifact) != key_document["inputs"][artifact]
    ]
    told += [
        f"{path} ({key}) has other content or is gone"
        for key, path in request.paths.items()
        if covers(stage.config, key) and file_hash(path) != key_document["config"][key]
    ]
    if stage.content:
        before, after = request.content[stage.name], read_content(run, stage, request)
        if before.hashes != after.hashes:
            changes = list(_file_changes(before.files, after.files)) or [str(request.source)]
            told += changes[:NAMED]
            told += [f"and {len(changes) - NAMED:,} more"] if len(changes) > NAMED else []
    return told


def _hash(path: Path) -> str | None:
    try:
        return f"sha256:{sha256_file(path)}"
    except OSError:
        return None


def changed_libraries(run: RunDir, stages: Sequence[Stage]) -> list[str]:
    """The libraries that are not those with which stages were made, a sentence each; no reason to run."""
    changes: dict[str, list[str]] = {}
    for stage in stages:
        receipt = readable_receipt(run, stage.name)
        for name, (then, now) in drift(receipt.get("provenance", {}) if receipt else {}).items():
            changes.setdefault(f"{name} {then} is now {now}", []).append(stage.name)
    return [f"{change} (made before: {', '.join(names)})" for change, names in changes.items()]


def _file_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield f"{path} is gone"
        elif path not in before:
            yield f"{path} is new"
        elif before[path] != after[path]:
            yield f"{path} has other content"
