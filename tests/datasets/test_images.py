"""What is wrong with an image or a mask is found and named; what mm reads well is not."""
import io

import numpy as np
import pytest
from PIL import Image

from convnext_mm.datasets.images import Loader, check_image_file, check_mask_file, loader_of

PIXELS = np.random.RandomState(0).randint(0, 256, (40, 60, 3), np.uint8)
COLOR = Loader('color')


def encode(pixels=PIXELS, kind='JPEG', **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(exif=exif)


JPEG, PNG = encode(), encode(kind='PNG')
IMAGES = [  # content, loader, expected size, size found, kind of flaw, part of its detail
    (JPEG, COLOR, None, (60, 40), None, ''),
    (JPEG, COLOR, (60, 40), (60, 40), None, ''),
    (PNG, COLOR, (60, 40), (60, 40), None, ''),
    (encode(PIXELS[..., 0]), COLOR, (60, 40), (60, 40), None, ''),
    (encode(np.dstack([PIXELS, PIXELS[..., :1]]), 'PNG'), COLOR, (60, 40), (60, 40), None, ''),
    (encode(kind='WEBP'), COLOR, (60, 40), (60, 40), None, ''),
    (JPEG + b'trailer of a camera', COLOR, (60, 40), (60, 40), None, ''),
    (JPEG, COLOR, (61, 40), (60, 40), 'other size', '60 x 40, but its annotation says 61 x 40'),
    (JPEG, COLOR, (40, 60), (60, 40), 'other size', '60 x 40, but its annotation says 40 x 60'),
    (turned(), COLOR, (40, 60), (40, 60), None, ''),
    (turned(), COLOR, (60, 40), (40, 60), 'other size', 'EXIF orientation'),
    (turned(), Loader('unchanged'), (60, 40), (60, 40), None, ''),
    (turned(), Loader('color', 'pillow'), (40, 60), (40, 60), None, ''),
    (JPEG[:-2], COLOR, None, None, 'truncated image', 'truncated'),
    (JPEG[:len(JPEG) // 2], COLOR, (60, 40), None, 'truncated image', 'runcated'),
    (PNG[:len(PNG) // 2], COLOR, None, None, 'truncated image', 'truncated'),
    (PNG[:-5], COLOR, None, None, 'truncated image', 'cv2 cannot decode'),
    (b'', COLOR, None, None, 'unreadable image', 'empty'),
    (b'<html>', COLOR, None, None, 'unreadable image', 'cv2 cannot decode'),
    (JPEG[:20], COLOR, None, None, 'truncated image', ''),
    (b'<html>', Loader(), None, None, None, ''),
]


@pytest.mark.parametrize(('content', 'loader', 'expected', 'size', 'kind', 'detail'), IMAGES)
def test_images(content, loader, expected, size, kind, detail):
    pytest.importorskip('mmcv', reason='mmcv is not installed')
    found, flaw = check_image_file(content, loader, expected)
    assert found == size
    assert (flaw and flaw.kind) == kind
    assert detail in (flaw.detail if flaw else '')


@pytest.mark.parametrize(('side', 'kind'), [(12000, 'other size'), (65520, 'unreadable image')])
def test_a_header_that_asks_for_too_much_is_not_decoded(monkeypatch, side, kind):
    monkeypatch.setattr('convnext_mm.datasets.images._mmcv', None)
    sides = JPEG.index(b'\0\x28\0\x3c', JPEG.index(b'\xff\xc0'))
    content = JPEG[:sides] + side.to_bytes(2, 'big') * 2 + JPEG[sides + 4:]
    assert check_image_file(content, COLOR, (60, 40))[1].kind == kind


INDEX = np.uint8([[0, 1, 2], [3, 255, 255]])
MASKS = [  # content, size of the image, rule, kind, part of the detail
    (encode(INDEX, 'PNG'), (3, 2), (3, True, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), (4, False, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), None, None, ''),
    (encode(INDEX, 'PNG'), None, (3, True, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), (3, False, 255), 'value out of range', '[3] in 1 pixels; 3 classes with '
     'reduce_zero_label=False allow at most 2'),
    (encode(INDEX, 'PNG'), (3, 2), (3, False, 3), None, ''),
    (encode(INDEX.astype(np.uint16) * 257, 'PNG'), (3, 2), (150, True, 255), 'value out of range',
     '[257, 514, 771, 65535]'),
    (encode(INDEX, 'PNG'), (2, 3), (3, True, 255), 'other size', '3 x 2, but its image is 2 x 3'),
    (PNG, (60, 40), (3, True, 255), 'no index map', '(40, 60, 3)'),
    (b'', (3, 2), (3, True, 255), 'unreadable mask', 'empty'),
    (PNG[:300], (60, 40), (3, True, 255), 'unreadable mask', 'truncated'),
    (b'<html>', (3, 2), (3, True, 255), 'unreadable mask', 'cannot identify'),
]


@pytest.mark.parametrize(('content', 'size', 'rule', 'kind', 'detail'), MASKS)
def test_masks(content, size, rule, kind, detail):
    pytest.importorskip('mmcv', reason='mmcv is not installed')
    mask, flaw = check_mask_file(content, COLOR, size, rule)
    assert mask is not None or flaw is not None
    assert (flaw and flaw.kind) == kind
    assert detail in (flaw.detail if flaw else '')


def test_the_pipeline_tells_how_files_are_read():
    class LoadImageFromFile:
        color_type, imdecode_backend = 'unchanged', 'pillow'

    class LoadAnnotations:
        imdecode_backend, with_mask = 'cv2', True

    class Compose:
        transforms = [LoadImageFromFile(), object(), LoadAnnotations()]

    assert loader_of(Compose()) == Loader('unchanged', 'pillow', 'cv2', True)
    assert loader_of(None) == Loader()
