"""Files that were cut short or changed by a bit: read as what they were, or refused; never anything else.

Each document is cut at every length, the longest at every fifth, and given to its reader. Flipped bits go
through the command line: they are told by name, and the same command mends them.
"""

import fcntl
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_pipeline import INSTALL, OUTPUTS, TOYS
from warm import Server

from simpipe.cli.rundirs import find_run
from simpipe.config import flatten, load, read_resolved
from simpipe.data import fingerprint as fingerprints
from simpipe.engine import lock
from simpipe.engine.lock import run_lock
from simpipe.engine.plan import Request, assess, look
from simpipe.engine.rundir import RunDir
from simpipe.errors import LockedError, NewerError, SimpipeError

NAME = "späti"  # a cut may fall into the middle of a character
RUN = ("run", "data", "--config", "toy.yaml", "--name", NAME)
FLIPS, STRIDE = (60, 1) if os.environ.get("SIMPIPE_FAULTS") == "all" else (6, 5)
"""How many bits of a file are tried through the command line, and every how many bytes of a long one."""
ARTIFACTS = [f"{stage}/{name}" for stage, names in OUTPUTS.items() for name in sorted(names)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(INSTALL) as server:
        yield server


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    for label in ("cat", "dog"):
        (place / "data" / label).mkdir(parents=True)
        (place / "data" / label / "1.png").write_text(label)
    (place / "toy.yaml").write_text("seed: 3\n")
    made = server.run(*RUN, cwd=place)
    assert made.code == 0, made.stderr
    return place


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# ---- every length, at the reader


def cuts(path: Path, stride: int = 1) -> Iterator[int]:
    """Leave ever more of the file: from nothing to one byte less than all."""
    raw = path.read_bytes()
    for length in range(0, len(raw), stride):
        path.write_bytes(raw[:length])
        yield length
    path.write_bytes(raw)


def accepted(path: Path, read: Callable[[], Any]) -> list[int]:
    """The lengths at which the reader took the cut file for a whole one; it must then mean the same."""
    whole = read()
    taken = []
    for length in cuts(path):
        try:
            found = read()
        except SimpipeError:
            continue
        assert found == whole, f"{path.name} cut to {length} bytes is read as something else"
        taken.append(length)
    assert read() == whole
    return taken


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_cut_receipt_is_never_taken_for_another_or_for_none(place, stage):
    run = RunDir(place / "runs" / NAME)
    path = run.stage(stage) / "_stage.json"
    assert accepted(path, lambda: run.receipt(stage)) in ([], [path.stat().st_size - 1])


def test_a_cut_description_of_a_run_is_refused(place):
    run = RunDir(place / "runs" / NAME)
    path = run.path / "run.json"
    assert accepted(path, run.describe) in ([], [path.stat().st_size - 1])


def test_a_cut_note_of_the_last_run_names_no_other_run(place):
    for start in range(1, len(NAME)):  # runs whose names are what is left of it
        shutil.copytree(place / "runs" / NAME, place / "runs" / NAME[:start])
    path = place / "runs/.latest"
    assert accepted(path, lambda: find_run(None, place / "runs").path) in ([], [path.stat().st_size - 1])


def test_a_cut_configuration_is_read_or_refused(place):
    """A configuration is also written by hand, so one that ends early may be a whole one."""
    path = place / "runs" / NAME / "config.yaml"
    whole = read_resolved(path)
    refused = 0
    for _ in cuts(path, STRIDE):
        try:
            read_resolved(path)
        except SimpipeError as error:
            refused += 1
            assert "config.yaml" in error.message
    assert refused
    assert read_resolved(path) == whole == load(place / "toy.yaml")


def test_a_cut_stat_cache_only_costs_the_hashing(place, monkeypatch):
    monkeypatch.setattr(fingerprints, "RACY_NS", 0)
    cache = place / "cache.json"
    whole = fingerprints.fingerprint(place / "data", cache)
    assert whole.files[0].sha256 in cache.read_text()
    raw = cache.read_bytes()
    for _ in cuts(cache):
        assert fingerprints.fingerprint(place / "data", cache) == whole
        assert cache.read_bytes() == raw, "it is written anew"


def test_a_cut_lock_file_locks_all_the_same(place, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    folder = place / "runs" / NAME
    path = folder / ".lock"
    path.write_text(json.dumps({"pid": os.getpid(), "host": "here", "since": "then", "command": "it"}))
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for _ in cuts(path):
            with pytest.raises(LockedError, match="is in use by"), run_lock(folder):
                pass
    with run_lock(folder):
        pass


# ---- flipped bits, through the command line


def flipped(raw: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[position] ^= 1 << bit
    return bytes(changed)


def flips(path: Path) -> Iterator[str]:
    """Flip one bit after the other, one of the first and one of the last byte among them; says which."""
    raw = path.read_bytes()
    generator = random.Random(path.name)  # noqa: S311
    positions = [0, len(raw) - 1, *(generator.randrange(len(raw)) for _ in range(FLIPS - 2))]
    for position in positions:
        bit = generator.randrange(8)
        path.write_bytes(flipped(raw, position, bit))
        yield f"bit {bit} of byte {position}, {raw[max(0, position - 20) : position + 20]!r}"


def outputs(place: Path) -> dict[str, bytes]:
    return {name: (place / "runs" / NAME / name).read_bytes() for name in (*ARTIFACTS, "report.html")}


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_a_flipped_bit_of_an_output_is_told_by_name_and_mended(server, place, artifact):
    before = outputs(place)
    path = place / "runs" / NAME / artifact
    for where in flips(path):
        status = server.run("status", "--check", cwd=place)
        assert status.code == 3, where
        assert artifact in status.stdout, where
        again = server.run(*RUN, "--json", cwd=place)
        assert again.code == 0, (where, again.stderr)
        ran = [each["stage"] for each in json.loads(again.stdout)["stages"] if each["action"] == "ran"]
        assert ran == [artifact.split("/")[0]], where
        assert outputs(place) == before, where


@pytest.mark.parametrize("stage", TOYS, ids=OUTPUTS)
def test_a_flipped_bit_of_a_receipt_never_stops_the_planner(place, stage):
    run = RunDir(place / "runs" / NAME)
    config = load(place / "toy.yaml")
    request = look(run, TOYS, Request(place / "data", config, flatten(config), tuple(OUTPUTS)))
    assert assess(run, stage, request).state == "fresh"
    path = run.stage(stage.name) / "_stage.json"
    raw = path.read_bytes()
    for position in range(0, len(raw), STRIDE):
        path.write_bytes(flipped(raw, position, position // STRIDE % 8))
        try:
            state = assess(run, stage, request).state
        except NewerError:
            state = "newer"
        assert state in ("fresh", "stale", "damaged", "newer"), position


@pytest.mark.parametrize(
    "document", [*(f"{stage}/_stage.json" for stage in OUTPUTS), "run.json", "config.yaml"]
)
def test_a_flipped_bit_of_a_document_spoils_no_result(server, place, document):
    """It may be harmless, such as one in a duration. A newer version's document is left for that to read."""
    before = outputs(place)
    path = place / "runs" / NAME / document
    for where in flips(path):
        status = server.run("status", cwd=place)
        assert status.code in (0, 2, 5), (where, status.stderr)
        if status.code:
            assert str(path.relative_to(place)) in status.stderr, (where, status.stderr)
        again = server.run(*RUN, cwd=place)
        if again.code == 5:
            assert "wrote it as" in again.stderr, (where, again.stderr)
            path.write_bytes(b"")
            again = server.run(*RUN, cwd=place)
        assert again.code == 0, (where, again.stderr)
        assert outputs(place) == before, where


def test_the_page_at_the_top_is_mended(server, place):
    before = outputs(place)
    for where in flips(place / "runs" / NAME / "report.html"):
        assert server.run(*RUN, cwd=place).code == 0
        assert outputs(place) == before, where
