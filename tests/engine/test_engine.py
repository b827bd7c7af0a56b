"""The engine on toy stages: what runs, why, and what a failure leaves."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy import NAMES, RAN, TOYS, Double, Read, Recorder, ToyConfig, content, double, read, total

from simpipe.engine import child
from simpipe.engine.child import beside
from simpipe.engine.execute import execute
from simpipe.engine.lock import holder, run_lock
from simpipe.engine.plan import Request, look, plan, select
from simpipe.engine.requirements import require_same_data, require_upstream
from simpipe.engine.rundir import RECEIPT, RunDir, commit, new_staging, recover, seal
from simpipe.engine.stage import Context, DeclaredConfig, Stage, declared, keys_read, stage
from simpipe.errors import (
    DamagedError,
    DataError,
    DiskError,
    LockedError,
    NewerError,
    StageError,
    Stopped,
    UpstreamError,
    UsageError,
)
from simpipe.files import read_json, write_json


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("1 2 3")
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    RAN.clear()
    return RunDir(tmp_path / "runs" / "toy")


def request(run: RunDir, config: ToyConfig | None = None, **changes) -> Request:
    config = config or ToyConfig()
    wanted = Request(run.path.parents[1] / "data", config, config.flat(), NAMES)
    return look(run, TOYS, replace(wanted, **changes))


def ran(run: RunDir, config: ToyConfig | None = None, stages=TOYS, **changes) -> list[str]:
    """Execute, and return the stages whose body ran."""
    RAN.clear()
    wanted = request(run, config, **changes)
    require_upstream(run, stages, wanted)
    execute(run, stages, wanted, Recorder())
    return list(RAN)


def states(run: RunDir, config: ToyConfig | None = None, **changes) -> dict[str, str]:
    return {each.stage.name: each.state for each in plan(run, TOYS, request(run, config, **changes))}


def result(run: RunDir) -> int:
    return json.loads((run.stage("total") / "total.json").read_text())


def test_everything_runs_once_and_the_second_time_nothing(run):
    assert states(run) == {"read": "missing", "double": "missing", "total": "missing"}
    assert ran(run) == ["read", "double", "total"]
    assert result(run) == 12
    assert ran(run) == []
    assert set(states(run).values()) == {"fresh"}
    assert not (run.path / ".stage").exists() or not any((run.path / ".stage").iterdir())


def test_a_key_makes_stale_only_the_stages_that_declare_it(run):
    ran(run)
    assert states(run, ToyConfig(double=Double(3))) == {
        "read": "fresh",
        "double": "stale",
        "total": "pending",
    }
    assert ran(run, ToyConfig(double=Double(3))) == ["double", "total"]
    assert result(run) == 18


def test_the_reason_names_the_key_and_both_values(run):
    ran(run)
    stale = list(plan(run, TOYS, request(run, ToyConfig(double=Double(5)))))[1]
    assert [reason.to_json() for reason in stale.reasons] == [
        {"code": "config", "key": "double.factor", "old": 2, "new": 5}
    ]


def test_early_cut_off_stops_where_the_output_is_the_same(run):
    ran(run)
    assert ran(run, ToyConfig(read=Read(50))) == ["read"], "no number is above 50: the output is the same"
    assert set(states(run, ToyConfig(read=Read(50))).values()) == {"fresh"}


def test_touching_the_source_runs_nothing_and_changing_it_runs_what_depends_on_it(run):
    ran(run)
    numbers = run.path.parents[1] / "data" / "numbers.txt"
    os.utime(numbers, (1, 1))
    assert ran(run) == []
    numbers.write_text("1 2 4")
    assert ran(run) == ["read", "double", "total"]


def test_force_runs_what_is_fresh_and_what_follows_is_still_cut_off(run):
    ran(run)
    assert ran(run, forced=frozenset(["double"])) == ["double"]


def test_a_raised_version_makes_the_stage_stale(run):
    ran(run)
    newer = replace(double, version=2)
    assert ran(run, stages=(read, newer, total)) == ["double"]


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "empty"])
def test_a_damaged_output_is_named_and_rebuilt_by_run_and_refused_by_a_later_stage_alone(run, damage):
    ran(run)
    victim = run.stage("double") / "doubled.json"
    raw = victim.read_bytes()
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes({"truncate": raw[:-1], "flip": b"{" + raw[1:], "empty": b""}[damage])
    assert states(run)["double"] == "damaged"
    with pytest.raises(DamagedError, match=r"doubled\.json"):
        ran(run, selected=["total"])
    assert ran(run) == ["double"]
    assert result(run) == 12


def test_a_log_may_be_lost(run):
    ran(run)
    (run.stage("read") / "log.txt").unlink()
    assert set(states(run).values()) == {"fresh"}


def test_a_lone_stage_refuses_a_stale_upstream_and_says_what_mends_it(run):
    ran(run)
    with pytest.raises(UpstreamError) as refused:
        ran(run, ToyConfig(double=Double(7)), selected=["total"])
    assert refused.value.exit_code == 4
    assert "double.factor 2 → 7" in refused.value.message
    assert "--to double" in str(refused.value.hint)
    assert RAN == []


def test_a_lone_stage_rebuilds_just_itself(run):
    ran(run)
    for file in run.stage("double").iterdir():
        file.unlink()
    run.stage("double").rmdir()
    assert ran(run, selected=["double"]) == ["double"]
    assert set(states(run).values()) == {"fresh"}


def test_a_failing_stage_leaves_the_old_generation_and_the_run_goes_on_from_there(run):
    ran(run)

    def broken(ctx: Context) -> None:
        (ctx.out / "doubled.json").write_text("half")
        raise ValueError("no")

    with pytest.raises(StageError, match="double failed: ValueError: no"):
        ran(run, ToyConfig(double=Double(3)), stages=(read, replace(double, run=broken), total))
    assert result(run) == 12
    assert states(run)["double"] == "fresh", "for the old configuration the old generation is still right"
    assert "Traceback" in (run.path / "log.jsonl").read_text()
    assert ran(run, ToyConfig(double=Double(3))) == ["double", "total"]


def test_a_full_disk_is_a_disk_error(run):
    def full(ctx: Context) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskError) as error:
        ran(run, stages=(replace(read, run=full), double, total))
    assert error.value.exit_code == 7


def test_a_source_that_changes_while_it_is_read_commits_nothing(run):
    numbers = run.path.parents[1] / "data" / "numbers.txt"

    def edited_meanwhile(ctx: Context) -> None:
        read.run(ctx)
        numbers.write_text("9 9 9")

    with pytest.raises(DataError, match=r"changed while read ran: numbers\.txt has other content"):
        ran(run, stages=(replace(read, run=edited_meanwhile), double, total))
    assert states(run)["read"] == "missing"
    assert ran(run) == ["read", "double", "total"]
    assert result(run) == 54


def sealed_by_a_dead_run(run, content: str, config: ToyConfig | None = None) -> None:
    """What a run of `double` leaves that is killed after its receipt and before its commit."""
    staged = new_staging(run, "double")
    (staged / "doubled.json").write_text(content)
    wanted = list(plan(run, TOYS, request(run, config)))[1]
    seal(staged, double, {"stage": "double", "key": wanted.key, "key_doc": wanted.key_document})


def test_what_was_finished_before_a_kill_is_committed_and_not_run_again(run):
    ran(run)
    wanted = ToyConfig(double=Double(3))
    sealed_by_a_dead_run(run, "[3, 6, 9]", wanted)
    assert states(run, wanted)["double"] == "finished"
    assert ran(run, wanted) == ["total"]
    assert result(run) == 18
    assert not (run.path / ".stage").exists()


def test_what_was_finished_under_another_key_is_not_committed(run):
    ran(run)
    sealed_by_a_dead_run(run, "[7]", ToyConfig(double=Double(7)))
    assert states(run)["double"] == "fresh"
    assert ran(run, ToyConfig(double=Double(3))) == ["double", "total"]
    assert result(run) == 18
    assert not (run.path / ".stage").exists()


@pytest.mark.parametrize("new_one_is_sealed", [True, False])
def test_a_kill_between_the_two_renames_is_mended(run, new_one_is_sealed):
    ran(run)
    if new_one_is_sealed:
        sealed_by_a_dead_run(run, "[2, 4, 6]")
    (run.path / ".old").mkdir()
    run.stage("double").rename(run.path / ".old" / "double.12345678")
    assert set(states(run).values()) == {"fresh"}, "readers find the generation that counts"
    assert len(recover(run, TOYS)) == 1
    assert set(states(run).values()) == {"fresh"}
    assert ran(run) == []
    assert not (run.path / ".old").exists()
    assert not (run.path / ".stage").exists()


def test_half_made_staging_is_cleared(run):
    ran(run)
    (new_staging(run, "double") / "doubled.json").write_text("ha")
    assert ran(run) == []
    assert not (run.path / ".stage").exists()


def test_a_commit_that_the_disk_refuses_leaves_the_old_generation(run, monkeypatch):
    ran(run)
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if ".stage" in path.parts:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(DiskError):
        ran(run, ToyConfig(double=Double(3)))
    assert result(run) == 12
    assert set(states(run).values()) == {"fresh"}
    monkeypatch.undo()
    assert ran(run, ToyConfig(double=Double(3))) == ["total"], "double was finished, only its commit was not"
    assert result(run) == 18


def test_commit_replaces_whole_folders(run):
    ran(run)
    (run.stage("total") / "stray").write_text("left by hand")
    ran(run, forced=frozenset(["total"]))
    assert not (run.stage("total") / "stray").exists()
    with pytest.raises(FileNotFoundError):
        commit(run, "double", run.path / "nowhere")
    assert result(run) == 12


@stage(version=1, reads=("double/doubled.json",), outputs=("counted.txt",))
def resumable(ctx: Context) -> None:
    """Count to five, one a run."""
    ctx.checkpoints.mkdir(exist_ok=True)
    steps = len(list(ctx.checkpoints.iterdir()))
    (ctx.checkpoints / str(steps)).write_text("")
    if steps < 4:
        raise Stopped("stopped", signal=15)
    (ctx.out / "counted.txt").write_text("5")


def test_checkpoints_outlive_a_stop_belong_to_one_key_and_go_with_the_commit(run):
    stages = (read, double, resumable)
    wanted = ("read", "double", "resumable")
    for _ in range(3):
        with pytest.raises(Stopped):
            ran(run, stages=stages, selected=wanted)
    assert [each.state for each in plan(run, stages, request(run))][2] == "interrupted"
    other = ToyConfig(double=Double(3))
    with pytest.raises(Stopped):
        ran(run, other, stages=stages, selected=wanted)
    assert sorted(len(list(each.iterdir())) for each in (run.path / ".stage").glob("resumable@*")) == [1, 3]
    with pytest.raises(Stopped):
        ran(run, stages=stages, selected=wanted)
    ran(run, stages=stages, selected=wanted)
    assert (run.stage("resumable") / "counted.txt").read_text() == "5"
    assert not (run.path / ".stage").exists()


def test_a_stage_that_writes_other_files_than_it_declares_is_a_bug_that_shows(run):
    def stray(ctx: Context) -> None:
        read.run(ctx)
        (ctx.out / "more.txt").write_text("")

    with pytest.raises(StageError, match="declares"):
        ran(run, stages=(replace(read, run=stray), double, total))


@pytest.mark.parametrize(
    "content_of_receipt",
    [
        *("", "{", "[]", '{"schema": "simpipe.stage/1"}', '{"schema": "simpipe.stage/2"}'),
        '{"schema": "simpipe.stage/2", "key": "", "key_doc": {}, "outputs": {"a": {}}, "logs": {}}',
    ],
)
def test_an_unreadable_or_older_receipt_is_damage_with_the_file_named(run, content_of_receipt):
    ran(run)
    (run.stage("double") / RECEIPT).write_text(content_of_receipt)
    damaged = list(plan(run, TOYS, request(run)))[1]
    assert damaged.state == "damaged"
    assert RECEIPT in str(damaged.reasons[0])
    assert ran(run) == ["double"]


@pytest.mark.parametrize("member", ["key", "key_doc", "outputs"])
def test_a_receipt_that_contradicts_itself_is_damage(run, member):
    ran(run)
    path = run.stage("double") / RECEIPT
    document = read_json(path)
    document[member] = "" if member == "key" else {}
    write_json(path, document)
    assert states(run)["double"] == "damaged" or member == "outputs"
    assert ran(run) == ["double"]


def test_a_newer_receipt_is_neither_read_nor_replaced(run):
    ran(run)
    newer = '{"schema": "simpipe.stage/99", "simpipe": "9.1"}'
    (run.stage("double") / RECEIPT).write_text(newer)
    with pytest.raises(NewerError, match=r"simpipe 9\.1 wrote it"):
        ran(run, ToyConfig(read=Read(2)))
    assert (run.stage("double") / RECEIPT).read_text() == newer


def test_an_artifact_that_changes_while_a_later_stage_reads_it_commits_nothing(run):
    def meddled_with(ctx: Context) -> None:
        total.run(ctx)
        ctx.path("double/doubled.json").write_text("[1, 1, 1]")

    with pytest.raises(DataError, match=r"changed while total ran: .*doubled\.json"):
        ran(run, stages=(read, double, replace(total, run=meddled_with)))
    assert states(run)["total"] == "missing"
    assert ran(run) == ["double", "total"]


def test_stages_cannot_read_what_they_do_not_declare(run):
    context = Context(total, *[run.path] * 6, None, Recorder())
    with pytest.raises(LookupError, match=r"read/numbers\.json"):
        context.path("read/numbers.json")
    config = DeclaredConfig(ToyConfig(), ("read.limit",))
    assert config.read.limit == 100
    assert keys_read(config) == {"read.limit"}
    with pytest.raises(LookupError, match=r"double"):
        _ = config.double


def test_declared_takes_sections_and_keys_but_no_namesakes():
    values = {"train.lr": 1, "train.epochs": 2, "trainer.x": 3, "seed": 4}
    assert declared(values, ("train", "seed")) == {"train.lr": 1, "train.epochs": 2, "seed": 4}
    assert declared(values, ("train.lr",)) == {"train.lr": 1}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["read", "double", "total"]),
        (("double",), ["double", "total"]),
        ((None, "double"), ["read", "double"]),
        ((None, None, "total"), ["total"]),
    ],
)
def test_select(arguments, expected):
    assert select(NAMES, *arguments) == expected


@pytest.mark.parametrize("arguments", [("total", "read"), ("nothing",), ("read", None, "total")])
def test_select_refuses(arguments):
    with pytest.raises(UsageError):
        select(NAMES, *arguments)


def test_moved_data_are_the_same_data_and_other_data_are_refused(run):
    ran(run)
    config = {"sha256": "", "values": {}}
    document = {"schema": "simpipe.run/1", "source": str(request(run).source), "config": config}
    write_json(run.path / "run.json", document)
    other = run.path.parents[1] / "other"
    other.mkdir()
    (other / "numbers.txt").write_text("1 2 3")
    require_same_data(run, TOYS, request(run, source=other))
    (other / "numbers.txt").write_text("4")
    with pytest.raises(UsageError, match="is about other data"):
        require_same_data(run, TOYS, request(run, source=other))


def test_a_source_that_is_gone_is_taken_as_it_was_where_that_is_allowed(run):
    ran(run)
    gone = run.path.parents[1] / "gone"
    assert set(states(run, source=gone, source_may_be_gone=True).values()) == {"fresh"}


@stage(version=1, outputs=("pid.txt",), own_process=True)
def apart(ctx: Context) -> None:
    """Say which process this is."""
    ctx.progress.note("hello")
    (ctx.out / "pid.txt").write_text(str(os.getpid()))


@stage(version=1, outputs=("never.txt",), own_process=True)
def dies(ctx: Context) -> None:
    """Die like a process that is out of memory."""
    os.kill(os.getpid(), 9)


@stage(version=1, outputs=("never.txt",), own_process=True)
def refuses(ctx: Context) -> None:
    """Fail with an error for people."""
    raise DataError("bad picture", hint="look at it")


def _alone(run: RunDir, one: Stage) -> Recorder:
    recorder = Recorder()
    execute(run, (one,), request(run, selected=[one.name]), recorder)
    return recorder


def test_a_stage_with_its_own_process(run):
    recorder = _alone(run, apart)
    assert ("note", "hello") in recorder.heard
    assert int((run.stage("apart") / "pid.txt").read_text()) != os.getpid()


def test_the_death_and_the_errors_of_a_process_arrive(run):
    with pytest.raises(StageError, match="SIGKILL"):
        _alone(run, dies)
    with pytest.raises(DataError, match="bad picture") as error:
        _alone(run, refuses)
    assert error.value.hint == "look at it"


def _told(text: str) -> tuple[str, int]:
    return text, os.getpid()


def _refused() -> None:
    raise DataError("bad picture", hint="look at it")


def _broken() -> None:
    raise ZeroDivisionError("by nothing")


def _killed() -> None:
    os.kill(os.getpid(), 9)


def test_work_beside_comes_back_from_a_process_of_its_own():
    with beside(_told, "hello") as answer:
        text, pid = answer()
    assert text == "hello"
    assert pid != os.getpid()


@pytest.mark.parametrize(
    ("work", "error", "told"),
    [
        (_refused, DataError, "bad picture"),
        (_broken, RuntimeError, "ZeroDivisionError: by nothing"),
        (_killed, StageError, "SIGKILL"),
    ],
)
def test_the_death_and_the_errors_of_work_beside_arrive(work, error, told):
    with beside(work) as answer, pytest.raises(error, match=told):
        answer()


def _die_at_once(pipe: object) -> None:
    os.kill(os.getpid(), 9)


def test_large_things_go_to_and_fro():
    much = os.urandom(5_000_000)
    with beside(bytes, much) as answer:
        assert answer() == much
        assert answer() == much, "asked twice"


def test_nobody_waits_for_an_answer_that_is_not_asked_for():
    with beside(bytes, 50_000_000):
        pass


def test_a_process_that_dies_before_it_reads_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(child, "_answer", _die_at_once)
    with beside(bytes, os.urandom(5_000_000)) as answer, pytest.raises(StageError, match="SIGKILL"):
        answer()


def test_work_beside_ends_with_the_work_that_it_was_for():
    started = time.monotonic()
    with pytest.raises(KeyError), beside(time.sleep, 60):
        raise KeyError
    assert time.monotonic() - started < 30


@stage(version=1, outputs=("never.txt",), own_process=True)
def helped_badly(ctx: Context) -> None:
    """Have help that fails."""
    with beside(_broken) as answer:
        answer()


def test_an_error_of_the_help_is_told_once(run):
    with pytest.raises(StageError, match=r"failed: RuntimeError: ZeroDivisionError: by nothing"):
        _alone(run, helped_badly)


@stage(version=1, outputs=("text.txt",), own_process=True)
def helped(ctx: Context) -> None:
    """Have help from a process beside its own."""
    with beside(_told, "hello") as answer:
        (ctx.out / "text.txt").write_text(answer()[0])


def test_a_stage_with_its_own_process_may_have_one_beside_it(run):
    _alone(run, helped)
    assert (run.stage("helped") / "text.txt").read_text() == "hello"


HOLD = """
import sys, time
from pathlib import Path
from simpipe.engine.lock import holder, run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_names_its_holder_and_dies_with_it(run):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LockedError, match=f"process {holder.pid}"), run_lock(run.path):
        pass
    holder.kill()
    holder.wait()
    with run_lock(run.path):
        pass


def test_content_is_asked_with_a_listener(run):
    assert content(request(run).source, {}, run.cache, Recorder(), False).hashes.keys() == {"data"}


def test_a_file_that_the_configuration_names_counts_by_content_and_must_not_change(run):
    weights = run.path.parents[1] / "weights.bin"
    weights.write_text("one")

    def asked(stages=TOYS) -> None:
        config = ToyConfig(double=Double(str(weights)))  # type: ignore[arg-type]
        wanted = replace(request(run), config=config, values=config.flat(), files=("double.factor",))
        RAN.clear()
        execute(run, stages, look(run, TOYS, wanted), Recorder())

    def constant(ctx: Context) -> None:
        RAN.append("double")
        (ctx.out / "doubled.json").write_text("[1]")

    def edited_meanwhile(ctx: Context) -> None:
        constant(ctx)
        weights.write_text("two")

    asked((read, replace(double, run=constant), total))
    with pytest.raises(DataError, match=r"weights\.bin \(double\.factor\) has other content"):
        weights.write_text("three")
        asked((read, replace(double, run=edited_meanwhile), total))
    weights.rename(weights.with_name("elsewhere.bin")).rename(weights)
    weights.write_text("one")
    asked((read, replace(double, run=constant), total))
    assert RAN == [], "the file that it was made with is there again"


def test_what_a_newer_version_left_in_the_middle_of_a_commit_is_let_be(run):
    ran(run)
    left = run.path / ".stage" / "double.12345678"
    left.parent.mkdir()
    run.stage("double").rename(left)
    newer = {**read_json(left / RECEIPT), "schema": "simpipe.stage/99", "simpipe": "9.1"}
    write_json(left / RECEIPT, newer)
    for look_at_it in (lambda: states(run), lambda: recover(run, TOYS)):
        with pytest.raises(NewerError, match=r"9\.1"):
            look_at_it()
    assert read_json(left / RECEIPT) == newer


def test_recovery_says_whether_it_went_on_or_back(run):
    ran(run)
    (run.path / ".old").mkdir()
    run.stage("double").rename(run.path / ".old" / "double.12345678")
    assert recover(run, TOYS) == [
        "double: the last run ended in the middle of its commit; put back as it was"
    ]
    (run.path / ".stage").mkdir(exist_ok=True)
    run.stage("double").rename(run.path / ".stage" / "double.12345678")
    assert recover(run, TOYS) == ["double: the last run ended in the middle of its commit; finished now"]


def test_a_generation_that_cannot_be_renamed_is_copied(run, monkeypatch):
    """In a container, what its image holds can only be copied."""
    ran(run)
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path == run.stage("double"):
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    assert ran(run, ToyConfig(double=Double(3))) == ["double", "total"]
    assert result(run) == 18
    assert not (run.path / ".old").exists()


@pytest.mark.parametrize("stray", [".DS_Store", ".nfs0001"])
def test_what_a_system_drops_into_a_folder_does_no_harm(run, stray):
    def littered(ctx: Context) -> None:
        double.run(ctx)
        (ctx.out / stray).write_text("")

    assert ran(run, stages=(read, replace(double, run=littered), total)) == ["read", "double", "total"]


def test_a_stage_that_calls_exit_has_failed(run):
    def leaving(ctx: Context) -> None:
        raise SystemExit(0)

    with pytest.raises(StageError, match="SystemExit"):
        ran(run, stages=(read, replace(double, run=leaving), total))


def test_a_line_of_the_log_that_was_cut_short_spoils_no_other(run):
    ran(run)
    log = run.path / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"time": "2026-')
    ran(run, forced=frozenset(["total"]))
    lines = log.read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "ran"
    assert sum(not line.endswith("}") for line in lines) == 1


def test_who_holds_a_run_is_not_mistaken_for_whoever_has_its_number_now(run):
    signed = {"pid": os.getpid(), "host": socket.gethostname(), "since": "long ago", "command": "simpipe"}
    for birth, pid in (("another start of the machine", os.getpid()), (None, 2**40)):
        (run.path / ".lock").write_text(json.dumps({**signed, "pid": pid, "birth": birth}))
        assert holder(run.path) is None
    with run_lock(run.path):
        assert holder(run.path).pid == os.getpid()
