"""Pictures of segmentations: colours, lines and legends that are there, and errors that name the argument."""
import numpy as np
import pytest

from convnext_mm.drawing import draw_segmentation, palette, segmentation_legend
from convnext_mm.drawing.canvas import FILL, LUMA, PAPER
from convnext_mm.utils.errors import ArgumentValueError
from tests.helpers.pictures import GREEN, NAMES, count, image


@pytest.mark.parametrize(('size', 'drawn'), [
    ((160, 192), (533, 640)), ((1, 1), (640, 640)), ((30, 640), (30, 640)), ((900, 1200), (900, 1200))])
def test_small_images_are_enlarged_and_large_ones_left(size, drawn):
    before = image(*size)
    assert draw_segmentation(before, np.zeros(size, int), NAMES).shape == (*drawn, 3)
    assert (before == GREEN).all(), 'the input was painted on'


def test_segmentation_shows_each_class_and_leaves_the_unlabelled():
    index = np.full((160, 192), 255)
    index[:80], index[80:, :96] = 0, 2
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])
    picture = draw_segmentation(image(), index, NAMES, palette=colours)
    grey = np.array(GREEN) @ LUMA
    for (y, x), colour in (((40, 100), colours[0]), ((120, 40), colours[2])):
        shown = picture[round(y * 640 / 192), round(x * 640 / 192)]
        assert np.abs(shown - ((1 - FILL) * grey + FILL * colour)).max() < 1.5
    assert tuple(picture[round(120 * 640 / 192), round(150 * 640 / 192)]) == GREEN
    assert count(picture, PAPER, 45) > 500, 'a line where regions meet'
    zero = draw_segmentation(image(), np.zeros((160, 192), int), NAMES, ignore_index=0)
    assert (zero == GREEN).all()


def test_legend_names_what_occurs():
    colours = palette(3)
    assert segmentation_legend([np.array([[0, 255]]), np.array([[2, 2]])], NAMES) == [
        ('circle', tuple(colours[0])), ('triangle', tuple(colours[2])), ('unlabelled', None)]
    assert segmentation_legend([np.array([[1]])], NAMES) == [('square', tuple(colours[1]))]


SQUARE = np.zeros((160, 192), int)


@pytest.mark.parametrize(('index_map', 'colours', 'named'), [
    (SQUARE[1:], None, 'index_map'), (SQUARE + 3, None, 'index_map'), (SQUARE - 1, None, 'index_map'),
    (SQUARE, palette(4), 'palette')])
def test_bad_arguments_are_named(index_map, colours, named):
    with pytest.raises(ArgumentValueError, match=f'^{named}'):
        draw_segmentation(image(), index_map, NAMES, colours)
