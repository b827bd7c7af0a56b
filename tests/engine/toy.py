"""A pipeline of three toy stages in the shape of the real one: numbers in a file, their double, the sum."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simpipe.engine.stage import Content, Context, stage
from simpipe.files import sha256_file
from simpipe.progress import Progress

RAN: list[str] = []
"""The stages that were executed, in order; tests clear it."""


def content(
    source: Path, values: Mapping[str, Any], cache: Path, progress: Progress, remember: bool
) -> Content:
    found = {"numbers.txt": sha256_file(source / "numbers.txt")}
    return Content({"data": found["numbers.txt"]}, found)


@stage(version=1, config=("read.limit",), outputs=("numbers.json",), logs=("log.txt",), content=content)
def read(ctx: Context) -> None:
    """Read the numbers."""
    RAN.append("read")
    numbers = [int(line) for line in (ctx.source / "numbers.txt").read_text().split()]
    (ctx.out / "numbers.json").write_text(json.dumps([min(n, ctx.config.read.limit) for n in numbers]))
    (ctx.out / "log.txt").write_text("a time")


@stage(version=1, reads=("read/numbers.json",), config=("double",), outputs=("doubled.json",))
def double(ctx: Context) -> None:
    """Multiply them."""
    RAN.append("double")
    numbers = json.loads(ctx.path("read/numbers.json").read_text())
    (ctx.out / "doubled.json").write_text(json.dumps([n * ctx.config.double.factor for n in numbers]))


@stage(version=1, reads=("double/doubled.json",), uses=("read/log.txt",), outputs=("total.json",))
def total(ctx: Context) -> None:
    """Add them up."""
    RAN.append("total")
    (ctx.out / "total.json").write_text(
        json.dumps(sum(json.loads(ctx.path("double/doubled.json").read_text())))
    )


TOYS = (read, double, total)
NAMES = tuple(toy.name for toy in TOYS)


@dataclass
class Read:
    limit: int = 100


@dataclass
class Double:
    factor: int = 2


@dataclass
class ToyConfig:
    read: Read = field(default_factory=Read)
    double: Double = field(default_factory=Double)

    def flat(self) -> dict[str, Any]:
        return {"read.limit": self.read.limit, "double.factor": self.double.factor}


class Recorder:
    """A listener that remembers what it hears."""

    stopping = False

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        self.heard.append(("begin", label, total, unit))

    def advance(self, count: int = 1, detail: str = "") -> None:
        self.heard.append(("advance", count, detail))

    def note(self, text: str) -> None:
        self.heard.append(("note", text))

    def stage_starts(self, assessment: Any) -> None:
        self.heard.append(("starts", assessment.stage.name))

    def stage_ends(self, outcome: Any) -> None:
        self.heard.append(("ends", outcome.stage, outcome.action))
