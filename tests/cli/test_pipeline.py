"""The real pipeline through the real command: what is left, what runs again, and what is refused."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import COLOURS, PER_LABEL, draw, driven, executed, make_data, simpipe

from simpipe.data.manifest import read_samples
from simpipe.engine.lock import run_lock
from simpipe.metrics.contracts import load_schema

pytestmark = pytest.mark.slow
RUN = Path("runs/quick")


def vectors_in_cache(place: Path) -> int:
    return sum(len(np.load(path)) for path in (place / "runs/.cache/features").glob("*/*.npy"))


def rerun(place: Path, *arguments: object, data: object = "data") -> list[str]:
    return executed(simpipe("run", data, "--config", "quick", "--json", *arguments, cwd=place))


def test_every_artifact_is_there_and_keeps_its_contract(finished):
    run = finished / RUN
    for artifact in (
        *("config.yaml", "run.json", "report.html", "ingest/manifest.parquet", "ingest/samples.parquet"),
        *("ingest/labels.json", "sampler/sampler.json", "train/encoder.json", "train/history.csv"),
        *("index/embeddings.npy", "index/pretrained.npy", "index/index.bin", "evaluate/per_query.parquet"),
        *("evaluate/neighbours.npz", "evaluate/findings.csv", "report/projection.npy"),
    ):
        assert (run / artifact).stat().st_size > 0, artifact
    metrics = json.loads((run / "evaluate/metrics.json").read_text())
    calibration = json.loads((run / "calibrate/calibration.json").read_text())
    jsonschema.validate(metrics, load_schema("metrics-1"))
    jsonschema.validate(calibration, load_schema("calibration-1"))
    rungs = {entry["rung"] for entry in metrics["ladder"]}
    assert rungs == {"chance", "thumbnail", "pretrained", "whitened", "lda", "trained"}
    assert metrics["blocks"]["seen"]["metrics"]["accuracy@1"]["value"] > 0.5
    assert "reason" in metrics["blocks"]["unseen"]


def test_embeddings_are_unit_vectors_in_the_order_of_the_samples(finished):
    from simpipe.data.manifest import read_samples

    samples = read_samples(finished / RUN / "ingest/samples.parquet")
    for name in ("embeddings", "pretrained"):
        vectors = np.load(finished / RUN / f"index/{name}.npy")
        assert vectors.dtype == np.float32
        assert len(vectors) == len(samples) == len(COLOURS) * PER_LABEL
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_own_group_is_never_among_the_neighbours(finished):
    from simpipe.data.manifest import read_samples

    groups = read_samples(finished / RUN / "ingest/samples.parquet").group_id
    neighbours = np.load(finished / RUN / "evaluate/neighbours.npz")
    for name in ("all_to_all", "pretrained_all_to_all"):
        ids = neighbours[f"{name}_ids"]
        assert (groups[ids] != groups[:, None])[ids >= 0].all()
        assert (np.diff(neighbours[f"{name}_distances"], axis=1) >= 0).all()


def test_the_same_command_again_runs_nothing(place):
    assert rerun(place) == []
    status = simpipe("status", "--check", cwd=place)
    assert status.returncode == 0
    assert status.stdout.count("fresh") == 7


def test_touching_and_moving_the_data_run_nothing(place):
    for path in (place / "data").rglob("*.jpg"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert rerun(place) == []
    (place / "data").rename(place / "elsewhere")
    assert rerun(place, data="elsewhere") == []


def test_renaming_a_file_trains_nothing(place):
    (place / "data/azure/00.jpg").rename(place / "data/azure/renamed.jpg")
    assert rerun(place) == ["ingest", "evaluate", "report"]


def test_only_a_new_image_goes_through_the_backbone(place):
    before = vectors_in_cache(place)
    draw(COLOURS["brick"], 999).save(place / "data/brick/new.jpg")
    assert "train" in rerun(place, "--to", "index")
    assert vectors_in_cache(place) == before + 1 == len(COLOURS) * PER_LABEL + 1


def test_a_deleted_index_is_rebuilt_alone(place):
    shutil.rmtree(place / RUN / "index")
    result = simpipe("index", "--json", cwd=place)
    assert executed(result) == ["index"]
    assert simpipe("status", "--check", cwd=place).returncode == 0


def test_set_on_a_lone_stage_is_kept_and_said(place):
    result = simpipe("calibrate", "--set", "calibrate.precision=[0.9]", cwd=place)
    assert result.returncode == 0
    assert "kept in" in result.stderr
    assert "precision_0.90" in (place / RUN / "calibrate/calibration.json").read_text()
    assert simpipe("calibrate", "--json", cwd=place).returncode == 0


def test_dry_run_says_what_would_run_and_writes_nothing(place):
    before = {path: path.stat().st_mtime_ns for path in (place / RUN).rglob("*")}
    plan = simpipe(
        *("run", "data", "--config", "quick", "--dry-run", "--json", "--set", "index.m=8"), cwd=place
    )
    states = {stage["stage"]: stage["state"] for stage in json.loads(plan.stdout)["stages"]}
    assert states["train"] == "fresh"
    assert states["index"] == "stale"
    assert states["calibrate"] == "pending"
    assert before == {path: path.stat().st_mtime_ns for path in (place / RUN).rglob("*")}


def test_early_cut_off_through_the_real_stages(place):
    assert rerun(place, "--set", "index.m=8") == ["index"], "the embeddings are the same"
    assert rerun(place, "--set", "index.m=8", "--force-stage", "train") == ["train"]


def test_a_neighbour_that_is_not_asked_for_the_label_is_marked(finished):
    samples = read_samples(finished / RUN / "ingest/samples.parquet")
    result = simpipe("query", "data/cream/03.jpg", "-k", str(len(samples)), cwd=finished)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert len(lines) == len(samples)
    marked = sum("does not count)" in line for line in lines)
    assert 0 < marked == (samples.split != "train").sum()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "nowhere"), 2, "no such folder"),
        (("run", "data", "--config", "nonsense"), 2, "neither a file nor a preset"),
        (("run", "data", "--set", "train.learning_rate=1"), 2, "Did you mean train.lr"),
        (("run", "data", "--from", "index", "--to", "train"), 2, "comes after"),
        (("run", "data", "--only", "indx"), 2, "did you mean index"),
        (("run", "data", "--name", "a/b"), 2, "cannot be the name"),
        (("status", "--run", "quik"), 2, "did you mean quick"),
        (("query", "missing.jpg"), 2, "No such file"),
        (("query", "data/azure/00.jpg", "--threshold", "x"), 2, "no threshold"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_usage_errors(finished, arguments, code, message):
    result = simpipe(*arguments, cwd=finished)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ([], 5, "no image"),
        (["azure/1.jpg", "azure/2.jpg"], 5, "label"),
        (["1.jpg", "2.jpg"], 5, "1.jpg"),
    ],
)
def test_unusable_folders(tmp_path, files, code, message):
    (tmp_path / "data").mkdir()
    for number, name in enumerate(files):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        draw((200, 30, 30), number).save(tmp_path / "data" / name)
    result = simpipe("run", "data", cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs/baseline").exists(), "bad data leave no run behind"


def test_other_data_under_the_same_name(place, tmp_path):
    other = make_data(tmp_path / "other")
    (other / "azure/00.jpg").unlink()
    result = simpipe("run", other, "--config", "quick", cwd=place)
    assert result.returncode == 2
    assert "other data" in result.stderr
    assert "--name quick-other" in result.stderr


def test_a_stale_upstream_and_a_damaged_artifact_stop_a_lone_stage(place):
    stale = simpipe("evaluate", "--set", "train.epochs=3", cwd=place)
    assert stale.returncode == 4
    assert "train.epochs" in stale.stderr
    assert "--to calibrate" in stale.stderr
    (place / RUN / "index/embeddings.npy").write_bytes(b"rubbish")
    damaged = simpipe("evaluate", cwd=place)
    assert damaged.returncode == 5
    assert "embeddings.npy" in damaged.stderr
    query = simpipe("query", "data/azure/00.jpg", cwd=place)
    assert query.returncode == 5
    assert rerun(place) == ["index"]


def test_what_is_no_image_cannot_be_queried(place):
    (place / "note.jpg").write_text("not a picture")
    result = simpipe("query", "note.jpg", "--json", cwd=place)
    assert result.returncode == 5
    assert json.loads(result.stderr)["error"]["code"] == "data"


def test_a_second_process_on_the_same_run(place):
    with run_lock(place / RUN):
        result = simpipe("run", "data", "--config", "quick", cwd=place)
    assert result.returncode == 6
    assert str(os.getpid()) in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_runs_folder_that_cannot_be_written(tmp_path):
    make_data(tmp_path / "data")
    (tmp_path / "runs").mkdir(mode=0o500)
    result = simpipe("run", "data", cwd=tmp_path)
    assert result.returncode == 7


def test_a_runs_folder_that_is_a_file(tmp_path):
    make_data(tmp_path / "data")
    (tmp_path / "runs").write_text("")
    result = simpipe("run", "data", cwd=tmp_path)
    assert result.returncode == 7
    assert "Traceback" not in result.stderr


def test_interrupting_leaves_whole_stages_and_the_same_command_goes_on(place):
    terminate = "import os, signal; signal.signal(15, signal.SIG_DFL)\n"
    terminate += "around('train', lambda ctx, run: (os.kill(os.getpid(), 15), run(ctx)))"
    result = driven(terminate, "run", "data", "--config", "quick", "--force", cwd=place)
    assert result.returncode == 143, result.stderr
    assert simpipe("status", cwd=place).returncode == 0
    assert rerun(place) == []


def test_findings_survive_a_spreadsheet(finished):
    with (finished / RUN / "evaluate/findings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(not row["path"].startswith(("=", "+", "-", "@")) for row in rows)


def test_help_and_status_start_fast_and_load_nothing_heavy(finished):
    probe = (
        "import sys; sys.argv = ['simpipe', {arguments}]\n"
        "from simpipe.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "names = {{'tensorflow', 'nmslib', 'umap', 'bokeh', 'pandas', 'sklearn', 'pyarrow'}}\n"
        "heavy = names & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments in ("'--help'", "'status'"):
        script = probe.format(arguments=arguments)
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=finished, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


def test_init_writes_a_configuration_that_runs(tmp_path):
    assert simpipe("init", cwd=tmp_path).returncode == 0
    assert simpipe("init", cwd=tmp_path).returncode == 2
    shown = simpipe("init", "--stdout", cwd=tmp_path)
    assert (tmp_path / "simpipe.yaml").read_text() == shown.stdout
