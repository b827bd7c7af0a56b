"""The committed sample data are what their README says, and their script draws them from a seed."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample_data", ROOT / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_sample_data"] = module
    spec.loader.exec_module(module)
    return module


def test_labels_counts_and_size(make):
    folders = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__")
    assert folders == sorted(make.SHAPES)
    assert len(folders) == 12
    files = list(ROOT.glob("*/*.jpg"))
    assert len(files) == 12 * make.PER_LABEL + 6
    assert sum(path.stat().st_size for path in files) <= 3_000_000


def test_the_planted_faults_are_there_and_the_readme_names_them(make):
    planted = [*make.MISLABELLED, make.EXACT_COPY[0], make.NEAR_COPY[0], make.TRUNCATED[0], make.TEXT[0]]
    assert re.findall(r"^\| `(.+?)`", (ROOT / "README.md").read_text(), re.MULTILINE) == planted
    assert (ROOT / make.EXACT_COPY[0]).read_bytes() == (ROOT / "star/star_04.jpg").read_bytes()
    copy, original = (
        np.asarray(Image.open(ROOT / name).convert("RGB").resize((64, 64)), float)
        for name in (make.NEAR_COPY[0], "cone/cone_07.jpg")
    )
    assert 0 < np.abs(copy - original).mean() < 4
    for name in (make.TRUNCATED[0], make.TEXT[0]):
        with pytest.raises(OSError, match=r"truncated|cannot identify"):
            Image.open(ROOT / name).load()


def test_the_script_draws_what_is_committed(make):
    for shape, number in (("cube", 3), ("torus", 7)):
        drawn = np.asarray(make.render(shape, number), float)
        kept = np.asarray(Image.open(ROOT / f"{shape}/{shape}_{number:02d}.jpg"), float)
        assert np.abs(drawn - kept).mean() < 4, "equal but for the JPEG"
