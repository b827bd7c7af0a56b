"""What the shell offers after TAB: runs, stages, presets, and the keys and values of `--set`.

Typer keeps of each answer what begins with the word at the cursor. It answers within the blink of an
eye, so nothing here loads more than the models of the configuration.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

import typer

_CUT_KEY = "SIMPIPE_COMPLETED_KEY"


def run_names(ctx: typer.Context) -> list[str]:
    """The runs in the folder of runs."""
    from simpipe.cli.rundirs import run_names

    return run_names(Path(ctx.params.get("runs_dir") or "runs"))


def stage_names() -> list[str]:
    """The stages, in the order of the pipeline."""
    from simpipe.stages import STAGE_NAMES

    return list(STAGE_NAMES)


def preset_names() -> list[str]:
    """The presets."""
    from simpipe.config import preset_names

    return list(preset_names())


def sources(incomplete: str) -> list[str]:
    """The presets, and the YAML files in the folder that was begun; without any the shell offers folders."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    files = [path.name for path in Path(folder or ".").glob("*") if path.suffix in (".yaml", ".yml")]
    return [*preset_names(), *(folder + name for name in sorted(files))]


def settings(incomplete: str) -> list[str]:
    """`KEY=` of every key; `KEY=VALUE` once only one key is left.

    The value is each that the key takes where these are a few names, else its default, to be edited.
    """
    from simpipe.config import Config, flatten

    if cut := os.environ.get(_CUT_KEY):
        return _values(cut)
    key, equals, _ = incomplete.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(key)]
    keys = [name for name in flatten(Config()) if name.startswith(key)]
    # the values beside a lone key also keep the shell from putting a space behind its =
    values = [f"{keys[0]}={value}" for value in _values(keys[0])] if len(keys) == 1 else []
    return [*(f"{name}=" for name in keys), *values]


def _values(key: str) -> list[str]:
    from simpipe.config import Config, choices, flatten, written

    defaults = flatten(Config())
    if key not in defaults:
        return []
    return list(choices(key)) or [written(defaults[key])]


def mend_bash_words(environ: MutableMapping[str, str]) -> None:
    """Undo for Typer that bash cuts words at `=`, where it asks for a completion.

    Of `--set train.loss=su` bash makes three words, and it replaces only what follows the `=`. So the key
    is put aside for `settings`, and `--set su` remains; likewise `--config qu` of `--config=qu`.
    """
    if environ.get("_SIMPIPE_COMPLETE") != "complete_bash":
        return
    words = environ["COMP_WORDS"].split("\n")[: int(environ["COMP_CWORD"]) + 1]
    if "=" not in words:
        return
    incomplete = "" if words[-1] == "=" else words.pop()
    cut = words[-2] if words[-1:] == ["="] else ""
    kept = [
        word
        for word, following in zip(words, [*words[1:], ""], strict=True)
        if word != "=" and (following != "=" or word.startswith("-"))
    ]
    environ["COMP_WORDS"] = "\n".join([*kept, incomplete])
    environ["COMP_CWORD"] = str(len(kept))
    environ[_CUT_KEY] = "" if cut.startswith("-") else cut
