"""Processes of their own: for a stage, whose memory and libraries end with it, and for work beside it."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from simpipe.engine.stage import Context
from simpipe.errors import SimpipeError, StageError
from simpipe.progress import Silent

Result = TypeVar("Result")

LISTEN_SECONDS = 0.2
"""A process of its own has no place to stop at: it is ended at most this long after the wish."""


def run_in_child(context: Context) -> None:
    """Run `context.stage` in a fresh process and pass on what it tells and how it ends.

    Raises:
        SimpipeError: as the stage raised it; StageError if its process died; Stopped on a wish to stop.
        Exception: what else the stage raised, without the objects that cannot travel.
    """
    with _process(_work) as (process, pipe):
        try:
            pipe.send(replace(context, progress=Silent()))
            error = _listen(pipe, context)
        except (EOFError, ConnectionError):
            error = _death(process, context.stage.name)
    if error is not None:
        raise error


@contextmanager
def beside(function: Callable[..., Result], *arguments: Any) -> Iterator[Callable[[], Result]]:
    """Run `function(*arguments)` in a fresh process meanwhile; calling what this gives waits for its result.

    Raises, when the result is asked for:
        StageError: the process died.
        Exception: what the function raised.
    """
    with _process(_answer) as (process, pipe):
        with suppress(ConnectionError):  # it is dead: told when the result is asked for
            pipe.send((function, arguments))
        received: list[tuple[Any, Exception | None]] = []

        def result() -> Result:
            if not received:
                try:
                    received.append(pipe.recv())
                except (EOFError, ConnectionError):
                    received.append((None, _death(process, function.__name__)))
            answer: Result
            answer, error = received[0]
            if error is not None:
                raise error
            return answer

        yield result
        if not received:
            process.kill()


@contextmanager
def _process(target: Callable[[Connection], None]) -> Iterator[tuple[BaseProcess, Connection]]:
    """A fresh process, and a pipe to what `target` gets.

    It hears no signals. An error ends it; otherwise this context waits for its end.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs,))
    with _deaf_to_signals():
        process.start()
    theirs.close()
    try:
        yield process, ours
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()


def _death(process: BaseProcess, name: str) -> StageError:
    process.join()
    return StageError(f"the process of {name} died ({_cause(process.exitcode)})")


@contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """For whoever is started meanwhile: the parent hears these signals too, and ends its child."""
    resource_tracker.ensure_running()  # its own start would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(receiver: Connection, context: Context) -> Exception | None:
    """Forward progress until the stage ends; returns its error."""
    while True:
        while not receiver.poll(LISTEN_SECONDS):
            context.progress.advance(0)  # hears of a wish to stop
        kind, *arguments = receiver.recv()
        if kind == "end":
            error: Exception | None = arguments[0]
            return error
        getattr(context.progress, kind)(*arguments)


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}; often a lack of memory"
    return f"exit code {exitcode}"


def _work(pipe: Connection) -> None:
    _watch_parent()
    context: Context = pipe.recv()
    pipe.send(("end", _outcome(context.stage.run, replace(context, progress=_Sender(pipe)))[1]))


def _answer(pipe: Connection) -> None:
    _watch_parent()
    function, arguments = pipe.recv()
    pipe.send(_outcome(function, *arguments))


def _outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    """What the function returns, or an error that can travel."""
    try:
        return function(*arguments), None
    except (SimpipeError, OSError, MemoryError) as error:
        return None, error
    except Exception as error:
        if type(error) is RuntimeError and hasattr(error, "__notes__"):
            return None, error  # from a process beside this one
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())  # for the journal
        return None, told


def _watch_parent() -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this process when its parent is killed: nobody would take its results any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Sender:
    """Progress that travels through a pipe; the parent ends this process when it is to stop."""

    stopping = False

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def begin(self, label: str, total: int | None = None, unit: str = "") -> None:
        self._send("begin", label, total, unit)

    def advance(self, count: int = 1, detail: str = "") -> None:
        self._send("advance", count, detail)

    def note(self, text: str) -> None:
        self._send("note", text)

    def _send(self, *event: Any) -> None:
        self._sender.send(event)
