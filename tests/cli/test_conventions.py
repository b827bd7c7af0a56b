"""What every command keeps to: which stream, how much, on which terminal, and a way out of every failure."""

import codecs
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from commands import INSTALL, TOYS, executed, proposed, simpipe, toy, toys
from typer.testing import CliRunner
from warm import Server

from simpipe import cli
from simpipe.cli import console
from simpipe.cli.app import app
from simpipe.engine.keys import Reason
from simpipe.engine.lock import run_lock
from simpipe.engine.plan import Assessment
from simpipe.stages import PIPELINE, STAGE_NAMES

RUN = Path("runs/baseline")
COMMANDS = ["run", *STAGE_NAMES, "status", "query", "verify", "gc", "init", "config show", "doctor"]
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def journal(place: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (place / RUN / "log.jsonl").read_text().splitlines()]


# streams and verbosity


def test_results_on_stdout_and_all_else_on_stderr(numbers):
    result = toy("run", "data", cwd=numbers)
    assert result.stdout == f"report  {RUN / 'report.html'}\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "gather     running  not there yet"
    assert lines[1] == "  note: 3 numbers … Zürich → Köln"
    assert [line.split()[0] for line in lines if line.endswith(" s")] == [
        "gather",
        "learn",
        "arrange",
        "report",
    ]


def test_quiet_prints_the_path_of_the_report_and_errors(numbers):
    result = toy("run", "data", "-q", cwd=numbers)
    assert (result.stdout, result.stderr) == (f"{RUN / 'report.html'}\n", "")
    assert "3 numbers … Zürich → Köln" in [line.get("text") for line in journal(numbers)]
    assert toy("gather", "-q", "--force", cwd=numbers).stdout == ""
    failed = toy("run", "nowhere", "-q", cwd=numbers)
    assert failed.stderr.startswith("error: no such folder: nowhere\n")


@pytest.mark.parametrize("command", [["run", "data"], ["index"]])
def test_quiet_and_verbose_exclude_each_other(made, command):
    result = simpipe(*command, "-qv", cwd=made)
    assert result.returncode == 2
    assert "exclude each other" in result.stderr


def test_verbose_tells_all_reasons(made):
    changes = ["--set", "seed=7", "--set", "train.epochs=33"]
    few = toy("run", "data", *changes, "--to", "learn", cwd=made).stderr
    assert "running  seed 0 → 7, and 1 more" in few
    toy("run", "data", "-q", cwd=made)
    every = toy("run", "data", *changes, "--to", "learn", "-v", cwd=made).stderr
    assert "running  seed 0 → 7, train.epochs" in every
    assert "→ 33\n" in every


@pytest.mark.parametrize(
    "command",
    [
        ["run", "nowhere"],
        ["index", "--run", "x"],
        ["status", "--run", "x"],
        ["query", "1.jpg", "--run", "x"],
        ["config", "show", "--run", "x"],
        ["init", "nowhere/x.yaml"],
    ],
)
def test_tracebacks_from_vv_on(tmp_path, command):
    for options, shown in (([], False), (["-v"], False), (["-vv"], True), (["--verbose"] * 2, True)):
        stderr = simpipe(*command, *options, cwd=tmp_path).stderr
        assert ("Traceback" in stderr) == shown, (options, stderr)
        assert stderr.count("error: ") == 1


def test_what_only_looks_like_vv(tmp_path):
    (tmp_path / "-vv").mkdir()
    result = simpipe("run", "nowhere", "--name", "-vv", cwd=tmp_path)
    assert "Traceback" not in result.stderr


def test_a_fault_of_simpipe_is_told_in_a_sentence(monkeypatch, capsys):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("simpipe.cli.rundirs.find_run", broken)
    for arguments in (["status"], ["status", "-vv"]):
        monkeypatch.setattr(sys, "argv", ["simpipe", *arguments])
        assert cli._run() == 1
        told = capsys.readouterr().err
        assert "error: ZeroDivisionError: by zero\n" in told
        assert "simpipe doctor --json" in told
        assert ("in broken" in told) == ("-vv" in arguments)


# pipes and closed streams


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, with the toys as `simpipe`; it ends with the codes of the last pipeline's parts."""
    script = f'simpipe() {{ "{sys.executable}" "{TOYS}" "$@"; }}\n{line}\necho "${{PIPESTATUS[@]}}"'
    return subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "stdout"),
    [
        ("simpipe status | true", "0 0\n"),
        ("simpipe config show 2>&1 | head -1 | wc -l", "1\n0 0 0\n"),
        ("simpipe status >&-", "0\n"),
        ("simpipe run data -q --force >&-", "0\n"),
        ("simpipe run data --force >&- 2>&- <&-", "0\n"),
        ("simpipe run data --force -q 2>/dev/full", f"{RUN}/report.html\n0\n"),
        ("simpipe run data --force -q --json 2>&1 >&- | wc -c", "0\n0 0\n"),
        ("simpipe run nowhere 2>&-", "2\n"),
        ("simpipe run nowhere 2>/dev/full", "2\n"),
        ("simpipe run nowhere 2>&1 >&- | true", "2 0\n"),
    ],
)
def test_nobody_needs_to_listen(made, line, stdout):
    result = shell(line, made)
    assert (result.stdout, result.stderr) == (stdout, "")


def test_progress_that_nobody_takes_stops_no_run(numbers):
    (numbers / "data/numbers.txt").write_text("4 5 6\n")
    result = shell("simpipe run data -q; simpipe run data --force 2>&1 >out | true; cat out", numbers)
    assert "report.html" in (numbers / "out").read_text()
    assert "Traceback" not in result.stderr + result.stdout


def test_results_that_cannot_be_written(made):
    result = shell("simpipe status >/dev/full", made)
    assert result.stdout == "7\n"
    assert result.stderr.startswith("error: the results cannot be written: ")
    assert len(result.stderr.splitlines()) == 1


# terminals


def on_terminal(columns: int, *arguments: str, cwd: Path, **environment: str) -> tuple[str, str]:
    """What the command with the toys writes to stdout, a file, and to stderr, a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = io.BytesIO()

    def watch() -> None:
        try:
            while chunk := os.read(master, 4096):
                shown.write(chunk)
        except OSError:  # how Linux says that the last process has let go of a terminal
            pass

    on_it = (
        "import os, sys",
        f"os.dup2(os.open({os.ttyname(slave)!r}, os.O_RDWR | os.O_NOCTTY), 2)",
        "sys.stderr = open(2, 'w', 1, closefd=False)",
    )
    variables = {"TERM": "xterm-256color", "COLUMNS": "", **environment}
    watcher = threading.Thread(target=watch)
    watcher.start()
    ended = toys().run(*arguments, cwd=cwd, environment=variables, code="\n".join(on_it))
    os.close(slave)
    watcher.join()
    os.close(master)
    assert ended.code == 0, shown.getvalue()
    return ended.stdout, shown.getvalue().decode()


COLOUR = re.compile(r"\x1b\[[\d;]*[1-9][\d;]*m")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}])
def test_a_terminal_gets_a_bar_without_colours_that_leaves_nothing_behind(numbers, environment):
    stdout, shown = on_terminal(100, "run", "data", cwd=numbers, **environment)
    assert "learning ━" in shown
    assert "4/4 epochs" in shown
    assert not COLOUR.search(shown)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor stays hidden"
    assert stdout == f"report  {RUN / 'report.html'}\n"


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(100, {"TERM": "dumb"}), (100, {"TERM": ""}), (20, {}), (0, {}), (20, {"FORCE_COLOR": "1"})],
)
def test_a_dumb_or_narrow_terminal_gets_plain_lines(numbers, columns, environment):
    _, shown = on_terminal(columns, "run", "data", cwd=numbers, **environment)
    assert "\x1b" not in shown
    assert "\r" not in shown.replace("\r\n", "\n")
    assert "learn      running  not there yet\r\n" in shown


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_a_terminal_that_is_to_stay_empty(numbers, option):
    assert on_terminal(100, "run", "data", option, cwd=numbers)[1] == ""


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_a_terminal_there_are_neither_codes_nor_returns(numbers, environment):
    for command in (["run", "data"], ["status"], ["run", "data", "--bogus"], ["--help"], ["run", "--help"]):
        result = toy(*command, cwd=numbers, **environment)
        for text in (result.stdout, result.stderr):
            assert "\x1b" not in text
            assert "\r" not in text


def test_without_a_terminal_a_line_each_half_minute(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    told = console.Console()
    told.begin("train", 60, "epochs")
    for epoch in range(1, 61):
        now += 4.0
        told.advance(1, f"loss {epoch}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  train 8 of 60 epochs loss 8, 0.2/s, 3:28 left"
    assert len(lines) == 60 * 4 // 32
    told.begin("unknown length")
    now += 31
    told.advance()
    assert capsys.readouterr().err == "  unknown length 1\n"


def test_a_stage_with_many_reasons_says_how_many_there_are(capsys):
    reasons = [Reason("config", f"k{i}", i, i + 1) for i in range(3)]
    console.Console().stage_starts(Assessment(PIPELINE[0], "stale", reasons))
    assert capsys.readouterr().err == "ingest     running  k0 0 → 1, and 2 more\n"


# encodings


def test_characters_that_the_terminal_lacks_have_stand_ins(numbers, monkeypatch):
    for name, value in NO_UTF8.items():
        monkeypatch.setenv(name, value)
    with Server(INSTALL) as anew:
        told = anew.run("run", "data", cwd=numbers).stderr
        assert "note: 3 numbers ... Z\\xfcrich -> K\\xf6ln\n" in told
        shown = anew.run("run", "data", "--set", "seed=7", "--dry-run", cwd=numbers)
        assert "seed 0 -> 7" in shown.stdout
        failed = anew.run("report", "--set", "seed=7", "--run", "nobody…", cwd=numbers)
        assert failed.code == 2
        assert "\n  -> " in failed.stderr
        for command in (["--help"], ["run", "--help"], ["query", "--help"]):
            assert anew.run(*command, cwd=numbers).stdout.isascii()


def test_an_encoding_with_some_of_them_keeps_those(numbers):
    result = toy("run", "data", cwd=numbers, PYTHONIOENCODING="utf-8")
    assert "Zürich → Köln" in result.stderr
    codecs.register_error("plain", cli._spell_plainly)
    assert "Zürich → Köln".encode("latin-1", errors="plain") == b"Z\xfcrich -> K\xf6ln"


def test_names_that_are_no_text_are_shown_all_the_same(numbers):
    name = os.fsdecode(b"n\xff")
    result = toy("run", name, cwd=numbers)
    assert result.returncode == 2
    assert "n\\udcff" in result.stderr


# every failure ends with a command that mends it


def lose_run_json(place: Path) -> None:
    (place / RUN / "run.json").unlink()


def halve_run_json(place: Path) -> None:
    path = place / RUN / "run.json"
    path.write_bytes(path.read_bytes()[:40])


def corrupt(place: Path) -> None:
    (place / RUN / "learn/weights.json").write_text("rubbish")


def halve_receipt(place: Path) -> None:
    path = place / RUN / "learn/_stage.json"
    path.write_bytes(path.read_bytes()[:100])


def change_data(place: Path) -> None:
    (place / "data/numbers.txt").write_text("7 8 9\n")


def nothing(place: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "arguments", "code"),
    [
        (lose_run_json, ["status"], 5),
        (lose_run_json, ["report"], 5),
        (halve_run_json, ["status"], 5),
        (halve_run_json, ["report"], 5),
        (corrupt, ["arrange"], 5),
        (corrupt, ["run", "data", "--from", "arrange"], 5),
        (halve_receipt, ["arrange"], 5),
        (halve_receipt, ["status", "--check"], 3),
        (corrupt, ["status", "--check"], 3),
        (change_data, ["status", "--check"], 3),
        (change_data, ["learn"], 4),
        (nothing, ["arrange", "--set", "seed=5"], 4),
        (nothing, ["run", "data", "--from", "arrange", "--set", "seed=5"], 4),
        (nothing, ["run", "data", "--config", "mine.yaml", "--name", "baseline", "--only", "report"], 4),
        (nothing, ["run", "data", "--name", "other", "--from", "arrange"], 4),
    ],
)
def test_the_proposed_command_mends_it(made, spoil, arguments, code):
    (made / "mine.yaml").write_text("seed: 6\n")
    spoil(made)
    failed = toy(*arguments, cwd=made)
    assert failed.returncode == code, failed.stderr
    assert "Traceback" not in failed.stderr
    mended = toy(*proposed(failed.stderr, DATA="data"), cwd=made)
    assert mended.returncode == 0, mended.stderr
    again = toy(*arguments, cwd=made)
    assert again.returncode == 0, again.stderr


def test_status_ends_with_the_command_that_mends_the_run(made):
    change_data(made)
    elsewhere = made / "else where"
    elsewhere.mkdir()
    shown = toy("status", "--runs-dir", "../runs", cwd=elsewhere).stdout
    assert executed(toy(*proposed(shown), "--json", cwd=elsewhere)) == [
        "gather",
        "learn",
        "arrange",
        "report",
    ]
    fresh = toy("status", "--check", cwd=made)
    assert (fresh.returncode, fresh.stderr) == (0, "")
    assert "→" not in fresh.stdout


def test_a_locked_run_proposes_to_wait(made):
    with run_lock(made / RUN):
        failed = toy("run", "data", cwd=made)
        assert failed.returncode == 6
    assert proposed(failed.stderr)[:3] == ["run", "data", "--wait"]
    assert toy(*proposed(failed.stderr), cwd=made).returncode == 0


def test_a_failing_stage_ends_with_where_to_look(made):
    (made / "data/numbers.txt").write_bytes(b"\xff\xfe")
    failed = toy("run", "data", cwd=made)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    log = made / failed.stderr.rstrip().rpartition(" ")[2]
    assert "UnicodeDecodeError" in log.read_text()


# help


def help_of(*command: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": str(columns)}, prog_name="simpipe")
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_examples_that_it_understands(command):
    shown = help_of(*command.split())
    assert all(len(line) <= 80 for line in shown.splitlines())
    examples = re.findall(r"^    (simpipe .*)$", shown, re.MULTILINE)
    assert examples, shown
    for example in examples:
        words = example.partition(" > ")[0].split()
        assert words[1 : 1 + len(command.split())] == command.split()
        options = {word for word in words if word.startswith("-")}
        assert all(re.search(rf"(^|[\s,]){option}\b", shown, re.MULTILINE) for option in options), example


def test_the_overview_lists_the_stages_in_order_and_cuts_no_sentence():
    shown = help_of()
    listed = re.findall(r"^  (\w+)  ", shown.partition("Commands:")[2], re.MULTILINE)
    assert tuple(name for name in listed if name in STAGE_NAMES) == STAGE_NAMES
    assert {command.split()[0] for command in COMMANDS} == set(listed)
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("columns", [1, 20, 300])
def test_help_on_any_terminal(columns):
    for command in COMMANDS:
        assert help_of(*command.split(), columns=columns).startswith("Usage: simpipe")
