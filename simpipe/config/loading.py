"""Finding, reading, overriding and writing configurations."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from simpipe.config import reader
from simpipe.config.checking import LEAVES, SECTIONS, Fault, check, first_key, leaf_of, unknown_key
from simpipe.config.fields import is_path
from simpipe.config.models import Config
from simpipe.config.problems import Problem, config_error
from simpipe.config.reader import Document, Tree
from simpipe.errors import DamagedError, UsageError
from simpipe.files import sha256_file

FILE_KEYS = ("train.weights", "train.backbone", "train.encoder", "ingest.table", "ingest.exclude")
"""Keys that may name a file or a folder."""

NAMED_KEYS = ("train.weights", "train.backbone")
"""Those of them whose value is a name unless it looks like a path."""

ENCODER = "train/encoder.json"
"""Where in a run its encoder is named."""

JSON = None | bool | int | float | str | list["JSON"]


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a file or a preset, with `--set` texts such as `train.lr=1e-3` over it.

    `source` is a file if it has a folder or the suffix .yaml or .yml, else first a preset, then a file.
    A relative path in one of `FILE_KEYS` counts from the configuration file, and from the working folder
    in an override; it comes out absolute.

    Raises:
        ConfigError: every problem of the file and the overrides, with its line.
        UsageError: there is no such file or preset.
        DiskError: the file cannot be read.
    """
    return _load(_find(source), overrides)


def read_resolved(path: Path, written: str | None = None) -> Config:
    """The configuration that `dump_yaml` wrote to `path`, perhaps edited since.

    `written` is the SHA-256 of what was written: a file that still has it is whole, and what it lacks are
    keys that are younger than it.

    Raises:
        DamagedError: it is cut short: a key or the end of the last line is missing.
        ConfigError, UsageError, DiskError: as `load` does.
    """
    document = reader.read(path)
    missing = [key for key in LEAVES if key not in document.lines]
    cut_short = missing or document.text[-1:] != [""]
    if not document.problems and cut_short and sha256_file(path) != written:
        lacks = f"it has no {missing[0]}" if missing else "its last line has no end"
        raise DamagedError(f"{path} is not whole: {lacks}")
    return _checked(document, ())


def override(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with `--set` texts over it.

    Raises:
        ConfigError: every problem of the overrides.
    """
    return _checked(Document("configuration", config.model_dump(mode="json")), overrides)


def flatten(config: Config) -> dict[str, JSON]:
    """`{"seed": 0, …, "train.lr": 0.001, …}`: dotted keys in the order of the models; a list is a leaf."""
    tree = config.model_dump(mode="json")
    return {
        key: tree[section][leaf] if leaf else tree[section]
        for key in LEAVES
        for section, _, leaf in [key.partition(".")]
    }


def dump_yaml(config: Config) -> str:
    """`config` as YAML with every key; `load` gives it back equal."""
    return reader.dump(config.model_dump(mode="json"))


def preset_names() -> tuple[str, ...]:
    """The names that `load` takes instead of a path, sorted."""
    return tuple(sorted(path.stem for path in _preset_folder().glob("*.yaml")))


def config_stem(source: str | Path) -> str:
    """What a run of `source` is called by default: the file's name without its suffix, or the preset's."""
    return Path(source).stem


def _preset_folder() -> Path:
    packaged = Path(__file__).parent / "presets"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "pipelines"


def _find(source: str | Path) -> Path:
    name, path, presets = str(source), Path(source), preset_names()
    is_path = "/" in name or "\\" in name or path.suffix in (".yaml", ".yml")
    if name in presets and not is_path:
        return _preset_folder() / f"{name}.yaml"
    if os.path.exists(path):  # noqa: PTH110  (false, too, where a name is too long)
        return path
    near = get_close_matches(path.stem, presets, n=1)
    raise UsageError(
        (f"{name}: there is no such file." if is_path else f"{name!r} is neither a file nor a preset.")
        + (f" Did you mean the preset {near[0]}?" if near else ""),
        hint=f"Presets: {', '.join(presets)}. Anything else is the path of a file.",
    )


def _load(path: Path, overrides: Sequence[str]) -> Config:
    document = reader.read(path)
    for key in FILE_KEYS:
        name, _, leaf = key.partition(".")
        section = document.tree.get(name)
        if isinstance(section, dict) and leaf in section:
            section[leaf] = _anchored(key, section[leaf], path.parent)
    return _checked(document, overrides)


def _checked(document: Document, overrides: Sequence[str]) -> Config:
    origins, problems = _apply(overrides, document.tree)
    problems = document.problems + problems
    config, faults = check(document.tree, (problem.key for problem in problems))
    problems += [_located(fault, document.lines, origins) for fault in faults]
    if problems:
        raise config_error(document.name, problems, document.text)
    return config


def _apply(overrides: Sequence[str], tree: Tree) -> tuple[dict[str, str], list[Problem]]:
    """Put the overrides into the tree; which text set each key, and what is wrong with the others."""
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for given in overrides:
        text = given.encode(errors="backslashreplace").decode()
        key, equals, value = (part.strip() for part in text.partition("="))
        try:
            if text != given:
                raise ValueError("is not UTF-8")
            if not equals:
                raise ValueError("no value; write KEY=VALUE, such as train.lr=1e-3")
            if key in SECTIONS:
                raise ValueError(f"is a section; name one of its keys, such as {first_key(key)}")
            if key not in LEAVES:
                raise ValueError(unknown_key(key).message)
            _put(tree, key, _anchored(key, reader.parse_value(value), Path.cwd()))
            origins[key] = text
        except ValueError as error:
            problems.append(Problem(str(error), key if equals else "", override=text))
    return origins, problems


def _put(tree: Tree, key: str, value: Any) -> None:
    section, _, leaf = key.partition(".")
    if not leaf:
        tree[section] = value
        return
    if tree.get(section) is None:
        tree[section] = {}
    if isinstance(tree[section], dict):  # else the section itself is a fault, and reported as one
        tree[section][leaf] = value


def _anchored(key: str, value: Any, folder: Path) -> Any:
    """`value`, absolute if it is a relative path; of a run the file that names its encoder."""
    if key not in FILE_KEYS or not isinstance(value, str):
        return value
    if key in NAMED_KEYS and not is_path(value):
        return value
    if key == "train.encoder" and not value.endswith(ENCODER):
        value = os.path.join(value, ENCODER)  # noqa: PTH118  (the text stays as it was written)
    if os.path.isabs(value):  # noqa: PTH117
        return value
    return os.path.abspath(folder / os.path.expanduser(value))  # noqa: PTH100, PTH111


def _located(fault: Fault, lines: dict[str, int], origins: dict[str, str]) -> Problem:
    """The fault as a problem of the override it came with, or else of a line."""
    for key in fault.keys:
        if leaf_of(key) in origins:
            return Problem(fault.message, key, override=origins[leaf_of(key)])
    key = next((key for key in fault.keys if key in lines), fault.keys[0])
    return Problem(fault.message, key, lines.get(key, 0), quoted=fault.unknown)
