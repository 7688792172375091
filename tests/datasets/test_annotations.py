"""What is wrong with an instance or a COCO file is found and named; what mm reads well is not."""
import numpy as np
import pytest

from convnext_mm.datasets.annotations import check_coco, check_instance, check_reach, decode_counts

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
    (BOX, [[10, 10, 20, 20, 30, 10 ** 400]], False, ['damaged entry']),
    ([0, 0, 5, 10 ** 400], None, False, ['damaged entry']),
    ([0, 0, 5, 10 ** 300], None, False, ['box outside']),
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
    (dict(coco(), annotations=[dict(id=1), 7]),
     [(('annotations', 0), 'damaged entry'), (('annotations', 1), 'damaged entry')]),
]


@pytest.mark.parametrize(('content', 'found'), FILES)
def test_coco_files(content, found):
    assert [(place, flaw.kind) for place, flaw in check_coco(content)] == found


@pytest.mark.parametrize(('polygon', 'beyond'), [
    (SQUARE, False), ([-20, 0, 70, 0, 3, 3], False), ([0, 0, 2e6, 0, 3, 3], True), ([0, 0, -2e6, 0, 3, 3], True),
    ([0, float('nan'), 1, 0, 3, 3], True), ([1e400, 0, 1, 0, 3, 3], True), ([10 ** 400, 0, 1, 0, 3, 3], True),
    (['a'], True), ([0, None, 1, 0, 3, 3], True), ([0, '9', 1, 0, 3, 3], True), (7, True), ([], False)])
def test_what_would_exhaust_the_machine(polygon, beyond):
    """pycocotools draws an edge point by point: one of 1e9 pixels takes all memory there is, and null is NaN to it."""
    assert bool(check_reach(coco(annotations__1__segmentation=[SQUARE, polygon]))) == beyond
    assert bool(check_reach(coco(annotations__1__bbox=polygon))) == beyond
