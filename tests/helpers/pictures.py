"""Images, and instances in them, for tests of drawing."""
import numpy as np
import pytest
from PIL import ImageDraw

NAMES = ('circle', 'square', 'triangle')
GREEN = (60, 140, 60)


def image(height=160, width=192, colour=GREEN):
    return np.full((height, width, 3), colour, np.uint8)


def count(picture, colour, tolerance=0):
    """The number of pixels of a colour."""
    return int((np.abs(picture.astype(int) - np.asarray(colour, int)).max(axis=-1) <= tolerance).sum())


def boxes_and_masks(height=160, width=192):
    """Three boxes and masks in an image of any size."""
    boxes = np.array([[.1, .2, .4, .6], [.5, .1, .9, .5], [.3, .6, .6, .95]]) * [width, height, width, height]
    masks = np.zeros((3, height, width), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int)):
        mask[y0:y1, x0:x1] = True
    return boxes, masks


@pytest.fixture
def texts(monkeypatch):
    """Every text that is drawn."""
    drawn, draw = [], ImageDraw.ImageDraw.text

    def record(self, xy, text, *args, **kwargs):
        drawn.append(text)
        draw(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', record)
    return drawn
