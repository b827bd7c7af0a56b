"""Jobs here are (what to do, a number); `work` does it in a worker."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import Job, loaded, work

from simpipe.data import workers as module
from simpipe.data.workers import WINDOW, map_guarded
from simpipe.errors import DataError, StageError, Stopped


def run(jobs: Any, workers: int = 2, seconds: float = 20.0, **options: Any) -> list[Any]:
    return list(
        map_guarded(
            work, jobs, workers=workers, seconds=seconds, fault=lambda job, how: (job, how), **options
        )
    )


def children() -> set[int]:
    """The processes that this one has started and that were not waited for."""
    found = set()
    for thread in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError):
            found |= set(map(int, (thread / "children").read_text().split()))
    return found


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 3_000])
def test_it_is_map(count: int, workers: int) -> None:
    jobs = [("square", number) for number in range(count)]
    assert run(iter(jobs), workers) == [number * number for number in range(count)]


def test_the_jobs_at_fault_and_no_others() -> None:
    bad = {3: "kill", 4: "exit", 40: "quit", 41: "hang", 100: "kill", 299: "kill"}
    jobs = [(bad.get(number, "square"), number) for number in range(300)]
    how = {"hang": "hung"}
    expected = [(job, how.get(job[0], "died")) if job[0] in bad.values() else job[1] ** 2 for job in jobs]
    assert run(jobs, seconds=0.5) == expected


def test_all_hang() -> None:
    jobs = [("hang", 0), ("spin", 1), ("hang", 2)]
    started = time.monotonic()
    assert run(jobs, seconds=0.2) == [(job, "hung") for job in jobs]
    assert time.monotonic() - started < 20


def test_all_die() -> None:
    jobs = [("kill", number) for number in range(4)]
    assert run(jobs) == [(job, "died") for job in jobs]


def test_a_slow_job_is_no_hang_and_time_is_counted_for_each_job() -> None:
    jobs = [("slow", number) for number in range(400)]  # 0.8 s
    assert run(jobs, workers=1, seconds=0.4) == [number * number for number in range(400)]


def test_too_much_memory_is_an_error_of_its_job() -> None:
    gib = 1 << 30
    ours = resource.getrlimit(resource.RLIMIT_AS)
    results = map_guarded(
        work,
        [("allocate", 1000), ("allocate", 3 * gib)],
        workers=1,
        seconds=20,
        fault=lambda job, how: (job, how),
        memory=gib,
    )
    assert next(results) == 1000
    with pytest.raises(MemoryError):
        next(results)
    assert resource.getrlimit(resource.RLIMIT_AS) == ours


@pytest.mark.parametrize(("what", "kind"), [("raise", DataError), ("divide", ZeroDivisionError)])
def test_an_error_comes_in_its_place_with_all_it_says(what: str, kind: type[Exception]) -> None:
    jobs = [(what if number == 50 else "square", number) for number in range(100)]
    results: list[Any] = []
    with pytest.raises(kind) as caught:
        results.extend(map_guarded(work, jobs, workers=2, seconds=20, fault=lambda job, how: how))
    assert results == [number * number for number in range(50)]
    if isinstance(caught.value, DataError):
        assert (caught.value.message, caught.value.hint) == ("no 50", "mend it")
    else:
        assert "in work" in caught.value.__notes__[0]  # where it was raised


@pytest.mark.parametrize(("what", "told"), [("raise_locally", "Local: 7"), ("unsendable", "pickle")])
def test_what_cannot_travel_is_told_in_words(what: str, told: str) -> None:
    with pytest.raises(Exception, match=told):
        run([(what, 7)])


def test_large_jobs_and_results_do_not_block_each_other() -> None:
    size = 3_000_000
    jobs = [("large", size), ("x" * size, 1)] * 10
    assert [result if isinstance(result, int) else len(result) for result in run(jobs)] == [size, 1] * 10


def test_jobs_are_read_no_further_than_the_window() -> None:
    read = 0

    def endless() -> Iterator[Job]:
        nonlocal read
        while True:
            read += 1
            yield ("hang" if read == 1 else "square", read)

    results = map_guarded(work, endless(), workers=2, seconds=0.5, fault=lambda job, how: how)
    with closing(results):
        assert next(results) == "hung"
        assert WINDOW < read <= 2 * WINDOW
        for number in range(2, 5 * WINDOW):
            assert next(results) == number * number
            assert read <= number + 2 * WINDOW


def test_few_jobs_start_few_workers() -> None:
    assert len(set(run([("who", 0)] * module.FIRST, workers=8))) == 1
    assert len(set(run([("who", 0)] * 3 * module.FIRST, workers=3))) == 3
    assert os.getpid() not in run([("who", 0)])


def test_who_stops_early_leaves_nothing_behind() -> None:
    before = children()
    results = map_guarded(
        work, [("square", 2), ("hang", 0)] * 20, workers=3, seconds=60, fault=lambda job, how: how
    )
    assert next(results) == 4
    assert len(children() - before) == 3
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 20, "not the minute that the job would take"


def test_who_waits_can_stop() -> None:
    def stop() -> None:
        raise Stopped

    results = map_guarded(work, [("hang", 0)], workers=1, seconds=60, fault=lambda job, how: how, tick=stop)
    with pytest.raises(Stopped):
        next(results)


def test_a_worker_killed_at_work_costs_no_job() -> None:
    jobs = [("who", 0), *[("nap", number) for number in range(9)]]
    results = map_guarded(work, jobs, workers=1, seconds=20, fault=lambda job, how: -1)
    os.kill(next(results), signal.SIGKILL)
    assert list(results) == [number * number for number in range(9)]


def test_a_worker_killed_while_it_waits_costs_no_job() -> None:
    def jobs() -> Iterator[Job]:
        for number in range(50):
            if number == 30:
                time.sleep(0.3)  # the worker has nothing to do
                os.kill(pids[0], signal.SIGKILL)
                time.sleep(0.2)
            yield ("who", number)

    pids: list[int] = []
    for pid in map_guarded(work, jobs(), workers=1, seconds=20, fault=lambda job, how: -1):
        pids.append(pid)
    assert len(pids) == 50 and -1 not in pids
    assert len(set(pids)) == 2


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    with pytest.raises(StageError, match="ModuleNotFoundError"):
        run([("square", 1)] * 3)


def test_what_workers_say_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([("talk", 3)]) == [9]
    assert capfd.readouterr() == ("", "")


def test_signals_of_the_terminal_do_not_reach_workers() -> None:
    pids = run([("who", 0)])
    results = map_guarded(
        work,
        [("who", 0), *[("slow", 5)] * 200, ("square", 6)],
        workers=1,
        seconds=20,
        fault=lambda job, how: how,
    )
    pid = next(results)
    assert pid not in pids
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert list(results) == [*[25] * 200, 36]


def test_it_works_in_a_thread() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(run([("kill", 0), ("square", 2)])))
    thread.start()
    thread.join()
    assert results == [(("kill", 0), "died"), 4]


SCRIPT = """
    import sys
    from math import sqrt
    from simpipe.data.workers import map_guarded

    print("once")
    print(list(map_guarded(sqrt, [4, 9, 16], workers=2, seconds=20, fault=lambda job, how: how)))
"""


@pytest.mark.parametrize("how", ["script", "stdin", "command"])
def test_a_script_needs_no_main_guard(how: str, tmp_path: Path) -> None:
    text = textwrap.dedent(SCRIPT)
    script = tmp_path / "script.py"
    script.write_text(text)
    arguments = {"script": [str(script)], "stdin": ["-"], "command": ["-c", text]}[how]
    done = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("once\n[2.0, 3.0, 4.0]\n", "")


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from worker_jobs import work
        from simpipe.data.workers import map_guarded
        jobs = [("who", 0)] * 5 + [("slow", 0)] * 100_000
        for pid in map_guarded(work, jobs, workers=2, seconds=20, fault=lambda job, how: how):
            print(pid, flush=True)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = {int(parent.stdout.readline()) for _ in range(5)}
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_load_no_heavy_library() -> None:
    names = ["pyarrow", "tensorflow", "simpipe.data.decode"]
    found = map_guarded(loaded, names, workers=1, seconds=20, fault=lambda name, how: True)
    assert list(found) == [False, False, True]
