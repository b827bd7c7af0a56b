"""What people see: progress and one line for each stage on stderr, results on stdout."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from simpipe.cli.stopping import stopped, wished
from simpipe.engine.journal import record

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from simpipe.engine.execute import Outcome
    from simpipe.engine.plan import Assessment

QUIET_SECONDS = 30.0
"""Without a terminal, a long piece of work says once in this time how far it is."""

MIN_COLUMNS = 60
"""A bar needs so much room; a narrower terminal gets plain lines."""


class Console:
    """Hears of a run and tells it: a bar on a terminal, plain lines elsewhere.

    Nobody needs to listen: a terminal that went away is no reason to stop.

    Args:
        quiet: tell nothing; notes are kept in `notes` and, once there is a run, in its journal.
        verbose: tell all reasons, not only the first.
    """

    def __init__(self, quiet: bool = False, verbose: int = 0) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._label, self._unit, self._done = "", "", 0
        self._total: int | None = None
        self._began = self._spoken = time.monotonic()
        self.journal: Path | None = None
        self.notes: list[str] = []

    @property
    def stopping(self) -> bool:
        return wished() != 0

    def stage_starts(self, assessment: "Assessment") -> None:
        self._stop_if_wished()
        reasons = [str(reason) for reason in assessment.reasons]
        if assessment.state in ("interrupted", "finished"):
            reasons.insert(0, STATES[assessment.state])
        if not self._verbose and len(reasons) > 1:
            reasons = [reasons[0], f"and {len(reasons) - 1} more"]
        self._line(f"{assessment.stage.name:10} running  {', '.join(reasons)}")

    def stage_ends(self, outcome: "Outcome") -> None:
        self.close()
        took = {"ran": f"{outcome.seconds:5.1f} s"}.get(outcome.action, outcome.action)
        self._line(f"{outcome.stage:10} {took}")

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        self._stop_if_wished()
        self.close()
        self._label, self._total, self._done, self._unit = label, total, 0, unit
        self._began = self._spoken = time.monotonic()
        if not self._quiet and is_lively_terminal():
            self._bars = _bars()
            self._bars.start()
            self._task = self._bars.add_task(f"  {label}", total=total, unit=unit, rate="", detail="")

    def advance(self, count: int = 1, detail: str = "") -> None:
        self._done += count
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=count, detail=detail, rate=self._rate())
        elif time.monotonic() - self._spoken > QUIET_SECONDS:
            self._spoken = time.monotonic()
            total = f" of {self._total:,}" if self._total else ""
            told = f"  {self._label} {self._done:,}{total} {self._unit} {detail}".rstrip()
            self._line(f"{told}{self._left()}")
        self._stop_if_wished()

    def _rate(self) -> str:
        """How much was done in a second, in the mean."""
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"

    def _left(self) -> str:
        """How fast it goes, and how long it takes yet if it goes on like that."""
        if not self._total or not self._done:
            return ""
        seconds = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        minutes, seconds = divmod(round(seconds), 60)
        return f", {self._rate()}, {minutes}:{seconds:02} left"

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self.journal:
            record(self.journal, "note", text=text)
        self._line(f"  note: {text}")

    def close(self) -> None:
        """Take down what is still drawn."""
        with suppress(OSError):
            if self._bars is not None:
                self._bars.stop()
        self._bars, self._task = None, None

    def _line(self, text: str) -> None:
        from simpipe.data.scan import printable  # names of files and labels may be in it

        if self._quiet:
            return
        text = printable(text)
        with suppress(OSError):
            if self._bars is not None:
                self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def _stop_if_wished(self) -> None:
        if number := wished():
            self.close()
            raise stopped(number)


STATES = {
    "interrupted": "was interrupted; goes on from its checkpoint",
    "finished": "a run that was killed had finished it",
}


def is_lively_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line, and has one wide enough for a bar."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return os.get_terminal_size(sys.stderr.fileno()).columns >= MIN_COLUMNS


def _bars() -> "Bars":
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=RichConsole(stderr=True, no_color=True),
        transient=True,
    )
