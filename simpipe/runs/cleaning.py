"""What killed runs left behind, and memos that no run uses any more.

Only what bears a name that simpipe gives, at the place where it gives it, is ever deleted. Each item goes by
itself; one that is half gone when the process dies is still known for what it is, and goes the next time.
"""

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from simpipe.engine.lock import run_lock
from simpipe.engine.rundir import KEY_DIGITS, RECEIPT, RunDir, sealed_key
from simpipe.engine.stage import Stage
from simpipe.errors import DamagedError, DiskError, LockedError, NewerError, SimpipeError
from simpipe.files import TEMPORARY
from simpipe.runs.memos import copy_names, feature_folders, picture_folder, stat_memo

HOUR, DAY = 3600.0, 86400.0

_RECIPE = re.compile(r"[0-9a-f]{32}")
_SHARD = re.compile(r"[0-9a-f]{64}\.npy")
_STAT_MEMO = re.compile(r"[0-9a-f]{16}\.json")
_PICTURES = re.compile(r"[0-9a-f]{64}\.arrow")
_COPY = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\.(jpg|png)")


@dataclass(frozen=True)
class Item:
    """A file or a folder that may go, and why.

    Of a folder with `parts` only these go, and the folder itself if nothing else lies in it.
    """

    path: Path
    bytes: int
    why: str
    parts: tuple[Path, ...] | None = None


@dataclass
class Cleaning:
    """What may go, or is gone if that was asked for; what was skipped; what could not be deleted."""

    items: list[Item] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


class _Before(NamedTuple):
    """Times, in seconds since the epoch: what was last written before them is dead, or unused."""

    hour: float
    days: float


def clean(
    runs_dir: Path,
    stages: Sequence[Stage],
    *,
    days: float = 30,
    apply: bool = False,
    now: float | None = None,
) -> Cleaning:
    """Find what may go from a folder of runs and the cache in it, and with `apply` delete it.

    A run is looked at, and cleaned, under its lock; one that another process works on is skipped, and then
    the memos of the cache are let be, too.

    Args:
        runs_dir: the folder that holds the runs.
        stages: the pipeline.
        days: unused memos and work that nobody went on with may go after so many days.
        apply: delete.
        now: the time, in seconds since the epoch.
    """
    now = time.time() if now is None else now
    before = _Before(now - HOUR, now - days * DAY)
    runs = [RunDir(path.parent) for path in sorted(runs_dir.glob("*/run.json")) if path.parent.name[0] != "."]
    done = Cleaning()
    for run in runs:
        try:
            with run_lock(run.path):
                _settle(list(_in_run(run, stages, before)), done, apply)
                if apply:
                    _drop_if_empty(run.path / ".stage", run.path / ".old")
        except (LockedError, DiskError, NewerError) as error:
            done.skipped.append((run.path, error.message))
    _settle(_temporaries(runs_dir, re.compile(r"\.latest"), before), done, apply)
    cache = runs_dir / ".cache"
    if cache.is_symlink():
        done.skipped.append((cache, "a link: other folders of runs may use it"))
        return done
    _settle(list(_dead_in_cache(cache, before)), done, apply)
    if not done.skipped:
        _settle(list(_unused(cache, runs, before)), done, apply)
    elif cache.is_dir():
        done.skipped.append((cache, "which memos a skipped run uses is not known"))
    return done


def _settle(items: Iterable[Item], done: Cleaning, apply: bool) -> None:
    for item in items:
        try:
            if apply:
                _delete(item)
            done.items.append(item)
        except OSError as error:
            done.failed.append((Path(error.filename or item.path), error.strerror or str(error)))


def _delete(item: Item) -> None:
    if item.parts is not None:
        for part in item.parts:
            part.unlink(missing_ok=True)
        _drop_if_empty(item.path)
    elif _is_folder(item.path):
        shutil.rmtree(item.path)
    else:
        item.path.unlink(missing_ok=True)


def _drop_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _in_run(run: RunDir, stages: Sequence[Stage], before: _Before) -> Iterator[Item]:
    """What may go from a run whose lock is held. Raises NewerError if a newer simpipe was at work in it."""
    try:
        run.describe()
    except NewerError:
        raise
    except (DamagedError, FileNotFoundError):
        pass  # its stages can be told all the same
    yield from _temporaries(
        run.path, _any_of(["run.json", "config.yaml", "exclude.csv", "report.html"]), before
    )
    for stage in stages:
        names = _any_of([RECEIPT, *stage.outputs, *stage.logs])
        yield from _temporaries(run.stage(stage.name), names, before)
        yield from _leftovers(run, stage.name, before)


def _leftovers(run: RunDir, name: str, before: _Before) -> Iterator[Item]:
    """What runs of a stage left beside its place. If that is empty, a killed commit left what counts."""
    place = run.stage(name)
    staged = _named(run.path / ".stage", rf"{name}\.[0-9a-f]{{8}}")
    checkpoints = _named(run.path / ".stage", rf"{name}@[0-9a-f]{{{KEY_DIGITS}}}")
    replaced = _named(run.path / ".old", rf"{name}\.[0-9a-f]{{8}}")
    if not (staged or checkpoints or replaced):
        return
    committed, standing = sealed_key(place), run.standing(name)
    for folder in filter(_is_folder, staged):
        key = sealed_key(folder)
        if key is None:
            yield _whole(folder, "what a killed run wrote")
        elif key == committed:
            yield _whole(folder, "a result that is there already")
        elif folder != standing and _newest(_files(folder)) < before.days:
            yield _whole(folder, "a result that no run took up")
    for folder in filter(_is_folder, checkpoints):
        if committed and folder.name.endswith(f"@{committed[:KEY_DIGITS]}"):
            yield _whole(folder, "checkpoints of a result that is there")
        elif _newest(_files(folder)) < before.days:
            yield _whole(folder, "checkpoints that no run went on from")
    for left in replaced if os.path.lexists(place) else ():
        yield _whole(left, "a result that was replaced")


def _dead_in_cache(cache: Path, before: _Before) -> Iterator[Item]:
    yield from _temporaries(cache / "stat", _STAT_MEMO, before)
    for recipe in filter(_is_folder, _named(cache / "features", _RECIPE)):
        yield from _temporaries(recipe, _SHARD, before)
    for recipe in filter(_is_folder, _named(cache / "pictures", _RECIPE)):
        yield from _temporaries(recipe, _PICTURES, before)
    for folder in filter(_is_folder, _named(cache / "images", "[0-9a-f]{2}")):
        yield from _temporaries(folder, _COPY, before)


def _unused(cache: Path, runs: Sequence[RunDir], before: _Before) -> Iterator[Item]:
    """What no run uses, unless it cannot be told which one of them uses it."""
    recipes, memos = _used(runs)
    yield from _unused_pictures(cache / "pictures", runs, before)
    yield from _unused_copies(cache / "images", runs, before)
    for recipe in filter(_is_folder, _named(cache / "features", _RECIPE) if recipes is not None else ()):
        shards = [path for path in _named(recipe, _SHARD) if not _is_folder(path)]
        # a folder without anything may be of a run that is just about to write its first shard
        old = _newest(shards) < before.days if shards else _is_empty_since(recipe, before.hour)
        if recipe not in (recipes or ()) and old:
            yield Item(recipe, _size(shards), "features of an encoder that no run has", tuple(shards))
    for memo in _named(cache / "stat", _STAT_MEMO) if memos is not None else ():
        if memo not in (memos or ()) and not _is_folder(memo) and _newest([memo]) < before.days:
            yield _whole(memo, "hashes of images that no run is about")


def _unused_pictures(folder: Path, runs: Sequence[RunDir], before: _Before) -> Iterator[Item]:
    """What ingest remembers of images; it touches the folder of a recipe whenever it uses one."""
    try:
        used = {picture_folder(run) for run in runs}
    except (SimpipeError, OSError, LookupError):
        return
    for recipe in filter(_is_folder, _named(folder, _RECIPE)):
        shards = [path for path in _named(recipe, _PICTURES) if not _is_folder(path)]
        # as below: an empty one may be about to get its first shard, or a killed cleaning left it
        old = _newest([recipe, *shards]) < before.days if shards else _is_empty_since(recipe, before.hour)
        if recipe not in used and old:
            yield Item(recipe, _size(shards), "what ingest remembered in another way", tuple(shards))


def _unused_copies(folder: Path, runs: Sequence[RunDir], before: _Before) -> Iterator[Item]:
    try:
        used = {name for run in runs for name in copy_names(run)}
    except (SimpipeError, OSError, LookupError):
        return
    for place in filter(_is_folder, _named(folder, "[0-9a-f]{2}")):
        copies = [path for path in _named(place, _COPY) if path.stem not in used]
        old = tuple(path for path in copies if not _is_folder(path) and _newest([path]) < before.days)
        if old or _is_empty_since(place, before.hour):
            yield Item(place, _size(old), "copies of images that no run has", old)


def _used(runs: Sequence[RunDir]) -> tuple[set[Path] | None, set[Path] | None]:
    """The recipes and the memos that the runs use; None where one of them does not say."""
    recipes: set[Path] | None = set()
    memos: set[Path] | None = set()
    for run in runs:
        try:
            if recipes is not None:
                recipes |= feature_folders(run)
        except (FileNotFoundError, NotADirectoryError):
            pass  # no encoder yet
        except (SimpipeError, OSError):
            recipes = None
        try:
            if memos is not None:
                memos.add(stat_memo(run, Path(run.describe()["source"])))
        except (SimpipeError, OSError):
            memos = None
    return recipes, memos


def _temporaries(folder: Path, names: re.Pattern[str], before: _Before) -> Iterator[Item]:
    """What killed atomic writes of such names left in `folder`: see `files.atomic_write`."""
    for path in _named(folder, TEMPORARY):
        match = TEMPORARY.fullmatch(path.name)
        if (
            match
            and names.fullmatch(match["name"])
            and not _is_folder(path)
            and _newest([path]) < before.hour
        ):
            yield _whole(path, "a write that was cut short")


def _any_of(names: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)))


def _named(folder: Path, pattern: str | re.Pattern[str]) -> list[Path]:
    """What lies in `folder` under such a name; nothing where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if re.fullmatch(pattern, path.name))
    except OSError:
        return []


def _whole(path: Path, why: str) -> Item:
    return Item(path, _size(_files(path)), why)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_empty_since(folder: Path, when: float) -> bool:
    try:
        return not any(folder.iterdir()) and folder.stat().st_mtime < when
    except OSError:
        return False


def _files(path: Path) -> list[Path]:
    """The files below a folder, links to folders among them as they are; a file is its own only one."""
    if not _is_folder(path):
        return [path]
    return [Path(folder, name) for folder, _, names in os.walk(path) for name in names]


def _newest(files: Iterable[Path]) -> float:
    """When the last of `files` was written; long ago if there are none, or they vanished."""
    return max((status.st_mtime for status in _stats(files)), default=0.0)


def _size(files: Iterable[Path]) -> int:
    return sum(status.st_size for status in _stats(files))


def _stats(files: Iterable[Path]) -> Iterator[os.stat_result]:
    for path in files:
        with suppress(OSError):
            yield path.lstat()
