"""The pictures: sizes, colours, labels and legends that are there, and errors that name the argument."""
import numpy as np
import pytest

from convnext_mm.drawing import pictures as drawing
from convnext_mm.utils.errors import ArgumentValueError, UserError

NAMES = ('circle', 'square', 'triangle')
GREEN = (60, 140, 60)


def image(height=160, width=192, colour=GREEN):
    return np.full((height, width, 3), colour, np.uint8)


def count(picture, colour, tolerance=0):
    return int((np.abs(picture.astype(int) - np.asarray(colour, int)).max(axis=-1) <= tolerance).sum())


def instances(height=160, width=192):
    """Three boxes and masks in an image of any size."""
    boxes = np.array([[.1, .2, .4, .6], [.5, .1, .9, .5], [.3, .6, .6, .95]]) * [width, height, width, height]
    masks = np.zeros((3, height, width), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int)):
        mask[y0:y1, x0:x1] = True
    return boxes, masks


@pytest.fixture
def texts(monkeypatch):
    """Every text that is drawn."""
    drawn, draw = [], drawing.ImageDraw.ImageDraw.text
    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, 'text',
                        lambda self, xy, text, *args, **kwargs: (drawn.append(text), draw(self, xy, text, *args, **kwargs)))
    return drawn


@pytest.mark.parametrize(('size', 'drawn'), [((160, 192), (533, 640)), ((8, 8), (640, 640)), ((1, 1), (640, 640)),
                                         ((30, 640), (30, 640)), ((900, 1200), (900, 1200)), ((640, 200), (640, 200))])
def test_small_images_are_enlarged_and_large_ones_left(size, drawn):
    boxes, masks = instances(*size)
    before = image(*size)
    picture = drawing.draw_instances(before, boxes, [0, 1, 2], NAMES, scores=[.9, .8, .7], masks=masks)
    assert picture.shape == (*drawn, 3) and picture.dtype == np.uint8
    assert drawing.draw_segmentation(before, np.zeros(size, int), NAMES).shape == (*drawn, 3)
    assert (before == GREEN).all(), 'the input was painted on'


def test_instances_show_boxes_masks_and_labels_in_their_colours(texts):
    boxes, masks = instances()
    colours = drawing.palette(3)
    picture = drawing.draw_instances(image(), boxes, [0, 1, 2], NAMES, scores=[.987, .5, .051], masks=masks)
    assert texts and set(texts) == {'circle 0.99', 'square 0.50', 'triangle 0.05'}
    for box, colour in zip(boxes * 640 / 192, colours):
        assert count(picture, colour) > 1500, 'chip, box and outline'
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        grey = np.array(GREEN) @ drawing.LUMA
        assert np.abs(picture[y, x] - ((1 - drawing.FILL) * grey + drawing.FILL * colour)).max() < 1.5
    assert tuple(picture[-1, -1]) == GREEN
    plain = drawing.draw_instances(image(), boxes, [0, 1, 2], NAMES)
    x, y = ((boxes[0, :2] + boxes[0, 2:]) / 2 * 640 / 192).astype(int)
    assert tuple(plain[y, x]) == GREEN, 'without masks nothing is filled'


def test_labels_without_scores_are_names_alone(texts):
    drawing.draw_instances(image(), instances()[0], [2, 1, 1], NAMES)
    assert sorted(texts) == ['square', 'square', 'triangle']


@pytest.mark.parametrize('masks', [None, np.zeros((0, 160, 192), bool), []])
@pytest.mark.parametrize('boxes', [np.zeros((0, 4)), []])
def test_no_instances(boxes, masks):
    picture = drawing.draw_instances(image(), boxes, [], NAMES, scores=[], masks=masks)
    assert (picture == GREEN).all()


def test_empty_masks_and_boxes_beyond_the_image():
    boxes = [[-50, -50, 400, 400], [10, 10, 10, 10], [500, 500, 600, 600]]
    drawing.draw_instances(image(), boxes, [0, 1, 2], NAMES, masks=np.zeros((3, 160, 192), bool))


def test_a_small_instance_is_not_painted_over():
    boxes = np.array([[90., 70, 110, 90], [10, 10, 180, 150]])
    masks = np.zeros((2, 160, 192), bool)
    masks[0, 70:90, 90:110] = masks[1, 10:150, 10:180] = True
    picture = drawing.draw_instances(image(), boxes, [1, 0], NAMES, masks=masks)
    middle = picture[round(80 * 640 / 192), round(100 * 640 / 192)].astype(int)
    assert np.abs(middle - drawing.palette(2)[1]).max() < np.abs(middle - drawing.palette(2)[0]).max()


def test_labels_keep_off_each_other():
    """Five instances at nearly the same place, as a detector's duplicates are."""
    canvas, taken = (640, 533), []
    for i in range(5):
        box = (200 + 3 * i, 200 + 3 * i, 330 + 3 * i, 300 + 3 * i)
        place = drawing._place_label((95, 19), box, taken, canvas)
        assert place[0] >= 0 and place[2] <= canvas[0] and place[1] >= 0 and place[3] <= canvas[1]
        assert not any(drawing._overlap(place, other) for other in taken), i
        taken.append(place)
    crowded = [drawing._place_label((95, 19), (0, 0, 20, 20), taken, (100, 20)) for _ in range(2)]
    assert crowded[0] == crowded[1], 'where there is no room, the least bad place'


def test_first_choice_is_above_the_upper_left_corner():
    assert drawing._place_label((50, 20), (100, 100, 200, 200), [], (640, 640)) == (100, 80, 150, 100)
    assert drawing._place_label((50, 20), (100, 5, 200, 200), [], (640, 640)) == (100, 0, 150, 20)
    assert drawing._place_label((50, 20), (600, 100, 640, 200), [], (640, 640)) == (590, 80, 640, 100)


def test_segmentation_shows_each_class_and_leaves_the_unlabelled():
    index = np.full((160, 192), 255)
    index[:80], index[80:, :96] = 0, 2
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])
    picture = drawing.draw_segmentation(image(), index, NAMES, palette=colours)
    grey = np.array(GREEN) @ drawing.LUMA
    for (y, x), colour in (((40, 100), colours[0]), ((120, 40), colours[2])):
        shown = picture[round(y * 640 / 192), round(x * 640 / 192)]
        assert np.abs(shown - ((1 - drawing.FILL) * grey + drawing.FILL * colour)).max() < 1.5
    assert tuple(picture[round(120 * 640 / 192), round(150 * 640 / 192)]) == GREEN
    assert count(picture, drawing.PAPER, 45) > 500, 'a line where regions meet'
    zero = drawing.draw_segmentation(image(), np.zeros((160, 192), int), NAMES, ignore_index=0)
    assert (zero == GREEN).all()


def test_legend_names_what_occurs(texts):
    maps = [np.array([[0, 255]]), np.array([[2, 2]])]
    legend = drawing.segmentation_legend(maps, NAMES)
    colours = drawing.palette(3)
    assert legend == [('circle', tuple(colours[0])), ('triangle', tuple(colours[2])), ('unlabelled', None)]
    assert drawing.segmentation_legend([np.array([[1]])], NAMES) == [('square', tuple(colours[1]))]
    picture = drawing.side_by_side([image(100, 300)], ['prediction'], legend)
    assert texts == ['prediction', 'circle', 'triangle', 'unlabelled']
    for _, colour in legend[:2]:
        assert count(picture, colour) > 30


def test_a_long_legend_wraps(texts):
    names = [f'class number {i}' for i in range(40)]
    legend = drawing.segmentation_legend([np.arange(40)], names)
    picture = drawing.side_by_side([image(300, 640)], ['prediction'], legend)
    assert texts[1:] == names and picture.shape[0] > 450
    for _, colour in legend:
        assert count(picture, colour) > 100


def test_side_by_side_keeps_the_panels(texts):
    panels = [image(100, 90, (10, 20, 30)), image(100, 50, (90, 80, 70)), image(100, 70, (5, 200, 5))]
    picture = drawing.side_by_side(panels, ['image', 'ground truth', 'prediction'])
    assert texts == ['image', 'ground truth', 'prediction']
    assert picture.shape[1] > 210 and picture.shape[0] > 100
    for panel in panels:
        assert count(picture, panel[0, 0]) >= panel.shape[0] * panel.shape[1]


@pytest.mark.parametrize(('pictures', 'columns', 'shape'), [(2, 2, (20, 60)), (3, 2, (40, 60)),
                                                      (5, 1, (100, 30)), (3, 9, (20, 90))])
def test_contact_sheet(pictures, columns, shape):
    sheet = drawing.contact_sheet([image(20, 30)] * (pictures - 1) + [image(10, 10, (1, 2, 3))], columns)
    assert sheet.shape == (*shape, 3)
    assert count(sheet, (1, 2, 3)) == 100
    assert count(sheet, GREEN) == 600 * (pictures - 1)


@pytest.mark.parametrize('number', [0, 1, 3, 4, 12, 21, 80, 150])
def test_palette_keeps_classes_apart(number):
    colours = drawing.palette(number)
    assert colours.shape == (number, 3) and colours.dtype == np.uint8
    assert len({tuple(c) for c in colours}) == number
    first = colours[:12].astype(int)
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(len(first))
    assert not len(first) or distances.min() > 60
    assert np.array_equal(drawing.palette(200)[:number], colours), 'a class keeps its colour'


BOXES, MASKS = instances()
SQUARE = np.zeros((160, 192), int)


@pytest.mark.parametrize(('function', 'arguments', 'named'), [
    (drawing.draw_instances, (image().astype(float), BOXES, [0, 1, 2], NAMES), 'image'),
    (drawing.draw_instances, (image()[..., 0], BOXES, [0, 1, 2], NAMES), 'image'),
    (drawing.draw_instances, (np.zeros((0, 5, 3), np.uint8), [], [], NAMES), 'image'),
    (drawing.draw_instances, (image(), BOXES, [0, 1], NAMES), 'labels'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, 3], NAMES), 'labels'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, -1], NAMES), 'labels'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, 2], NAMES, [.5]), 'scores'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, 2], NAMES, None, MASKS[:2]), 'masks'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, 2], NAMES, None, MASKS[:, 1:]), 'masks'),
    (drawing.draw_instances, (image(), BOXES, [0, 1, 2], NAMES, None, None, drawing.palette(2)), 'palette'),
    (drawing.draw_segmentation, (image(), SQUARE[1:], NAMES), 'index_map'),
    (drawing.draw_segmentation, (image(), SQUARE + 3, NAMES), 'index_map'),
    (drawing.draw_segmentation, (image(), SQUARE - 1, NAMES), 'index_map'),
    (drawing.draw_segmentation, (image(), SQUARE, NAMES, drawing.palette(4)), 'palette'),
    (drawing.side_by_side, ([], []), 'panels'),
    (drawing.side_by_side, ([image()], ['a', 'b']), 'panels'),
    (drawing.side_by_side, ([image(), image(20)], ['a', 'b']), 'panels'),
    (drawing.contact_sheet, ([],), 'pictures'),
    (drawing.contact_sheet, ([image()], 0), 'pictures')])
def test_bad_arguments_are_named(function, arguments, named):
    with pytest.raises(ArgumentValueError) as raised:
        function(*arguments)
    assert isinstance(raised.value, UserError)
    assert str(raised.value).startswith(named) and '\n' not in str(raised.value)


def test_a_label_is_whole_on_a_narrow_image():
    picture = drawing.draw_instances(image(640, 20), [[2, 300, 18, 400]], [0], ('a rather long name',), scores=[.5])
    assert picture.shape[0] == 640 and picture.shape[1] > 130
    chip = (picture == drawing.COLOURS[0]).all(axis=-1).sum(axis=1) > 60
    assert chip.sum() > 10
    assert not (picture[chip][:, -2:] == drawing.PAPER).all(axis=-1).any(), 'letters end before the edge'
    legend = drawing.with_legend(image(640, 20), [('a rather long name', (1, 2, 3))])
    assert legend.shape[1] > 130
    assert (legend[-8:] == drawing.PAPER).all() and (legend[:600, 30:] == drawing.PAPER).all()


def test_150_classes_look_different():
    """Beyond ten units of CIELAB, colours are told apart when they are not side by side."""
    places = drawing._lab(drawing.palette(150))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(150)
    assert distances.min() > 15
