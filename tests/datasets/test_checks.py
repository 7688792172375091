"""What is wrong with an image, a mask, an instance, a COCO file is found and named; what mm reads well is not."""
import io

import numpy as np
import pytest
from PIL import Image

from convnext_mm.datasets.checks import (
    Loader,
    check_coco,
    check_image,
    check_instance,
    check_mask,
    check_reach,
    decode_counts,
    loader_of,
)

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
    found, flaw = check_image(content, loader, expected)
    assert found == size
    assert (flaw and flaw.kind) == kind
    assert detail in (flaw.detail if flaw else '')


@pytest.mark.parametrize(('side', 'kind'), [(12000, 'other size'), (65520, 'unreadable image')])
def test_a_header_that_asks_for_too_much_is_not_decoded(monkeypatch, side, kind):
    monkeypatch.setattr('convnext_mm.datasets.checks._mmcv', None)
    sides = JPEG.index(b'\0\x28\0\x3c', JPEG.index(b'\xff\xc0'))
    content = JPEG[:sides] + side.to_bytes(2, 'big') * 2 + JPEG[sides + 4:]
    assert check_image(content, COLOR, (60, 40))[1].kind == kind


INDEX = np.uint8([[0, 1, 2], [3, 255, 255]])
MASKS = [  # content, size of the image, rule, kind, part of the detail
    (encode(INDEX, 'PNG'), (3, 2), (3, True, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), (4, False, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), None, None, ''),
    (encode(INDEX, 'PNG'), None, (3, True, 255), None, ''),
    (encode(INDEX, 'PNG'), (3, 2), (3, False, 255), 'value out of range', '[3] in 1 pixels; 3 classes with '
     'reduce_zero_label=False allow at most 2'),
    (encode(INDEX, 'PNG'), (3, 2), (3, False, 3), None, ''),
    (encode(INDEX.astype(np.uint16) * 257, 'PNG'), (3, 2), (150, True, 255), 'value out of range', '[257, 514, 771, 65535]'),
    (encode(INDEX, 'PNG'), (2, 3), (3, True, 255), 'other size', '3 x 2, but its image is 2 x 3'),
    (PNG, (60, 40), (3, True, 255), 'unreadable mask', '(40, 60, 3)'),
    (b'', (3, 2), (3, True, 255), 'unreadable mask', 'empty'),
    (PNG[:300], (60, 40), (3, True, 255), 'unreadable mask', 'truncated'),
    (b'<html>', (3, 2), (3, True, 255), 'unreadable mask', 'cannot identify'),
]


@pytest.mark.parametrize(('content', 'size', 'rule', 'kind', 'detail'), MASKS)
def test_masks(content, size, rule, kind, detail):
    pytest.importorskip('mmcv', reason='mmcv is not installed')
    flaw = check_mask(content, COLOR, size, rule)
    assert (flaw and flaw.kind) == kind
    assert detail in (flaw.detail if flaw else '')


SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
BOX = [10, 10, 20, 20]
RUNS = [10 * 40 + 10, 20, 20, 20, 60 * 40 - 10 * 40 - 70]
INSTANCES = [  # box, segmentation, with_mask, kinds
    (BOX, [SQUARE], True, []),
    (BOX, None, False, []),
    (BOX, [], False, []),
    (BOX, None, True, ['empty mask']),
    ([10.5, 0, 50.2, 40.6], None, False, []),
    ([-1, -1, 62, 42], None, False, []),
    ([10, 10, 51.5, 5], None, False, ['box outside']),
    ([-2, 10, 10, 5], None, False, ['box outside']),
    ([60, 10, 5, 5], None, False, ['box outside']),
    ([0, 0, 0, 5], None, False, ['empty box']),
    ([0, 0, 5, -1], None, False, ['empty box']),
    ([0, 0, 5], None, False, ['damaged entry']),
    ([0, 0, 5, float('nan')], None, False, ['damaged entry']),
    ([0, 0, 5, '5'], None, False, ['damaged entry']),
    (None, None, False, ['damaged entry']),
    (BOX, [SQUARE, [70, 10, 80, 10, 80, 20]], False, ['polygon outside']),
    (BOX, [[100, 10, 110, 10, 110, 20]], False, ['polygon outside']),
    (BOX, [[10, 10, 20, 20]], False, ['empty polygon']),
    (BOX, [[10, 10, 20, 20, 30]], False, ['empty polygon']),
    (BOX, [[10, 10, 20, 20, 30, 30]], False, ['empty polygon']),
    (BOX, [[10, 10, 20, 20, 30, float('inf')]], False, ['damaged entry']),
    (BOX, 'square', False, ['damaged entry']),
    (BOX, dict(size=[40, 60], counts=RUNS), True, []),
    (BOX, dict(size=[60, 40], counts=RUNS), False, ['damaged mask']),
    (BOX, dict(size=[40, 60], counts=RUNS[:-1]), False, ['damaged mask']),
    (BOX, dict(size=[40, 60], counts=[2401, -1]), False, ['damaged mask']),
    (BOX, dict(size=[40, 60], counts=[2400]), False, ['empty mask']),
    (BOX, dict(size=[40, 60]), False, ['damaged mask']),
    (BOX, dict(size=[40, 60], counts='PPP'), False, ['damaged mask']),
    (BOX, dict(counts=RUNS), False, ['damaged mask']),
]


@pytest.mark.parametrize(('box', 'segmentation', 'with_mask', 'kinds'), INSTANCES)
def test_instances(box, segmentation, with_mask, kinds):
    assert [flaw.kind for flaw in check_instance(box, segmentation, 60, 40, with_mask)] == kinds


def test_compressed_run_lengths_are_pycocotools():
    coco = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
    mask = np.asfortranarray(np.random.RandomState(0).rand(40, 60) > .9, np.uint8)
    counts = decode_counts(coco.encode(mask)['counts'].decode())
    assert np.array_equal(np.repeat(np.arange(len(counts)) % 2, counts), mask.ravel(order='F'))


def coco(**changes):
    content = dict(images=[dict(id=i, file_name=f'{i}.jpg', width=60, height=40) for i in (1, 2)],
                   annotations=[dict(id=i, image_id=1, category_id=1, bbox=BOX, area=400) for i in (1, 2)],
                   categories=[dict(id=i, name=name) for i, name in enumerate('abc')])
    for key, value in changes.items():
        part, number, field = key.split('__')
        content[part][int(number)][field] = value
    return content


FILES = [  # content, [(place, kind)]
    (coco(), []),
    ({key: value for key, value in coco().items() if key != 'annotations'}, []),
    (dict(coco(), annotations=[]), []),
    (coco(annotations__0__iscrowd=1, annotations__0__ignore=1, images__0__width=60.), []),
    ([], [(None, 'damaged entry')]),
    (dict(coco(), images={}), [(None, 'damaged entry')]),
    (coco(images__1__id=1), [(('images', 1), 'id used twice')]),
    (coco(annotations__1__id=1), [(('annotations', 1), 'id used twice')]),
    (coco(categories__2__id=1), [(('categories', 2), 'id used twice')]),
    (coco(categories__2__name='a'), [(('categories', 2), 'name used twice')]),
    (coco(categories__2__name=[]), [(('categories', 2), 'damaged entry')]),
    (coco(images__1__name=[]), []),
    (coco(annotations__0__category_id=9), [(('annotations', 0), 'unknown category')]),
    (coco(annotations__0__image_id=9), [(('annotations', 0), 'unknown image')]),
    (coco(annotations__1__area='big'), [(('annotations', 1), 'damaged entry')]),
    (coco(images__1__file_name=None), [(('images', 1), 'damaged entry')]),
    (coco(images__1__width=-3), [(('images', 1), 'damaged entry')]),
    (coco(images__1__id=[1]), [(('images', 1), 'damaged entry')]),
    (dict(coco(), annotations=[dict(id=1), 7]), [(('annotations', 0), 'damaged entry'), (('annotations', 1), 'damaged entry')]),
]


@pytest.mark.parametrize(('content', 'found'), FILES)
def test_coco_files(content, found):
    assert [(place, flaw.kind) for place, flaw in check_coco(content)] == found


@pytest.mark.parametrize(('polygon', 'beyond'), [
    (SQUARE, False), ([-20, 0, 70, 0, 3, 3], False), ([0, 0, 2e6, 0, 3, 3], True), ([0, 0, -2e6, 0, 3, 3], True),
    ([0, float('nan'), 1, 0, 3, 3], True), ([1e400, 0, 1, 0, 3, 3], True), ([10 ** 400, 0, 1, 0, 3, 3], True), (['a'], True), ([0, None, 1, 0, 3, 3], True), ([0, '9', 1, 0, 3, 3], True), (7, True),
    ([], False)])
def test_what_would_exhaust_the_machine(polygon, beyond):
    """pycocotools draws an edge point by point: one of 1e9 pixels takes all memory there is, and null is NaN to it."""
    assert bool(check_reach(coco(annotations__1__segmentation=[SQUARE, polygon]))) == beyond
    assert bool(check_reach(coco(annotations__1__bbox=polygon))) == beyond


def test_the_pipeline_tells_how_files_are_read():
    class LoadImageFromFile:
        color_type, imdecode_backend = 'unchanged', 'pillow'

    class LoadAnnotations:
        imdecode_backend, with_mask = 'cv2', True

    class Compose:
        transforms = [LoadImageFromFile(), object(), LoadAnnotations()]

    assert loader_of(Compose()) == Loader('unchanged', 'pillow', 'cv2', True)
    assert loader_of(None) == Loader()
