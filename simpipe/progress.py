"""What a stage tells while it works. The one object that points back to whoever runs it."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """A listener for one piece of work at a time; stages speak, the command line decides what is shown.

    It also carries the wish to stop. `begin` and `advance` are the places where work may end: they raise
    `Stopped` when that is wished. Who would lose something there looks at `stopping` first, and saves it.
    """

    @property
    def stopping(self) -> bool:
        """Whether the next `begin` or `advance` will raise `Stopped`."""

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        """A new piece of work of `total` units starts (None: not known); it ends the one before."""

    def advance(self, count: int = 1, detail: str = "") -> None:
        """`count` more units are done; `detail` is a short text beside the bar, such as the loss."""

    def note(self, text: str) -> None:
        """A line that the user should read."""


class Silent:
    """A listener that says nothing and never stops anybody."""

    stopping = False

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        pass

    def advance(self, count: int = 1, detail: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass


def track(
    progress: Progress, items: Iterable[T], label: str, total: int | None = None, unit: str = ""
) -> Iterator[T]:
    """Yield `items` and report each as it is done."""
    progress.begin(label, total, unit)
    for item in items:
        yield item
        progress.advance()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what native libraries write to stderr while they load; shown after all if an error leaves."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(saved, captured.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
