"""What a data set hands out is counted, and what is lost is told with the setting that mends it."""
import contextlib
import json
import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from convnext_mm.apis import check_data as data_report
from convnext_mm.datasets import scan as data_scan
from convnext_mm.datasets.census_masks import label_table
from convnext_mm.datasets.preflight import check_data
from convnext_mm.datasets.reading import parse_json, text_encoding
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

DATA = 'train_dataloader.dataset'


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr(data_scan, '_run', lambda function, tasks, key: list(map(function, tasks)))


@pytest.fixture
def coco(tmp_path):
    """A function that writes six images with two instances of each of two classes, edits them, and gives the config."""
    def make(edit=lambda content: None, encoding='utf-8', **settings):
        init_default_scope('mmdet')
        content = dict(
            images=[dict(id=i, file_name=f'{i}.png', width=40, height=30) for i in range(6)], annotations=[
                dict(id=4 * i + k, image_id=i, category_id=k % 2, bbox=[2, 2, 8, 9], area=72, iscrowd=0,
                     segmentation=[[2, 2, 10, 2, 10, 11]]) for i in range(6) for k in range(4)],
            categories=[dict(id=i, name=name) for i, name in enumerate(('cat', 'dog'))])
        for image in content['images']:
            Image.new('RGB', (40, 30)).save(tmp_path / image['file_name'])
        edit(content)
        (tmp_path / 'a.json').write_bytes(json.dumps(content).encode(encoding))
        dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img=''),
                       **{**dict(metainfo=dict(classes=('cat', 'dog'))), **settings}, pipeline=[
                           dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                           dict(type='PackDetInputs')])
        return Config(dict(default_scope='mmdet', model=dict(), train_dataloader=dict(dataset=dataset)))
    return make


def of(first, **values):
    """An edit of the first annotations of a file."""
    return lambda content: [entry.update(values) for entry in content['annotations'][:first]]


NOTHING = [  # edit, settings, message
    (of(24, area=0), {}, '0 of 24 instances are left in 6 images: 24 have an area of 0 or less .write'),
    (of(24, iscrowd=1), {}, '24 are crowds'),
    (of(24, iscrowd=True), {}, '24 are crowds'),
    (of(24, ignore=1), {}, '24 have "ignore" set'),
    (of(24, bbox=[.1, .2, .3, .4]), {}, '24 have a side below one pixel .*fractions of the image'),
    (of(24, bbox=[90, 2, 8, 9]), {}, '24 lie outside of their image'),
    (of(24, category_id=9), {}, '24 are of a category that the file does not list'),
    (of(24, image_id=99), {}, '24 are of an image that the file does not list'),
    (of(24, segmentation=[[1, 2, 3, 4]]), {}, '24 have no usable polygon'),
    (of(24, segmentation=None), {}, '24 have no segmentation'),
    (lambda content: content.update(annotations=[]), {}, 'the file has none of the classes'),
    (of(0), dict(filter_cfg=dict(min_size=128)), r'0 of 6 images are left: 6 are smaller than filter_cfg.min_size: '
                                                 rf'change {DATA}.filter_cfg.min_size'),
    (of(24, category_id=9), dict(filter_cfg=dict(filter_empty_gt=True)), '0 of 6 images are left: 6 have no annotation '
                                                                         'of the classes .filter_cfg.filter_empty_gt'),
    (of(0), dict(indices=0), '0 of 6 images are left: 6 are not among indices'),
    (lambda content: content.update(images=[]), {}, '0 of 0 images are left: the file lists none'),
]


@pytest.mark.parametrize(('edit', 'settings', 'message'), NOTHING)
def test_nothing_left_is_refused_and_found(coco, capsys, edit, settings, message):
    cfg = coco(edit, **settings)
    with pytest.raises(UserError, match=message) as raised:
        check_data(cfg, ('train',))
    assert '\n' not in str(raised.value)
    assert data_report.check(cfg) == 1
    assert str(raised.value) in capsys.readouterr().out


LOST = [  # edit, settings, parts of the one warning
    (of(3, area=0), {}, ['3 of 24 instances are left out: 3 have an area of 0 or less']),
    (of(3, area=0, iscrowd=1), {}, ['3 have an area']),
    (lambda content: [entry.update(category_id=0) for entry in content['annotations']], {},
     ['no instance is left of 1 of 2 classes, which are never learned: dog', f'{DATA}.metainfo.classes']),
    (lambda content: [image.update(width=9) for image in content['images'][:1]],
     dict(filter_cfg=dict(min_size=20)), [f'1 of 6 images are left out: .*change {DATA}.filter_cfg.min_size']),
]


@pytest.mark.parametrize(('edit', 'settings', 'parts'), LOST)
def test_what_is_lost_is_told_in_one_warning(coco, edit, settings, parts):
    cfg = coco(edit, **settings)
    message = check_data(cfg, ('train',))
    assert '\n' not in message
    assert message.startswith(f'What is used of the data: {DATA}: ')
    for part in parts:
        assert re.search(part, message), message
    assert data_report.check(cfg) == 1


def test_images_without_labels(coco):
    """Semi-supervised training reads images whose file has no instance."""
    cfg = coco(lambda content: content.update(annotations=[]))
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='LoadEmptyAnnotations')
    assert check_data(cfg, ('train',)) == ''


def test_classes_may_be_in_another_part(coco, tmp_path):
    """Of several data sets, one may lack a class, and one may be of background alone."""
    cfg = coco()
    part = cfg.train_dataloader.dataset
    content = json.loads((tmp_path / 'a.json').read_text())
    cats = [entry for entry in content['annotations'] if entry['category_id'] == 0]
    (tmp_path / 'cats.json').write_text(json.dumps(dict(content, annotations=cats)))
    (tmp_path / 'none.json').write_text(json.dumps(dict(content, annotations=[])))
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[part, dict(part, ann_file='cats.json'), dict(part, ann_file='none.json')])
    assert check_data(cfg, ('train',)) == ''
    assert data_report.check(cfg) == 0
    cfg.train_dataloader.dataset.datasets = cfg.train_dataloader.dataset.datasets[1:]
    assert 'never learned: dog' in check_data(cfg, ('train',))


def test_fractions_of_full_width_are_told(coco):
    """mm keeps a box whose sides are exactly one pixel."""
    cfg = coco(of(24, bbox=[0, 0, 1, 1], area=1))
    assert re.search('boxes look like fractions of the image .*, 24 of 24 are kept', check_data(cfg, ('train',)))
    assert data_report.check(cfg) == 1


def test_a_class_that_is_in_training_data_alone(coco, tmp_path):
    cfg = coco()
    content = json.loads((tmp_path / 'a.json').read_text())
    cats = [entry for entry in content['annotations'] if entry['category_id'] == 0]
    (tmp_path / 'val.json').write_text(json.dumps(dict(content, annotations=cats)))
    cfg.val_dataloader = dict(dataset=dict(cfg.train_dataloader.dataset, ann_file='val.json', test_mode=True))
    told = check_data(cfg, ('train', 'val'))
    assert 'val_dataloader.dataset: no instance is left of 1 of 2 classes, which are never evaluated: dog' in told
    assert 'learned' not in told


@pytest.mark.parametrize('classes', ['cat', 'catdog', 'dog,cat'])
def test_classes_in_a_text(coco, ade, classes):
    """mm takes each letter for a class, or each part of the text."""
    for cfg in (coco(metainfo=dict(classes=classes)), ade(HALF, metainfo=dict(classes=classes))):
        with pytest.raises(UserError, match=f'{DATA}.metainfo.classes is the text .{classes}., neither a file'):
            check_data(cfg, ('train',))


@pytest.mark.parametrize(('edit', 'settings'), [
    (of(0), {}), (of(2, area=0), {}), (of(24, iscrowd=False), {}), (of(0), dict(indices=1)),
    (lambda content: content['categories'].append(dict(id=2, name='cow')) or of(6, category_id=2)(content), {})])
def test_small_losses_and_choices_are_not_told(coco, edit, settings):
    cfg = coco(edit, **settings)
    assert check_data(cfg, ('train',)) == ''
    assert data_report.check(cfg) == 0


def test_the_table(coco, capsys):
    assert data_report.check(coco(of(1, iscrowd=1))) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [DATA, 'images', '6'] in rows
    assert ['instances', 'of', 'cat', '11'] in rows
    assert ['instances', 'of', 'dog', '12'] in rows
    assert ['left', 'out:', 'are', 'crowds', '(iscrowd', 'is', '1)', '1'] in rows


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_a_file_in_another_encoding(coco, tmp_path, encoding, capsys):
    cfg = coco(encoding=encoding)
    with pytest.raises(UserError, match=r'a\.json .*ann_file.: it is in UTF-.*UTF-8 without a byte order mark.*--fix'):
        check_data(cfg, ('train',))
    assert data_report.check(cfg, str(tmp_path / 'fixed.json')) == 1
    assert 'written in UTF-8' in capsys.readouterr().out
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'fixed.json')
    check_data(cfg, ('train',))
    assert data_report.check(cfg) == 0


def test_zigzags_are_stopped_before_they_are_drawn(coco):
    cfg = coco(of(1, segmentation=[[0, 0, 9e5, 9e5] * 3000]))
    with pytest.raises(UserError, match=r'a\.json .*outline beyond 10,000,000'):
        check_data(cfg, ('train',))


@pytest.fixture
def ade(tmp_path):
    """A function that writes masks (arrays, or images with a suffix) and gives a config of two classes."""
    def make(*masks, suffix='.png', **settings):
        init_default_scope('mmseg')
        for folder in ('i', 'm'):
            (tmp_path / folder).mkdir(exist_ok=True)
        for number, mask in enumerate(masks):
            Image.fromarray(np.uint8(mask)).save(tmp_path / 'm' / f'{number}{suffix}')
            Image.new('RGB', mask.shape[1::-1]).save(tmp_path / 'i' / f'{number}.png')
        dataset = {**dict(type='BaseSegDataset', data_root=str(tmp_path), img_suffix='.png', seg_map_suffix=suffix,
                          data_prefix=dict(img_path='i', seg_map_path='m'),
                          metainfo=dict(classes=('ground', 'object'))), **settings}
        return Config(dict(default_scope='mmseg', model=dict(), train_dataloader=dict(dataset=dict(
            dataset, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]))))
    return make


HALF = np.repeat([[0, 1]], 8, 1).reshape(2, 8)


@pytest.mark.parametrize(('mask', 'settings', 'parts'), [
    (HALF * 255, {}, ['no pixel in 1 masks is of 1 of 2 classes, which are never learned: object',
                      '50.0% of the pixels are ignored .255 means ignore']),
    (HALF * 0, {}, ['never learned: object: correct the masks']),
    (HALF, dict(reduce_zero_label=True), ['never learned: object; .*with reduce_zero_label=True so does 0']),
    (np.where(np.arange(8) < 6, 255, HALF), {}, ['75% of the pixels are ignored'])])
def test_masks_that_lose_a_class(ade, mask, settings, parts):
    cfg = ade(mask, **settings)
    message = check_data(cfg, ('train',))
    for part in parts:
        assert re.search(part, message), message
    assert data_report.check(cfg) == 1


def test_masks_of_which_nothing_is_left(ade):
    with pytest.raises(UserError, match='no pixel of a class is left in 1 masks: all 16 pixels are ignored'):
        check_data(ade(HALF * 0 + 255), ('train',))


def test_masks_that_are_all_missing(ade, tmp_path):
    cfg = ade(HALF, HALF)
    (tmp_path / 'm/0.png').unlink()
    assert check_data(cfg, ('train',)) == ''
    cfg.train_dataloader.dataset.seg_map_suffix = '.tif'
    with pytest.raises(UserError, match=r'm/0\.tif \(.*seg_map_suffix=\.tif\) does not exist, nor does any other of 2'):
        check_data(cfg, ('train',))


def test_masks_that_a_loss_with_weights_fails_on(ade):
    """Which losses do depends on mmseg: the classic one fails at each ignored pixel, OneDL's with avg_non_ignore."""
    cfg = ade(np.where(np.arange(8) < 1, 255, HALF))
    fails = dict(type='CrossEntropyLoss', class_weight=[1., 2.], avg_non_ignore=True)
    for loss, right in ((fails, False), (dict(type='CrossEntropyLoss'), True)):
        cfg.model = dict(decode_head=dict(num_classes=2, loss_decode=loss))
        if right:
            check_data(cfg, ('train',))
            continue
        with pytest.raises(UserError, match='loss_decode.class_weight makes CrossEntropyLoss fail at pixels that are '
                                            'ignored, which the masks of train_dataloader.dataset have'):
            check_data(cfg, ('train',))


def test_sound_masks_are_not_told(ade):
    cfg = ade(HALF, np.where(HALF, 1, 255))
    assert check_data(cfg, ('train',)) == ''
    assert data_report.check(cfg) == 0


COLOURS = np.repeat(HALF[..., None], 3, 2) * 200


@pytest.mark.parametrize(('mask', 'suffix', 'message'), [
    (COLOURS, '.png', r'0\.png .* is no index map: it has the shape \(2, 8, 3\)'),
    (COLOURS, '.bmp', 'no index map'), (COLOURS, '.jpg', 'no index map'), (COLOURS, '.tif', 'no index map'),
    (HALF * 7, '.tif', 'values out of range: .7. in 8 pixels; 2 classes'), (HALF * 7, '.bmp', 'values out of range'),
    (np.kron(HALF, np.ones((8, 8))) * 77, '.jpg', 'values out of range')])
def test_masks_that_are_no_index_maps(ade, mask, suffix, message):
    with pytest.raises(UserError, match=message):
        check_data(ade(mask, suffix=suffix), ('train',))


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_names_in_another_encoding(ade, tmp_path, encoding):
    (tmp_path / 'names.txt').write_bytes('0\n1\n'.encode(encoding))
    cfg = ade(HALF, HALF, ann_file='names.txt')
    with pytest.raises(UserError, match=r'names\.txt .*ann_file.: it is in UTF-.*--fix'):
        check_data(cfg, ('train',))
    assert data_report.check(cfg, str(tmp_path / 'fixed.txt')) == 1
    assert (tmp_path / 'fixed.txt').read_bytes() == b'0\n1\n'
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'fixed.txt')
    check_data(cfg, ('train',))
    assert data_report.check(cfg) == 0


@pytest.mark.parametrize(('content', 'message'), [
    (b'ground\nobject', ''), (b'ground\nobject\n', ''), (b'ground\r\nobject\r\n', ''),
    (b'ground\nobject\n\n', r'has 3 classes \(ground, object, \)'),
    ('ground\nobject'.encode('utf-8-sig'), r'names\.txt \(metainfo.classes\): it is in UTF-8 with a byte order mark'),
    ('ground\nobject'.encode('utf-16'), r'names\.txt \(metainfo.classes\): it is in UTF-16'),
    (b'ground\nobj\xe9', r'names\.txt \(metainfo.classes\) is no text in UTF-8')])
def test_classes_of_a_file(ade, tmp_path, content, message):
    (tmp_path / 'names.txt').write_bytes(content)
    cfg = ade(HALF, metainfo=dict(classes=str(tmp_path / 'names.txt')))
    cfg.model = dict(decode_head=dict(num_classes=2))
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        check_data(cfg, ('train',))
    with pytest.raises(UserError, match=message) if 'names' in message else contextlib.nullcontext():
        data_report.check(cfg)


@pytest.mark.parametrize(('reduce_zero_label', 'label_map', 'expected'), [
    (False, None, {0: 0, 3: 3, 254: 254, 255: 255}), (True, None, {0: 255, 1: 0, 3: 2, 254: 253, 255: 255}),
    (False, {0: 1, 1: 0, 2: 255}, {0: 1, 1: 0, 2: 255, 3: 3}), (True, {0: 1, 1: 255}, {1: 1, 2: 255, 0: 255})])
def test_labels_of_values(reduce_zero_label, label_map, expected):
    table = label_table(reduce_zero_label, label_map)
    assert {value: table[value] for value in expected} == expected


def test_encodings():
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16', 'utf-32'):
        assert text_encoding('é'.encode(encoding)) == encoding
        parsed, flaw = parse_json('["é"]'.encode(encoding))
        assert parsed == ['é']
        assert (flaw is None) == (encoding == 'utf-8')
