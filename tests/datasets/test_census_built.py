"""Data sets that override mmdet's CocoDataset, or read another format, are counted as mm builds them, or named."""
import json
import logging
import re
from collections import Counter

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from convnext_mm.apis import check_data as data_report
from convnext_mm.datasets import scan as data_scan
from convnext_mm.datasets.guard import BadDataError, build_guarded
from convnext_mm.datasets.preflight import check_data
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs')]
#: Categories in an order that is not that of their ids.
CATEGORIES = [dict(id=7, name='car'), dict(id=2, name='person'), dict(id=5, name='bus')]


@pytest.fixture(scope='module', autouse=True)
def halves():
    """A data set of one's own that overrides how an entry is read."""
    init_default_scope('mmdet')
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS as registry

    @registry.register_module(force=True)
    class HalfOfCoco(CocoDataset):
        def parse_data_info(self, raw_data_info):
            info = super().parse_data_info(raw_data_info)
            return dict(info, instances=info['instances'][::2])


def of(entry, **values):
    entry.update(values)


def coco(root, kind, edit=lambda annotations: None, **settings):
    for i in range(4):
        Image.new('RGB', (40, 30)).save(root / f'{i}.png')
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=40, height=30) for i in range(4)], categories=CATEGORIES,
        annotations=[dict(id=9 * i + k + 1, image_id=i, category_id=CATEGORIES[k % 3]['id'], bbox=[2, 2, 8, 9], area=72,
                          iscrowd=0, segmentation=[[2, 2, 10, 2, 10, 11]]) for i in range(3) for k in range(i, 5)])
    edit(content['annotations'])
    (root / 'a.json').write_text(json.dumps(content))
    return config(dict(type=kind, data_root=str(root), ann_file='a.json', data_prefix=dict(img=''), **{**dict(
        metainfo=dict(classes=('person', 'bus', 'car')), filter_cfg=dict(filter_empty_gt=True)), **settings}))


def config(dataset, pipeline=PIPELINE):
    return Config(dict(default_scope='mmdet', model=dict(), train_dataloader=dict(
        dataset=dict(dataset, pipeline=pipeline))))


def voc(root):
    folder = root / 'VOC2007'
    for name in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (folder / name).mkdir(parents=True)
    (folder / 'ImageSets/Main/t.txt').write_text('a\nb\n')
    objects = dict(a=[('cat', 0), ('dog', 1), ('cow', 0)], b=[('dog', 0)])
    for name, found in objects.items():
        Image.new('RGB', (40, 30)).save(folder / f'JPEGImages/{name}.jpg')
        (folder / f'Annotations/{name}.xml').write_text(
            '<annotation><size><width>40</width><height>30</height></size>' + ''.join(
                f'<object><name>{what}</name><difficult>{hard}</difficult><bndbox><xmin>2</xmin><ymin>2</ymin>'
                '<xmax>20</xmax><ymax>20</ymax></bndbox></object>' for what, hard in found) + '</annotation>')
    return config(dict(type='VOCDataset', data_root=str(root), ann_file='VOC2007/ImageSets/Main/t.txt',
                       data_prefix=dict(sub_data_root='VOC2007/'), metainfo=dict(classes=('dog', 'cat'))),
                  [PIPELINE[0], dict(PIPELINE[1], with_mask=False), PIPELINE[2]])


SETS = {
    'Objects365V1': lambda root: coco(root, 'Objects365V1Dataset'),
    'Objects365V2': lambda root: coco(root, 'Objects365V2Dataset', metainfo=dict(classes=('car', 'person', 'bus'))),
    'Cityscapes': lambda root: coco(root, 'CityscapesDataset', lambda annotations: [
        of(entry, iscrowd=1) for entry in annotations[:5]]),
    'own': lambda root: coco(root, 'HalfOfCoco', lambda annotations: of(annotations[0], area=0)),
    'polygons': lambda root: coco(root, 'HalfOfCoco', lambda annotations: of(annotations[0], segmentation=[[1, 2]])),
    'indices': lambda root: coco(root, 'HalfOfCoco', indices=[0, 0]),
    'VOC': voc,
}


def counted_by_mm(cfg):
    """(images, {class: instances}, ignored instances) as they leave loading and packing."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    labels = Counter(dataset.metainfo['classes'][label] for sample in samples for label in sample.gt_instances.labels)
    return len(samples), labels, sum(len(sample.ignored_instances) for sample in samples)


@pytest.mark.parametrize('make', SETS.values(), ids=list(SETS))
def test_counts_are_those_of_mm(make, tmp_path, capsys):
    cfg = make(tmp_path)
    images, labels, ignored = counted_by_mm(cfg)
    (scanned,), others = data_scan.scan_config(cfg)
    census = scanned.census
    assert not others and not scanned.findings
    assert census.left == images
    assert dict(zip(census.classes, census.counts)) == {name: labels[name] for name in census.classes}
    assert sum(census.out.values()) == ignored
    data_report.check(cfg)
    out = capsys.readouterr().out
    assert f'counted as {cfg.train_dataloader.dataset.type} builds it; the images are not looked at' in out
    assert f'images {images}' in ' '.join(out.split())


def test_what_is_lost_is_told_when_it_is_built(tmp_path, monkeypatch, capsys):
    told = []
    monkeypatch.setattr('convnext_mm.datasets.guard.print_log',
                        lambda message, logger, level: told.append((message, level)))
    cfg = coco(tmp_path, 'HalfOfCoco', lambda annotations: [of(entry, category_id=2) for entry in annotations],
               metainfo=dict(classes=('car', 'person', 'bus')))
    assert check_data(cfg, ('train',)) == ''
    build_guarded(cfg.train_dataloader.dataset, .5)
    (message, level), = told
    assert level == logging.WARNING
    assert 'no instance is left of 2 of 3 classes, which are never learned: car, bus' in message
    assert data_report.check(cfg) == 1
    assert 'never learned: car, bus' in capsys.readouterr().out


def test_nothing_left_is_refused(tmp_path, capsys):
    cfg = coco(tmp_path, 'HalfOfCoco', lambda annotations: [of(entry, iscrowd=1) for entry in annotations])
    with pytest.raises(BadDataError, match='0 instances are left in 3 training images of HalfOfCoco'):
        build_guarded(cfg.train_dataloader.dataset, .5)
    assert data_report.check(cfg) == 1
    assert re.search(r'0 of \d+ instances are left in 3 images: \d+ are marked to be ignored', capsys.readouterr().out)
    cfg = coco(tmp_path, 'CityscapesDataset', lambda annotations: [of(entry, iscrowd=1) for entry in annotations])
    assert data_report.check(cfg) == 1
    assert '0 of 4 images are left: 4 are left out by filter_cfg' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['HalfOfCoco', 'Objects365V1Dataset', 'CityscapesDataset'])
def test_ids_twice_are_refused_before(kind, tmp_path):
    cfg = coco(tmp_path, kind, lambda annotations: of(annotations[1], id=1))
    if kind == 'HalfOfCoco':
        # It may read entries in a way of its own.
        check_data(cfg, ('train',))
        with pytest.raises(BadDataError, match=r'a\.json: id used twice'):
            build_guarded(cfg.train_dataloader.dataset, .5)
        return
    with pytest.raises(UserError, match=r'a\.json .*id used twice'):
        check_data(cfg, ('train',))


def test_what_cannot_be_built_is_found(tmp_path, capsys):
    cfg = config(dict(type='VOCDataset', ann_file='none.txt', data_root=str(tmp_path),
                      data_prefix=dict(sub_data_root='VOC2007/')))
    assert data_report.check(cfg) == 1
    assert 'none.txt: unreadable annotation file: VOCDataset cannot read it: ' in capsys.readouterr().out


def test_other_formats_are_named(tmp_path, capsys):
    pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    (tmp_path / 'a.json').write_text('{"metainfo": {}, "data_list": [{"img_path": "1.png", "gt_label": [0]}]}')
    cfg = config(dict(type='mmpretrain.MultiLabelDataset', ann_file=str(tmp_path / 'a.json')), [])
    assert data_report.check(cfg) == 0
    assert 'train_dataloader.dataset is not looked at: it is of type MultiLabelDataset' in capsys.readouterr().out
