"""Both packages that evaluate COCO's figures give the same, whatever the data."""
import copy

import numpy as np
import pytest

pytest.importorskip('pycocotools', reason='pycocotools is not installed')
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from convnext_mm.evaluation.coco import evaluate_coco, find_backend

BACKENDS = ['pycocotools', 'faster-coco-eval']
SIDE = 64


def needs(backend):
    if backend == 'faster-coco-eval':
        pytest.importorskip('faster_coco_eval', reason='faster-coco-eval is not installed')


def index(**content):
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    return truth


def draw_mask(rng, box):
    """A mask in one of COCO's forms: a polygon, run lengths, or those compressed."""
    x, y, w, h = box
    form = rng.integers(3)
    if form == 0:
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
    mask[int(y):int(y + h) + 1, int(x):int(x + w) + 1] = rng.random() < .95
    if form == 1:
        counts, last = [0], 0
        for value in mask.ravel(order='F').tolist():
            if value != last:
                counts.append(0)
            counts[-1], last = counts[-1] + 1, value
        return dict(size=[SIDE, SIDE], counts=counts)
    return compress(mask)


def compress(mask):
    mask = coco_mask.encode(mask)
    return dict(size=mask['size'], counts=mask['counts'].decode())


def draw_case(seed):
    """(truth, detections, category ids): crowds, images and classes without objects, equal scores, ids from 0."""
    rng = np.random.default_rng(seed)
    images = [dict(id=int(i), width=SIDE, height=SIDE) for i in rng.permutation(30)[:rng.integers(1, 9)]]
    categories = rng.permutation(9)[:rng.integers(1, 5)].tolist()
    truth, found = [], []
    for image in images:
        for _ in range(rng.integers(0, 7) * (rng.random() < .8)):
            x, y = rng.uniform(0, .7 * SIDE, 2)
            w, h = rng.uniform(1, .3 * SIDE, 2)
            place = dict(image_id=image['id'], category_id=int(rng.choice(categories)))
            area = float(w * h * rng.choice([1, 1, 30, 300]))
            truth.append(dict(place, id=len(truth) + 1, bbox=[x, y, w, h], iscrowd=int(rng.random() < .2), area=area,
                              segmentation=draw_mask(rng, (x, y, w, h))))
            for _ in range(rng.integers(0, 3)):
                box = np.maximum([0, 0, 1, 1], np.array([x, y, w, h]) + rng.normal(size=4)).tolist()
                mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
                mask[int(box[1]):int(box[1] + box[3]) + 1, int(box[0]):int(box[0] + box[2]) + 1] = 1
                score = float(rng.choice([.5, rng.random()]))
                found.append(dict(place, bbox=box, score=score, mask_score=score * float(rng.choice([1, .9])),
                                  segmentation=compress(mask)))
    categories_of = [dict(id=i, name=str(i)) for i in sorted(categories)]
    return dict(images=images, annotations=truth, categories=categories_of), found, categories


@pytest.mark.long
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_the_packages_agree(kind, size):
    needs('faster-coco-eval')
    told = 0
    for seed in range(size(40, 2000)):
        content, found, categories = draw_case(seed)
        expected, got = (evaluate_coco(index(**copy.deepcopy(content)), copy.deepcopy(found), kind, categories, backend)
                         for backend in BACKENDS)
        for one, other in zip(expected, got):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-12, err_msg=f'seed {seed}')
        told += 0 < expected[0][0] < 1
    assert told > 20


@pytest.mark.parametrize('backend', BACKENDS)
def test_classes_in_any_order_and_up_to_100_detections(backend):
    needs(backend)
    boxes = [[10 * i, 0, 8, 8] for i in range(14)]
    truth = index(
        images=[dict(id=1, width=200, height=20)], categories=[dict(id=7, name='a'), dict(id=3, name='b')],
        annotations=[dict(id=i + 1, image_id=1, category_id=7 if i < 12 else 3, bbox=box, area=64, iscrowd=0)
                     for i, box in enumerate(boxes)])
    found = [dict(image_id=1, category_id=7 if i < 12 else 3, bbox=box, score=.5) for i, box in enumerate(boxes[:13])]
    _, by_class = evaluate_coco(truth, found, 'bbox', [7, 3], backend)
    assert by_class == pytest.approx([1, .505], abs=1e-3), 'all twelve of one class, one of two of the other'


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_nothing_is_found(backend, kind):
    needs(backend)
    content, _, categories = draw_case(3)
    figures, by_class = evaluate_coco(index(**content), [], kind, categories, backend)
    present = {a['category_id'] for a in content['annotations'] if not a['iscrowd']}
    assert figures[0] == 0 and by_class.tolist() == [0 if i in present else -1 for i in categories]


def test_the_faster_one_is_taken_where_it_is_installed(monkeypatch):
    import importlib.util
    for found, backend in ((None, 'pycocotools'), (object(), 'faster-coco-eval')):
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name, found=found: found)
        assert find_backend() == backend
