"""Artifacts that are not what was written: told by name, rebuilt alone, and never built upon."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import draw, driven, executed, simpipe
from run_digests import digests

import simpipe as package
from simpipe.config import flatten, read_resolved
from simpipe.engine.execute import execute
from simpipe.engine.plan import Request, look, plan
from simpipe.engine.requirements import changed_libraries, require_upstream
from simpipe.engine.rundir import RECEIPT, RunDir
from simpipe.engine.stage import Context, Stage
from simpipe.errors import DamagedError, UpstreamError
from simpipe.files import sha256_file
from simpipe.progress import Silent
from simpipe.search import nmslib_hnsw
from simpipe.stages import PIPELINE, STAGE_NAMES

pytestmark = pytest.mark.slow
RUN = Path("runs/quick")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    """Put other content into the file."""
    path.write_bytes(b"something else")


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGES: tuple[Callable[[Path], None], ...] = (halve, empty, flip, Path.unlink)


def rerun(place: Path, *arguments: object) -> list[str]:
    return executed(simpipe("run", "data", "--config", "quick", "--json", *arguments, cwd=place))


def all_fresh(place: Path) -> bool:
    return simpipe("status", "--check", cwd=place).returncode == 0


# ---- every artifact, at the planner and the executor; what stages do is replaced by a copy of what they did


class Listener(Silent):
    """Hears which stages are executed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stage_starts(self, assessment: object) -> None:
        pass

    def stage_ends(self, outcome: object) -> None:
        if outcome.action != "fresh":
            self.heard.append(outcome.stage)


@pytest.fixture(scope="module")
def copied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy for all of them: each leaves it as it was."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("copied") / "copy"))


def request_of(place: Path, *selected: str) -> Request:
    config = read_resolved(place / RUN / "config.yaml")
    asked = Request(place / "data", config, flatten(config), selected or STAGE_NAMES)
    return look(RunDir(place / RUN), PIPELINE, asked)


def replayed(finished: Path) -> tuple[Stage, ...]:
    """The pipeline with stages that write what they wrote before."""

    def run(ctx: Context) -> None:
        for name in (*ctx.stage.outputs, *ctx.stage.logs):
            shutil.copy(finished / RUN / ctx.stage.name / name, ctx.out)

    return tuple(replace(stage, run=run, own_process=False) for stage in PIPELINE)


def damaged_files(folder: Path, stage: Stage) -> Iterator[tuple[Path, str]]:
    """Each file of a stage with each damage done to it, and the state that it leads to."""
    for name in (*stage.outputs, RECEIPT):
        for damage in DAMAGES:
            if (name, damage) == (RECEIPT, flip):
                continue  # may be harmless, such as one in a duration; the engine's tests flip them all
            path = folder / stage.name / name
            raw = path.read_bytes()
            damage(path)
            yield path, "missing" if (name, damage) == (RECEIPT, Path.unlink) else "damaged"
            assert path.is_file(), "it was rebuilt"
            if name != RECEIPT:
                assert path.read_bytes() == raw, "to the same bytes"


@pytest.mark.parametrize("stage", PIPELINE, ids=STAGE_NAMES)
def test_every_damage_is_told_and_rebuilt_alone(finished, copied, stage):
    run, pipeline = RunDir(copied / RUN), replayed(finished)
    later = STAGE_NAMES[STAGE_NAMES.index(stage.name) + 1 :]
    for path, state in damaged_files(run.path, stage):
        found = {each.stage.name: each for each in plan(run, PIPELINE, request_of(copied))}
        assert found.pop(stage.name).state == state, path
        assert {each.state for each in found.values()} <= {"fresh", "pending"}, path
        changed_libraries(run, PIPELINE)  # status asks this as well
        for name in later[:1]:
            refusal, told = (DamagedError, str(path)) if state == "damaged" else (UpstreamError, stage.name)
            with pytest.raises(refusal, match=re.escape(told)):
                require_upstream(run, PIPELINE, request_of(copied, name))
        listener = Listener()
        execute(run, pipeline, request_of(copied), listener)
        assert listener.heard == [stage.name], path
        assert [each.state for each in plan(run, PIPELINE, request_of(copied))] == ["fresh"] * 7, path


# ---- a sample, through the real command


@pytest.mark.parametrize(
    "damages",
    [
        {
            "ingest/samples.parquet": halve,
            "train/encoder.weights.h5": flip,
            "calibrate/calibration.json": empty,
            "report/report.html": flip,
        },
        {
            "sampler/sampler.json": empty,
            "index/embeddings.npy": Path.unlink,
            "evaluate/neighbours.npz": halve,
        },
    ],
    ids=["every-other", "the-rest"],
)
def test_the_command_tells_refuses_and_rebuilds(place, damages):
    before = digests(place / RUN)
    if "train/encoder.weights.h5" in damages:
        [shard] = (place / "runs/.cache/features").glob("*/*.npy")
        flip(shard)
    for name, damage in damages.items():
        damage(place / RUN / name)
    status = simpipe("status", cwd=place)
    assert status.returncode == 0, status.stderr
    first = next(iter(damages))
    for name in damages:
        assert f"{RUN / name} " in status.stdout
    alone = simpipe("report", cwd=place)
    assert alone.returncode == 5
    assert f"{RUN / first} " in alone.stderr
    assert rerun(place) == [name.split("/")[0] for name in damages]
    assert digests(place / RUN) == before
    assert all_fresh(place)


def test_status_lists_a_run_whose_receipts_are_all_garbled(place):
    for name in STAGE_NAMES:
        halve(place / RUN / name / RECEIPT)
    status = simpipe("status", cwd=place)
    assert status.returncode == 0, status.stderr
    for name in STAGE_NAMES:
        assert f"{RUN / name / RECEIPT}: not readable" in status.stdout


def test_a_receipt_is_rebuilt_although_the_data_moved_as_well(place):
    halve(place / RUN / "ingest" / RECEIPT)
    (place / "data").rename(place / "images")
    result = simpipe("run", "images", "--config", "quick", "--json", cwd=place)
    assert executed(result) == ["ingest"]


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
@pytest.mark.parametrize("damage", [empty, halve, Path.unlink])
def test_a_run_without_its_description_is_refused_and_mended(place, name, damage):
    damage(place / RUN / name)
    for command in ("status", "evaluate"):
        result = simpipe(command, cwd=place)
        lost = command == "status" and damage == Path.unlink and name == "config.yaml"
        codes = (0,) if lost else (5,) if name == "run.json" else (2, 5)  # run.json remembers its values
        assert result.returncode in codes, result.stderr
        assert name in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    assert rerun(place) == []
    assert all_fresh(place)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_the_page_at_the_top_is_copied_again(place, damage):
    damage(place / RUN / "report.html")
    assert rerun(place) == []
    assert (place / RUN / "report.html").read_bytes() == (place / RUN / "report/report.html").read_bytes()


def test_a_report_without_its_logs_says_what_is_not_recorded(place):
    read = {artifact for stage in PIPELINE for artifact in stage.uses}
    logs = [f"{stage.name}/{name}" for stage in PIPELINE for name in stage.logs]
    logs = [log for log in logs if log in read]
    for log, damage in zip(logs, (halve, Path.unlink, scribble, flip), strict=True):
        damage(place / RUN / log)
    assert rerun(place) == [], "a log is nobody's input"
    result = simpipe("report", "--force", cwd=place)
    assert result.returncode == 0, result.stderr
    for log in logs:
        assert f"{log} " in result.stderr
    page = (place / RUN / "report.html").read_text()
    assert page.count("Not recorded.") == 2
    assert page.count("None was recorded.") == 1
    assert rerun(place) == []


def test_nmslib_never_opens_a_file_whose_hash_does_not_fit(place, monkeypatch):
    def spy() -> None:
        raise AssertionError("nmslib was asked to open it")

    opened, too_late = package.open(place / RUN), package.open(place / RUN)
    queries = np.load(place / RUN / "index/embeddings.npy")[:2]
    assert opened._index.search(queries, 1).ids.shape == (2, 1), "the whole file is opened"
    monkeypatch.setattr(nmslib_hnsw, "_empty", spy)
    path = place / RUN / "index/index.bin"
    raw = path.read_bytes()
    for damage in DAMAGES:
        path.write_bytes(raw)
        damage(path)
        with pytest.raises(DamagedError, match=r"index\.bin"):
            _ = too_late._index  # it was whole when the run was opened
        with pytest.raises(DamagedError, match=r"index\.bin"):
            package.open(place / RUN)


# ---- what a newer simpipe wrote


def everything(run: Path) -> dict[Path, bytes]:
    """All files of a run but the diary and the lock."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in ("log.jsonl", ".lock"))
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("document", ["run.json", "calibrate/_stage.json"])
def test_what_a_newer_version_wrote_is_refused_and_left_alone(place, document):
    path = place / RUN / document
    content = json.loads(path.read_text())
    kind = content["schema"].split("/")[0]
    path.write_text(json.dumps({**content, "schema": f"{kind}/99", "simpipe": "9.1"}))
    before = everything(place / RUN)
    for command in (
        ("run", "data", "--config", "quick", "--set", "sampler.coverage=2"),
        ("run", "data", "--config", "quick", "--dry-run"),
        ("status",),
        ("query", "data/azure/00.jpg"),
        ("sampler", "--force"),
        ("report", "--force"),
    ):
        result = simpipe(*command, cwd=place)
        assert result.returncode == 5, (command, result.stderr)
        assert f"{document}: simpipe 9.1 wrote it as {kind}/99" in result.stderr
    assert everything(place / RUN) == before


# ---- data that change while a stage runs


CHANGES = {
    "edited": ("(ctx.source / 'azure/03.jpg').write_bytes(b'')", "azure/03.jpg has other content"),
    "deleted": ("(ctx.source / 'brick/05.jpg').unlink()", "brick/05.jpg is gone"),
    "added": ("(ctx.source / 'dill/new.jpg').write_bytes(b'new')", "dill/new.jpg is new"),
}


@pytest.mark.parametrize(
    ("change", "when"),
    [
        ("edited", "{}, run(ctx)"),
        ("edited", "run(ctx), {}"),
        ("deleted", "run(ctx), {}"),
        ("added", "{}, run(ctx)"),
    ],
)
def test_data_that_change_while_ingest_runs(place, change, when):
    code, told = CHANGES[change]
    draw((90, 90, 90), 7).save(place / "data/dill/14.jpg")
    before = everything(place / RUN / "ingest")
    options = ("run", "data", "--config", "quick", "--to", "ingest")
    result = driven(f"around('ingest', lambda ctx, run: ({when.format(code)}))", *options, cwd=place)
    assert result.returncode == 5, result.stderr
    assert told in result.stderr
    assert "Nothing was committed" in result.stderr
    assert everything(place / RUN / "ingest") == before
    assert not (place / RUN / ".stage").exists() or not [*(place / RUN / ".stage").iterdir()]
    assert rerun(place, "--to", "ingest") == ["ingest"]


def test_an_image_that_changes_before_train_reads_it(place):
    """With its features cached it is not read at all: then train is right, and ingest is stale."""
    code, told = CHANGES["edited"]
    forget = "import shutil; forget = lambda ctx: shutil.rmtree(ctx.cache / 'features')\n"
    before = everything(place / RUN / "train")
    result = driven(
        f"{forget}around('train', lambda ctx, run: (forget(ctx), {code}, run(ctx)))",
        *("run", "data", "--config", "quick", "--to", "train", "--force-stage", "train"),
        cwd=place,
    )
    assert result.returncode == 5, result.stderr
    assert f"{told.split()[0]} changed since ingest read it" in result.stderr
    assert everything(place / RUN / "train") == before
    states = json.loads(simpipe("status", "--json", cwd=place).stdout)["stages"]
    assert [stage["stage"] for stage in states if stage["state"] == "stale"] == ["ingest"]


# ---- numbers and memory that run out


def test_a_training_that_diverges_commits_nothing(place):
    before = everything(place / RUN / "train")
    result = simpipe("run", "data", "--config", "quick", "--set", "train.lr=1e30", "--to", "train", cwd=place)
    assert result.returncode == 1, result.stderr
    assert "training diverged" in result.stderr
    assert "train.lr" in result.stderr
    assert "Traceback" not in result.stderr
    assert everything(place / RUN / "train") == before
    for path in (place / RUN / ".stage").rglob("*.npz"):
        with np.load(path) as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored if name != "facts")


def test_a_report_that_fails_shows_its_traceback_to_the_diary_only(place):
    (place / RUN / "evaluate/findings.csv").write_text("kind,score\nodd,odd\n")
    seal_again(place / RUN / "evaluate")
    result = simpipe("report", cwd=place)
    assert result.returncode == 1, result.stderr
    assert "report failed: " in result.stderr
    assert "could not convert string to float: 'odd'" in result.stderr
    assert "Traceback" not in result.stderr
    assert "in _content" in (place / RUN / "log.jsonl").read_text()


def seal_again(folder: Path) -> None:
    """Let the receipt say what the files are now, as after a fault of the stage that wrote them."""
    receipt = json.loads((folder / RECEIPT).read_text())
    for name, entry in receipt["outputs"].items():
        entry.update(sha256=sha256_file(folder / name), bytes=(folder / name).stat().st_size)
    (folder / RECEIPT).write_text(json.dumps(receipt))


def test_a_report_whose_process_is_killed(place):
    before = everything(place / RUN / "report")
    result = driven("kill_the_child()", "report", "--force", cwd=place)
    assert result.returncode == 1, result.stderr
    assert "the process of report died (killed by SIGKILL; often a lack of memory)" in result.stderr
    assert "Traceback" not in result.stderr
    assert everything(place / RUN / "report") == before
    assert all_fresh(place)
