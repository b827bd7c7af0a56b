"""What a stage is: a function with a declaration of everything it reads and writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simpipe.progress import Progress

Content = Callable[[Path, Path, Progress], Mapping[str, str]]
"""(source folder, cache folder, listener) → the content hashes of what lies outside the run directory."""


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
    content: Content | None
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
    content: Content | None = None,
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
        source: the user's data; read only.
        cache: a folder shared by all runs, for memos of pure functions.
        config: the configuration; keys that the stage did not declare are refused.
        progress: whom to tell.
    """

    stage: Stage
    run_folder: Path
    out: Path
    source: Path
    cache: Path
    config: Any
    progress: Progress

    def path(self, artifact: str) -> Path:
        """Where a declared artifact of an earlier stage lies."""
        if artifact not in self.stage.reads and artifact not in self.stage.uses:
            raise LookupError(f"stage {self.stage.name} does not declare that it reads {artifact}")
        return self.run_folder / artifact


def declared(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The part of a flat configuration that `keys` — dotted keys or whole sections — cover."""
    return {key: value for key, value in values.items() if _covered(key, keys)}


def _covered(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in keys)


class DeclaredConfig:
    """A configuration that shows the declared keys and refuses the others, so that keys tell the truth."""

    def __init__(self, config: Any, keys: tuple[str, ...], prefix: str = "") -> None:
        self._config, self._keys, self._prefix = config, keys, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        key = f"{self._prefix}{name}"
        value = getattr(self._config, name)
        if _covered(key, self._keys):
            return value
        if any(declared_key.startswith(f"{key}.") for declared_key in self._keys):
            return DeclaredConfig(value, self._keys, f"{key}.")
        raise LookupError(f"the stage does not declare that it reads the configuration key {key}")
