"""Many processes at one run: one works, the others say so, and the death of the one frees the run.

The working process stops at a gate, two named pipes, for as long as a test wants.
"""

import json
import os
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from toy_pipeline import INSTALL, OUTPUTS
from warm import PATIENCE, Server

RUN = ("run", "data", "--config", "toy.yaml")


class Gate:
    """Where processes wait that run with `environment`, until it is opened or the test is over."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("arrived", "open"):
            os.mkfifo(folder / name)
        self.environment = {"TOY_GATE": str(folder)}
        self._arrived = os.open(folder / "arrived", os.O_RDONLY | os.O_NONBLOCK)
        self._closed: int | None = os.open(folder / "open", os.O_RDWR)

    def arrival(self) -> tuple[int, int]:
        """Wait for a process to arrive; its number and that of its worker, or its own again."""
        assert select.select([self._arrived], [], [], PATIENCE)[0], "no process came to the gate"
        process, worker = map(int, os.read(self._arrived, 100).split())
        return process, worker

    def open(self) -> None:
        if self._closed is not None:
            os.close(self._closed)
        self._closed = None


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Gate]]:
    made = [Gate(tmp_path / f"gate-{number}") for number in range(2)]
    yield made
    for gate in made:
        gate.open()


@pytest.fixture
def gate(gates: list[Gate]) -> Gate:
    return gates[0]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "1.png").write_text(label)
    (tmp_path / "toy.yaml").write_text("seed: 0\n")
    return tmp_path


@pytest.fixture(scope="module")
def holder() -> Iterator[Server]:
    """For the process that works."""
    with Server(INSTALL) as server:
        yield server


@pytest.fixture(scope="module")
def others() -> Iterator[Server]:
    """For those that come while it does."""
    with Server(INSTALL) as server:
        yield server


def finished(place: Path, name: str = "toy") -> bool:
    run = place / "runs" / name
    return all((run / stage / "_stage.json").is_file() for stage in OUTPUTS)


def test_of_twenty_starters_at_once_exactly_one_works(holder, place, gate):
    ends = holder.start(*RUN, cwd=place, environment=gate.environment, copies=20)
    winner, _ = gate.arrival()
    losers = [next(ends) for _ in range(19)]  # they end while the winner still waits
    assert [loser.code for loser in losers] == [6] * 19
    assert winner not in [loser.pid for loser in losers]
    for loser in losers:
        assert loser.stdout == ""
        # one that comes in the instant before the winner has written its name is told of no name
        assert f"process {winner} " in loser.stderr or "another process" in loser.stderr
        assert "Traceback" not in loser.stderr
    gate.open()
    (last,) = ends
    assert (last.pid, last.code) == (winner, 0), last.stderr
    assert finished(place)


def test_who_comes_later_is_told_who_works_and_since_when(holder, others, place, gate):
    held = holder.start(*RUN, cwd=place, environment=gate.environment)
    pid, _ = gate.arrival()
    for command in (RUN, ("learn",), (*RUN, "--wait", "0.3")):
        refused = others.run(*command, cwd=place)
        assert refused.code == 6, refused.stderr
        assert f"process {pid} " in refused.stderr
        assert re.search(r"since \d{4}-\d\d-\d\dT\d\d:\d\d", refused.stderr)
    gate.open()
    assert next(held).code == 0


def test_reading_commands_work_while_a_run_is_held(holder, others, place, gate):
    held = holder.start(*RUN, cwd=place, environment=gate.environment)
    gate.arrival()
    told = others.run("status", cwd=place)
    assert told.code == 0, told.stderr
    told = others.run("status", "--json", cwd=place)
    assert told.code == 0, told.stderr
    states = {stage["stage"]: stage["state"] for stage in json.loads(told.stdout)["stages"]}
    assert states["gather"] == "fresh"
    assert "fresh" not in (states["learn"], states["arrange"], states["report"])
    planned = others.run(*RUN, "--dry-run", cwd=place)
    assert planned.code == 0, planned.stderr
    gate.open()
    assert next(held).code == 0


def test_the_death_of_the_holder_frees_the_run(holder, others, place, gate):
    held = holder.start(*RUN, cwd=place, environment=gate.environment)
    pid, _ = gate.arrival()
    os.kill(pid, signal.SIGKILL)
    assert next(held).code == -signal.SIGKILL
    after = others.run(*RUN, cwd=place)
    assert after.code == 0, after.stderr
    assert finished(place)


def test_a_worker_that_outlives_the_holder_does_not_keep_the_run(holder, others, place, gate):
    held = holder.start(*RUN, cwd=place, environment={**gate.environment, "TOY_WORKER": "1"})
    pid, worker = gate.arrival()
    assert pid != worker
    os.kill(pid, signal.SIGKILL)
    assert next(held).code == -signal.SIGKILL
    after = others.run(*RUN, cwd=place)
    os.kill(worker, signal.SIGKILL)  # it was alive until now, or this fails
    assert after.code == 0, after.stderr


def test_who_waits_gets_the_run_when_the_holder_ends(holder, others, place, gate):
    held = holder.start(*RUN, cwd=place, environment=gate.environment)
    gate.arrival()
    waited = others.start(*RUN, "--json", "--wait", str(PATIENCE), cwd=place)
    (waiter,) = others.running
    wait_for_lock_file(waiter)
    gate.open()
    assert next(held).code == 0
    ended = next(waited)
    assert ended.code == 0, ended.stderr
    actions = {stage["stage"]: stage["action"] for stage in json.loads(ended.stdout)["stages"]}
    assert set(actions.values()) == {"fresh"}, "the first one did the work"


def wait_for_lock_file(pid: int) -> None:
    """Return when the process has the lock's file open, so that it stands in the queue."""
    descriptors = Path(f"/proc/{pid}/fd")
    deadline = time.monotonic() + PATIENCE
    while descriptors.exists():  # else it has ended, or this is no Linux and the test shows less
        assert time.monotonic() < deadline, "the process never looked at the lock"
        with suppress(OSError):
            if any(link.readlink().name == ".lock" for link in descriptors.iterdir()):
                return
        time.sleep(0.01)


def test_two_runs_in_one_folder_at_once_both_succeed(holder, others, place, gates):
    work = [(holder, "one", gates[0]), (others, "two", gates[1])]
    held = [
        server.start(*RUN, "--name", name, cwd=place, environment=gate.environment)
        for server, name, gate in work
    ]
    for gate in gates:
        gate.arrival()  # both are in the middle of their work
    for gate in gates:
        gate.open()
    for ends in held:
        ended = next(ends)
        assert ended.code == 0, ended.stderr
    assert finished(place, "one")
    assert finished(place, "two")
    assert {path.name for path in (place / "runs").iterdir()} == {".cache", ".latest", "one", "two"}
