"""What a command finds and says before it works: a network that is not to be had, and odd settings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simpipe.cli.rundirs import FILE_KEYS, config_values
from simpipe.engine.plan import Request, file_hash
from simpipe.engine.rundir import RunDir, readable_receipt
from simpipe.errors import DamagedError, NewerError

NETWORK = tuple(f"train.{name}" for name in ("backbone", "weights", "trust", "encoder"))


def require_network(run: RunDir, request: Request) -> None:
    """Refuse at once what the train stage would refuse after ingest has read every image.

    A run that has trained with the network that is asked for is left to that stage, which may be fresh.

    Raises:
        UsageError, DamagedError: the network, its weights or the finished encoder are not to be had.
    """
    if "train" not in request.selected:
        return
    from simpipe.stages.recipe import require_network

    before = _before(run) if readable_receipt(run, "train") else {}
    if any(key not in before or before[key] != request.values[key] for key in NETWORK):
        require_network(request.config.train)


def settings_notes(run: RunDir, looked: Request, source: str, given: Sequence[str]) -> Iterator[str]:
    """What a user may not expect of the settings, a sentence each.

    Args:
        run: the run, with the configuration that it has so far.
        looked: what is asked of it, after `look`.
        source: the file or the preset that the configuration comes from.
        given: the `--set` texts of this very command, which surprise nobody.
    """
    from simpipe.config import Config, idle_settings, load, preset_names

    named = {setting.partition("=")[0].strip() for setting in given}
    before = _before(run)
    changes = [f"{key}: {change}" for key, change in _changes(before, looked) if key not in named]
    if changes:
        yield (
            f"as {source} says, and no longer as the run had it: {', '.join(changes)}; to keep one, give it "
            "with --set"
        )
    yield from _returning(before, looked)
    own = source in preset_names() or Path(source).resolve() == run.config.resolve()
    yield from idle_settings(looked.config, load(source) if own else Config())


def _changes(before: dict[str, Any], looked: Request) -> Iterator[tuple[str, str]]:
    """The keys of which the run has another value than is asked of it now; a file counts by its content."""
    from simpipe.config import written

    for key, value in {**looked.values, **looked.paths}.items():
        old = before.get(key, value)
        if old != value and not (key in FILE_KEYS and _same_file(key, old, looked)):
            yield key, f"{written(old)} → {written(value)}"


def _same_file(key: str, old: Any, looked: Request) -> bool:
    """Whether a key names the same content as before, or the file in another place, or another list."""
    new = looked.paths[key]
    if key == "ingest.exclude" and None not in (old, new):
        return True  # `_returning` tells of lists
    if None in (old, new):
        return False
    moved = not Path(old).exists() and Path(new).is_absolute() and Path(new).exists()
    return moved or file_hash(old) == looked.values[key]


def _returning(before: dict[str, Any], looked: Request) -> Iterator[str]:
    """What the list of before left out, and the new one does not."""
    from simpipe.data.exclusion import read_exclusion

    old, new = before.get("ingest.exclude"), looked.paths["ingest.exclude"]
    if old is None or new is None or not Path(old).is_file():
        return
    listed = read_exclusion(Path(new))
    ids, paths = {row.sample_id for row in listed} - {""}, {row.path for row in listed} - {""}
    back = [row for row in read_exclusion(Path(old)) if row.sample_id not in ids and row.path not in paths]
    if back:
        yield (
            f"left out so far, and back now, for {new} does not name them: {len(back):,}; to keep them out, "
            f"add the rows of {old} to it"
        )


def _before(run: RunDir) -> dict[str, Any]:
    """The configuration that the run has so far; nothing if there is no run yet, or none that can tell."""
    try:
        return config_values(run)
    except NewerError:
        raise
    except (DamagedError, FileNotFoundError):
        return {}
