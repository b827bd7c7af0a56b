"""Eight colours for any number of labels, so that neighbours on the map differ."""

from collections.abc import Iterable
from heapq import heappop, heappush

import numpy as np

# Okabe and Ito (2008), safe for all common colour blindness; grey for their black, which a dark page hides.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
FADED = "#88888830"
# Cividis (Nuñez, Anderton and Renslow 2018) for amounts, without its darkest part, which a dark page hides.
AMOUNTS = (
    "#1E3C6C",
    "#3E4B6B",
    "#545A6C",
    "#686A70",
    "#7B7A77",
    "#908B78",
    "#A59C75",
    "#BBAD6F",
    "#D3C065",
    "#ECD555",
    "#FFE945",
)


def medoids(xy: np.ndarray, label_id: np.ndarray, labels: int) -> np.ndarray:
    """For each label the row nearest to the median of its points, int `(labels,)`; -1 without points."""
    rows = np.full(labels, -1)
    order = np.argsort(label_id, kind="stable")
    starts = np.searchsorted(label_id[order], np.arange(labels + 1))
    for label in range(labels):
        own = order[starts[label] : starts[label + 1]]
        if len(own):
            rows[label] = own[np.square(xy[own] - np.median(xy[own], axis=0)).sum(axis=1).argmin()]
    return rows


def neighbours_on_map(places: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of places joined by a Delaunay triangulation; all pairs where there is none to make."""
    from scipy.spatial import Delaunay, QhullError

    n = len(places)
    try:
        triangles = Delaunay(places).simplices if n > 4 else None
    except QhullError:  # all on one line
        triangles = None
    if triangles is None:
        order = np.lexsort(places.T[::-1]).tolist()
        return [(order[i], order[j]) for i in range(n) for j in range(i + 1, min(n, i + 4))]
    return [(int(a), int(b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[0], t[2]))]


def assign(places: np.ndarray, also: Iterable[tuple[int, int]] = ()) -> np.ndarray:
    """A colour in 0…7 for each place, int `(n,)`: neighbours on the map, and the pairs `also`, differ.

    Smallest-last greedy colouring (Matula and Beck 1983): a planar graph never needs more than six
    colours. Among the colours that are free, the least used one is taken; where none is free, the
    one that fewest neighbours have.
    """
    n = len(places)
    linked: list[set[int]] = [set() for _ in range(n)]
    for a, b in [*neighbours_on_map(places), *also]:
        if a != b:
            linked[a].add(b)
            linked[b].add(a)
    colour = np.full(n, -1)
    used = np.zeros(len(PALETTE), int)
    for place in reversed(smallest_last(linked)):
        near = np.bincount(
            [colour[other] for other in linked[place] if colour[other] >= 0], minlength=len(PALETTE)
        )
        colour[place] = np.lexsort((used, near))[0]
        used[colour[place]] += 1
    return colour


def smallest_last(linked: list[set[int]]) -> list[int]:
    """The order that takes away, again and again, the place with the fewest remaining neighbours."""
    degree = {place: len(others) for place, others in enumerate(linked)}
    waiting = sorted((least, place) for place, least in degree.items())
    order = []
    while waiting:
        least, place = heappop(waiting)
        if degree.get(place) != least:  # it was taken, or lost a neighbour since
            continue
        del degree[place]
        order.append(place)
        for other in linked[place]:
            if other in degree:
                degree[other] -= 1
                heappush(waiting, (degree[other], other))
    return order
