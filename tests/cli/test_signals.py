"""Ctrl-C, TERM, HUP and KILL, sent to the real command: answered at once, and the same command goes on."""

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from commands import TOYS, executed, proposed, simpipe, toy

from simpipe.engine.lock import run_lock
from simpipe.metrics.contracts import load_schema

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 120.0
"""Seconds after which a test is given up; on every machine much more than is needed."""


@pytest.fixture(autouse=True)
def hearing() -> Iterator[None]:
    """Who starts the tests in the background, or with nohup, makes them and their children deaf."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (TERM, HUP)}
    before[INT] = signal.signal(INT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Started:
    """A command with the toy stages that is held at `place`."""

    def __init__(self, cwd: Path, place: str, *arguments: str, code: str = "", grace: float = 1000, **how):
        self.held = cwd / "held"
        self.held.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "HOLD": place,
            "HELD": str(self.held),
            "GRACE": str(grace),
            "TERM": "xterm",
        }
        command = [sys.executable, *(["-c", code] if code else [str(TOYS)]), *arguments]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "bufsize": 0} | how
        self.process = subprocess.Popen(command, cwd=cwd, env=environment, **how)
        self.stderr = ""

    def wait(self) -> int:
        """Until it is held; returns the number of the process that says so."""
        until(self.held.exists, self.process)
        return int(self.held.read_text().split()[1])

    def read_until(self, text: str) -> None:
        """Read stderr until it contains `text`."""
        while text not in self.stderr:
            line = self.process.stderr.readline()
            assert line, f"{text!r} is not in {self.stderr!r}"
            self.stderr += line

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def release(self) -> None:
        self.held.with_suffix(".release").touch()

    def end(self) -> tuple[int, str, str]:
        """The exit code and all of stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        self.stderr += stderr
        assert "Traceback" not in self.stderr
        return self.process.returncode, stdout, self.stderr


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition; a process that ends before is a failure."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        assert process is None or process.poll() is None, process.communicate()
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

    def starting(*arguments, **options) -> Started:
        all_started.append(Started(numbers, *arguments, **options))
        return all_started[-1]

    yield starting
    for each in all_started:
        each.process.kill()
        each.process.wait()
        for stream in (each.process.stdout, each.process.stderr):
            if stream:
                stream.close()


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
    started = start(place, "run", "data", start_new_session=True)
    worker = started.wait()
    os.killpg(started.process.pid, number)
    code, _, stderr = started.end()
    assert code == 128 + number
    assert proposed(stderr) == ["run", "data"]
    until(lambda: is_gone(worker))


@pytest.mark.parametrize("place", ["drawing", "native drawing"])
def test_a_killed_command_leaves_no_orphan(start, numbers, place):
    started = start(place, "run", "data")
    worker = started.wait()
    assert worker != started.process.pid
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
import sys, time
from pathlib import Path
import simpipe.runs
def open_run(path):
    (Path.cwd() / "held.part").write_text("held 1")
    (Path.cwd() / "held.part").rename("held")
    time.sleep(1000)
simpipe.runs.open_run = open_run
from simpipe.cli import main
main()
"""


@pytest.mark.parametrize(
    ("place", "arguments", "code"),
    [
        ("native hashing", ["status"], ""),
        ("native hashing", ["run", "data", "--dry-run"], ""),
        ("native hashing", ["run", "data", "--dry-run", "--json"], ""),
        ("", ["query", "1.jpg"], SLOW_QUERY),
    ],
)
@pytest.mark.parametrize("number", [INT, TERM])
def test_what_only_reads_ends_at_once(start, numbers, place, arguments, code, number):
    assert toy("run", "data", cwd=numbers).returncode == 0
    started = start(place, *arguments, code=code)
    started.wait()
    started.send(number)
    ended, stdout, stderr = started.end()
    assert (ended, stdout) == (128 + number, "")
    if "--json" in arguments:
        assert json.loads(stderr)["error"]["code"] == "stopped"
    else:
        assert stderr == ""


def test_what_nohup_ignores_stays_ignored(start):
    started = start("learning", "run", "data", preexec_fn=lambda: signal.signal(HUP, signal.SIG_IGN))
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
        fcntl.ioctl(started.process.stderr, termios.FIONREAD, waiting)
        return struct.unpack("i", waiting)[0] > 60_000

    until(is_full, started.process)
    started.send(INT)
    started.send(TERM)
    assert started.process.wait(PATIENCE) - 128 in (INT, TERM)


@pytest.mark.parametrize("number", [TERM, HUP])
def test_a_listener_that_is_gone_does_not_hold_it_up(start, number):
    started = start("native learning", "run", "data", grace=0.1)
    started.process.stderr.close()
    started.wait()
    started.send(number)
    assert started.process.wait(PATIENCE) == 128 + number


def ctrl_c_on_terminal(start: Callable[..., Started], place: str, *arguments: str) -> tuple[int, str]:
    """Type Ctrl-C on the terminal of a command; its exit code, and all that the terminal was sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

    def take_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    started = start(place, *arguments, preexec_fn=take_terminal, start_new_session=True, **streams)
    os.close(slave)
    worker = started.wait()
    os.write(master, b"\x03")
    shown = b""
    while chunk := _read(master):
        shown += chunk
    os.close(master)
    code = started.process.wait(PATIENCE)
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
def test_stopping_the_real_training_and_going_on_ends_in_the_same_bytes(finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "runs/.cache", tmp_path / "runs/.cache")
    long = ["--config", "quick", "--to", "train", "--set", "train.epochs=40", "--set", "train.patience=40"]
    straight = simpipe("run", "data", "--name", "straight", *long, cwd=tmp_path)
    assert straight.returncode == 0, straight.stderr
    command = [sys.executable, "-c", "from simpipe.cli import main; main()", "run", "data", *long]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "runs/quick"
    until(lambda: any(run.glob(".stage/train@*/0*.npz")), process)
    process.send_signal(INT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert "Traceback" not in stderr
    assert stderr.index("stopping at the next good place") < stderr.index("stopped;")
    again = simpipe(*proposed(stderr), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "training goes on from epoch" in again.stderr
    for file in ("encoder.weights.h5", "encoder.json", "history.csv"):
        expected = (tmp_path / "runs/straight/train" / file).read_bytes()
        assert (run / "train" / file).read_bytes() == expected, file
