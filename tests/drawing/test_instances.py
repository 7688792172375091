"""Pictures of instances: sizes, colours and labels that are there, and errors that name the argument."""
import numpy as np
import pytest

from convnext_mm.drawing import Instances, draw_instances, palette, with_legend
from convnext_mm.drawing.canvas import FILL, LUMA, PAPER
from convnext_mm.drawing.colours import COLOURS
from convnext_mm.utils.errors import ArgumentValueError, UserError
from tests.helpers.pictures import GREEN, NAMES, boxes_and_masks, count, image


@pytest.mark.parametrize(('size', 'drawn'), [
    ((160, 192), (533, 640)), ((8, 8), (640, 640)), ((1, 1), (640, 640)), ((30, 640), (30, 640)),
    ((900, 1200), (900, 1200)), ((640, 200), (640, 200))])
def test_small_images_are_enlarged_and_large_ones_left(size, drawn):
    boxes, masks = boxes_and_masks(*size)
    before = image(*size)
    picture = draw_instances(before, Instances(boxes, [0, 1, 2], [.9, .8, .7], masks), NAMES)
    assert picture.shape == (*drawn, 3) and picture.dtype == np.uint8
    assert (before == GREEN).all(), 'the input was painted on'


def test_instances_show_boxes_masks_and_labels_in_their_colours(texts):
    boxes, masks = boxes_and_masks()
    colours = palette(3)
    picture = draw_instances(image(), Instances(boxes, [0, 1, 2], [.987, .5, .051], masks), NAMES)
    assert texts and set(texts) == {'circle 0.99', 'square 0.50', 'triangle 0.05'}
    for box, colour in zip(boxes * 640 / 192, colours):
        assert count(picture, colour) > 1500, 'chip, box and outline'
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        grey = np.array(GREEN) @ LUMA
        assert np.abs(picture[y, x] - ((1 - FILL) * grey + FILL * colour)).max() < 1.5
    assert tuple(picture[-1, -1]) == GREEN
    plain = draw_instances(image(), Instances(boxes, [0, 1, 2]), NAMES)
    x, y = ((boxes[0, :2] + boxes[0, 2:]) / 2 * 640 / 192).astype(int)
    assert tuple(plain[y, x]) == GREEN, 'without masks nothing is filled'


def test_labels_without_scores_are_names_alone(texts):
    draw_instances(image(), Instances(boxes_and_masks()[0], [2, 1, 1]), NAMES)
    assert sorted(texts) == ['square', 'square', 'triangle']


@pytest.mark.parametrize('masks', [None, np.zeros((0, 160, 192), bool), []])
@pytest.mark.parametrize('boxes', [np.zeros((0, 4)), []])
def test_no_instances(boxes, masks):
    assert (draw_instances(image(), Instances(boxes, [], [], masks), NAMES) == GREEN).all()


def test_empty_masks_and_boxes_beyond_the_image():
    boxes = [[-50, -50, 400, 400], [10, 10, 10, 10], [500, 500, 600, 600]]
    draw_instances(image(), Instances(boxes, [0, 1, 2], masks=np.zeros((3, 160, 192), bool)), NAMES)


def test_a_small_instance_is_not_painted_over():
    boxes = np.array([[90., 70, 110, 90], [10, 10, 180, 150]])
    masks = np.zeros((2, 160, 192), bool)
    masks[0, 70:90, 90:110] = masks[1, 10:150, 10:180] = True
    picture = draw_instances(image(), Instances(boxes, [1, 0], masks=masks), NAMES)
    middle = picture[round(80 * 640 / 192), round(100 * 640 / 192)].astype(int)
    assert np.abs(middle - palette(2)[1]).max() < np.abs(middle - palette(2)[0]).max()


def test_a_label_is_whole_on_a_narrow_image():
    picture = draw_instances(image(640, 20), Instances([[2, 300, 18, 400]], [0], [.5]), ('a rather long name',))
    assert picture.shape[0] == 640 and picture.shape[1] > 130
    chip = (picture == COLOURS[0]).all(axis=-1).sum(axis=1) > 60
    assert chip.sum() > 10
    assert not (picture[chip][:, -2:] == PAPER).all(axis=-1).any(), 'letters end before the edge'
    legend = with_legend(image(640, 20), [('a rather long name', (1, 2, 3))])
    assert legend.shape[1] > 130
    assert (legend[-8:] == PAPER).all() and (legend[:600, 30:] == PAPER).all()


BOXES, MASKS = boxes_and_masks()
LABELS = [0, 1, 2]


@pytest.mark.parametrize(('pixels', 'instances', 'colours', 'named'), [
    (image().astype(float), Instances(BOXES, LABELS), None, 'image'),
    (image()[..., 0], Instances(BOXES, LABELS), None, 'image'),
    (np.zeros((0, 5, 3), np.uint8), Instances([], []), None, 'image'),
    (image(), Instances(BOXES, [0, 1]), None, 'labels'),
    (image(), Instances(BOXES, [0, 1, 3]), None, 'labels'),
    (image(), Instances(BOXES, [0, 1, -1]), None, 'labels'),
    (image(), Instances(BOXES, LABELS, [.5]), None, 'scores'),
    (image(), Instances(BOXES, LABELS, None, MASKS[:2]), None, 'masks'),
    (image(), Instances(BOXES, LABELS, None, MASKS[:, 1:]), None, 'masks'),
    (image(), Instances(BOXES, LABELS), palette(2), 'palette')])
def test_bad_arguments_are_named(pixels, instances, colours, named):
    with pytest.raises(ArgumentValueError) as raised:
        draw_instances(pixels, instances, NAMES, colours)
    assert isinstance(raised.value, UserError)
    assert str(raised.value).startswith(named) and '\n' not in str(raised.value)
