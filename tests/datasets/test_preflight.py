"""Wrong data is found before anything is built, and the message says what to set."""
import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from convnext_mm.datasets.preflight import check_data
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

CLASSES = ('cat', 'dog')


@pytest.fixture
def coco(tmp_path):
    """A complete two-class data set and a config that fits it."""
    init_default_scope('mmdet')
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / 'a.jpg')
    annotations = dict(images=[dict(id=1, file_name='a.jpg', width=8, height=8)], annotations=[
        dict(id=i, image_id=1, category_id=i, bbox=[1, 1, 4, 4], area=16) for i in range(2)],
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
    dataset = dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=dict(classes=CLASSES),
                   reduce_zero_label=True, data_prefix=dict(img_path='images', seg_map_path='masks'))
    return Config(dict(model=dict(decode_head=dict(num_classes=2), auxiliary_head=dict(num_classes=2)),
                       train_dataloader=dict(dataset=dataset)))


def rename_category(folder, number, **changes):
    content = json.loads((folder / 'a.json').read_text())
    content['categories'][number].update(changes)
    (folder / 'a.json').write_text(json.dumps(content))


def set_key(cfg, key, value):
    cfg.merge_from_dict({key: value})


def make_ade20k(cfg, **settings):
    cfg.train_dataloader.dataset.update(type='ADE20KDataset', **settings)
    del cfg.train_dataloader.dataset['metainfo']
    for head in ('decode_head', 'auxiliary_head'):
        set_key(cfg, f'model.{head}.num_classes', 150)


DATA = 'train_dataloader.dataset.'
COCO_CASES = [
    (lambda c, p: set_key(c, DATA + 'data_root', 'nowhere'),
     r'nowhere/a\.json does not exist \(train_dataloader\.dataset\.ann_file.*COCO 2017.*https://coco.*make demo'),
    (lambda c, p: set_key(c, DATA + 'data_prefix.img', 'none/'), r'none/ does not exist.*data_prefix\.img'),
    (lambda c, p: (p / 'images' / 'a.jpg').unlink(), r'images/ is an empty folder.*data_prefix\.img.*COCO 2017'),
    (lambda c, p: (p / 'images' / 'a.jpg').rename(p / 'images' / 'b.jpg'), r'a\.jpg does not exist'),
    (lambda c, p: (p / 'a.json').write_text('<html>'), r'a\.json \(train_dataloader.*is not JSON: .*COCO annotation'),
    (lambda c, p: (p / 'a.json').write_bytes(b'\xff\xfe\x00'), 'is not JSON'),
    (lambda c, p: (p / 'a.json').write_text('[]'), 'no list of objects images, categories'),
    (lambda c, p: (p / 'a.json').write_text('{"images": [], "categories": [1]}'), 'no list of objects categories'),
    (lambda c, p: rename_category(p, 1, id=0),
     r'a\.json \(train_dataloader\.dataset\.ann_file\) has two categories of the id 0; tools/check_data'),
    (lambda c, p: rename_category(p, 0, name='dog'), r"has two categories of the name 'dog'"),
    (lambda c, p: set_key(c, 'model.roi_head.bbox_head.1.num_classes', 80),
     r'has 2 classes \(cat, dog\), but model\.roi_head\.bbox_head\.1\.num_classes=80: set .*head\.1\.num_classes=2'),
    (lambda c, p: set_key(c, DATA + 'metainfo.classes', ('cat', 'cow')),
     r'has 2 categories \(cat, dog\), but train_dataloader\.dataset has 2 classes, of which it lacks 1 \(cow\), and '
     r"the heads predict 2 classes: set for each data set "
     r"train_dataloader\.dataset\.metainfo\.classes=\"\('cat','dog',\)\""),
    (lambda c, p: ((p / 'b.json').write_text('{}', 'utf-16'), set_key(c, 'val_evaluator.ann_file', str(p / 'b.json'))),
     r'b\.json \(val_evaluator\.ann_file\): it is in UTF-16.*--fix'),
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
    """Without metainfo, the labels are COCO's 80: the annotations say what they should be, and the heads are right."""
    del coco.train_dataloader.dataset['metainfo']
    with pytest.raises(UserError, match=r"2 categories \(cat, dog\), but train_dataloader\.dataset has 80 classes.*"
                                        r"heads predict 2 classes: set for each .*classes=\"\('cat','dog',\)\""):
        check_data(coco, ('train',))


def test_heads_of_80_on_two_categories_name_every_key_to_set(coco):
    del coco.train_dataloader.dataset['metainfo']
    keys = [f'model.roi_head.bbox_head.{i}.num_classes' for i in range(2)] + ['model.roi_head.mask_head.num_classes']
    for key in keys:
        set_key(coco, key, 80)
    with pytest.raises(UserError, match=' '.join(f'{key}=2'.replace('.', r'\.') for key in keys)):
        check_data(coco, ('train',))


LEGITIMATE = [  # What mm accepts must pass.
    ('coco', DATA + 'metainfo.classes', ('cat',), {f'model.roi_head.{h}.num_classes': 1 for h in (
        'bbox_head.0', 'bbox_head.1', 'mask_head')}),
    ('coco', DATA + 'backend_args', dict(backend='petrel'), {DATA + 'data_root': 's3://bucket/'}),
    ('coco', DATA + 'data_root', 's3://bucket/', {}),
    ('coco', DATA + 'type', 'VOCDataset', {DATA + 'ann_file': 'none.txt'}),
    ('coco', DATA + 'type', 'NobodysDataset', {DATA + 'ann_file': 'none.json'}),
    ('coco', DATA + 'type', 'BaseDetDataset', {DATA + 'ann_file': 'none.json'}),
    ('coco', 'model.roi_head.mask_head.class_agnostic', True, {'model.roi_head.mask_head.num_classes': 1}),
    ('coco', 'model.semantic_head', dict(num_classes=183), {}),
    ('coco', 'model.panoptic_fusion_head', dict(num_things_classes=80), {'model.roi_head.mask_head.num_classes': 80}),
    ('coco', 'val_evaluator', [dict(type='CocoMetric')], {}),
    ('ade', 'model.auxiliary_head', dict(type='STDCHead', num_classes=2), {}),
    ('ade', 'model.decode_head.out_channels', 1, {'model.decode_head.num_classes': 7}),
    ('ade', DATA + 'type', 'CityscapesDataset', {
        DATA + 'metainfo.classes': ('road', 'sidewalk'), DATA + 'reduce_zero_label': False}),
    ('ade', DATA + 'type', 'LoveDADataset', {DATA + 'metainfo.classes': ('road', 'water')}),
]


@pytest.mark.parametrize(('kind', 'key', 'value', 'more'), LEGITIMATE)
def test_what_mm_accepts_passes(request, kind, key, value, more):
    cfg = request.getfixturevalue(kind)
    for name, setting in {key: value, **more}.items():
        set_key(cfg, name, setting)
    check_data(cfg, ('train',) if key.startswith(DATA) else ('train', 'val'))


def test_masks_whose_suffix_is_more_than_an_ending(ade, tmp_path):
    (tmp_path / 'masks' / 'a.png').rename(tmp_path / 'masks' / 'a_labels.png')
    set_key(ade, DATA + 'seg_map_suffix', '_labels.png')
    check_data(ade, ('train',))


def test_classes_from_a_file(coco, tmp_path):
    (tmp_path / 'classes.txt').write_text('\n'.join(CLASSES))
    set_key(coco, DATA + 'metainfo.classes', str(tmp_path / 'classes.txt'))
    check_data(coco, ('train',))


def test_splits_that_are_not_used_are_not_looked_at(coco):
    set_key(coco, 'val_dataloader.dataset.data_root', 'nowhere')
    check_data(coco, ('train',))


ADE_CASES = [
    (lambda c, p: set_key(c, DATA + 'data_root', 'nowhere'),
     r'nowhere/images does not exist.*data_prefix\.img_path.*make demo'),
    (lambda c, p: make_ade20k(c, data_root='none'),
     r'none/images does not exist.*ADE20K.*ADEChallengeData2016\.zip'),
    (lambda c, p: set_key(c, DATA + 'type', 'ADE20KDataset'),
     'has cat, dog, which ADE20KDataset does not know.*BaseSeg'),
    (lambda c, p: (p / 'masks' / 'a.png').unlink(), r'masks is an empty folder.*seg_map_path'),
    (lambda c, p: Image.fromarray(np.uint8([[3, 0], [0, 0]])).save(p / 'masks' / 'a.png'),
     r'a\.png .*has values out of range: .3. in 1 pixels; 2 classes.*at most 2'),
    (lambda c, p: set_key(c, DATA + 'reduce_zero_label', False),
     r'values out of range: .2. in .*reduce_zero_label=False.*at most 1'),
    (lambda c, p: (p / 'masks' / 'a.png').write_bytes(b'no image'), r'a\.png .*cannot be read as a mask'),
    (lambda c, p: set_key(c, 'model.auxiliary_head.num_classes', 150),
     r'model\.auxiliary_head\.num_classes=150: set model\.auxiliary_head\.num_classes=2'),
]


@pytest.mark.parametrize(('break_it', 'message'), ADE_CASES)
def test_wrong_segmentation_data(ade, tmp_path, break_it, message):
    check_data(ade, ('train',))
    break_it(ade, tmp_path)
    with pytest.raises(UserError, match=message):
        check_data(ade, ('train',))


@pytest.mark.parametrize(('backbone', 'message'), [
    (dict(arch='huge'), "arch must be one of .*'huge'"), (dict(out_indices=(0, 9)), r'out_indices\[1\].*got 9')])
def test_wrong_backbone(backbone, message):
    cfg = Config(dict(model=dict(detector=dict(backbone=dict(type='convnext_mm.ConvNeXt', **backbone)))))
    with pytest.raises(UserError, match=message):
        check_backbone(cfg)
