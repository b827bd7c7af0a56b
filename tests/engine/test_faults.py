"""What a run leaves behind when its 1st, 2nd, 3rd … file operation fails or is its last.

Real processes, the real command line, toy stages. By default a sample of the operations; all of them with
SIMPIPE_FAULTS=all (`make faults`).
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Queue

import pytest
from fault_injection import ACTIONS, KILLS, NoShimError, build_shim
from toy_pipeline import EPOCHS, INSTALL, OUTPUTS
from warm import Ended, Fault, Server

from simpipe.data.fingerprint import RACY_NS

pytestmark = pytest.mark.faults

EVERYTHING = os.environ.get("SIMPIPE_FAULTS") == "all"
STRIDE = 1 if EVERYTHING else 5
THOROUGH = ("kill", "eio")
"""The actions that are also tried at each rename and rmdir, where folders come and go."""
SCENARIOS = ("first", "replaced")
"""A run where there was none; and one whose every stage takes the place of an older generation."""
OLD, NEW = (
    ("--config", "toy.yaml", *(f"--set={key}={value}" for key, value in values.items()))
    for values in (
        {"seed": 1, "ingest.max_pixels": 1, "index.m": 8},
        {"seed": 2, "ingest.max_pixels": 4, "index.m": 9},
    )
)
Outputs = dict[str, bytes]


@dataclass
class Lab:
    """Where faults are tried: folders to start from, and what comes out when nothing is in the way.

    `sweeps` holds what was found already, for each scenario and action.
    """

    folder: Path
    servers: "Queue[Server]"
    outputs: dict[str, Outputs] = field(default_factory=dict)
    trees: dict[str, set[str]] = field(default_factory=dict)
    sweeps: dict[tuple[str, str], "list[Trial]"] = field(default_factory=dict)
    data_before: Outputs = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, *arguments: str, place: Path, fault: Fault | None = None) -> Ended:
        server = self.servers.get()
        try:
            return server.run(*arguments, cwd=place, fault=fault)
        finally:
            self.servers.put(server)

    def bring_up_to_date(self, place: Path, fault: Fault | None = None) -> Ended:
        return self.run("run", str(self.data), *NEW, place=place, fault=fault)


@dataclass
class Trial:
    """One fault: where it hit, and what was wrong then."""

    fault: Fault
    ended: Ended
    wrong: list[str]

    def __str__(self) -> str:
        fault, ended = self.fault, self.ended
        where = f"{fault.action} at {fault.number}, {ended.hit} (exit {ended.code})"
        return "\n    ".join([where, *self.wrong])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("faults")
    try:
        shim = build_shim(folder)
    except NoShimError as error:
        pytest.skip(str(error))
    queue: Queue[Server] = Queue()
    with Server(INSTALL, shim=shim) as one, Server(INSTALL, shim=shim) as other:
        queue.put(one)
        queue.put(other)
        lab = Lab(folder, queue)
        for label in ("cat", "dog"):
            (lab.data / label).mkdir(parents=True)
            for number in range(1, 4):
                (lab.data / label / f"{number}.png").write_bytes(label.encode() * number)
        while any(path.stat().st_ctime_ns > time.time_ns() - RACY_NS for path in lab.data.rglob("*.png")):
            time.sleep(0.1)  # until the stat cache trusts the files' times: then every run does the same
        lab.data_before = content(lab.data)
        for name in SCENARIOS:
            (folder / name).mkdir()
            (folder / name / "toy.yaml").write_text("seed: 0\n")
        made = lab.run("run", str(lab.data), *OLD, place=folder / "replaced")
        assert made.code == 0, made.stderr
        lab.outputs["old"] = outputs(folder / "replaced")
        for name in SCENARIOS:
            place = fresh(lab, name, "undisturbed")
            assert (made := lab.bring_up_to_date(place)).code == 0, made.stderr
            lab.outputs[name], lab.trees[name] = outputs(place), tree(place)
        yield lab


def fresh(lab: Lab, start: str, name: str) -> Path:
    """A new copy of the folder `start`."""
    return Path(shutil.copytree(lab.folder / start, lab.folder / f"{start}-{name}"))


# ---- looking at a run, without the product's help


def content(folder: Path) -> Outputs:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tree(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in (place / "runs").rglob("*")}


def outputs(place: Path) -> Outputs:
    """The outputs of all stages, and the page at the top of the run; what is missing is left out."""
    wanted = ["report.html", *(f"{stage}/{name}" for stage, names in OUTPUTS.items() for name in names)]
    run = place / "runs/toy"
    return {name: (run / name).read_bytes() for name in wanted if (run / name).is_file()}


def whole(folder: Path, stage: str) -> bool:
    """Whether a stage's receipt is there and fits its outputs, which are all there."""
    try:
        receipt = json.loads((folder / "_stage.json").read_bytes())
        written = {name: (folder / name).read_bytes() for name in receipt["outputs"]}
    except (OSError, ValueError, LookupError):
        return False
    told = {
        name: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for name, raw in written.items()
    }
    return receipt["stage"] == stage and set(written) == OUTPUTS[stage] and receipt["outputs"] == told


def generation(folder: Path, stage: str, lab: Lab) -> str | None:
    """Which generation of a stage lies whole in `folder`: old, new, or neither."""
    if not whole(folder, stage):
        return None
    raw = {f"{stage}/{name}": (folder / name).read_bytes() for name in OUTPUTS[stage]}
    known = {"old": lab.outputs["old"], "new": lab.outputs["first"]}
    return next((name for name, all_of in known.items() if raw.items() <= all_of.items()), None)


# ---- the invariants


def try_fault(lab: Lab, scenario: str, start: str, number: int, action: str) -> Trial:
    """Let one operation fail in a copy of `start`; look at what is left; go on; look again."""
    place = fresh(lab, start, f"{action}-{number}")
    fault = Fault(number, action, place / "runs")
    ended = lab.bring_up_to_date(place, fault)
    wrong = []
    if ended.hit is None:
        wrong += [] if ended.code == 0 else ["no fault hit, and yet it failed"]
    else:
        wrong += wrong_end(ended, action)
        wrong += wrong_stages(lab, scenario, place, killed=action in KILLS)
        wrong += wrong_status(lab, place)
    if ended.code == 0 and outputs(place) != lab.outputs[scenario]:
        wrong.append("exit 0, and yet the outputs are not those of an undisturbed run")
    again = lab.bring_up_to_date(place)
    if again.code != 0:
        wrong.append(f"the same command again: exit {again.code}\n{again.stderr}")
    elif outputs(place) != lab.outputs[scenario]:
        wrong.append("after the same command again, the outputs are not those of an undisturbed run")
    for path in sorted(tree(place) ^ lab.trees[scenario]):
        wrong.append(f"after the same command again, too many or missing: {path}")
    if not wrong:
        shutil.rmtree(place)
    return Trial(fault, ended, wrong)


def wrong_end(ended: Ended, action: str) -> Iterator[str]:
    """How a command may end: killed; or refused, with the room that is left; or the fault did not matter."""
    expected = (-9,) if action in KILLS else (0,) if action != "full" and helps_only(ended) else (0, 7)
    if ended.code not in expected:
        yield f"exit {ended.code} instead of {expected}\n{ended.stderr}"
    elif "Traceback" in ended.stderr:
        yield ended.stderr
    elif (
        ended.code == 7
        and action in ("enospc", "full")
        and not re.search(r"\d (bytes|[kMGT]B) free", ended.stderr)
    ):
        yield f"does not say how much room there is:\n{ended.stderr}"


def helps_only(ended: Ended) -> bool:
    """Whether the operation is one that no result depends on: the log's, or the stat cache's."""
    path = str(ended.hit).partition(" ")[2]
    return path == "toy/log.jsonl" or path.startswith(".cache/stat/")


def wrong_stages(lab: Lab, scenario: str, place: Path, killed: bool) -> Iterator[str]:
    """Each stage is absent or whole; one that was there is there, old or new.

    A killed process may have set the old generation aside a moment before the new one took its place.
    """
    run = place / "runs/toy"
    for stage in OUTPUTS:
        if (run / stage).exists() and generation(run / stage, stage, lab) is None:
            yield f"{stage} is half made: {sorted(content(run / stage))}"
        if scenario == "replaced" and not (run / stage).exists():
            aside = [receipt.parent for receipt in run.glob(".*/**/_stage.json")]
            if not killed or not any(generation(folder, stage, lab) for folder in aside):
                yield f"{stage} is gone"


def wrong_status(lab: Lab, place: Path) -> Iterator[str]:
    """`status` answers; where the run has hardly begun to exist, it says so."""
    status = lab.run("status", "--run", "toy", place=place)
    expected = (0,) if (place / "runs/toy/run.json").exists() else (2, 5)
    if status.code not in expected or "Traceback" in status.stderr:
        yield f"status: exit {status.code}\n{status.stderr}"


# ---- the sweeps


def sweep(lab: Lab, scenario: str, action: str) -> list[Trial]:
    """Try the action at the operations of a run, from the first one to the one after the last."""
    if (scenario, action) not in lab.sweeps:
        lab.sweeps[scenario, action] = _sweep(lab, scenario, scenario, action, STRIDE)
    return lab.sweeps[scenario, action]


def _sweep(lab: Lab, scenario: str, start: str, action: str, stride: int) -> list[Trial]:
    place = fresh(lab, start, f"{action}-count")
    operations = lab.bring_up_to_date(place, Fault(0, action, place / "runs")).operations
    assert operations
    first = 1 + ACTIONS.index(action) % stride  # a sample meets other operations with each action
    chosen = {*range(first, len(operations) + 1, stride), len(operations) + 1}
    if action in THOROUGH and stride == STRIDE:
        chosen |= {number for number, letter in enumerate(operations, 1) if letter == "r"}
    with ThreadPoolExecutor(lab.servers.qsize()) as pool:
        return list(pool.map(lambda number: try_fault(lab, scenario, start, number, action), sorted(chosen)))


def assert_nothing_wrong(trials: list[Trial]) -> None:
    wrong = [trial for trial in trials if trial.wrong]
    assert not wrong, f"{len(wrong)} of {len(trials)} faults:\n" + "\n".join(map(str, wrong[:12]))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_survives_a_fault_at_any_file_operation(lab, scenario, action):
    trials = sweep(lab, scenario, action)
    assert_nothing_wrong(trials)
    hits = [trial.ended.hit is not None for trial in trials]
    assert not hits[-1], "the operation after the last one was hit"
    assert hits == sorted(hits, reverse=True), "an operation before one that was hit was not"
    assert action == "full" or all(hits[:-1]), "runs do not do the same every time"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_while_recovering_from_a_kill(lab, scenario):
    """The recovery is killed, too, at each of its operations; for kills all over the first run."""
    assert_nothing_wrong(kill_twice(lab, scenario))


def kill_twice(lab: Lab, scenario: str) -> list[Trial]:
    if (scenario, "twice") not in lab.sweeps:
        trials = []
        total = max(trial.fault.number for trial in sweep(lab, scenario, "kill_after"))
        for number in range(5, total, 6 if EVERYTHING else 31):
            killed = fresh(lab, scenario, f"killed-{number}")
            lab.bring_up_to_date(killed, Fault(number, "kill_after", killed / "runs"))
            again = _sweep(lab, scenario, killed.name, "kill", 3 if EVERYTHING else 13)
            trials += [
                replace(t, wrong=[f"(after a kill at {number})", *t.wrong] if t.wrong else []) for t in again
            ]
        lab.sweeps[scenario, "twice"] = trials
    return lab.sweeps[scenario, "twice"]


def test_an_undisturbed_run_leaves_nothing_half_made(lab):
    for scenario in SCENARIOS:
        names = {Path(path).parts[2] for path in lab.trees[scenario] if path.startswith("runs/toy/")}
        expected = {*OUTPUTS, "config.yaml", "run.json", "report.html", "log.jsonl", ".lock"}
        assert names - {".stage", ".old"} == expected
        assert not [
            path for path in lab.trees[scenario] if path.startswith(("runs/toy/.stage/", "runs/toy/.old/"))
        ]
    assert lab.outputs["first"] == lab.outputs["replaced"]
    assert not lab.outputs["first"].items() & lab.outputs["old"].items(), "every output is replaced"


def test_work_goes_on_from_the_last_checkpoint(lab):
    """Killed right after the checkpoint of the second epoch, only the third is computed again."""
    seen = 0
    for number in range(1, 1000):
        place = fresh(lab, "first", f"resume-{number}")
        ended = lab.bring_up_to_date(place, Fault(number, "kill_after", place / "runs"))
        seen += str(ended.hit).startswith("rename ") and str(ended.hit).endswith("epoch.json")
        if seen == 2:
            break
    assert lab.bring_up_to_date(place).code == 0
    assert json.loads((place / "runs/toy/learn/history.json").read_bytes()) == {"computed": [EPOCHS]}
    assert outputs(place) == lab.outputs["first"]


def test_there_were_at_least_300_faults_and_none_touched_the_data(lab, capsys):
    trials = [trial for scenario in SCENARIOS for action in ACTIONS for trial in sweep(lab, scenario, action)]
    trials += [trial for scenario in SCENARIOS for trial in kill_twice(lab, scenario)]
    hits = sum(trial.ended.hit is not None for trial in trials)
    with capsys.disabled():
        print(f"\n{hits} faults injected; {sum(bool(trial.wrong) for trial in trials)} left something wrong")
    assert hits >= 300
    assert content(lab.data) == lab.data_before
