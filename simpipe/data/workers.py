"""`map` in worker processes that may hang or die: decoders in C are fed with whatever people have."""

from __future__ import annotations

import os
import pickle
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal, TypeVar

from simpipe.errors import SimpipeError, StageError

Job = TypeVar("Job")
Result = TypeVar("Result")
Fault = Literal["hung", "died"]

FIRST = 4  # jobs in a worker's first batch
MOST = 64  # jobs in any batch
BATCH_SECONDS = 0.05  # what a batch should take: much longer than its way through the pipe
TICK_SECONDS = 0.2
WINDOW = 512  # most jobs for each worker that are begun and whose results are not handed on
MEMORY = 4 << 30  # bytes of a worker's address space: a job that asks for more gets a MemoryError

_Outcome = tuple[bool, Any]  # whether the function raised it; its result or error


def map_guarded(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    seconds: float,
    fault: Callable[[Job, Fault], Result],
    tick: Callable[[], None] = lambda: None,
    memory: int = MEMORY,
) -> Generator[Result, None, None]:
    """`map(function, jobs)`, in order, each job in a worker process; a worker that is lost is replaced.

    A job that takes more than `seconds` ends its worker and has the result `fault(job, "hung")`; one whose
    worker dies (a crash of native code, a kill for lack of memory) has `fault(job, "died")`; either only if
    it happens twice: a suspended process looks like one that hangs, and a kill may hit a bystander. All other
    jobs have their own results. What `function` raises is raised here, in its place.

    Workers are fresh interpreters that import `function` by its name and never the caller's script, so that
    it works from a script without a main guard and from a notebook. They end with the iterator; if this
    process is killed, with the job they are at.

    Args:
        function: can be pickled: importable, or a `functools.partial` of such.
        jobs: read ahead by at most `WINDOW` for each worker.
        workers: most processes; one is started when all others are busy and there is work left.
        seconds: the longest that one job may take.
        fault: makes the result of a job that hung or died; called in this process.
        tick: called in this process every `TICK_SECONDS` of waiting; what it raises ends all.
        memory: bytes of a worker's address space, where the system can limit it.

    Raises:
        StageError: a worker ended before it could work.
        Exception: of `function`; one that cannot travel comes as a RuntimeError with its name and text.
    """
    head = pickle.dumps((function, seconds, memory))
    source = enumerate(jobs)
    crew: list[_Worker] = []
    todo: deque[tuple[int, Job]] = deque()  # what lost workers have left
    suspects: set[int] = set()
    done: dict[int, _Outcome] = {}

    def take(count: int) -> list[tuple[int, Job]]:
        again = [todo.popleft() for _ in range(min(count, len(todo)))]
        begun = len(done) + len(todo) + len(again) + sum(len(worker.batch) for worker in crew)
        return again + list(islice(source, max(0, min(count - len(again), WINDOW * workers - begun))))

    def hand_out() -> None:
        while True:
            worker = next((each for each in crew if not each.batch), None)
            if worker is None and len(crew) >= workers:
                return
            batch = take(worker.size if worker else FIRST)
            if not batch:
                return
            if worker is None:
                worker = _Worker(head)
                crew.append(worker)
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            try:
                worker.give(batch)
            except OSError:  # it died while it had nothing to do: the fault of no job
                lose(worker)
                todo.extendleft(reversed(batch))

    def receive(worker: _Worker) -> None:
        try:
            done.update(worker.receive())
        except (EOFError, OSError):
            how = lose(worker)
            if worker.batch:
                at, job = worker.batch[0]
                if at in suspects:
                    done[at] = (False, fault(job, how))
                    worker.batch.popleft()
                suspects.add(at)
                todo.extendleft(reversed(worker.batch))

    def lose(worker: _Worker) -> Fault:
        selector.unregister(worker.pipe)
        crew.remove(worker)
        how = worker.end()
        if not worker.ready:
            raise StageError(f"a worker process could not start: {worker.last_words}")
        return how

    number = 0
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                hand_out()
                if number not in done and not any(worker.batch for worker in crew):
                    return
                ready = selector.select(0 if number in done else TICK_SECONDS)
                for key, _ in ready:
                    receive(key.data)
                if number in done:
                    failed, value = done.pop(number)
                    if failed:
                        raise value
                    yield value
                    number += 1
                elif not ready:
                    tick()
        finally:
            for worker in crew:
                worker.end()


class _Worker:
    """A worker as its parent sees it.

    Attributes:
        batch: the numbered jobs that it was given and whose results have not come; it is at the first.
        size: of its next batch.
        ready: whether it has said that it can work.
        last_words: the end of what it wrote to stdout and stderr; read when it has ended.
    """

    def __init__(self, head: bytes) -> None:
        self.batch: deque[tuple[int, Any]] = deque()
        self.size = FIRST
        self.ready = False
        self.last_words = ""
        self._given, self._since = 0, 0.0
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self.pipe, theirs = Pipe()
        life = f"from simpipe.data.workers import _live; _live({theirs.fileno()})"
        # deaf to the terminal: the parent hears these signals too, and ends its workers
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!a}; {life}"],
                stdin=subprocess.DEVNULL,
                stdout=self._written,
                stderr=self._written,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread takes address space
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        with suppress(OSError):  # it is dead already: the next to be found
            self.pipe.send_bytes(head)

    def give(self, batch: list[tuple[int, Any]]) -> None:
        """Hand it jobs. It must have none: then it reads, and neither side can wait for the other's pipe."""
        self.pipe.send(batch)
        self.batch.extend(batch)
        self._given, self._since = len(batch), time.monotonic()

    def receive(self) -> dict[int, _Outcome]:
        """The outcome of the job it was at, by number; nothing if this is its first word.

        Raises:
            EOFError, OSError: it is dead.
        """
        outcome: _Outcome | None = pickle.loads(self.pipe.recv_bytes())  # noqa: S301 - of our own process
        if outcome is None:
            self.ready, self._since = True, time.monotonic()
            return {}
        at, _ = self.batch.popleft()
        if not self.batch:
            each = max(time.monotonic() - self._since, 1e-6) / self._given
            self.size = max(1, min(MOST, 4 * self._given, round(BATCH_SECONDS / each)))
        return {at: outcome}

    def end(self) -> Fault:
        """End it, if it has not ended by itself, and tell how it did."""
        self._process.kill()
        how: Fault = "hung" if self._process.wait() == -signal.SIGALRM else "died"
        self.pipe.close()
        with self._written as written:
            written.seek(max(0, written.seek(0, os.SEEK_END) - 1_000))
            self.last_words = written.read().decode(errors="replace").strip()
        return how


def _live(descriptor: int) -> None:
    """The life of a worker: jobs come and outcomes go through the socket `descriptor`."""
    pipe = Connection(descriptor)
    function, seconds, memory = pickle.loads(pipe.recv_bytes())  # noqa: S301 - of our own parent
    _limit(memory)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it is at
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
    parent = os.getppid()
    with suppress(EOFError, OSError):  # the parent is dead
        pipe.send(None)
        while True:
            for _, job in pipe.recv():
                signal.setitimer(signal.ITIMER_REAL, seconds)
                outcome = _outcome(function, job)
                signal.setitimer(signal.ITIMER_REAL, 0)
                if os.getppid() != parent:
                    return
                pipe.send_bytes(outcome)


def _limit(memory: int) -> None:
    """No core files, and no more address space than `memory` where this can be said."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, hard))


def _outcome(function: Callable[[Any], Any], job: Any) -> bytes:
    try:
        return pickle.dumps((False, function(job)))
    except Exception as error:
        if not isinstance(error, SimpipeError):
            error.add_note(traceback.format_exc())
        with suppress(Exception):
            travelled = pickle.dumps((True, error))
            pickle.loads(travelled)  # noqa: S301 - what cannot arrive must not be sent
            return travelled
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())
        return pickle.dumps((True, told))
