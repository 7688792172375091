"""Images, and instances in them, for tests of drawing."""
from argparse import Namespace

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


class FakeDataset:
    """A built data set as far as pictures need it.

    Args:
        paths (list[str]): Of its images.
        transforms (list, optional): Of its pipeline. Defaults to mmcv's loader.
        metainfo (dict, optional): Of its classes.
        prefixes (str): Folder of the images, as ``img`` or ``img_path``.
    """

    def __init__(self, paths, transforms=None, metainfo=None, **prefixes):
        self.paths, self.metainfo, self.data_prefix = paths, metainfo or {}, prefixes
        self.pipeline = Namespace(transforms=[self._load] if transforms is None else transforms)

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, index):
        return dict(img_path=self.paths[index])

    @staticmethod
    def _load(results):
        # Tests that draw nothing do without mmcv.
        LoadImageFromFile = pytest.importorskip('mmcv.transforms', reason='mmcv reads the images').LoadImageFromFile
        return LoadImageFromFile()(results)
