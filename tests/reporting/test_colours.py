import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simpipe.reporting.colours import PALETTE, assign, medoids, neighbours_on_map


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(0, 10_000))
def test_neighbours_on_the_map_never_share_a_colour(n: int, seed: int) -> None:
    places = np.random.default_rng(seed).normal(size=(n, 2))
    colour = assign(places)
    assert colour.shape == (n,) and colour.min() >= 0 and colour.max() < len(PALETTE)
    assert all(colour[a] != colour[b] for a, b in neighbours_on_map(places) if a != b)


def test_confused_pairs_differ_too() -> None:
    places = np.random.default_rng(3).normal(size=(60, 2))
    pairs = [(a, (a * 7 + 3) % 60) for a in range(0, 60, 3)]
    colour = assign(places, pairs)
    assert all(colour[a] != colour[b] for a, b in pairs if a != b)


def test_places_on_one_line_and_in_one_point() -> None:
    line = np.column_stack([np.arange(9.0), np.zeros(9)])
    colour = assign(line)
    assert (colour[1:] != colour[:-1]).all()
    assert len(assign(np.zeros((7, 2)))) == 7


def test_few_labels_all_differ() -> None:
    assert len(set(assign(np.random.default_rng(0).normal(size=(4, 2))).tolist())) == 4


def test_medoid_is_a_point_of_its_label() -> None:
    xy = np.array([[0, 0], [1, 0], [2, 0], [9, 9], [50, 50]], float)
    assert medoids(xy, np.array([0, 0, 0, 2, 2]), 4).tolist() == [1, -1, 3, -1]
