"""Pixels are those that mm loads, and pictures appear whole."""
import io

import numpy as np
import pytest
from PIL import Image

from convnext_mm.drawing import decode_image, write_picture
from convnext_mm.utils.errors import UserError

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 9, 3), np.uint8)


def encode(picture, kind='PNG', **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def test_pixels_are_rgb():
    assert np.array_equal(decode_image(encode(Image.fromarray(PIXELS))), PIXELS)


@pytest.mark.parametrize('kind', ['grey', 'alpha', 'deep', 'turned'])
def test_every_kind_of_image_is_what_mm_loads(kind):
    mmcv = pytest.importorskip('mmcv')
    picture, turned = Image.fromarray(PIXELS), Image.Exif()
    turned[0x112] = 6
    data = {'grey': lambda: encode(picture.convert('L')), 'alpha': lambda: encode(picture.convert('RGBA')),
            'deep': lambda: encode(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
            'turned': lambda: encode(picture, 'JPEG', exif=turned)}[kind]()
    expected = mmcv.imfrombytes(data, channel_order='rgb')
    assert np.array_equal(decode_image(data), expected)
    assert expected.shape == ((9, 6, 3) if kind == 'turned' else (6, 9, 3))


@pytest.mark.parametrize('data', [b'', b'no image'])
def test_what_is_no_image(data):
    with pytest.raises(UserError, match=f'got {len(data)} bytes'):
        decode_image(data)


def test_a_picture_is_a_png(tmp_path):
    write_picture(tmp_path / 'new' / 'a.png', PIXELS)
    assert np.array_equal(np.array(Image.open(tmp_path / 'new' / 'a.png')), PIXELS)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.png']
