"""Check a whole run against what it says of itself: every file that it wrote, every image it was made of.

All is hashed from its bytes; no memo is believed. It takes no lock and writes nothing. Receipts are plain
JSON, so this finds accidents, not forgers.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simpipe.engine.rundir import RECEIPT, RunDir, damage, lists_other_files, read_receipt
from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError, NewerError, SimpipeError
from simpipe.files import sha256_file
from simpipe.progress import Progress, Silent
from simpipe.runs.memos import feature_folders, stat_memo

MISSING = "is missing"
OTHER = "has other content than ingest read"
NAMED = 3
"""New files named in a note; the others are counted."""

Receipt = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A file that is not as it should be. `problem` goes on after the path and a colon."""

    path: str
    problem: str


@dataclass
class Verification:
    """What was looked at, and what was found.

    Attributes:
        artifacts: files of the run, and of the cache it uses, that were looked at.
        images: images of the user that were hashed.
        bytes: how much was hashed, of both.
        problems: empty if the run is whole.
        notes: what is no damage, and yet to be known.
        next: the command that mends the problems; a word in capitals in it is for the reader to fill in.
        forced: stages that a plain run would take for fresh in spite of a problem.
    """

    artifacts: int = 0
    images: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: str | None = None
    forced: set[str] = field(default_factory=set)

    def add(self, path: Path, problem: str) -> None:
        """A problem; `problem` may begin with the path, as sentences of the engine do."""
        self.problems.append(Problem(str(path), problem.removeprefix(str(path)).lstrip(": ")))

    def has(self, path: Path) -> bool:
        return any(problem.path == str(path) for problem in self.problems)


def verify(
    run: RunDir, stages: Sequence[Stage], *, images: bool = True, progress: Progress | None = None
) -> Verification:
    """Hash all that belongs to a run, and compare.

    Args:
        run: the run directory.
        stages: the pipeline.
        images: hash the user's images, too.
        progress: hears how far it is.

    Raises:
        NewerError: a newer simpipe wrote the run, or a stage of it.
    """
    progress = progress or Silent()
    found = Verification()
    document = _describe(run, found)
    _check_config(run, document.get("config"), found)
    receipts = _check_stages(run, stages, found, progress)
    _check_copy(run, receipts.get("report"), found)
    _check_shards(run, receipts.get("train"), found, progress)
    source = Path(document["source"]) if document else None
    if images:
        _check_images(run, source, receipts.get("ingest"), found, progress)
    if found.problems:
        found.next = _mending(run, source, found)
    return found


def _describe(run: RunDir, found: Verification) -> dict[str, Any]:
    """The document of run.json; an empty one if it is damaged."""
    path = run.path / "run.json"
    found.artifacts += 1
    try:
        return run.describe()
    except NewerError:
        raise
    except DamagedError as error:
        found.add(path, error.message)
    except FileNotFoundError:
        found.add(path, MISSING)
    return {}


def _check_config(run: RunDir, remembered: Any, found: Verification) -> None:
    """config.yaml against its hash and its values in run.json; who edits it does no damage."""
    from simpipe.config import flatten, read_resolved

    found.artifacts += 1
    if not run.config.is_file():
        found.add(run.config, MISSING)
        return
    known = remembered if isinstance(remembered, dict) else {}
    edited = sha256_file(run.config) != known.get("sha256")
    try:
        values = flatten(read_resolved(run.config))
    except SimpipeError as error:
        if edited:
            found.add(run.config, " ".join(error.message.split()))
        else:
            found.notes.append(f"{run.config} cannot be read by this simpipe: {error.message}")
        return
    if edited and known:
        found.notes.append(f"{run.config} was edited after the last run")
    elif known and values != known.get("values"):
        found.add(run.path / "run.json", "remembers other settings than config.yaml has")


def _check_stages(
    run: RunDir, stages: Sequence[Stage], found: Verification, progress: Progress
) -> dict[str, Receipt]:
    """The receipts that can be believed, by stage."""
    progress.begin("artifacts", sum(len(stage.outputs) + len(stage.logs) for stage in stages), "files")
    receipts: dict[str, Receipt] = {}
    written: dict[str, str] = {}
    for stage in stages:
        receipt = _check_stage(run, stage, found, progress)
        if receipt is None:
            continue
        receipts[stage.name] = receipt
        for artifact, expected in receipt["key_doc"].get("inputs", {}).items():
            if written.get(artifact, expected) != expected:
                found.notes.append(f"{stage.name} is stale: it was made from another {artifact}")
        for name, entry in receipt["outputs"].items():
            written[f"{stage.name}/{name}"] = f"sha256:{entry['sha256']}"
    return receipts


def _check_stage(run: RunDir, stage: Stage, found: Verification, progress: Progress) -> Receipt | None:
    folder = run.standing(stage.name)
    try:
        receipt = read_receipt(folder)
        fault = MISSING if receipt is None else None
        if receipt and lists_other_files(receipt, stage):
            fault = "it lists other files than the stage writes"
    except NewerError:
        raise
    except DamagedError as error:
        receipt, fault = None, error.message
    if receipt is None and not os.path.lexists(folder):
        found.notes.append(f"{stage.name} is not complete yet")
        return None
    found.artifacts += 1
    if fault or receipt is None:
        found.add(folder / RECEIPT, fault or MISSING)
        return None
    if folder != run.stage(stage.name):
        found.notes.append(f"{stage.name} lies in {folder}: its commit was cut short; the next run ends it")
    for name, entry in receipt["outputs"].items():
        _check_file(folder, name, entry, found, progress)
    for name, entry in receipt["logs"].items():
        if not _check_file(folder, name, entry, found, progress, "; a log: no later result depends on it"):
            found.forced.add(stage.name)
    return receipt


def _check_file(
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    found: Verification,
    progress: Progress | None = None,
    remark: str = "",
) -> bool:
    """Whether a file is as its receipt says; else a problem with `remark` is added."""
    found.artifacts += 1
    problem = next(damage(folder, {name: entry}), None)
    if problem:
        found.add(folder / name, problem + remark)
    else:
        found.bytes += entry["bytes"]
    if progress:
        progress.advance()
    return problem is None


def _check_copy(run: RunDir, receipt: Receipt | None, found: Verification) -> None:
    if receipt and "report.html" in receipt["outputs"]:
        _check_file(run.path, "report.html", receipt["outputs"]["report.html"], found)


def _check_shards(run: RunDir, receipt: Receipt | None, found: Verification, progress: Progress) -> None:
    """The shards of the feature cache that the run's encoder uses: their names are their hashes."""
    if receipt is None or found.has(run.standing("train") / "encoder.json"):
        return
    try:
        shards = sorted(path for folder in feature_folders(run) for path in folder.glob("?" * 64 + ".npy"))
    except FileNotFoundError:  # a pipeline without one
        return
    progress.begin("feature cache", len(shards), "files")
    for path in shards:
        try:
            size, actual = path.stat().st_size, sha256_file(path)
        except FileNotFoundError:  # who found it damaged meanwhile has deleted it
            continue
        found.artifacts += 1
        found.bytes += size
        if actual != path.stem:
            found.add(path, "is not what its name says; who needs it computes it again")
            found.forced.add("index")
        progress.advance()


def _check_images(
    run: RunDir, source: Path | None, receipt: Receipt | None, found: Verification, progress: Progress
) -> None:
    """Every file that ingest saw, hashed again from its bytes."""
    manifest = run.standing("ingest") / "manifest.parquet"
    if source is None or receipt is None or "manifest.parquet" not in receipt["outputs"]:
        found.notes.append("the images were not looked at: the run does not say any more which they are")
        return
    if found.has(manifest):
        found.notes.append(f"the images were not looked at: {manifest} is damaged")
        return
    if not source.is_dir():
        found.add(source, "the folder of the images is gone; if it was moved, say where it is now")
        return

    from simpipe.data.manifest import read_manifest
    from simpipe.data.scan import shown
    from simpipe.data.threads import map_ahead

    rows = read_manifest(manifest).table.select(["path_bytes", "size", "sha256"]).to_pylist()
    files = [(source / os.fsdecode(row["path_bytes"]), row["sha256"]) for row in rows]
    before = len(found.problems)
    progress.begin("images", len(files), "files")
    for (path, _), row, fault in zip(files, rows, map_ahead(_image_fault, files), strict=True):
        found.images += 1
        found.bytes += row["size"] if fault is None else 0
        if fault:
            found.add(Path(shown(str(path))), fault)
        progress.advance()
    if len(found.problems) > before:
        found.notes.append("put the images back as they were, or the next run takes them as they are now")
    found.notes += _new_files(run, source, {path for path, _ in files})


def _image_fault(file: tuple[Path, str]) -> str | None:
    """What is wrong with a file of the manifest; its hash there is empty if it was unreadable or missing."""
    path, expected = file
    try:
        if not path.is_file():  # also because opening a pipe would wait for ever
            return MISSING if expected else None
        return None if sha256_file(path) == expected else OTHER
    except OSError as error:
        return f"cannot be read ({error.strerror})" if expected else None


def _new_files(run: RunDir, source: Path, known: set[Path]) -> list[str]:
    from simpipe.data.layout import Rules, list_files
    from simpipe.data.scan import shown

    try:
        listed = list_files(source, Rules.of(run.describe()["config"]["values"])).files
        names = [file.path for file in listed if source / file.path not in known]
    except SimpipeError as error:
        return [f"the next run would refuse the data: {error.message}"]
    if not names:
        return []
    told = ", ".join(map(shown, names[:NAMED])) + (", …" if len(names) > NAMED else "")
    return [f"new in {source}, and not in the run: {len(names):,} ({told})"]


def _mending(run: RunDir, source: Path | None, found: Verification) -> str:
    """The command that makes the run whole again."""
    words = shlex.split(run.command(source if source and source.is_dir() else Path("DATA")))
    if found.has(run.config):
        words[words.index("--config") + 1] = "CONFIG"
    words += [word for name in sorted(found.forced) for word in ("--force-stage", name)]
    command = shlex.join(words)
    if source and any(problem.problem == OTHER for problem in found.problems):
        # what changed behind the back of the file system is fresh to whoever believes its times
        return f"{shlex.join(['rm', '-f', str(stat_memo(run, source))])} && {command}"
    return command
