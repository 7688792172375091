"""Perfect predictions of the images that are tested give 100, and one less than perfect gives less.

For random data sets, random parts of them, and random ids and orders in their files, by the metrics of mmdet, of mmseg
and of this package. `make test` tries some, `make check-long` many more, the same in every run.
"""
import contextlib
import copy
import io
import json
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import DATASETS, METRICS, init_default_scope
from PIL import Image

from convnext_mm.evaluation.tested import restrict_metrics
from tests.helpers.fuzzing import run, show

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
pytestmark = pytest.mark.long

CATEGORIES = [dict(id=7, name='bar'), dict(id=2, name='disc'), dict(id=0, name='cross')]
SIDES = (40, 60)


def rectangle(x, y, w, h):
    return dict(bbox=[x, y, w, h], area=w * h, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])


@st.composite
def coco_files(draw):
    """(content, [image id of each annotation's image])."""
    number = draw(st.integers(2, 6))
    ids = draw(st.lists(st.integers(0, 99), min_size=number, max_size=number, unique=True))
    images = [dict(id=i, file_name=f'{place}.png', width=SIDES[place % 2], height=40) for place, i in enumerate(ids)]
    annotations = []
    for i in ids:
        # Apart from each other, so that each has one right detection.
        for place in draw(st.lists(st.integers(0, 8), max_size=4, unique=True)):
            annotations.append(dict(
                rectangle(1 + 13 * (place % 3), 1 + 13 * (place // 3), draw(st.integers(3, 11)), 9),
                image_id=i, category_id=draw(st.sampled_from([7, 2, 0]))))
    annotations = draw(st.permutations(annotations))
    start, step = draw(st.sampled_from([(0, 1), (1, 1), (-3, 1), (5, -1), (1000, 7)]))
    for place, annotation in enumerate(annotations):
        annotation['id'] = start + step * place
        if draw(st.booleans()):
            annotation['iscrowd'] = 0
    return dict(images=draw(st.permutations(images)), annotations=annotations, categories=CATEGORIES)


@st.composite
def parts(draw, content):
    """(settings of the data set, content of its file, content of the evaluator's file)."""
    number, own, theirs = len(content['images']), content, copy.deepcopy(content)
    indices = st.one_of(st.none(), st.integers(1, number),
                        st.lists(st.integers(0, number - 1), min_size=1, unique=True))
    if draw(st.booleans()):
        # A cleaned file, without some images, in another order.
        kept = draw(st.permutations(content['images']))[:draw(st.integers(1, number))]
        wanted = {image['id'] for image in kept}
        own = dict(content, images=kept, annotations=[a for a in content['annotations'] if a['image_id'] in wanted])
        indices = st.none()
    if draw(st.booleans()):
        for annotation in theirs['annotations']:
            # The data set's own file cannot be read with these.
            annotation['id'] = draw(st.sampled_from([0, 1, 'a']))
    filters = draw(st.sampled_from([None, dict(filter_empty_gt=True), dict(min_size=50), dict(filter_empty_gt=True)]))
    return dict(indices=draw(indices), filter_cfg=filters, test_mode=draw(st.booleans())), own, theirs


@st.composite
def cases(draw):
    content = draw(coco_files())
    kind = draw(st.sampled_from([dict(type='CocoMetric'), dict(type='convnext_mm.CocoMetric')]))
    return content, *draw(parts(content)), dict(kind, metric=['bbox', 'segm']), draw(st.booleans())


def build(folder, settings, concatenated, number):
    """The data set, or its images as the parts of a ConcatDataset; None where nothing is left."""
    plain = dict(type='CocoDataset', data_root=str(folder), ann_file='own.json', data_prefix=dict(img=''),
                 metainfo=dict(classes=('bar', 'disc', 'cross')), pipeline=[], **settings)
    try:
        if not concatenated or settings['indices'] is not None or settings['filter_cfg'] or number < 2:
            return DATASETS.build(plain)
        halves = [list(range(number // 2)), list(range(number // 2, number))]
        return DATASETS.build(dict(type='ConcatDataset', datasets=[dict(plain, indices=half) for half in halves]))
    except (ValueError, IndexError):
        # numpy joins no images, and a filter may leave fewer than the indices ask for.
        return None


def perfect(truth, image, left_out=None):
    """The predictions of an image as a metric gets them, as the annotations of a file say."""
    found = [a for a in truth['annotations'] if a['image_id'] == image['id']]
    found = found[1:] if image['id'] == left_out else found
    boxes = torch.tensor([a['bbox'] for a in found]).reshape(-1, 4).float()
    boxes[:, 2:] += boxes[:, :2]
    masks = [coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(a['segmentation'], image['height'],
                                                                    image['width']))) for a in found]
    order = [category['id'] for category in truth['categories']]
    instances = dict(bboxes=boxes, scores=torch.linspace(.5, 1, len(found)),
                     labels=torch.tensor([order.index(a['category_id']) for a in found], dtype=torch.long),
                     masks=torch.from_numpy(np.reshape(masks, (-1, image['height'], image['width'])).astype(bool)))
    return dict(img_id=image['id'], ori_shape=(image['height'], image['width']), pred_instances=instances)


def evaluate(metric, file, dataset, truth, left_out=None):
    """(figures, what was tested) of perfect predictions but one."""
    metric = METRICS.build(dict(metric, ann_file=str(file)))
    metric.dataset_meta = dataset.metainfo
    tested = restrict_metrics([metric], [str(file)], dataset, 'test_dataloader.dataset')
    by_id = {image['id']: image for image in truth['images']}
    for i in range(len(dataset)):
        metric.process({}, [perfect(truth, by_id[dataset.get_data_info(i)['img_id']], left_out)])
    return metric.evaluate(len(dataset)), tested


def test_detections(size, tmp_path, record_property):
    import_module('mmdet.datasets')
    import_module('mmdet.evaluation')
    init_default_scope('mmdet')
    tally = Counter()

    @given(cases())
    def check(drawn):
        content, settings, own, theirs, metric, concatenated = drawn
        (tmp_path / 'own.json').write_text(json.dumps(own))
        file = tmp_path / 'theirs.json'
        file.write_text(json.dumps(theirs))
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = build(tmp_path, settings, concatenated, len(own['images']))
            if dataset is None or not len(dataset):
                tally['no image left'] += 1
                return
            ids = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
            there = [a for a in content['annotations'] if a['image_id'] in ids]
            if not there:
                tally['nothing to find'] += 1
                return
            figures, tested = evaluate(metric, file, dataset, theirs)
            less, _ = evaluate(metric, file, dataset, theirs, there[0]['image_id'])
        assert [str(part) for part in tested] == [f'{len(ids)} of {len(content["images"])} images of {file}']
        # The mean of many ones may miss the last digit.
        assert [figures['coco/bbox_mAP'], figures['coco/segm_mAP']] == pytest.approx([1, 1], rel=1e-12)
        if len(there) > 1:
            assert less['coco/bbox_mAP'] < 1 and less['coco/segm_mAP'] < 1
        assert json.loads(file.read_text()) == theirs
        tally['a part' if len(ids) < len(content['images']) else 'whole'] += 1

    run(check, size(15, 300))
    record_property('tally', show(tally))
    assert min(tally['a part'], tally['whole']) > 0


@st.composite
def mask_sets(draw):
    """(masks, settings of the data set, classes)."""
    number, reduced = draw(st.integers(2, 5)), draw(st.booleans())
    values = st.lists(st.sampled_from([0, 1, 2, 3, 255] if reduced else [0, 1, 2, 255]), min_size=6, max_size=6)
    indices = st.sampled_from([None, 1, number - 1, [number - 1, 0], [number - 1]])
    return [draw(values) for _ in range(number)], dict(reduce_zero_label=reduced, indices=draw(indices))


def test_segmentations(size, tmp_path, record_property):
    import_module('mmseg.datasets')
    import_module('mmseg.evaluation')
    init_default_scope('mmseg')
    tally = Counter()
    for folder in ('i', 'm'):
        (tmp_path / folder).mkdir()

    @given(mask_sets(), st.sampled_from(['IoUMetric', 'convnext_mm.IoUMetric']), st.booleans())
    def check(drawn, kind, listed):
        masks, settings = drawn
        for old in tmp_path.glob('?/*.png'):
            old.unlink()
        for i, values in enumerate(masks):
            Image.fromarray(np.reshape(np.uint8(values), (2, 3))).save(tmp_path / f'm/{i}.png')
            Image.new('RGB', (3, 2)).save(tmp_path / f'i/{i}.png')
        (tmp_path / 'list.txt').write_text(''.join(f'{i}\n' for i in reversed(range(len(masks)))))
        dataset = DATASETS.build(dict(
            type='BaseSegDataset', data_root=str(tmp_path), img_suffix='.png', metainfo=dict(classes=('a', 'b', 'c')),
            data_prefix=dict(img_path='i', seg_map_path='m'), ann_file='list.txt' if listed else '',
            pipeline=[dict(type='LoadAnnotations')], **settings))
        metric = METRICS.build(dict(type=kind, iou_metrics=['mIoU']))
        metric.dataset_meta = dataset.metainfo
        tested, = restrict_metrics([metric], [None], dataset, 'test_dataloader.dataset')
        for i in range(len(dataset)):
            truth = dict(data=torch.from_numpy(dataset[i]['gt_seg_map'].astype(np.int64)))
            metric.process({}, [dict(gt_sem_seg=truth, pred_sem_seg=truth, img_path=dataset[i]['img_path'])])
        figures = metric.evaluate(len(dataset))
        assert np.isnan(figures['mIoU']) or figures['mIoU'] == 100
        where = tmp_path / ('list.txt' if listed else 'i')
        assert str(tested) == f'{len(dataset)} of {len(masks)} images of {where}'
        tally['a part' if len(dataset) < len(masks) else 'whole'] += 1

    run(check, size(20, 300))
    record_property('tally', show(tally))
    assert min(tally['a part'], tally['whole']) > 0
