"""`verify`: a whole run is whole, every damage is named, and what is no damage is a note."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from fabricated import IMAGES, STAGES, ingest, make_run, report, staged, tree

from simpipe.data.layout import Rules
from simpipe.engine.lock import run_lock
from simpipe.engine.rundir import RunDir, commit
from simpipe.errors import NewerError
from simpipe.files import read_json, write_json
from simpipe.progress import Silent
from simpipe.runs.memos import stat_memo
from simpipe.runs.verify import Verification, verify
from simpipe.stages.ingest import fingerprint_of

STAGE_FILES = (
    *("ingest/manifest.parquet", "ingest/labels.json", "ingest/speed.json"),
    *("train/encoder.json", "report/report.html"),
)
RECEIPTS = tuple(f"{stage.name}/_stage.json" for stage in STAGES)
DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "deleted": lambda path: path.unlink(),
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


def source(run: RunDir) -> Path:
    return run.path.parents[1] / "data"


def check(run: RunDir, images: bool = True) -> Verification:
    return verify(run, STAGES, images=images)


def problems(run: RunDir) -> dict[str, str]:
    """Path → problem, below the folder of the run or, outside it, below the test's folder."""
    found = {}
    for each in check(run).problems:
        path = Path(each.path)
        below = run.path if path.is_relative_to(run.path) else run.path.parents[1]
        found[str(path.relative_to(below))] = each.problem
    return found


def shard(run: RunDir) -> Path:
    [path] = (run.cache / "features").glob("*/*.npy")
    return path


def test_a_whole_run_is_whole_and_everything_in_it_was_looked_at(run):
    found = check(run)
    assert (found.problems, found.notes, found.next) == ([], [], None)
    hashed = [*(run.path / name for name in STAGE_FILES), run.path / "report.html", shard(run)]
    assert found.artifacts == len(hashed) + len(RECEIPTS) + len(("run.json", "config.yaml"))
    images = [path for path in source(run).rglob("*") if path.is_file()]
    assert found.images == len(images) == IMAGES
    assert found.bytes == sum(path.stat().st_size for path in (*hashed, *images))


def test_it_writes_nothing_and_needs_no_lock(run):
    root = run.path.parents[1]
    with run_lock(run.path):
        before = tree(root), {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert check(run).problems == []
        assert before == (tree(root), {path: path.stat().st_mtime_ns for path in root.rglob("*")})


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [*STAGE_FILES, "report.html"])
def test_a_damaged_file_is_named_and_no_other(run, name, how):
    DAMAGES[how](run.path / name)
    assert list(problems(run)) == [name]


@pytest.mark.parametrize("how", ["truncated", "emptied", "deleted"])
@pytest.mark.parametrize("name", [*RECEIPTS, "run.json"])
def test_a_damaged_document_is_named(run, name, how):
    if how == "truncated":
        os.truncate(
            run.path / name, (run.path / name).stat().st_size - 2
        )  # the last byte is but a line's end
    else:
        DAMAGES[how](run.path / name)
    assert list(problems(run)) == [name]


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt["key_doc"]["config"].update(value=1),
        lambda receipt: receipt.update(key="0" * 64),
        lambda receipt: receipt["outputs"].popitem(),
        lambda receipt: receipt["outputs"]["encoder.json"].pop("bytes"),
    ],
)
def test_a_receipt_that_contradicts_itself_is_named(run, change):
    path = run.path / "train" / "_stage.json"
    receipt = read_json(path)
    change(receipt)
    write_json(path, receipt)
    assert list(problems(run)) == ["train/_stage.json"]
    assert check(run).next == run.command(source(run)), "the planner sees it as well"


def test_a_damaged_log_is_named_with_a_remark_and_only_force_mends_it(run):
    DAMAGES["flipped"](run.path / "ingest" / "speed.json")
    found = check(run)
    assert found.problems[0].problem.endswith("a log: no later result depends on it")
    assert found.next == f"{run.command(source(run))} --force-stage ingest"


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
def test_a_damaged_shard_is_named(run, how):
    DAMAGES[how](shard(run))
    assert list(problems(run)) == [str(shard(run).relative_to(run.path.parents[1]))]
    assert check(run).next.endswith("--force-stage index")


def test_a_shard_of_another_recipe_is_nothing_to_this_run(run):
    other = run.cache / "features" / ("0" * 32) / f"{'0' * 64}.npy"
    other.parent.mkdir()
    other.write_bytes(b"damaged")
    assert problems(run) == {}


def test_an_edited_configuration_is_a_note(run):
    text = run.config.read_text()
    assert "seed: 0\n" in text
    run.config.write_text(text.replace("seed: 0\n", "seed: 5\n", 1))
    found = check(run)
    assert found.problems == []
    assert found.notes == [f"{run.config} was edited after the last run"]


def test_a_configuration_that_is_cut_anywhere_is_damage(run):
    whole = run.config.read_bytes()
    for length in (*range(0, len(whole), 97), len(whole) - 1):
        run.config.write_bytes(whole[:length])
        found = check(run, images=False)
        assert [each.path for each in found.problems] == [str(run.config)], length
    words = shlex.split(found.next)
    assert words[words.index("--config") + 1] == "CONFIG"


def test_settings_in_run_json_that_are_not_those_of_the_configuration_are_damage(run):
    document = read_json(run.path / "run.json")
    document["config"]["values"]["seed"] = 7
    write_json(run.path / "run.json", document)
    assert list(problems(run)) == ["run.json"]


def test_without_run_json_the_command_leaves_the_data_to_be_filled_in(run):
    (run.path / "run.json").write_text("{")
    found = check(run)
    assert shlex.split(found.next)[:3] == ["simpipe", "run", "DATA"]
    assert any("images were not looked at" in note for note in found.notes)


def test_missing_and_changed_images_are_named_and_new_ones_noted(run):
    (source(run) / "label0" / "0.jpg").unlink()
    (source(run) / "label1" / "1.jpg").write_bytes(b"another")
    (source(run) / "label1" / "new.jpg").write_bytes(b"one more")
    assert problems(run) == {
        "data/label0/0.jpg": "is missing",
        "data/label1/1.jpg": "has other content than ingest read",
    }
    [note] = [note for note in check(run).notes if note.startswith("new in")]
    assert "1 (label1/new.jpg)" in note
    assert check(run, images=False).problems == []


def test_a_new_image_alone_is_no_problem(run):
    (source(run) / "label1" / "new.jpg").write_bytes(b"one more")
    found = check(run)
    assert found.problems == []
    assert len(found.notes) == 1


def test_a_missing_image_whose_name_is_no_utf8_is_named(tmp_path):
    odd = tmp_path / "data" / "label0" / os.fsdecode(b"\xff.jpg")
    odd.parent.mkdir(parents=True)
    try:
        odd.write_bytes(b"odd")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    run = make_run(tmp_path)
    assert check(run).problems == []
    odd.unlink()
    assert list(problems(run)) == [r"data/label0/\xff.jpg"]


def test_an_edit_whose_traces_are_forged_fools_the_stat_cache_and_not_verify(run):
    """The size and the times are restored, and the memo is told the rest, which nobody can restore."""
    image = source(run) / "label0" / "2.jpg"
    memo = stat_memo(run, source(run))
    before = fingerprint_of(source(run), Rules(), run.cache, Silent()).digest
    status = image.stat()
    with image.open("r+b") as stream:
        stream.write(b"IMAGE")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    document = {"schema": "simpipe.stat-cache/2", "files": {}}
    for path in source(run).rglob("*.jpg"):
        now, expected = path.stat(), digest_of(run, path)
        document["files"][str(path.relative_to(source(run)))] = [
            *(now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino),
            expected,
        ]
    memo.parent.mkdir(exist_ok=True)
    memo.write_text(json.dumps(document))
    assert fingerprint_of(source(run), Rules(), run.cache, Silent(), remember=False).digest == before, (
        "not fooled"
    )
    assert problems(run) == {"data/label0/2.jpg": "has other content than ingest read"}
    assert shlex.split(check(run).next)[:4] == ["rm", "-f", str(memo), "&&"]


def digest_of(run: RunDir, image: Path) -> str:
    """What the manifest says of an image."""
    from simpipe.data.manifest import read_manifest

    rows = read_manifest(run.path / "ingest" / "manifest.parquet").rows
    [found] = [row["sha256"] for row in rows if row["path"] == str(image.relative_to(source(run)))]
    return found


def test_a_source_that_is_gone_is_one_problem(run):
    shutil.rmtree(source(run))
    assert list(problems(run)) == ["data"]
    assert shlex.split(check(run).next)[:3] == ["simpipe", "run", "DATA"]


def test_something_else_in_an_images_place_is_named_and_waited_for_by_nobody(run):
    image = source(run) / "label0" / "0.jpg"
    image.unlink()
    os.mkfifo(image)
    assert problems(run) == {"data/label0/0.jpg": "is missing"}


def test_a_stage_that_is_not_there_yet_is_a_note(run):
    shutil.rmtree(run.stage("report"))
    found = check(run)
    assert found.problems == []
    assert found.notes == ["report is not complete yet"]


def test_a_stage_made_from_an_older_result_is_a_note(run):
    commit(run, "ingest", staged(run, ingest, value=1))
    found = check(run)
    assert found.problems == []
    assert found.notes == ["train is stale: it was made from another ingest/labels.json"]


def test_a_commit_that_was_cut_short_is_a_note_and_its_files_are_checked(run):
    folder = staged(run, report, value=1)
    shutil.rmtree(run.stage("report"))
    shutil.copyfile(folder / "report.html", run.path / "report.html")
    found = check(run)
    assert found.problems == []
    assert len(found.notes) == 1
    assert str(folder) in found.notes[0]
    DAMAGES["flipped"](run.path / "report.html")
    assert list(problems(run)) == ["report.html"]


@pytest.mark.parametrize("name", ["run.json", "train/_stage.json"])
def test_what_a_newer_simpipe_wrote_is_refused(run, name):
    document = read_json(run.path / name)
    kind, _, version = document["schema"].partition("/")
    write_json(run.path / name, {**document, "schema": f"{kind}/{int(version) + 1}", "simpipe": "9.9"})
    with pytest.raises(NewerError, match=r"9\.9"):
        check(run)
