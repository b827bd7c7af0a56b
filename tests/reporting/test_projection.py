"""The map: what it keeps, that it is reproducible, its fallbacks, and projectors of other packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.config import Config, override
from simpipe.config import projectors as names
from simpipe.errors import ConfigError, StageError
from simpipe.reporting import projectors
from simpipe.reporting.projection import aligned, preserved, project
from simpipe.reporting.projectors.pca import pca
from simpipe.reporting.projectors.umap import Settings

FEW_EPOCHS = ("simpipe.reporting.projectors.umap.FEW_EPOCHS", 5)
MANY_EPOCHS = ("simpipe.reporting.projectors.umap.MANY_EPOCHS", 5)


def neighbours(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest, self excluded, padded with -1 and infinity as they are stored."""
    distance = 1 - vectors @ vectors.T
    np.fill_diagonal(distance, np.inf)
    ids = np.argsort(distance, axis=1, kind="stable")[:, :k].astype(np.int32)
    distance = np.clip(np.take_along_axis(distance, ids, axis=1), 0, 2).astype(np.float32)
    gap = max(0, k - len(vectors) + 1)
    if gap:
        ids[:, ids.shape[1] - 1 :], distance[:, ids.shape[1] - 1 :] = -1, np.inf
    short = k - ids.shape[1]
    return (
        np.pad(ids, ((0, 0), (0, short)), constant_values=-1),
        np.pad(distance, ((0, 0), (0, short)), constant_values=np.inf),
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def blobs(
    n: int, groups: int, noise: float, seed: int = 0, k: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors around `groups` middles, and their k nearest, self excluded."""
    rng = np.random.default_rng(seed)
    found = unit(rng.normal(size=(groups, 24))[np.arange(n) % groups] + noise * rng.normal(size=(n, 24)))
    return found, *neighbours(found, k)


def nearest_on(xy: np.ndarray) -> np.ndarray:
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(gap, np.inf)
    return gap.argmin(axis=1)


@pytest.mark.parametrize("wanted", [Settings(), Settings(metric="euclidean"), Settings(densmap=True)])
def test_umap_keeps_groups_apart_and_is_reproducible(wanted: Settings) -> None:
    made = blobs(150, 3, 0.2)
    loaded = "tensorflow" in sys.modules
    xy, info = project(*made, 7, settings=wanted)
    assert loaded or "tensorflow" not in sys.modules
    again, _ = project(*made, 7, settings=wanted)
    assert xy.shape == (150, 2) and xy.dtype == np.float32
    np.testing.assert_array_equal(xy, again)
    assert (nearest_on(xy) % 3 == np.arange(150) % 3).mean() > 0.99
    assert info == {
        "method": "umap", "seed": 7, "n_neighbors": 15, "min_dist": 1.0, "spread": 3.0,
        "metric": wanted.metric, "densmap": wanted.densmap, "placed": 0,
        "preserved": preserved(xy, made[1], 7)[0], "preserved_k": 15,
    }  # fmt: skip


def test_each_of_umaps_parameters_and_the_seed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FEW_EPOCHS)
    monkeypatch.setattr(*MANY_EPOCHS)
    made = blobs(120, 1, 0.5)
    plain = project(*made, 0)[0]
    others = [
        Settings(neighbours=5),
        Settings(min_dist=0.8),
        Settings(spread=2.0),
        Settings(metric="euclidean"),
        Settings(densmap=True),
    ]
    maps = [plain, project(*made, 1)[0], *(project(*made, 0, settings=other)[0] for other in others)]
    assert len({xy.tobytes() for xy in maps}) == len(maps)


def test_densmap_draws_dense_groups_dense() -> None:
    rng = np.random.default_rng(0)
    middles = np.eye(24)[:2]
    noise = np.where(np.arange(200) % 2, 0.02, 0.3)[:, None]
    vectors = unit(middles[np.arange(200) % 2] + noise * rng.normal(size=(200, 24)))

    def contrast(wanted: Settings) -> float:
        xy, _ = project(vectors, *neighbours(vectors, 15), 0, settings=wanted)
        return float(xy[::2].std(axis=0).mean() / xy[1::2].std(axis=0).mean())

    assert contrast(Settings(densmap=True)) > 1.5 * contrast(Settings())


@pytest.mark.parametrize("n", [1, 2, 3, 19])
def test_few_images_are_laid_out_by_pca(n: int) -> None:
    xy, info = project(*blobs(n, 2, 0.5), 0)
    assert info["method"] == "pca" and xy.shape == (n, 2) and np.isfinite(xy).all()
    assert (info["preserved"] is None) == (n == 1)


def test_pca_matches_scikit_learn_up_to_the_sign() -> None:
    from sklearn.decomposition import PCA

    made = blobs(80, 4, 0.7)
    xy, info = project(*made, 0, "pca")
    assert info["method"] == "pca"
    np.testing.assert_allclose(np.abs(xy), np.abs(PCA(2).fit_transform(made[0])), atol=1e-4)
    assert pca(np.ones((5, 1), np.float32)).shape == (5, 2)


def test_pca_of_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(80, 4, 0.7)[0]
    whole = pca(vectors)
    monkeypatch.setattr("simpipe.reporting.projectors.pca.BLOCK_ROWS", 7)
    np.testing.assert_allclose(pca(vectors), whole, atol=1e-6)


# before and after training


def test_a_map_that_starts_at_another_lies_on_it() -> None:
    after = blobs(200, 4, 0.2)
    features = unit(after[0] + 0.3 * np.random.default_rng(3).normal(size=after[0].shape))
    stored = neighbours(features, 15)
    xy, _ = project(*after, 0)
    alone, faithful = project(features, *stored, 0)
    before, info = project(features, *stored, 0, start=xy)
    assert info["preserved"] > 0.9 * faithful["preserved"]
    np.testing.assert_allclose(before.mean(axis=0), xy.mean(axis=0), atol=1e-3)
    assert before.std() == pytest.approx(xy.std(), rel=1e-3)

    def apart(other: np.ndarray) -> float:
        return float(np.linalg.norm(other - xy, axis=1).mean())

    assert apart(before) < apart(alone)
    flat, _ = project(features, *stored, 0, "pca", start=xy)
    assert apart(flat) < apart(project(features, *stored, 0, "pca")[0])


def test_aligned_undoes_a_turn_a_mirror_a_scale_and_a_shift() -> None:
    xy = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])
    np.testing.assert_allclose(aligned((3 * xy @ turn + 9).astype(np.float32), xy), xy, atol=1e-5)
    point = np.ones((30, 2), np.float32)
    np.testing.assert_array_equal(aligned(xy, point), xy)
    np.testing.assert_array_equal(aligned(point, xy), point)


# what embeddings may look like


@settings(max_examples=40)
@given(
    n=st.integers(1, 45),
    distinct=st.integers(1, 45),
    zeros=st.integers(0, 10),
    islands=st.integers(1, 4),
    k=st.integers(0, 20),
    wanted=st.builds(
        Settings,
        neighbours=st.integers(2, 100),
        metric=st.sampled_from(["cosine", "euclidean"]),
        densmap=st.booleans(),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_copies_zero_vectors_and_islands_get_finite_places(
    n: int, distinct: int, zeros: int, islands: int, k: int, wanted: Settings, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.zeros((distinct, 8 * islands))
    for row in range(distinct):  # islands are at right angles: no neighbour list leads across
        island = row % islands
        vectors[row, 8 * island : 8 * island + 8] = rng.normal(size=8)
    vectors = unit(vectors)[np.arange(n) % distinct]
    vectors[: min(zeros, n)] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*FEW_EPOCHS)
        patch.setattr(*MANY_EPOCHS)
        xy, _ = project(vectors, *neighbours(vectors, k), seed, settings=wanted)
        again, _ = project(vectors, *neighbours(vectors, k), seed, settings=wanted)
    assert xy.shape == (n, 2) and np.isfinite(xy).all()
    np.testing.assert_array_equal(xy, again)


@pytest.mark.parametrize("densmap", [False, True])
def test_equal_images_are_one_place_with_others_around(densmap: bool) -> None:
    vectors, _, _ = blobs(90, 3, 0.2)
    vectors[:30] = vectors[0]
    xy, _ = project(vectors, *neighbours(vectors, 15), 0, settings=Settings(densmap=densmap))
    assert np.isfinite(xy).all()
    everything = np.tile(vectors[:1], (60, 1))
    assert np.isfinite(project(everything, *neighbours(everything, 15), 0)[0]).all()


def test_preserved_is_the_overlap_of_neighbours() -> None:
    xy = np.column_stack([np.arange(6.0), np.zeros(6)])
    ids = np.array([[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 0]])
    # Row 5 has neighbours 4 and 3 on the line, so one of its two is kept; the rest keep both.
    assert preserved(xy, ids, 0) == (pytest.approx((5 * 1.0 + 0.5) / 6), 2)
    assert preserved(xy, np.full((6, 2), -1), 0) == (None, 2)
    assert preserved(xy, np.zeros((6, 0), int), 0) == (None, 0)


def test_tensorflow_is_hidden_while_umap_is_imported() -> None:
    code = """
import sys
from simpipe.reporting.projectors.umap import without_tensorflow
with without_tensorflow():
    try:
        import tensorflow
    except ImportError:
        print("hidden")
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "hidden\n"


# projectors of other packages

MAPS = """
import numpy as np

def circle(embeddings, ids, distances, seed):
    angle = np.arange(len(embeddings)) + seed
    return np.column_stack([np.cos(angle), np.sin(angle)])

def flat(embeddings, ids, distances, seed):
    return embeddings[:, 0]

def lost(embeddings, ids, distances, seed):
    return np.full((len(embeddings), 2), np.nan)

def ragged(embeddings, ids, distances, seed):
    return [[1, 2], [3]]

def silent(embeddings, ids, distances, seed):
    pass
"""
ENTRIES = """
[simpipe.projectors]
circle = made_up_maps:circle
flat = made_up_maps:flat
lost = made_up_maps:lost
ragged = made_up_maps:ragged
silent = made_up_maps:silent
gone = made_up_maps:gone
pca = made_up_maps:circle
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that brings projectors."""
    (tmp_path / "made_up_maps.py").write_text(MAPS)
    about = tmp_path / "made_up_maps-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-maps\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("package")
def test_a_package_brings_a_projector() -> None:
    assert override(Config(), ["report.projector=circle"]).report.projector == "circle"
    xy, info = project(*blobs(30, 2, 0.5), 4, "circle")
    np.testing.assert_allclose(xy[:, 0], np.cos(np.arange(30) + 4), atol=1e-6)
    assert xy.dtype == np.float32
    assert info["method"] == "circle" and info["seed"] == 4 and 0 <= info["preserved"] <= 1


@pytest.mark.usefixtures("package")
def test_simpipes_own_names_stay_its_own() -> None:
    made = blobs(30, 2, 0.5)
    np.testing.assert_array_equal(project(*made, 4, "pca")[0], pca(made[0]))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flat", r"flat gave shape \(30,\), not two numbers for each of 30 images"),
        ("lost", "lost gave no finite numbers for 30 of 30 images"),
        ("ragged", "ragged gave list, not two numbers"),
        ("silent", r"silent gave NoneType, not two numbers"),
        ("gone", r"gone \(made_up_maps:gone\) cannot be loaded: AttributeError"),
        ("never", "no installed package has a projector 'never'"),
    ],
)
def test_a_projector_that_gives_no_map_is_told(name: str, words: str) -> None:
    with pytest.raises(StageError, match=f"report.projector: .*{words}"):
        project(*blobs(30, 2, 0.5), 0, name)


@pytest.mark.usefixtures("package")
def test_an_unknown_projector_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'circel' is not one of umap, pca, circle, flat.* mean circle\?"):
        override(Config(), ["report.projector=circel"])


def test_without_such_packages_the_names_are_ours() -> None:
    with pytest.raises(ConfigError, match=r"report\.projector: 'tsne' is not one of umap, pca\.") as caught:
        override(Config(), ["report.projector=tsne"])
    assert caught.value.exit_code == 2
    assert tuple(projectors.PROJECTORS) == names.PROJECTORS and names.GROUP == projectors.GROUP


def test_the_names_are_known_without_what_draws_maps() -> None:
    code = """
import importlib.metadata, sys
from simpipe.config import Config, override
from simpipe.errors import ConfigError
try:
    override(Config(), ["report.projector=tsne"])
except ConfigError:
    importlib.metadata.entry_points = None
    override(Config(), ["report.projector=pca"])
    print(*{"umap", "numba", "scipy", "bokeh", "simpipe.reporting"} & set(sys.modules), "done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
