"""Sheets of several pictures: ground truth beside prediction, titles, legends."""
import numpy as np
import pytest

from convnext_mm.drawing import (
    Instances,
    Panels,
    contact_sheet,
    draw_panels,
    join_panels,
    palette,
    segmentation_legend,
    side_by_side,
)
from convnext_mm.drawing.canvas import PAPER
from convnext_mm.utils.errors import ArgumentValueError
from tests.helpers.pictures import GREEN, NAMES, boxes_and_masks, count, image

BOXES, MASKS = boxes_and_masks()
MAP = np.zeros((160, 192), int)


def test_a_legend_is_below_the_picture(texts):
    legend = segmentation_legend([np.array([[0, 255]]), np.array([[2, 2]])], NAMES)
    picture = side_by_side([image(100, 300)], ['prediction'], legend)
    assert texts == ['prediction', 'circle', 'triangle', 'unlabelled']
    for _, colour in legend[:2]:
        assert count(picture, colour) > 30


def test_a_long_legend_wraps(texts):
    names = [f'class number {i}' for i in range(40)]
    legend = segmentation_legend([np.arange(40)], names)
    picture = side_by_side([image(300, 640)], ['prediction'], legend)
    assert texts[1:] == names and picture.shape[0] > 450
    for _, colour in legend:
        assert count(picture, colour) > 100


def test_side_by_side_keeps_the_panels(texts):
    panels = [image(100, 90, (10, 20, 30)), image(100, 50, (90, 80, 70)), image(100, 70, (5, 200, 5))]
    picture = side_by_side(panels, ['image', 'ground truth', 'prediction'])
    assert texts == ['image', 'ground truth', 'prediction']
    assert picture.shape[1] > 210 and picture.shape[0] > 100
    for panel in panels:
        assert count(picture, panel[0, 0]) >= panel.shape[0] * panel.shape[1]


def test_panels_of_instances(texts):
    truth, found = Instances(BOXES[:1], [0], None, MASKS[:1]), Instances(BOXES[1:], [1, 2], [.9, .8], MASKS[1:])
    panels = draw_panels(image(), found, truth, NAMES)
    assert list(panels.pictures) == ['ground truth', 'prediction'] and panels.legend == []
    for picture, shown in zip(panels.pictures.values(), ([0], [1, 2])):
        assert [i for i, colour in enumerate(palette(3)) if count(picture, colour) > 1000] == shown
    joined = join_panels(panels)
    assert joined.shape[1] > 1280
    assert count(joined[:, :655], palette(3)[0]) > 1000 and not count(joined[:, 655:], palette(3)[0])
    assert texts == ['circle', 'square 0.90', 'triangle 0.80', 'ground truth', 'prediction']
    alone = draw_panels(image(), found, None, NAMES)
    assert list(alone.pictures) == ['prediction']
    assert np.array_equal(join_panels(alone), panels.pictures['prediction']), 'one picture has no title'


def test_panels_of_a_segmentation(texts):
    panels = draw_panels(image(), MAP, MAP + 2, NAMES)
    assert list(panels.pictures) == ['image', 'ground truth', 'prediction']
    assert [name for name, _ in panels.legend] == ['circle', 'triangle']
    assert (panels.pictures['image'] == GREEN).all()
    assert not np.array_equal(panels.pictures['ground truth'], panels.pictures['prediction'])
    assert join_panels(panels).shape[1] > 3 * 640
    assert texts == ['image', 'ground truth', 'prediction', 'circle', 'triangle']
    alone = draw_panels(image(), MAP, None, NAMES)
    assert list(alone.pictures) == ['prediction'] and [name for name, _ in alone.legend] == ['circle']
    height, width = alone.pictures['prediction'].shape[:2]
    assert join_panels(alone).shape[1] == width and join_panels(alone).shape[0] > height


@pytest.mark.parametrize('index', [3, 254, -1])
def test_a_truth_of_no_class_is_unlabelled(index):
    panels = draw_panels(image(), MAP, MAP + index, NAMES)
    assert (panels.pictures['ground truth'] == GREEN).all()
    assert [name for name, _ in panels.legend] == ['circle', 'unlabelled']


def test_a_single_picture_with_a_legend():
    picture = join_panels(Panels({'prediction': image()}, [('circle', (1, 2, 3))]))
    assert (picture[:160] == GREEN).all() and (picture[-1] == PAPER).all()


@pytest.mark.parametrize(('pictures', 'columns', 'shape'), [
    (2, 2, (20, 60)), (3, 2, (40, 60)), (5, 1, (100, 30)), (3, 9, (20, 90))])
def test_contact_sheet(pictures, columns, shape):
    sheet = contact_sheet([image(20, 30)] * (pictures - 1) + [image(10, 10, (1, 2, 3))], columns)
    assert sheet.shape == (*shape, 3)
    assert count(sheet, (1, 2, 3)) == 100
    assert count(sheet, GREEN) == 600 * (pictures - 1)


@pytest.mark.parametrize(('function', 'arguments', 'named'), [
    (side_by_side, ([], []), 'panels'), (side_by_side, ([image()], ['a', 'b']), 'panels'),
    (side_by_side, ([image(), image(20)], ['a', 'b']), 'panels'), (contact_sheet, ([],), 'pictures'),
    (contact_sheet, ([image()], 0), 'pictures')])
def test_bad_arguments_are_named(function, arguments, named):
    with pytest.raises(ArgumentValueError, match=f'^{named}'):
        function(*arguments)
