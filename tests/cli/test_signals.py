"""Ctrl-C, TERM, HUP and KILL, sent to the real command: answered at once, and the same command goes on."""

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from commands import driven, executed, proposed, simpipe, toy, toys

from simpipe.engine.lock import run_lock
from simpipe.metrics.contracts import load_schema

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 120.0
"""Seconds after which a test is given up; on every machine much more than is needed."""


HEARING = """
import os, signal, sys
from simpipe.cli import stopping
for number in stopping.SIGNALS:
    signal.signal(number, signal.SIG_DFL)
"""
"""Who starts the tests in the background, or with nohup, makes them and their children deaf."""


class Started:
    """A command with the toy stages that is held at `place`, after `code` in its process.

    Its stderr is a named pipe, or what `code` makes of it.
    """

    def __init__(self, cwd: Path, place: str, *arguments: str, code: str = "", grace: float = 1000) -> None:
        self.held, pipe = cwd / "held", cwd / "stderr"
        for path in (self.held, pipe):
            path.unlink(missing_ok=True)
        os.mkfifo(pipe)
        prepared = (
            HEARING,
            f"stopping.GRACE_SECONDS = {grace}",
            f"os.dup2(os.open({str(pipe)!r}, os.O_WRONLY), 2)",
            code,
            "sys.stdout, sys.stderr = (open(stream, 'w', 1, closefd=False) for stream in (1, 2))",
        )
        environment = {"HOLD": place, "HELD": str(self.held), "TERM": "xterm"}
        self._ending = toys().start(*arguments, cwd=cwd, environment=environment, code="\n".join(prepared))
        [self.pid] = toys().running
        self.told = pipe.open()
        self.stderr = ""

    def wait(self) -> int:
        """Until it is held; returns the number of the process that says so."""
        until(lambda: self.held.exists() or is_gone(self.pid))
        assert self.held.exists(), self.told.read()
        return int(self.held.read_text().split()[1])

    def read_until(self, text: str) -> None:
        """Read stderr until it contains `text`."""
        while text not in self.stderr:
            line = self.told.readline()
            assert line, f"{text!r} is not in {self.stderr!r}"
            self.stderr += line

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def release(self) -> None:
        self.held.with_suffix(".release").touch()

    def end(self) -> tuple[int, str, str]:
        """The exit code and all of stdout and stderr."""
        self.stderr += self.told.read()
        assert "Traceback" not in self.stderr
        return *self.code_and_stdout(), self.stderr

    def code_and_stdout(self) -> tuple[int, str]:
        """The same, when nobody reads stderr."""
        [ended] = self._ending
        return ended.code, ended.stdout

    def bury(self) -> None:
        """End it if it has not ended, and give way to the next command."""
        with suppress(ProcessLookupError):
            if self.pid in toys().running:
                os.kill(self.pid, signal.SIGKILL)
        self.told.close()
        list(self._ending)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that its new parent has not buried yet counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def start(numbers: Path) -> Iterator[Callable[..., Started]]:
    all_started = []

    def starting(*arguments, cwd=numbers, **options) -> Started:
        all_started.append(Started(cwd, *arguments, **options))
        return all_started[-1]

    yield starting
    for each in all_started:
        each.bury()


def test_the_first_signal_stops_at_the_next_good_place_and_the_command_goes_on(numbers, start):
    assert toy("run", "data", "--name", "straight", cwd=numbers).returncode == 0
    started = start("learning", "run", "data")
    started.wait()
    started.send(INT)
    started.read_until("stopping at the next good place (at most 1000 s, Ctrl-C again to quit now)\n")
    code, stdout, stderr = started.end()
    assert (code, stdout) == (130, "")
    assert stderr.endswith("stopped; what was done is kept\n  → simpipe run data\n")
    assert "learn      interrupted" in toy("status", cwd=numbers).stdout
    again = toy(*proposed(stderr), "--json", cwd=numbers)
    assert executed(again) == ["learn", "arrange", "report"]
    runs = numbers / "runs"
    assert json.loads((runs / "baseline/learn/history.json").read_text()) == [3, 4], "it began anew"
    for file in ("learn/weights.json", "arrange/table.json", "report/report.html"):
        assert (runs / "baseline" / file).read_bytes() == (runs / "straight" / file).read_bytes()


@pytest.mark.parametrize("number", [INT, TERM, HUP])
@pytest.mark.parametrize("place", ["hashing", "learning", "drawing"])
def test_where_there_is_a_place_to_stop_at(start, place, number):
    started = start(place, "run", "data")
    started.wait()
    started.send(number)
    code, _, stderr = started.end()
    assert code == 128 + number
    assert proposed(stderr) == ["run", "data"]


@pytest.mark.parametrize("number", [INT, TERM, HUP])
@pytest.mark.parametrize("place", ["native learning", "native drawing"])
def test_native_code_holds_up_neither_the_answer_nor_the_second_signal(start, numbers, place, number):
    started = start(place, "run", "data")
    worker = started.wait()
    started.send(number)
    if place == "native learning":  # in a process of its own there is a place to stop at, always
        started.read_until("stopping at")
        started.send(number)
    code, _, stderr = started.end()
    assert code == 128 + number
    assert stderr.count("stopped; what was done is kept\n  → simpipe run data\n") == 1
    until(lambda: is_gone(worker))
    assert executed(toy("run", "data", "--json", cwd=numbers))[-1] == "report"


def test_without_a_place_to_stop_at_the_time_of_grace_ends_it(start, numbers):
    started = start("native learning", "run", "data", grace=0.1)
    started.wait()
    started.send(TERM)
    code, _, stderr = started.end()
    assert code == 143
    assert proposed(stderr) == ["run", "data"]
    assert executed(toy("run", "data", "--json", cwd=numbers)) == ["learn", "arrange", "report"]


def test_two_signals_of_different_kinds(start):
    started = start("native learning", "run", "data")
    started.wait()
    started.send(INT)
    started.read_until("stopping at")
    started.send(TERM)
    assert started.end()[0] == 143


@pytest.mark.parametrize("signals", [[INT], [INT, TERM]])
def test_with_json_stderr_is_one_document(start, signals):
    started = start("learning" if len(signals) == 1 else "native learning", "run", "data", "--json")
    started.wait()
    for number in signals:
        started.send(number)
    code, stdout, stderr = started.end()
    assert stdout == ""
    assert code - 128 in signals  # of two that come together, the later may be delivered first
    document = json.loads(stderr)
    jsonschema.validate(document, load_schema("error-1", "simpipe.cli"))
    assert document["error"]["code"] == "stopped"
    assert document["error"]["hint"] == "simpipe run data --json"


@pytest.mark.parametrize("place", ["drawing", "native drawing"])
@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_a_signal_to_all_processes_of_the_group(start, place, number):
    started = start(place, "run", "data", code="os.setsid()")
    worker = started.wait()
    os.killpg(started.pid, number)
    code, _, stderr = started.end()
    assert code == 128 + number
    assert proposed(stderr) == ["run", "data"]
    until(lambda: is_gone(worker))


@pytest.mark.parametrize("place", ["drawing", "native drawing"])
def test_a_killed_command_leaves_no_orphan(start, numbers, place):
    started = start(place, "run", "data")
    worker = started.wait()
    assert worker != started.pid
    started.send(signal.SIGKILL)
    assert started.end()[0] == -signal.SIGKILL
    until(lambda: is_gone(worker))
    assert executed(toy("run", "data", "--json", cwd=numbers)) == ["report"]


def test_while_it_waits_for_another_process(start, numbers):
    (numbers / "runs/baseline").mkdir(parents=True)
    with run_lock(numbers / "runs/baseline"):
        started = start("", "run", "data", "--wait", "1000")
        started.read_until("waiting for")
        started.send(INT)
        assert started.end()[0] == 130
    assert not (numbers / "runs/baseline/gather").exists()


SLOW_QUERY = """
import simpipe.runs, toy_stages
simpipe.runs.open_run = lambda path: toy_stages.stay("opening", None)
"""


@pytest.mark.parametrize(
    ("place", "arguments", "code"),
    [
        ("native hashing", ["status"], ""),
        ("native hashing", ["run", "data", "--dry-run"], ""),
        ("native hashing", ["run", "data", "--dry-run", "--json"], ""),
        ("opening", ["query", "1.jpg"], SLOW_QUERY),
    ],
)
@pytest.mark.parametrize("number", [INT, TERM])
def test_what_only_reads_ends_at_once(start, made, place, arguments, code, number):
    started = start(place, *arguments, code=code, cwd=made)
    started.wait()
    started.send(number)
    ended, stdout, stderr = started.end()
    assert (ended, stdout) == (128 + number, "")
    if "--json" in arguments:
        assert json.loads(stderr)["error"]["code"] == "stopped"
    else:
        assert stderr == ""


def test_what_nohup_ignores_stays_ignored(start):
    started = start("learning", "run", "data", code="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    started.wait()
    started.send(HUP)
    started.release()
    code, stdout, stderr = started.end()
    assert code == 0
    assert "report.html" in stdout
    assert "stopping" not in stderr


def test_a_forked_worker_dies_like_any_other_process(start):
    code, _, stderr = start("forking", "run", "data").end()
    assert code == 0, stderr
    assert "stopping" not in stderr, "the parent heard what was said to its worker"


@pytest.mark.skipif(sys.platform != "linux", reason="how full a pipe is, and how much it holds")
def test_a_reader_that_sleeps_does_not_hold_it_up(start):
    started = start("flooding", "run", "data")
    waiting = bytearray(4)

    def is_full() -> bool:
        fcntl.ioctl(started.told, termios.FIONREAD, waiting)
        return struct.unpack("i", waiting)[0] > 60_000

    until(is_full)
    started.send(INT)
    started.send(TERM)
    assert started.code_and_stdout()[0] - 128 in (INT, TERM)


@pytest.mark.parametrize("number", [TERM, HUP])
def test_a_listener_that_is_gone_does_not_hold_it_up(start, number):
    started = start("native learning", "run", "data", grace=0.1)
    started.told.close()
    started.wait()
    started.send(number)
    assert started.code_and_stdout()[0] == 128 + number


def ctrl_c_on_terminal(start: Callable[..., Started], place: str, *arguments: str) -> tuple[int, str]:
    """Type Ctrl-C on the terminal of a command; its exit code, and all that the terminal was sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

    take_terminal = (
        "os.setsid()",
        f"terminal = os.open({os.ttyname(slave)!r}, os.O_RDWR)",
        "for stream in range(3): os.dup2(terminal, stream)",
        "os.close(terminal)",
    )
    started = start(place, *arguments, code="\n".join(take_terminal))
    worker = started.wait()
    os.close(slave)
    os.write(master, b"\x03")
    shown = b""
    while chunk := _read(master):
        shown += chunk
    os.close(master)
    code, _ = started.code_and_stdout()
    until(lambda: is_gone(worker))
    assert b"Traceback" not in shown, shown.decode()
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is hidden"
    return code, shown.decode()


def test_ctrl_c_on_a_terminal(start):
    code, shown = ctrl_c_on_terminal(start, "native drawing", "run", "data")
    assert code == 130
    assert "\r\nstopping at the next good place" in shown
    assert "stopped; what was done is kept\r\n" in shown


def test_ctrl_c_on_a_terminal_where_there_is_nothing_to_keep(start):
    code, shown = ctrl_c_on_terminal(start, "native hashing", "run", "data", "--dry-run")
    assert code == 130
    assert "stop" not in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1024)
    except OSError:  # how Linux says that the last process has let go of a terminal
        return b""


@pytest.mark.slow
def test_stopping_the_real_training_and_going_on_ends_in_the_same_bytes(finished, place):
    shutil.rmtree(place / "runs/quick/train")
    command = ("run", "data", "--config", "quick", "--to", "train")
    stopped = driven(f"{HEARING}interrupt_training(1)", *command, cwd=place)
    assert (stopped.returncode, stopped.stdout) == (130, ""), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stderr.index("stopping at the next good place") < stopped.stderr.index("stopped;")
    again = simpipe(*proposed(stopped.stderr), cwd=place)
    assert again.returncode == 0, again.stderr
    assert "training goes on from epoch" in again.stderr
    for file in ("encoder.weights.h5", "encoder.json", "history.csv"):
        straight, resumed = (each / "runs/quick/train" / file for each in (finished, place))
        assert resumed.read_bytes() == straight.read_bytes(), file
