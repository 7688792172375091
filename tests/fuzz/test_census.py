"""The census equals what leaves mm's loading and packing, for random data sets with random faults.

It is counted here from the samples of the built data sets. `make test` tries some, `make check-long` many more, the
same in every run.
"""
import contextlib
import io
import json
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from convnext_mm.datasets import scan as data_scan
from convnext_mm.datasets.census import tell_nothing
from convnext_mm.datasets.census_masks import sample_masks
from convnext_mm.datasets.guard import BREAKING
from convnext_mm.datasets.images import loader_of
from convnext_mm.datasets.preflight import check_data
from convnext_mm.utils.errors import UserError
from tests.helpers.fuzzing import run, show

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
pytestmark = pytest.mark.long

SIZES = [(24, 16), (40, 24), (33, 33), (64, 20)]
CATEGORIES = [dict(id=7, name='bar'), dict(id=2, name='disc'), dict(id=5, name='cross')]
SQUARE = [2, 2, 9, 2, 9, 9, 2, 9]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr(data_scan, '_run', lambda function, tasks, key: list(map(function, tasks)))


@st.composite
def coco_sets(draw):
    """(content, settings of the data set, with_mask, poly2mask) with random faults."""
    with_mask, poly2mask = draw(st.sampled_from([(False, True), (True, True), (True, False)]))
    number = draw(st.integers(1, 4))
    images = [dict(id=10 - i, file_name=f'{i}.png', width=SIZES[i][0], height=SIZES[i][1]) for i in range(number)]
    side = st.sampled_from([8, 5.5, 1, .9, .5, 0, -3, 30])
    place = st.sampled_from([0, 3, 10.5, -5, -40, 70, 23.5])
    polygons = [[SQUARE], [[2, 2, 9, 2]], [SQUARE, [1]], [[1, 2, 3, 4, 5]], [[]], [[90, 90, 95, 90, 95, 95]],
                [[1, 1, 1, 1, 1, 1]]]
    annotations = []
    for i in range(draw(st.integers(0, 9))):
        image = draw(st.sampled_from([*range(number), *range(number), None]))
        w, h = SIZES[image or 0]
        runs = [dict(size=[h, w], counts=[3, 5, w * h - 8]), dict(size=[h, w]), dict(counts=[w * h]),
                dict(size=[h, w], counts=None)]
        category, area = draw(st.sampled_from([7, 2, 5, 2, 5, 44])), draw(st.sampled_from([9, 1.5, 0, -1]))
        entry = dict(id=i + 3, image_id=99 if image is None else images[image]['id'], category_id=category, area=area,
                     bbox=[draw(place), draw(place), draw(side), draw(side)])
        if draw(st.booleans()):
            # Faults of one instance hide each other: half of them are sound up to here.
            entry.update(image_id=images[draw(st.integers(0, number - 1))]['id'], area=40, bbox=[2, 2, 7, 7],
                         category_id=draw(st.sampled_from([7, 2, 5])))
        if draw(st.integers(0, 3)) == 0:
            entry['area'] = 4
            entry['bbox'] = [.1, .2, draw(st.sampled_from([.5, 1., 1.])), 1.]
        if with_mask or draw(st.booleans()):
            entry['segmentation'] = draw(st.sampled_from([*polygons, *runs]))
        if draw(st.booleans()):
            entry['iscrowd'] = draw(st.sampled_from([0, 0, 1, True, False]))
        if draw(st.integers(0, 4)) == 0:
            entry['ignore'] = draw(st.sampled_from([0, 1, True, '0']))
        annotations.append(entry)
    settings = dict(metainfo=dict(classes=draw(st.sampled_from([
        ('bar', 'disc', 'cross'), ('cross', 'bar', 'disc'), ('disc',), ('bar', 'cross')]))))
    chosen = draw(st.sampled_from([None, {}, dict(filter_empty_gt=True), dict(min_size=20),
                                   dict(filter_empty_gt=True, min_size=24)]))
    if chosen is not None:
        settings['filter_cfg'] = chosen
    settings['test_mode'] = draw(st.sampled_from([False, False, True]))
    settings['indices'] = draw(st.sampled_from([None, None, None, 1, 0, -1, [0], [0, 0]]))
    return dict(images=images, annotations=annotations, categories=CATEGORIES), settings, with_mask, poly2mask


def coco_config(root, settings, with_mask, poly2mask):
    dataset = dict(type='CocoDataset', data_root=str(root), ann_file='a.json', data_prefix=dict(img=''), **settings,
                   pipeline=[dict(type='LoadImageFromFile'),
                             dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask, poly2mask=poly2mask),
                             dict(type='PackDetInputs')])
    return Config(dict(default_scope='mmdet', model=dict(), train_dataloader=dict(dataset=dataset)))


def counted_by_mm(cfg):
    """(images, Counter of labels that are trained with, number of ignored instances) of the built data set."""
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    labels = Counter(label for sample in samples for label in sample.gt_instances.labels.tolist())
    return len(samples), labels, sum(len(sample.ignored_instances) for sample in samples)


def refusal(cfg):
    """The error of the checks before training, '' without one."""
    try:
        check_data(cfg, ('train',))
    except UserError as error:
        return str(error)
    return ''


def test_instances(size, tmp_path, record_property):
    import_module('mmdet.datasets')
    init_default_scope('mmdet')
    for i, shape in enumerate(SIZES):
        Image.new('RGB', shape).save(tmp_path / f'{i}.png')
    tally = Counter()

    @given(coco_sets())
    def check(drawn):
        content, *how = drawn
        (tmp_path / 'a.json').write_text(json.dumps(content))
        cfg = coco_config(tmp_path, *how)
        (found,), _ = data_scan.scan_config(cfg)
        census, refused = found.census, refusal(cfg)
        if not census.left:
            assert '0 of' in refused
            tally['no image left'] += 1
            return
        try:
            images, labels, ignored = counted_by_mm(cfg)
        except ValueError:
            # Run lengths of another image's size: training leaves such a sample out.
            assert {finding.flaw.kind for finding in found.findings} & {*BREAKING}
            tally['not loaded'] += 1
            return
        assert census.left == images
        assert dict(enumerate(census.counts)) == {i: labels[i] for i in range(len(census.classes))}
        assert sum(labels.values()) == sum(census.counts)
        assert census.out.get('crowd', 0) + census.out.get('polygon', 0) == ignored
        if how[0]['indices'] is None and images == census.images:
            assert sum(census.counts) + sum(census.out.values()) == len(content['annotations'])
        assert bool(refused) == (not labels) == bool(tell_nothing(census, 'train')), refused
        tally['nothing left' if refused else 'counted'] += 1

    run(check, size(25, 500))
    record_property('tally', show(tally))
    assert min(tally['counted'], tally['nothing left']) > 0


WRONG = [  # what mm cannot build, or would take for something else
    ('annotations', 'id', 3), ('images', 'id', 10), ('annotations', 'id', '4'), ('annotations', 'id', 1.5),
    ('annotations', 'image_id', '10'), ('annotations', 'category_id', None), ('annotations', 'iscrowd', '0'),
    ('annotations', 'iscrowd', 2), ('annotations', 'iscrowd', None), ('annotations', 'bbox', [1, 2, '3', 4]),
    ('annotations', 'bbox', [1, 2, 3]), ('annotations', 'bbox', [1, 2, float('nan'), 4]),
    ('annotations', 'area', float('inf')), ('annotations', 'area', '9'), ('images', 'width', '24'),
    ('images', 'file_name', None), ('annotations', 'bbox', [True, 2, 3, 4]), ('images', 'id', True)]


@pytest.mark.parametrize(('part', 'field', 'value'), WRONG)
def test_what_mm_cannot_use_is_refused_and_found(part, field, value, tmp_path):
    import_module('mmdet.datasets')
    init_default_scope('mmdet')
    content = dict(
        images=[dict(id=10 + i, file_name=f'{i}.png', width=w, height=h) for i, (w, h) in enumerate(SIZES)],
        annotations=[dict(id=3 + i, image_id=10, category_id=7, bbox=[2, 2, 8, 8], area=49, iscrowd=0) for i in (0, 1)],
        categories=CATEGORIES)
    for i, shape in enumerate(SIZES):
        Image.new('RGB', shape).save(tmp_path / f'{i}.png')
    cfg = coco_config(tmp_path, dict(metainfo=dict(classes=('bar',))), False, True)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    assert refusal(cfg) == ''
    content[part][1][field] = value
    (tmp_path / 'a.json').write_text(json.dumps(content))
    assert 'a.json (train_dataloader.dataset.ann_file)' in refusal(cfg)
    (found,), _ = data_scan.scan_config(cfg)
    assert {finding.flaw.kind for finding in found.findings} & {'damaged entry', 'id used twice'}


def ade_config(root, settings):
    dataset = dict(data_root=str(root), img_suffix='.png', data_prefix=dict(img_path='i', seg_map_path='m'), **settings,
                   pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    return Config(dict(default_scope='mmseg', model=dict(), train_dataloader=dict(dataset=dataset)))


@st.composite
def mask_sets(draw):
    """(masks, settings of the data set) with random faults."""
    values = draw(st.sampled_from([[0, 1, 2], [0, 255], [0, 1], [255], [0], [1, 2, 255], [0, 1, 2, 3, 150]]))
    kinds = [draw(st.sampled_from(['L', 'L', 'P', '1'])) for _ in range(draw(st.integers(1, 4)))]
    masks = [(kind, draw(st.lists(st.sampled_from(values), min_size=6, max_size=6))) for kind in kinds]
    settings = draw(st.sampled_from([
        dict(type='BaseSegDataset', metainfo=dict(classes=('a', 'b', 'c')), reduce_zero_label=True),
        dict(type='BaseSegDataset', metainfo=dict(classes=('a', 'b', 'c')), reduce_zero_label=False),
        dict(type='BaseSegDataset', metainfo=dict(classes=('a', 'b'))),
        dict(type='ADE20KDataset'), dict(type='ADE20KDataset', metainfo=dict(classes=('building', 'wall'))),
        dict(type='ADE20KDataset', metainfo=dict(classes=('sky', 'flag'))),
        dict(type='LoveDADataset', metainfo=dict(classes=('road', 'building')))]))
    return masks, dict(settings, indices=draw(st.sampled_from([None, None, 1, -1, [0, 0]])))


def test_pixels(size, tmp_path, record_property):
    import_module('mmseg.datasets')
    init_default_scope('mmseg')
    tally = Counter()

    @given(mask_sets())
    def check(drawn):
        masks, settings = drawn
        for folder in ('i', 'm'):
            (tmp_path / folder).mkdir(exist_ok=True)
            for old in (tmp_path / folder).iterdir():
                old.unlink()
        for i, (kind, values) in enumerate(masks):
            mask = Image.fromarray(np.reshape(np.uint8(values), (2, 3)))
            if kind == 'P':
                mask.putpalette(list(range(256)) * 3)
            mask.convert('1').save(tmp_path / f'm/{i}.png') if kind == '1' else mask.save(tmp_path / f'm/{i}.png')
            Image.new('RGB', (3, 2)).save(tmp_path / f'i/{i}.png')
        cfg = ade_config(tmp_path, settings)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        pixels = np.bincount(np.concatenate([
            dataset[i]['data_samples'].gt_sem_seg.data.numpy().ravel() for i in range(len(dataset))]), minlength=256)
        (found,), _ = data_scan.scan_config(cfg)
        census = found.census
        assert census.left == len(dataset)
        assert census.counts == pixels[:len(census.classes)].tolist()
        assert census.ignored == pixels[255]
        refused = refusal(cfg)
        beyond = any(finding.flaw.kind == 'value out of range' for finding in found.findings)
        assert not pixels[len(census.classes):255].any() or beyond
        if not beyond:
            lazy = DATASETS.build(dict(cfg.train_dataloader.dataset, lazy_init=True))
            sampled, wrong = sample_masks(lazy, lazy.load_data_list(), loader_of(lazy.pipeline))
            assert (sampled.counts, sampled.ignored, wrong) == (census.counts, census.ignored, None)
            assert bool(refused) == (not sum(census.counts)), refused
        tally['out of range' if beyond else 'refused' if refused else 'counted'] += 1

    run(check, size(25, 500))
    record_property('tally', show(tally))
    assert min(tally['counted'], tally['refused']) > 0
