"""Polygons are cut at the edge of an image: concave ones into several, and crossing ones without an error."""
import sys

import numpy as np
import pytest

from convnext_mm.datasets.annotations import polygon_area
from convnext_mm.datasets.polygons import clip_polygon
from convnext_mm.utils.errors import UserError

shapely = pytest.importorskip('shapely', reason='shapely is not installed')

#: Two arms reach into the image from a back that lies outside of it.
FORK = [7, 1, 14, 1, 14, 9, 7, 9, 7, 7, 12, 7, 12, 3, 7, 3]
#: A square and a smaller one in it, which a cut joins.
FRAME = [-2, 1, 8, 1, 8, 9, -2, 9, -2, 1, 2, 3, 2, 7, 6, 7, 6, 3, 2, 3]
CASES = [  # polygon, areas of its parts within 10 x 10, points that they cover, points that they do not
    ([1, 1, 5, 1, 5, 5], [8], [(4, 2)], [(2, 4)]),
    ([0, 0, 10, 0, 10, 10, 0, 10], [100], [(5, 5)], []),
    ([5, 5, 15, 5, 15, 9, 5, 9], [20], [(9, 7)], [(4, 7)]),
    ([-5, 5, 5, -5, 5, 5], [25], [(1, 1), (4, 4)], [(6, 6)]),
    ([-5, -5, 15, -5, 15, 15, -5, 15], [100], [(1, 1), (9, 9)], []),
    (FORK, [6, 6], [(8, 2), (8, 8)], [(8, 5), (9.9, 5)]),
    # Both cross themselves at the edge of the image.
    ([5, 0, 15, 8, 15, 0, 5, 8], [20], [(5.5, 1), (5.5, 7), (6, 4)], [(9.9, 5)]),
    ([5, 5, 15, 9, 5, 9, 15, 5], [5, 5], [(9, 5.5), (9, 8.5)], [(9, 7)]),
    (FRAME, [24, 24], [(1, 5), (7, 5), (3.5, 2), (3.5, 8)], [(3.5, 5), (9, 5)]),
    # Nothing is left.
    ([20, 5, 30, 5, 30, 9], [], [], [(9, 6)]), ([10, 0, 20, 0, 20, 10], [], [], []), ([-5, 1, 20, 1, 8, 1], [], [], []),
    ([3, 3, 3, 3, 3, 3], [], [], []), ([-3, -3, -3, -3, 30, 30], [], [], []),
    # As far as floats go.
    ([0, 0, 1e300, 0, 1e300, 1e300], [50], [(5, 1)], [(1, 5)]), ([0, 0, 10 ** 30, 0, 10 ** 30, 10 ** 30], [50], [], []),
]


def clip(polygon):
    return clip_polygon(polygon, 10, 10)


@pytest.mark.parametrize(('polygon', 'areas', 'covered', 'free'), CASES)
def test_parts_within_the_image(polygon, areas, covered, free):
    parts = clip(polygon)
    assert sorted(map(polygon_area, parts)) == pytest.approx(areas)
    assert all(0 <= value <= 10 for part in parts for value in part)
    shapes = [shapely.Polygon(np.reshape(part, (-1, 2))) for part in parts]
    assert all(shape.is_valid for shape in shapes), 'a part touches itself'
    for points, inside in ((covered, True), (free, False)):
        assert [shapely.contains_xy(shapes, *point).any() for point in points] == [inside] * len(points)


@pytest.mark.parametrize('polygon', [[1, 1, 5, 1, 5, 5], [0, 0, 10, 0, 10, 10.0]])
def test_what_lies_within_stays_as_it_is(polygon):
    assert clip(polygon) == [polygon] and clip(polygon)[0] is polygon


def test_parts_fill_what_the_polygon_fills():
    """By pycocotools, which draws a polygon that reaches out of the image without help."""
    coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
    random = np.random.default_rng(0)

    def draw(polygons, side):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, side, side)))[:100, :100].astype(int)

    for _ in range(50):
        polygon = random.uniform(20, 160, 16).tolist()
        parts = clip_polygon(polygon, 100, 100)
        whole = draw([polygon], 200)
        clipped = draw(parts, 100) if parts else 0 * whole
        # They differ along the outlines by less than a pixel.
        assert (whole != clipped).sum() <= 8 * 30
        assert abs(whole.sum() - clipped.sum()) <= .05 * whole.sum() + 30


def test_without_shapely_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'shapely', None)
    with pytest.raises(UserError, match='pip install shapely'):
        clip(FORK)
