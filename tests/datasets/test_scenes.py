"""The drawn scenes are worth learning, and their masks are what was drawn."""
import numpy as np
import pytest

from convnext_mm.datasets.scenes import _coverage, draw_scene
from convnext_mm.datasets.shapes import _stream


def test_scenes_are_worth_learning():
    """Every class, overlaps, cut-off shapes and textured ground occur, and no shape is hidden beyond recognition."""
    drawn = [draw_scene(_stream(0, 'coco', 'val', i)) for i in range(40)]
    assert {label for scene in drawn for label in scene.labels} == {0, 1, 2}
    assert all(1 <= len(scene.labels) <= 6 for scene in drawn)
    assert all(scene.masks.sum(axis=0).max() <= 1 for scene in drawn), 'a pixel belongs to two shapes'
    assert min(mask.sum() for scene in drawn for mask in scene.masks) >= 40
    areas = sorted(mask.sum() for scene in drawn for mask in scene.masks)
    assert areas[-1] > 10 * areas[0]
    assert all(scene.image[~scene.masks.any(axis=0)].std(axis=0).min() > 5 for scene in drawn)
    edges = np.ones((160, 192), bool)
    edges[1:-1, 1:-1] = False
    assert any((mask & edges).any() for scene in drawn for mask in scene.masks)

    def touch(a, b):
        return (a[1:] & b[:-1]).any() or (a[:-1] & b[1:]).any()
    assert any(touch(a, b) for scene in drawn for i, a in enumerate(scene.masks) for b in scene.masks[:i])


@pytest.mark.parametrize(('kind', 'area'), [('circle', np.pi), ('square', 2), ('triangle', 3 ** 1.5 / 4)])
@pytest.mark.parametrize('angle', [0, .3, 1.1, 2.5])
def test_shapes_have_their_area_and_outline(kind, area, angle):
    coverage = _coverage(kind, (50.3, 44.8), 30., angle, 100, 120)
    assert coverage.sum() == pytest.approx(area * 30 ** 2, rel=.005)
    y, x = np.nonzero(coverage)
    distance = np.hypot(x + .5 - 50.3, y + .5 - 44.8)
    assert 29 < distance.max() < 31
    assert coverage.max() == 1 and coverage.min() == 0


def test_visible_parts_are_of_one_paint():
    """Where a mask says that a shape is visible, the image shows that shape and not what lies under or over it."""
    for i in range(40):
        scene = draw_scene(_stream(0, 'coco', 'val', i))
        for mask in scene.masks:
            paint = scene.image[mask].astype(int)
            strange = np.abs(paint - np.median(paint, axis=0)).max(axis=1) > 60
            assert strange.mean() < .15, f'scene {i}'
