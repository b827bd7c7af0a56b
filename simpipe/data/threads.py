"""Work done ahead in threads, results in order, memory bounded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count() -> int:
    """Threads or processes that work on files: one for each core, 16 at most."""
    return min(os.cpu_count() or 1, 16)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, window: int = 64
) -> Iterator[Result]:
    """`map(function, items)`, in order, with at most `window` results waiting; None is `worker_count()`.

    Threads, not processes: hashing, decoding and resizing release the interpreter lock. The first
    error is raised in its place; a consumer that stops early leaves no work behind.
    """
    pool = ThreadPoolExecutor(max_workers=worker_count() if workers is None else workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
