"""Images of data sets are read as the model reads them, and their pictures have names of their own."""
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext_mm.drawing import load_image, name_pictures
from convnext_mm.drawing.datasets import image_folder
from convnext_mm.utils.errors import UserError
from tests.helpers.pictures import FakeDataset

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 9, 3), np.uint8)


def leaf(**prefixes):
    return Namespace(data_prefix=prefixes)


@pytest.mark.parametrize(('dataset', 'folder'), [
    (leaf(img='d/val/'), 'd/val/'), (leaf(img_path='d/val', seg_map_path='d/masks'), 'd/val'), (leaf(), ''),
    (Namespace(), ''), (Namespace(dataset=leaf(img='d/val')), 'd/val'),
    (Namespace(datasets=[leaf(img='d/a/img'), Namespace(dataset=leaf(img_path='d/b/img'))]), str(Path('d').resolve()))])
def test_folder_of_the_images(dataset, folder):
    assert image_folder(dataset) == folder


@pytest.mark.parametrize(('dataset', 'names'), [
    (FakeDataset(['d/a/1.jpg', 'd/b/1.jpg'], img='d'), ['a/1.png', 'b/1.png']),
    (FakeDataset(['d/1.jpg', 'd/1.png', 'd/1_2.png', 'd/1.tif'], img='d'),
     ['1.png', '1_2.png', '1_2_2.png', '1_3.png']),
    (FakeDataset(['/x/1.jpg', '/y/1.jpg'], img='d'), ['1.png', '1_2.png']),
    (FakeDataset(['d/1.jpg', 'd/1.jpg'], img_path='d'), ['1.png']),
    (Namespace(datasets=[FakeDataset(['/d/a/1.jpg'], img='/d/a'), Namespace(dataset=FakeDataset(['/d/b/1.jpg'],
                                                                                              img='/d/b'))]),
     ['a/1.png', 'b/1.png'])])
def test_no_two_pictures_have_one_name(dataset, names):
    assert list(name_pictures(dataset).values()) == names


KINDS = {'grey': lambda picture, path: picture.convert('L').save(path),
         'alpha': lambda picture, path: picture.convert('RGBA').save(path),
         'deep': lambda picture, path: Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path),
         'turned': lambda picture, path: picture.save(path, exif=_turned())}


def _turned():
    turned = Image.Exif()
    turned[0x112] = 6
    return turned


@pytest.mark.parametrize('kind', KINDS)
def test_images_are_what_mm_loads(kind, tmp_path):
    mmcv = pytest.importorskip('mmcv')
    path = str(tmp_path / 'a.png')
    KINDS[kind](Image.fromarray(PIXELS), path)
    shown = load_image(FakeDataset([path], img=str(tmp_path)), path)
    assert np.array_equal(shown, mmcv.imread(path, channel_order='rgb'))
    assert shown.shape == ((9, 6, 3) if kind == 'turned' else (6, 9, 3))


def test_each_part_reads_its_own_images():
    parts = [FakeDataset([], img=f'/d/{name}', transforms=[lambda results, value=value: dict(
        img=np.full((2, 2), value, np.uint8))]) for name, value in (('a', 1), ('b', 2))]
    both = Namespace(datasets=parts)
    assert [load_image(both, f'/d/{name}/1.png')[0, 0, 0] for name in ('a', 'b', 'c')] == [1, 2, 1]


def test_a_pipeline_that_loads_nothing():
    with pytest.raises(UserError, match='transform that loads images'):
        load_image(FakeDataset([], transforms=[dict]), '/d/1.png')
