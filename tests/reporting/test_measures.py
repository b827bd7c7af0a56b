from dataclasses import replace

import numpy as np
import pytest
from report_fixture import content

from simpipe.reporting.content import Content
from simpipe.reporting.density import FROM, density, frame, framed
from simpipe.reporting.measures import agreement, nearest_similarity, worst_finding


@pytest.fixture(scope="module")
def run() -> Content:
    return content(120, ["a", "b", "c"])


def test_agreement_is_the_share_of_the_ten_nearest(run: Content) -> None:
    found = agreement(run)
    for row in (0, 50, 119):
        near = run.neighbour_ids[row, :10]
        assert found[row] == pytest.approx(np.mean(run.label_id[near] == run.label_id[row]))
    ids = np.full((120, 12), -1)
    ids[1, 0] = 4  # the same label as row 1
    assert np.isnan(agreement(replace(run, neighbour_ids=ids))[0])
    assert agreement(replace(run, neighbour_ids=ids))[1] == 1


def test_a_query_is_compared_with_the_gallery_and_others_with_all(run: Content) -> None:
    found = nearest_similarity(run)
    np.testing.assert_allclose(found[run.test_rows], 1 - run.test_distances[:, 0])
    train = [row for row, split in enumerate(run.split) if split == "train"]
    np.testing.assert_allclose(found[train], 1 - run.neighbour_distances[train, 0])
    alone = replace(run, neighbour_ids=np.full((120, 12), -1), test_rows=np.zeros(0, int))
    none = nearest_similarity(replace(alone, test_ids=np.zeros((0, 0)), test_distances=np.zeros((0, 0))))
    assert np.isnan(none).all()


def test_the_gravest_finding_of_an_image_is_told(run: Content) -> None:
    def line(kind: str, row: int, severity: str, other: str = "") -> dict[str, str]:
        return {"kind": kind, "severity": severity, "path": run.path[row], "other": other, "sample_id": ""}

    lines = [
        line("outlier", 3, "high"),
        line("label_error", 3, "low"),  # less grave
        line("duplicate", 5, "medium", run.path[6]),  # both images have it
        line("outlier", 6, "medium"),  # as grave, and calls less for action
        line("label_error", 7, "low"),
        line("hub", 400 % 120, "low"),
    ]
    kinds, kind = worst_finding(replace(run, findings=lines))
    told = {row: kinds[code] for row, code in enumerate(kind.tolist()) if code >= 0}
    assert told == {3: "Outliers", 5: "Duplicates", 6: "Duplicates", 7: "Likely label errors", 40: "Hubs"}
    assert worst_finding(replace(run, findings=[]))[0] == []


def test_the_frame_holds_every_layout_with_a_margin() -> None:
    a, b = np.array([[0, 0], [10, 1]], np.float32), np.array([[-5, 3]], np.float32)
    left, right, bottom, top = frame([a, b])
    assert left < -5 and right > 10 and bottom < 0 and top > 3
    place = framed(a, (left, right, bottom, top)) / 65535 * [right - left, top - bottom] + [left, bottom]
    np.testing.assert_allclose(place, a, atol=3e-4)
    for one in (np.zeros((0, 2)), np.ones((1, 2)), np.zeros((4, 2))):
        left, right, bottom, top = frame([one])
        assert left < right and bottom < top


def test_the_shading_is_darkest_where_most_points_are_and_up_is_up() -> None:
    import base64
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    xy = np.vstack([rng.normal([0, 0], 0.2, (FROM, 2)), rng.normal([5, 5], 0.2, (200, 2))])
    uri = density(xy, (-1, 6, -1, 6))
    assert len(uri) < 100_000
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))[..., 1].astype(int)
    at = [alpha[int((6 - y) / 7 * 511), int((x + 1) / 7 * 511)] for x, y in ((0, 0), (5, 5), (0, 5))]
    assert at[0] > at[1] > at[2] == 0
