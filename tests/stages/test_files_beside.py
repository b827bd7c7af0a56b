"""The tables beside the page, and how sure the answers in them are."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from simpipe.stages.evidence import matches, write_table


class Few:
    """Four train images of two labels, and two queries."""

    label_id = np.array([0, 0, 1, 1, 0, 1], np.int32)
    group_id = np.arange(6)

    def rows(self, split: str) -> Any:
        return np.arange(4)


def unit(*degrees: float) -> np.ndarray:
    turned = np.radians(degrees)
    return np.column_stack([np.cos(turned), np.sin(turned)]).astype(np.float32)


def test_a_match_has_the_distance_of_its_label_and_the_probability_of_its_score() -> None:
    embeddings = unit(0, 10, 90, 100, 20, 60)
    knots = {"score": [-1.0, 0.0], "probability": [0.0, 1.0]}
    calibration = {"match": "nearest", "k": 1, "probability": {"knots": knots, "margin_weight": 0.0}}
    found = matches(embeddings, Few(), np.array([4, 5]), calibration)  # type: ignore[arg-type]
    expected = 1 - np.cos(np.radians([10, 30]))
    np.testing.assert_allclose(found.distance, expected, atol=1e-6)
    np.testing.assert_array_equal(found.label, [0, 1])
    np.testing.assert_allclose(found.probability, 1 - expected, atol=1e-6)
    bare = matches(embeddings, Few(), np.array([4]), {"match": "nearest", "k": 1})  # type: ignore[arg-type]
    assert np.isnan(bare.probability).all()


def test_a_table_is_safe_for_a_spreadsheet_and_whole_for_a_program(tmp_path: Path) -> None:
    line = {
        "path": "=cmd|x.jpg",
        "odd": "caf\udce9.jpg",
        "yes": True,
        "none": None,
        "nan": float("nan"),
        "x": 0.5,
    }
    write_table(tmp_path / "t.csv", list(line), [line])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        (read,) = csv.DictReader(stream)
    assert read == {
        "path": "'=cmd|x.jpg",
        "odd": "caf\\xe9.jpg",
        "yes": "yes",
        "none": "",
        "nan": "",
        "x": "0.5",
    }


def test_a_distance_in_a_table_is_the_one_that_a_threshold_is_compared_with(tmp_path: Path) -> None:
    distances = np.random.default_rng(0).uniform(0, 2, 500).astype(np.float32)
    write_table(tmp_path / "t.csv", ["distance"], [{"distance": each} for each in distances.tolist()])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        read = [row["distance"] for row in csv.DictReader(stream)]
    np.testing.assert_array_equal(np.array(read, np.float32), distances)
    assert max(map(len, read)) <= 12
