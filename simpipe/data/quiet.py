"""Decoders that do not write to the screen: what they say is kept, and told with the file it is of."""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

_lock = threading.Lock()
_filters = ExitStack()  # entered while any thread is in `quiet`
_kept: dict[int, list[str]] = {}  # what was warned of, by the threads that are in it


@contextmanager
def quiet() -> Iterator[list[str]]:
    """The decoders' warnings in this thread, in a list instead of on the screen.

    The filters of warnings belong to the process, and threads decode side by side: the first to come in
    sets the filters, the last to leave puts them back. Warnings of other threads are shown as ever. Not to be
    entered twice by one thread.
    """
    _silence_libraries()
    me = threading.get_ident()
    with _lock:
        if not _kept:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("always", module=r"PIL\b|pillow_heif\b")
            warnings.showwarning = _keeper(warnings.showwarning)
        mine = _kept[me] = []
    try:
        yield mine
    finally:
        with _lock:
            del _kept[me]
            if not _kept:
                _filters.close()


def _keeper(show: Any) -> Any:
    def keep(message: Any, *where: Any, **more: Any) -> None:
        mine = _kept.get(threading.get_ident())
        if mine is None:
            show(message, *where, **more)
        else:
            mine.append(str(message))

    return keep


@cache
def _silence_libraries() -> None:
    """No complaints of libtiff, nor of Pillow's logger where nobody listens; what matters, Pillow raises."""
    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):  # a Pillow without libtiff, or one that hides it
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
