"""Wrong data is found before anything is built, and the message says what to set."""
import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

from mmengine.registry import init_default_scope  # noqa: E402

from convnext_mm.errors import UserError  # noqa: E402
from convnext_mm.preflight import check_data  # noqa: E402

CLASSES = ('cat', 'dog')


@pytest.fixture
def coco(tmp_path):
    """A complete two-class data set and a config that fits it."""
    init_default_scope('mmdet')
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / 'a.jpg')
    annotations = dict(images=[dict(id=1, file_name='a.jpg', width=8, height=8)], annotations=[],
                       categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES)])
    (tmp_path / 'a.json').write_text(json.dumps(annotations))
    dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img='images/'),
                   metainfo=dict(classes=CLASSES))
    heads = dict(rpn_head=dict(num_classes=1), roi_head=dict(bbox_head=[dict(num_classes=2)] * 2,
                                                             mask_head=dict(num_classes=2)))
    return Config(dict(model=heads, train_dataloader=dict(dataset=dataset), val_dataloader=dict(dataset=dataset),
                       val_evaluator=dict(type='CocoMetric', ann_file=str(tmp_path / 'a.json'))))


@pytest.fixture
def ade(tmp_path):
    init_default_scope('mmseg')
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / 'a.jpg')
    Image.fromarray(np.uint8([[0, 1], [2, 255]])).save(tmp_path / 'masks' / 'a.png')
    dataset = dict(type='ADE20KDataset', data_root=str(tmp_path), metainfo=dict(classes=CLASSES),
                   data_prefix=dict(img_path='images', seg_map_path='masks'))
    return Config(dict(model=dict(decode_head=dict(num_classes=2), auxiliary_head=dict(num_classes=2)),
                       train_dataloader=dict(dataset=dataset)))


def set_key(cfg, key, value):
    cfg.merge_from_dict({key: value})


DATA = 'train_dataloader.dataset.'
COCO_CASES = [
    (lambda c, p: set_key(c, DATA + 'data_root', 'nowhere'),
     r'nowhere/a\.json does not exist \(train_dataloader\.dataset\.ann_file.*COCO 2017.*https://cocodataset.*make demo'),
    (lambda c, p: set_key(c, DATA + 'data_prefix.img', 'none/'), r'none/ does not exist.*data_prefix\.img'),
    (lambda c, p: (p / 'images' / 'a.jpg').unlink(), r'images/ is an empty folder.*data_prefix\.img.*COCO 2017'),
    (lambda c, p: (p / 'images' / 'a.jpg').rename(p / 'images' / 'b.jpg'), r'a\.jpg does not exist'),
    (lambda c, p: (p / 'a.json').write_text('<html>'), r'a\.json \(train_dataloader.*is not JSON: .*COCO annotation'),
    (lambda c, p: (p / 'a.json').write_bytes(b'\xff\xfe\x00'), 'is not JSON'),
    (lambda c, p: (p / 'a.json').write_text('[]'), 'no list images, annotations, categories'),
    (lambda c, p: set_key(c, 'model.roi_head.bbox_head.1.num_classes', 80),
     r'has 2 classes \(cat, dog\), but model\.roi_head\.bbox_head\.1\.num_classes=80: set .*bbox_head\.1\.num_classes=2'),
    (lambda c, p: set_key(c, DATA + 'metainfo.classes', ('cat', 'cow')),
     r'has 2 categories \(cat, dog\), but the heads predict 2 classes, of which it lacks 1 \(cow\): set '
     r'model\.roi_head\.bbox_head\.0\.num_classes=2 .*metainfo\.classes'),
    (lambda c, p: set_key(c, 'val_evaluator.ann_file', 'none.json'), r'none\.json \(val_evaluator\.ann_file\)'),
    (lambda c, p: c.train_dataloader.update(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
        c.train_dataloader.dataset, data_root='gone'))), r'gone/a\.json.*train_dataloader\.dataset\.dataset\.ann_file'),
]


@pytest.mark.parametrize(('break_it', 'message'), COCO_CASES)
def test_wrong_detection_data(coco, tmp_path, break_it, message):
    check_data(coco, ('train', 'val'))
    break_it(coco, tmp_path)
    with pytest.raises(UserError, match=message):
        check_data(coco, ('train', 'val'))


def test_own_classes_of_the_dataset_count(coco):
    """Without metainfo, the labels are COCO's 80."""
    del coco.train_dataloader.dataset['metainfo']
    for i in range(2):
        set_key(coco, f'model.roi_head.bbox_head.{i}.num_classes', 80)
    set_key(coco, 'model.roi_head.mask_head.num_classes', 80)
    with pytest.raises(UserError, match=r'2 categories \(cat, dog\), but the heads predict 80 classes.*lacks 7[89]'):
        check_data(coco, ('train',))


def test_splits_that_are_not_used_are_not_looked_at(coco):
    set_key(coco, 'val_dataloader.dataset.data_root', 'nowhere')
    check_data(coco, ('train',))


ADE_CASES = [
    (lambda c, p: set_key(c, DATA + 'data_root', 'nowhere'),
     r'nowhere/images does not exist.*data_prefix\.img_path.*ADE20K.*ADEChallengeData2016\.zip.*make demo'),
    (lambda c, p: (p / 'masks' / 'a.png').unlink(), r'masks is an empty folder.*seg_map_path'),
    (lambda c, p: Image.fromarray(np.uint8([[3]])).save(p / 'masks' / 'a.png'),
     r'a\.png .*has the value 3, but .* 2 classes.*at most 2'),
    (lambda c, p: set_key(c, DATA + 'reduce_zero_label', False), r'has the value 2.*reduce_zero_label=False.*at most 1'),
    (lambda c, p: (p / 'masks' / 'a.png').write_bytes(b'no image'), r'a\.png .*cannot be read as a mask'),
    (lambda c, p: set_key(c, 'model.auxiliary_head.num_classes', 150),
     r'model\.auxiliary_head\.num_classes=150: set model\.decode_head\.num_classes=2 model\.auxiliary_head\.num_classes=2'),
]


@pytest.mark.parametrize(('break_it', 'message'), ADE_CASES)
def test_wrong_segmentation_data(ade, tmp_path, break_it, message):
    check_data(ade, ('train',))
    break_it(ade, tmp_path)
    with pytest.raises(UserError, match=message):
        check_data(ade, ('train',))
