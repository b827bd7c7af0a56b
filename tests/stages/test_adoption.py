"""An encoder of another run, taken as it is: what is refused, what is said, and what comes of it."""

import json
import shutil
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from folders import Recorder, encoded, photo
from warm import Ended, shared

from simpipe.data.manifest import Samples, read_samples, write_samples
from simpipe.errors import DamagedError, UsageError
from simpipe.stages.adoption import adopt

WEIGHTS = b"not really weights"
RECORD = {
    "schema": "simpipe.encoder/1",
    "backbone": {"name": "toy", "input_size": 224},
    "tuning": {"trainable": "frozen"},
    "weights_sha256": sha256(WEIGHTS).hexdigest(),
}


def samples(splits: dict[str, str]) -> Samples:
    """Samples of these contents, each in its split."""
    contents = np.array(list(splits))
    text = np.full(len(contents), "a")
    labels = np.zeros(len(contents), np.int32)
    return Samples(contents, contents, text, labels, np.array(list(splits.values())), contents)


class Place:
    """A run with an encoder, and the context of another run that takes it."""

    def __init__(self, root: Path) -> None:
        self.run = root / "runs" / "old"
        self.train = self.run / "train"
        self.train.mkdir(parents=True)
        (self.run / "ingest").mkdir()
        (self.train / "encoder.weights.h5").write_bytes(WEIGHTS)
        self.out, self.listener = root / "out", Recorder()
        self.out.mkdir()
        self.samples = root / "samples.parquet"
        write_samples(self.samples, samples({"c1": "train", "c2": "test"}))
        self.teach({"d1": "train", "d2": "test"})

    def teach(self, splits: dict[str, str]) -> None:
        """Let samples of these contents have trained the encoder."""
        path = self.run / "ingest/samples.parquet"
        write_samples(path, samples(splits))
        self.write({**RECORD, "samples_sha256": sha256(path.read_bytes()).hexdigest()})

    def write(self, record: object) -> None:
        (self.train / "encoder.json").write_text(json.dumps(record))

    def adopt(self, trust: bool = False) -> list[str]:
        """The notes; the files lie in `out`."""
        settings = SimpleNamespace(encoder=str(self.train / "encoder.json"), trust=trust)
        config = SimpleNamespace(train=settings)
        ctx = SimpleNamespace(
            config=config,
            out=self.out,
            progress=self.listener,
            path=lambda artifact: {"ingest/samples.parquet": self.samples}[artifact],
        )
        adopt(ctx)
        return self.listener.notes

    def record(self) -> Any:
        return json.loads((self.out / "encoder.json").read_text())

    def taken(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_encoder_is_copied_as_it_is(place):
    (note,) = place.adopt()
    assert str(place.run) in note
    assert (place.out / "encoder.weights.h5").read_bytes() == WEIGHTS
    assert place.record() == json.loads((place.train / "encoder.json").read_text()) | {
        "adopted": place.record()["adopted"]
    }


def test_a_run_without_encoder_and_a_folder_that_is_no_run_are_refused(place):
    (place.train / "encoder.json").unlink()
    with pytest.raises(UsageError, match="there is no encoder") as error:
        place.adopt()
    assert "encoder.json" in error.value.message and "finished run" in error.value.hint
    shutil.rmtree(place.run)
    with pytest.raises(UsageError, match="there is no encoder"):
        place.adopt()
    assert place.taken() == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_weights_that_are_not_those_of_the_record_are_refused(place, damage):
    path = place.train / "encoder.weights.h5"
    if damage == "gone":
        path.unlink()
    else:
        raw = {"flipped": b"N" + WEIGHTS[1:], "cut": WEIGHTS[:-1], "empty": b""}[damage]
        path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"encoder\.weights\.h5 is missing or is not what"):
        place.adopt()
    assert place.taken() == []


@pytest.mark.parametrize(
    "record",
    [
        {"schema": "simpipe.encoder/0"},
        {name: value for name, value in RECORD.items() if name != "tuning"},
        {name: value for name, value in RECORD.items() if name != "weights_sha256"},
        {name: value for name, value in RECORD.items() if name != "backbone"},
        {"backbone": {"name": "toy"}, "head": {}},
        {},
        [],
        "text",
        None,
    ],
)
def test_an_encoder_of_another_version_is_refused(place, record):
    place.write(record)
    with pytest.raises(UsageError, match="no encoder of this version") as error:
        place.adopt()
    assert "simpipe train" in error.value.hint
    assert place.taken() == []


def test_a_record_that_is_cut_short_is_damaged(place):
    (place.train / "encoder.json").write_bytes(json.dumps(RECORD).encode()[:40])
    with pytest.raises(DamagedError):
        place.adopt()


def test_an_encoder_on_a_network_of_another_person_wants_trust(place):
    """The record may come from anyone, and says of itself that it is trusted."""
    place.write({**RECORD, "backbone": {"name": "/home/x/model.keras", "trust": True}})
    with pytest.raises(UsageError, match="loading that can run code") as error:
        place.adopt()
    assert "train.trust=true" in error.value.hint and place.taken() == []
    assert place.adopt(trust=True)


def test_images_that_trained_it_and_are_tested_here_are_told(place):
    here = {f"c{number}": "test" for number in range(5)} | {"c5": "unseen_test", "c6": "train", "c7": "val"}
    there = {"c0": "train", "c1": "val", "c2": "test", "c3": "unseen_test", "c6": "train", "x": "train"}
    write_samples(place.samples, samples(here))
    place.teach(there)
    _, note, known = place.adopt()
    assert note.startswith("2 of the images that are tested here trained that encoder")
    assert known == "held out here, but known to the encoder and so not unseen: a"
    assert place.record()["adopted"] == {"tested_images": 7, "known_images": 2, "known_labels": ["a"]}


def test_an_encoder_that_was_taken_from_a_third_run_does_not_say_what_trained_it(place):
    place.teach({"c2": "train"})
    record = json.loads((place.train / "encoder.json").read_text())
    place.write({**record, "adopted": {"tested_images": 1, "known_images": 1, "known_labels": []}})
    assert len(place.adopt()) == 1
    assert place.record()["adopted"] == {"tested_images": 1, "known_images": None, "known_labels": None}


@pytest.mark.parametrize("there", [{"c2": "test", "c3": "unseen_calib"}, None])
def test_nothing_is_told_where_nothing_is_shared_or_known(place, there):
    path = place.run / "ingest/samples.parquet"
    if there is None:
        path.unlink()
    else:
        place.teach(there)
    assert len(place.adopt()) == 1
    assert place.record()["adopted"]["known_images"] == (None if there is None else 0)


def test_samples_that_did_not_train_it_tell_nothing(place):
    """Its run was given other images since, and has not trained on them yet."""
    place.teach({"c1": "train"})
    write_samples(place.run / "ingest/samples.parquet", samples({"c2": "train"}))
    assert len(place.adopt()) == 1
    assert place.record()["adopted"] == {"tested_images": 1, "known_images": None, "known_labels": None}


# The whole pipeline

SETTINGS = ("--config", "quick", "--set", "train.input_size=64", "--set", "train.epochs=2")
COLOURS = {"azure": (40, 120, 230), "brick": (190, 60, 40), "cream": (240, 225, 170)}


def simpipe(place: Path, *arguments: object) -> Ended:
    ended = shared(heavy=True).run(*arguments, cwd=place)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def ran(result: Ended) -> list[str]:
    assert result.code == 0, result.stderr
    return [stage["stage"] for stage in json.loads(result.stdout)["stages"] if stage["action"] == "ran"]


def render(root: Path, first: int, last: int) -> None:
    """Pictures `first` … `last` of each label, each with its label's colour in it."""
    for number, (label, colour) in enumerate(COLOURS.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for index in range(first, last):
            image = photo(1000 * number + index)
            image.paste(colour, (8, 8, 40, 40))
            (root / label / f"{index:02d}.jpg").write_bytes(encoded(image))


@pytest.mark.slow
def test_a_second_folder_with_the_encoder_of_the_first(tmp_path):
    command = ("run", "new", *SETTINGS, "--name", "second", "--set", "train.encoder=runs/quick", "--json")
    adopting = partial(simpipe, tmp_path, *command)
    render(tmp_path / "old", 0, 14)
    render(tmp_path / "new", 8, 22)
    assert "index" in ran(simpipe(tmp_path, "run", "old", *SETTINGS, "--to", "index", "--json"))
    first, second = tmp_path / "runs/quick", tmp_path / "runs/second"

    result = adopting()
    assert {"sampler", "train", "index", "evaluate", "report"} <= set(ran(result))
    notes = " · ".join(json.loads(result.stdout)["notes"])
    assert "nothing is sampled" in notes and "is used as it is" in notes
    old, new = (read_samples(run / "ingest/samples.parquet") for run in (first, second))
    used = {content for split in ("train", "val") for content in old.sha256[old.rows(split)].tolist()}
    familiar = used & set(new.sha256[[*new.rows("val"), *new.rows("test")]].tolist())
    assert familiar and f"{len(familiar)} of the images that are tested here trained that" in notes
    assert json.loads((second / "sampler/sampler.json").read_text())["training"] is False
    assert len((second / "train/history.csv").read_text().splitlines()) == 1, "no epoch"
    taken, original = (json.loads((run / "train/encoder.json").read_text()) for run in (second, first))
    assert taken.pop("adopted")["known_images"] == len(familiar) and taken == original
    weights = [(run / "train/encoder.weights.h5").read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]

    shared = sorted(set(old.sha256.tolist()) & set(new.sha256.tolist()))
    assert len(shared) == 6 * len(COLOURS)
    for name in ("embeddings", "pretrained"):
        vectors = [
            np.load(run / f"index/{name}.npy")[[found.sha256.tolist().index(each) for each in shared]]
            for run, found in ((first, old), (second, new))
        ]
        np.testing.assert_array_equal(*vectors)
    seen = json.loads((second / "evaluate/metrics.json").read_text())["blocks"]["seen"]["metrics"]
    assert seen["accuracy@1"]["n"] == len(new.rows("test")) and seen["accuracy@1"]["value"] > 0.5
    found = json.loads(simpipe(tmp_path, "query", "new/cream/09.jpg", "--run", "second", "--json").stdout)
    assert found["results"][0]["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)

    assert ran(adopting()) == [], "all is fresh"
    named = ("run", "new", *SETTINGS, "--encoder", "quick")
    assert ran(simpipe(tmp_path, *named, "--name", "second", "--json")) == [], "the same, by the run's name"
    planned = simpipe(tmp_path, *named, "--dry-run")
    assert planned.code == 0 and "runs/new" in planned.stdout + planned.stderr, "called like its data"
    other = ("--set", "train.lr=1e-3", "--to", "train", "--json")
    assert "train" in ran(simpipe(tmp_path, "run", "old", *SETTINGS, *other))
    again = ran(adopting("--to", "evaluate"))
    assert {"train", "index", "evaluate"} <= set(again) and "ingest" not in again
    assert (second / "train/encoder.weights.h5").read_bytes() == (
        first / "train/encoder.weights.h5"
    ).read_bytes()
    assert ran(adopting("--to", "evaluate")) == []

    (first / "train/encoder.weights.h5").write_bytes(b"spoilt")
    result = adopting("--force-stage", "train")
    assert result.code == 5 and "is missing or is not what" in result.stderr
    planned = json.loads(simpipe(tmp_path, *command[:-3], "--dry-run", "--json").stdout)
    assert {each["stage"]: each["state"] for each in planned["stages"]}["sampler"] == "stale", (
        "its own from now on"
    )
    assert any("train.encoder: " in note and note.count("→ null") for note in planned["notes"])
    own = simpipe(tmp_path, "run", "old", *SETTINGS, "--set", "train.encoder=runs/quick")
    assert own.code == 2 and "its own encoder" in own.stderr
