"""`gc`: what is dead goes, what lives and what is not simpipe's own stays, killed anywhere or not."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated import BACKBONE, STAGES, make_run, staged, train, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simpipe.engine.lock import run_lock
from simpipe.engine.rundir import RunDir, recover
from simpipe.files import read_json, write_json
from simpipe.learning.encoder import feature_recipe
from simpipe.learning.features import FeatureCache
from simpipe.runs import cleaning
from simpipe.runs.cleaning import DAY, HOUR, Cleaning, clean
from simpipe.runs.memos import copy_names, feature_folders
from simpipe.runs.verify import verify

HEX = "0123456789abcdef" * 4
LATER = 40 * DAY


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


def gc(run: RunDir, after: float = LATER, apply: bool = True, days: float = 30) -> Cleaning:
    """Clean, as if it were `after` seconds later."""
    return clean(run.path.parent, STAGES, days=days, apply=apply, now=time.time() + after)


def went(done: Cleaning, run: RunDir) -> set[str]:
    assert done.failed == []
    return {str(item.path.relative_to(run.path.parent)) for item in done.items}


def lay(path: Path, content: str = "left", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def lay_garbage(run: RunDir) -> set[str]:
    """One of each kind, below the folder of the runs."""
    key = run.receipt("train")["key"][:32]
    again = shutil.copytree(run.stage("report"), run.path / ".stage" / "report.00000001")
    assert (again / "_stage.json").is_file()
    for name in ("_stage.json", "labels.json", "part/deep/file"):
        lay(run.path / ".stage" / "ingest.0123abcd" / name)
    lay(run.path / ".stage" / f"train@{key}" / "000001-0.npz")
    lay(run.path / ".stage" / f"train@{HEX[:32]}" / "000001-0.npz")
    lay(run.path / ".stage" / f"train@{HEX[32:]}" / "000001-0.npz")
    lay(run.path / ".old" / "train.89abcdef" / "encoder.json")
    temporary = [
        *(run.path / f".{name}.9@host" for name in ("run.json", "config.yaml", "exclude.csv", "report.html")),
        run.stage("ingest") / "._stage.json.9@host",
        run.stage("ingest") / ".manifest.parquet.9@host",
        run.path.parent / "..latest.9@host",
        run.cache / "stat" / f".{HEX[:16]}.json.9@host",
        next(iter(feature_folders(run))) / f".{HEX}.npy.9@host",
        next((run.cache / "images").iterdir()) / f".{HEX}-{HEX[:8]}.jpg.9-1@host",
    ]
    for path in temporary:
        lay(path, mode=0o600)
    other = FeatureCache(run.cache / "features", feature_recipe({**BACKBONE, "name": "other"}))
    lay(other.folder / f"{HEX}.npy")
    lay(other.folder / f"{HEX[1:]}0.npy")
    lay(run.cache / "stat" / f"{HEX[:16]}.json")
    lay(run.cache / "pictures" / HEX[1:33] / f"{HEX}.arrow")
    lay(run.cache / "images" / "ab" / f"ab{HEX[2:]}-{HEX[:8]}.png")
    [used] = copy_names(run)
    lay(run.cache / "images" / "ab" / f"{used[:64]}-{HEX[:8]}.jpg")
    return {
        *("toy/.stage/report.00000001", "toy/.stage/ingest.0123abcd", "toy/.old/train.89abcdef"),
        *(f"toy/.stage/train@{name}" for name in (key, HEX[:32], HEX[32:])),
        *(str(path.relative_to(run.path.parent)) for path in temporary),
        str(other.folder.relative_to(run.path.parent)),
        f".cache/stat/{HEX[:16]}.json",
        f".cache/pictures/{HEX[1:33]}",
        ".cache/images/ab",
    }


def test_of_a_whole_run_nothing_goes(run):
    before = tree(run.path.parent)
    assert (run.cache / "stat").is_dir()
    assert went(gc(run, days=0), run) == set()
    assert tree(run.path.parent) == before


def test_it_lists_first_and_then_deletes_the_same_and_nothing_else(run):
    before = tree(run.path.parent)
    garbage = lay_garbage(run)
    littered = tree(run.path.parent)
    listed = gc(run, apply=False)
    assert went(listed, run) == garbage
    assert tree(run.path.parent) == littered
    for item in listed.items:
        files = [item.path] if item.path.is_file() else list(item.path.rglob("*"))
        assert item.bytes == sum(path.stat().st_size for path in files if path.is_file()), item.path
    assert went(gc(run), run) == garbage
    assert tree(run.path.parent) == before
    assert verify(run, STAGES).problems == []


def test_what_is_young_may_be_of_use_or_still_be_written(run):
    """A killed run's unfinished staging and what was replaced are of no use at any age."""
    garbage = lay_garbage(run)
    key = run.receipt("train")["key"][:32]
    dead = {
        *("toy/.stage/report.00000001", "toy/.stage/ingest.0123abcd", "toy/.old/train.89abcdef"),
        f"toy/.stage/train@{key}",
    }
    assert went(gc(run, after=HOUR / 2, apply=False), run) == dead
    writes = {name for name in garbage if Path(name).name.startswith(".")}
    assert went(gc(run, after=2 * HOUR, apply=False), run) == dead | writes
    assert went(gc(run, after=2 * HOUR, days=0), run) == garbage


def test_writes_of_what_ingest_remembers_are_known(run):
    write = lay(run.cache / "pictures" / HEX[:32] / f".{HEX}.arrow.9@host", mode=0o600)
    lay(write.with_name(f"{HEX}.arrow"))
    assert went(gc(run, after=2 * HOUR), run) == {str(write.relative_to(run.path.parent))}


def test_the_newest_file_tells_the_age(run):
    checkpoints = run.path / ".stage" / f"train@{HEX[:32]}"
    for number in range(2):
        lay(checkpoints / f"00000{number}-0.npz")
    old = time.time() - 50 * DAY
    os.utime(checkpoints / "000000-0.npz", (old, old))
    assert went(gc(run, after=0), run) == set()
    os.utime(checkpoints / "000001-0.npz", (old, old))
    assert went(gc(run, after=0), run) == {f"toy/.stage/train@{HEX[:32]}"}


def test_a_result_that_the_next_run_would_commit_lives_until_it_is_old(run):
    folder = staged(run, train, value=1)
    assert went(gc(run, after=29 * DAY), run) == set()
    assert folder.is_dir()
    assert went(gc(run, after=31 * DAY), run) == {f"toy/.stage/{folder.name}"}


def test_checkpoints_and_results_of_a_damaged_generation_are_of_use(run):
    key = run.receipt("train")["key"][:32]
    lay(run.path / ".stage" / f"train@{key}" / "000001-0.npz")
    again = shutil.copytree(run.stage("train"), run.path / ".stage" / "train.00000001")
    (run.stage("train") / "encoder.json").write_text("damaged")
    assert went(gc(run, after=DAY), run) == set()
    assert again.is_dir()


@pytest.mark.parametrize("where", [".stage", ".old"])
def test_the_generation_that_counts_stays_at_any_age(run, where):
    """Killed between the two renames of a commit, and never run again."""
    before = tree(run.path.parent)
    (run.path / where).mkdir()
    run.stage("train").rename(run.path / where / "train.0123abcd")
    assert went(gc(run, days=0), run) == set()
    recover(run, STAGES)
    (run.path / where).rmdir()
    assert tree(run.path.parent) == before


def test_a_run_at_work_is_skipped_and_so_are_the_memos_it_may_use(run):
    garbage = lay_garbage(run)
    other = RunDir(run.path.parent / "other")
    shutil.copytree(run.path, other.path)
    with run_lock(run.path):
        done = gc(run)
    assert [path for path, _ in done.skipped] == [run.path, run.cache]
    assert "in use by" in done.skipped[0][1]
    assert {name.replace("other/", "toy/") for name in went(done, run)} == {
        name for name in garbage if Path(name).name.startswith(".") or name.startswith("toy/")
    }
    assert not any(name.startswith("toy/") for name in went(done, run))
    assert (run.path / ".stage" / "ingest.0123abcd").is_dir()


@pytest.mark.parametrize("name", ["run.json", "train/_stage.json", ".stage/train.01234567/_stage.json"])
def test_what_a_newer_simpipe_wrote_is_let_be(run, name):
    if name.startswith("."):
        shutil.copytree(run.stage("train"), run.path / ".stage" / "train.01234567")
    lay(run.path / ".stage" / "train.89abcdef" / "encoder.json")
    document = read_json(run.path / name)
    kind, _, version = document["schema"].partition("/")
    write_json(run.path / name, {**document, "schema": f"{kind}/{int(version) + 1}", "simpipe": "9.9"})
    before = tree(run.path.parent)
    done = gc(run)
    assert "9.9" in done.skipped[0][1]
    assert tree(run.path.parent) == before


@pytest.mark.parametrize("name", ["run.json", "train/encoder.json"])
def test_memos_stay_where_a_run_does_not_say_which_it_uses(run, name):
    shutil.copytree(run.path, run.path.parent / "other")
    (run.path.parent / "other" / name).write_text("{")
    shutil.rmtree(run.path)
    before = tree(run.cache / ("stat" if name == "run.json" else "features"))
    assert len(before) >= 1
    gc(run)
    assert tree(run.cache / ("stat" if name == "run.json" else "features")) == before


def test_memos_of_runs_that_are_gone_go(run):
    shutil.rmtree(run.path)
    gc(run)
    assert [path for path in run.cache.rglob("*") if path.is_file()] == []


def test_without_run_json_a_folder_is_no_run(run):
    lay_garbage(run)
    (run.path / "run.json").unlink()
    assert not any(name.startswith("toy/") for name in went(gc(run), run))


def test_a_cache_that_is_a_link_is_let_be(run):
    lay_garbage(run)
    shared = run.cache.rename(run.path.parents[1] / "shared")
    run.cache.symlink_to(shared)
    before = tree(shared)
    done = gc(run)
    assert [path for path, _ in done.skipped] == [run.cache]
    assert tree(shared) == before


def places(run: RunDir) -> dict[str, Callable[[str], Path]]:
    """Names that simpipe gives, and where; a foreign character in them makes them somebody else's."""
    recipe = next((run.cache / "features").iterdir())
    return {
        "train.0123abcd": (run.path / ".stage").joinpath,
        f"train@{HEX[:32]}": (run.path / ".stage").joinpath,
        "ingest.0123abcd": (run.path / ".old").joinpath,
        ".run.json.9@host": run.path.joinpath,
        ".encoder.json.9@host": run.stage("train").joinpath,
        "..latest.9@host": run.path.parent.joinpath,
        f"{HEX[:32]}": (run.cache / "features").joinpath,
        f".{HEX}.npy.9@host": recipe.joinpath,
        f"{HEX[:16]}.json": (run.cache / "stat").joinpath,
        f".{HEX[:16]}.json.9@host": (run.cache / "stat").joinpath,
    }


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(st.data())
def test_nothing_with_a_foreign_name_goes(run, data):
    """A name that simpipe gives, but for one character that it never uses."""
    for folder in (".stage", ".old"):
        lay(run.path / folder / "mine")
    name, place = data.draw(st.sampled_from(sorted(places(run).items(), key=lambda pair: pair[0])))
    known = name.removesuffix("host")  # any host may have cut a write short
    position = data.draw(st.integers(0, len(known) - (known != name)))
    path = place(name[:position] + data.draw(st.sampled_from("XZ -~é\n#")) + name[position:])
    folder = data.draw(st.booleans())
    lay(path / "inside" if folder else path, mode=0o600)
    before = tree(run.path.parent)
    try:
        assert went(gc(run, days=0), run) == set()
        assert tree(run.path.parent) == before
    finally:
        shutil.rmtree(path) if folder else path.unlink()


def test_the_same_names_are_simpipes_where_nothing_foreign_is_in_them(run):
    """So the test above can fail."""
    for name, place in places(run).items():
        folder = "." not in name or name.split(".")[0] in ("train", "ingest")
        lay(place(name) / f"{HEX}.npy" if folder else place(name), mode=0o600)
    assert went(gc(run, days=0), run) == {
        str(place(name).relative_to(run.path.parent)) for name, place in places(run).items()
    }


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", ".hidden", ".stage/mine", ".stage/trainer.0123abcd", ".stage/other.0123abcd"),
        *(".stage/train.0123abcd", ".stage/train@0123", ".stage/train", ".old/train", ".old/mine.tar"),
        *(
            ".config.yaml.20240101",
            ".log.jsonl.9@host",
            ".mine.9@host",
            "train/.mine.9@host",
        ),
        *(
            "train/extra.json",
            "../notes.9@host",
            "../.mine.9@host",
            "../.cache/mine",
            "../.cache/stat/a",
        ),
        *("../.cache/features/mine/x.npy", "../.cache/decoded/x", f"../.cache/stat/{HEX[:32]}.json"),
        *("../mine/.stage/train.0123abcd/x", "../.mine/.stage/train.0123abcd/x", f"../{HEX[:32]}/{HEX}.npy"),
    ],
)
def test_foreign_files_stay(run, name):
    """Plain files for all to read: what simpipe stages is a folder, and its cut-short writes are private."""
    lay(run.path / name)
    lay(run.path.parent / ".mine" / "run.json")
    before = tree(run.path.parent)
    assert went(gc(run, days=0), run) == set()
    assert tree(run.path.parent) == before


def test_an_empty_recipe_goes_unless_a_run_has_just_made_it(run):
    dead = lay(run.cache / "features" / HEX[:32] / f".{HEX}.npy.9@host", mode=0o600)
    dead.unlink()
    assert went(gc(run, after=HOUR / 2, days=0), run) == set()
    assert went(gc(run, after=2 * HOUR, days=0), run) == {f".cache/features/{HEX[:32]}"}


def test_foreign_files_in_an_unused_recipe_stay_and_hold_its_folder(run):
    recipe = run.cache / "features" / HEX[:32]
    lay(recipe / f"{HEX}.npy")
    lay(recipe / "mine.npy")
    lay(recipe / f"{HEX[1:]}0.npy" / "a folder's file")
    gc(run)
    gc(run)
    assert {path.name for path in recipe.iterdir()} == {"mine.npy", f"{HEX[1:]}0.npy"}


def test_what_links_point_to_stays(run, tmp_path):
    mine = lay(tmp_path / "elsewhere" / "mine").parent
    for link in (
        *(run.path / ".stage" / name for name in ("train.0123abcd", f"train@{HEX[:32]}")),
        *(run.path / ".old" / "train.0123abcd", run.path / ".run.json.9@host"),
        *(run.cache / "features" / HEX[:32], run.cache / "stat" / f"{HEX[:16]}.json"),
    ):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(mine)
    inside = run.path / ".stage" / "ingest.0123abcd"
    inside.mkdir()
    (inside / "link").symlink_to(mine)
    gc(run, days=0)
    assert not inside.exists()
    assert [path.name for path in mine.iterdir()] == ["mine"]


class Killed(BaseException):
    """What no handler of errors holds up: as if the process had died."""


def dying(function, at: int, calls: list[int]):
    """`function`, which dies at the call number `at` of all that share `calls`."""

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            raise Killed
        return function(*arguments, **options)

    return call


def test_killed_anywhere_it_leaves_nothing_that_the_next_one_does_not_know(tmp_path, monkeypatch):
    """Killed at its 1st, 2nd, 3rd … deletion, until it gets through; each time it is started once more."""
    model = make_run(tmp_path / "model")
    for foreign in (model.path / ".stage" / "mine", model.cache / "features" / HEX[:32] / "mine"):
        lay(foreign)
    before = tree(model.path.parent)
    lay_garbage(model)
    killed = 0
    for number in range(1, 1000):
        run = RunDir(tmp_path / str(number) / "runs" / "toy")
        shutil.copytree(model.path.parent, run.path.parent)
        calls: list[int] = []
        with monkeypatch.context() as patched:
            for name in ("unlink", "rmdir"):
                patched.setattr(os, name, dying(getattr(os, name), number, calls))
            try:
                gc(run)
            except Killed:
                killed = number
        gc(run)
        assert tree(run.path.parent) == before, number
        if killed < number:
            break
        shutil.rmtree(run.path.parent)
    assert killed > 20


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(run, monkeypatch):
    garbage = lay_garbage(run)
    stubborn = run.path / ".config.yaml.9@host"
    unlink = os.unlink

    def refuse(path, *arguments, **options):
        if Path(path) == stubborn:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        unlink(path, *arguments, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    done = gc(run)
    assert done.failed == [(stubborn, "Permission denied")]
    assert {str(item.path.relative_to(run.path.parent)) for item in done.items} == garbage - {
        str(stubborn.relative_to(run.path.parent))
    }
    assert cleaning.clean(run.path.parent, STAGES, now=time.time() + LATER).items[0].path == stubborn
