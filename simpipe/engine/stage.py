"""What a stage is: a function with a declaration of everything it reads and writes."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from simpipe.errors import DiskError
from simpipe.files import readable_size
from simpipe.progress import Progress


@dataclass(frozen=True)
class Content:
    """What a stage reads outside the run directory, by content.

    Attributes:
        hashes: name → hash; they go into the stage's key.
        files: path → hash of each single file, to name the one that changed.
    """

    hashes: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


class ReadContent(Protocol):
    """How to find the content of a source folder.

    `values` are the configuration keys that the stage declares, flat. `cache` may hold a memo of what was
    hashed before; it is written only where `remember` is true.
    """

    def __call__(
        self, source: Path, values: Mapping[str, Any], cache: Path, progress: Progress, remember: bool
    ) -> Content: ...


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: also its folder in the run directory.
        version: raised by hand when the same inputs give other outputs than before.
        reads: artifacts of earlier stages, as "stage/file"; their hashes are part of the key.
        uses: artifacts that it opens but whose bytes are not in the key: logs, and what only helps to find
            content that `reads` names by its hash.
        config: configuration keys or whole sections that it may look at; their values are in the key.
        outputs: files that it writes; hashed, and the same bytes for the same key.
        logs: files that hold times, speeds or hosts; not hashed.
        content: for a stage that reads the source folder, how to hash what it reads there.
        own_process: run it in a process of its own, so that its memory and libraries do not add up.
        run: the work.
        summary: the first line of its docstring.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    uses: tuple[str, ...]
    config: tuple[str, ...]
    outputs: tuple[str, ...]
    logs: tuple[str, ...]
    content: ReadContent | None
    own_process: bool
    run: "Callable[[Context], None]"
    summary: str
    module: str

    def __reduce__(self) -> tuple[Any, ...]:
        """A stage travels to another process by its name."""
        return _import_stage, (self.module, self.name)

    @property
    def upstream(self) -> frozenset[str]:
        """The names of the stages whose artifacts it opens."""
        return frozenset(artifact.split("/")[0] for artifact in (*self.reads, *self.uses))


def _import_stage(module: str, name: str) -> Stage:
    from importlib import import_module

    found: Stage = getattr(import_module(module), name)
    return found


def stage(
    *,
    version: int,
    reads: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
    config: tuple[str, ...] = (),
    outputs: tuple[str, ...],
    logs: tuple[str, ...] = (),
    content: ReadContent | None = None,
    own_process: bool = False,
) -> "Callable[[Callable[[Context], None]], Stage]":
    """Declare the decorated function as a stage of its name; the arguments are the fields of `Stage`."""

    def declare(run: "Callable[[Context], None]") -> Stage:
        name = run.__name__
        summary = (run.__doc__ or "").strip().split("\n")[0]
        return Stage(
            name,
            version,
            reads,
            uses,
            config,
            outputs,
            logs,
            content,
            own_process,
            run,
            summary,
            run.__module__,
        )

    return declare


@dataclass(frozen=True)
class Context:
    """What a running stage may touch.

    Attributes:
        out: the folder to write to; it becomes the stage's folder when the stage is committed.
        checkpoints: a folder, not made yet, whose files outlive a kill. It belongs to this very key: what
            lies in it was made from the same inputs. It is gone once the stage is committed.
        last: the folder of the stage's last generation, if there is one: to tell the user what changed,
            never to compute from.
        source: the user's data; read only.
        cache: a folder shared by all runs, for memos of pure functions.
        config: the configuration; keys that the stage did not declare are refused.
        progress: whom to tell.
    """

    stage: Stage
    run_folder: Path
    out: Path
    checkpoints: Path
    last: Path
    source: Path
    cache: Path
    config: Any
    progress: Progress

    def path(self, artifact: str) -> Path:
        """Where a declared artifact of an earlier stage lies."""
        if artifact not in self.stage.reads and artifact not in self.stage.uses:
            raise LookupError(f"stage {self.stage.name} does not declare that it reads {artifact}")
        return self.run_folder / artifact

    def require_space(self, needed: int) -> None:
        """Refuse to begin what the disk has no room for.

        Args:
            needed: an estimate, in bytes.

        Raises:
            DiskError: the disk of the run directory has less.
        """
        free = shutil.disk_usage(self.run_folder).free
        if needed > free:
            raise DiskError(
                f"{self.stage.name} needs about {readable_size(needed)} ({needed:,} bytes needed), and the "
                f"disk of {self.run_folder} has {readable_size(free)} left ({free:,} bytes free)",
                hint="make room, or choose another --runs-dir",
            )


def declared(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The part of a flat configuration that `keys` — dotted keys or whole sections — cover."""
    return {key: value for key, value in values.items() if covers(keys, key)}


def covers(keys: tuple[str, ...], key: str) -> bool:
    """Whether the configuration key `key` is one of `keys`, or lies in a section that is."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in keys)


class DeclaredConfig:
    """A configuration that shows the declared keys and refuses the others, so that keys tell the truth.

    It remembers the dotted keys that were looked at, see `keys_read`.
    """

    def __init__(
        self, config: Any, keys: tuple[str, ...], prefix: str = "", read: set[str] | None = None
    ) -> None:
        self._config, self._keys, self._prefix = config, keys, prefix
        self._read: set[str] = set() if read is None else read

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        key = f"{self._prefix}{name}"
        value = getattr(self._config, name)
        if isinstance(value, _LEAVES):
            if covers(self._keys, key):
                self._read.add(key)
                return value
        elif any(covers((key,), wanted) or covers((wanted,), key) for wanted in self._keys):
            return DeclaredConfig(value, self._keys, f"{key}.", self._read)
        raise LookupError(f"the stage does not declare that it reads the configuration key {key}")


def keys_read(config: DeclaredConfig) -> frozenset[str]:
    """The dotted keys that a stage looked at."""
    return frozenset(config._read)


_LEAVES = (type(None), bool, int, float, str, tuple, list)
