"""Random lives of a run: edits of configuration, data and artifacts, kills, and runs of all kinds.

After each the dry plan is held against what then runs, and both against a model of what has to run: a stage
runs if it is forced, if its files are not what it wrote, or if what it read is not what it reads now.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from toy import NAMES, RAN, TOYS, Double, Read, Recorder, ToyConfig

from simpipe.engine.execute import execute
from simpipe.engine.plan import Request, look, plan, select
from simpipe.engine.requirements import require_upstream
from simpipe.engine.rundir import RECEIPT, RunDir, new_staging, recover
from simpipe.errors import DamagedError, UpstreamError

OUTPUT = {"read": "numbers.json", "double": "doubled.json", "total": "total.json"}
UPSTREAM = {"read": None, "double": "read", "total": "double"}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Life(RuleBasedStateMachine):
    """`made` is the model: for each stage what it read when it was committed; None where it is spoilt."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.data = self.place / "data"
        self.data.mkdir()
        (self.data / "numbers.txt").write_text("1 2 3")
        self.run = RunDir(self.place / "runs" / "toy")
        self.run.path.mkdir(parents=True)
        self.config = ToyConfig()
        self.made: dict[str, Any] = dict.fromkeys(NAMES)

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    # ---- the model

    def wanted(self, name: str, outputs: dict[str, Any]) -> Any:
        """What the stage would read, given what the stages before it hold."""
        if name == "read":
            return ((self.data / "numbers.txt").read_text(), self.config.read.limit)
        return (outputs[UPSTREAM[name]], self.config.double.factor if name == "double" else None)

    @staticmethod
    def result(name: str, read: Any) -> Any:
        if name == "read":
            text, limit = read
            return [min(int(word), limit) for word in text.split()]
        return [n * read[1] for n in read[0]] if name == "double" else sum(read[0])

    def outputs(self) -> dict[str, Any]:
        return {name: self.result(name, read) for name, read in self.made.items() if read is not None}

    def is_fresh(self, name: str) -> bool:
        before = UPSTREAM[name]
        if self.made[name] is None or (before and not self.is_fresh(before)):
            return False
        return self.made[name] == self.wanted(name, self.outputs())

    # ---- what happens to a run

    @rule(limit=st.sampled_from([2, 50, 100]))
    def set_a_limit(self, limit: int) -> None:
        self.config = ToyConfig(Read(limit), self.config.double)

    @rule(factor=st.sampled_from([2, 3]))
    def set_a_factor(self, factor: int) -> None:
        self.config = ToyConfig(self.config.read, Double(factor))

    @rule(text=st.sampled_from(["1 2 3", "1  2 3", "5", "60 1"]))
    def edit_the_data(self, text: str) -> None:
        (self.data / "numbers.txt").write_text(text)

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["delete", "truncate", "flip", "empty"]))
    def spoil_an_output(self, name: str, how: str) -> None:
        victim = self.run.standing(name) / OUTPUT[name]
        if self.made[name] is None or not victim.is_file():
            return  # spoilt already: a bit flipped twice would be whole again
        raw = victim.read_bytes()
        if how == "delete":
            victim.unlink()
        else:
            damaged = {"truncate": raw[:-1], "flip": bytes([raw[0] ^ 1]) + raw[1:], "empty": b""}[how]
            victim.write_bytes(damaged)
        self.made[name] = None

    @rule(name=st.sampled_from(NAMES), whole=st.booleans())
    def lose_a_stage(self, name: str, whole: bool) -> None:
        if whole:
            shutil.rmtree(self.run.standing(name), ignore_errors=True)
        else:
            (self.run.standing(name) / RECEIPT).unlink(missing_ok=True)
        self.made[name] = None

    @rule(name=st.sampled_from(NAMES))
    def kill_in_the_middle_of_a_commit(self, name: str) -> None:
        if self.run.stage(name).is_dir() and self.made[name] is not None:
            (self.run.path / ".old").mkdir(exist_ok=True)
            self.run.stage(name).rename(self.run.path / ".old" / f"{name}.cut")

    @rule(name=st.sampled_from(NAMES))
    def kill_in_the_middle_of_a_stage(self, name: str) -> None:
        (new_staging(self.run, name) / OUTPUT[name]).write_text("half")

    # ---- running

    def request(self, selected: list[str], forced: frozenset[str]) -> Request:
        request = Request(self.data, self.config, self.config.flat(), selected, forced)
        return look(self.run, TOYS, request)

    @rule(
        ends=st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
        forced=st.sets(st.sampled_from(NAMES), max_size=2),
    )
    def bring_up_to_date(self, ends: tuple[str, str], forced: set[str]) -> None:
        first, last = sorted(ends, key=NAMES.index)
        selected = select(NAMES, first, last)
        request = self.request(selected, frozenset(forced & set(selected)))
        before = tree(self.run.path)
        planned = {each.stage.name: each.state for each in plan(self.run, TOYS, request)}
        assert tree(self.run.path) == before, "a plan changes nothing"

        blocked = [name for name in NAMES[: NAMES.index(first)] if not self.is_fresh(name)]
        assert blocked == [name for name in NAMES[: NAMES.index(first)] if planned[name] != "fresh"]
        expected = [] if blocked else self.expect_and_remember(selected, request.forced)
        RAN.clear()
        try:
            recover(self.run, TOYS)
            require_upstream(self.run, TOYS, request)
            execute(self.run, TOYS, request, Recorder())
        except (UpstreamError, DamagedError):
            assert blocked
        else:
            assert not blocked
        assert expected == RAN
        if not blocked:
            for name in selected:
                if planned[name] != "pending":
                    assert (planned[name] != "fresh") == (name in RAN), f"{name} was planned {planned[name]}"
                assert json.loads((self.run.stage(name) / OUTPUT[name]).read_text()) == self.outputs()[name]
                assert not list((self.run.path / ".stage").glob(f"{name}*"))

    def expect_and_remember(self, selected: list[str], forced: frozenset[str]) -> list[str]:
        expected = []
        for name in selected:
            wanted = self.wanted(name, self.outputs())
            if name in forced or self.made[name] != wanted:
                expected.append(name)
            self.made[name] = wanted
        return expected

    @invariant()
    def the_plan_knows_what_is_fresh(self) -> None:
        planned = plan(self.run, TOYS, self.request(list(NAMES), frozenset()))
        states = {each.stage.name: each.state for each in planned}
        assert {name: state == "fresh" for name, state in states.items()} == {
            name: self.is_fresh(name) for name in NAMES
        }


Life.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
