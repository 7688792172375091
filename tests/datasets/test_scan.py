"""tools/check_data.py on drawn data sets with one thing broken at a time, and the annotation files that it cleans."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from convnext_mm.apis import check_data as data_report
from convnext_mm.datasets import scan as data_scan
from convnext_mm.datasets import shapes
from convnext_mm.datasets.fix import fix_coco
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

DEMOS = {'coco': 'configs/demo/cascade.py', 'ade': 'configs/demo/upernet.py'}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('drawn')
    shapes.generate_coco(root / 'coco', train=6, val=2, width=64, height=64)
    shapes.generate_ade(root / 'ade', train=6, val=2, width=64, height=64)
    return root


class Data:
    """A data set that can be broken, and a config of the demo that reads it; ``scan`` looks at it in this process."""

    def __init__(self, root, kind):
        self.root, self.kind = root, kind
        self.config = Config.fromfile(str(ROOT / DEMOS[kind]))
        for split in data_scan.SPLITS:
            self.config[f'{split}_dataloader'].dataset.data_root = f'{root}/'
        self.file = root / 'annotations/instances_train2017.json'
        folder = 'train2017' if kind == 'coco' else 'images/training'
        self.images = sorted((root / folder).glob('*.png'))
        self.masks = sorted((root / 'annotations/training').glob('*.png'))

    def edit(self, change):
        content = json.loads(self.file.read_text())
        change(content)
        self.file.write_text(json.dumps(content))

    def scan(self):
        scans, others = data_scan.scan_config(self.config)
        assert not others
        return scans

    def found(self):
        """(name, kind) of all findings in the training data; there are none in the others."""
        train, *others = self.scan()
        assert not any(scan.findings for scan in others)
        return sorted((os.path.basename(finding.file), finding.flaw.kind) for finding in train.findings)


@pytest.fixture
def data(drawn, tmp_path, monkeypatch):
    def make(kind):
        for source in (drawn / kind).rglob('*'):
            target = tmp_path / kind / source.relative_to(drawn / kind)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        return Data(tmp_path / kind, kind)

    # The pool is tried by the command line below.
    monkeypatch.setattr(data_scan, '_run', lambda function, tasks, key: list(map(function, tasks)))
    return make


def cut(path, end=.5):
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * end)])


IMAGE, LAST, FILE = '000000000001.png', '000000000006.png', 'instances_train2017.json'
COCO = [  # what is broken, what is found
    (lambda d: None, []),
    (lambda d: cut(d.images[0]), [(IMAGE, 'truncated image')]),
    (lambda d: d.images[0].write_text('no image'), [(IMAGE, 'unreadable image')]),
    (lambda d: d.images[0].unlink(), [(IMAGE, 'missing file')]),
    (lambda d: Image.new('RGB', (32, 32)).save(d.images[0]), [(IMAGE, 'other size')]),
    (lambda d: d.edit(lambda c: c['images'][0].update(width=50)), [(IMAGE, 'other size')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(bbox=[90, 90, 5, 5])), [(IMAGE, 'box outside')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(bbox=[9, 9, 0, 5])), [(IMAGE, 'empty box')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(segmentation=[[90, 90, 95, 90, 95, 95]])),
     [(IMAGE, 'polygon outside')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(segmentation=[[9, 9, 9, 9, 9, 9]])),
     [(IMAGE, 'empty polygon')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].pop('segmentation')), [(IMAGE, 'empty mask')]),
    (lambda d: d.edit(lambda c: c['annotations'][0]['segmentation'].update(counts=[1, 2])), [(IMAGE, 'damaged mask')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(category_id=8)), [(FILE, 'unknown category')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(image_id=8)), [(FILE, 'unknown image')]),
    (lambda d: d.edit(lambda c: c['annotations'][1].update(id=1)), [(FILE, 'id used twice')]),
    (lambda d: d.edit(lambda c: c['images'][5].update(id=1)), [(FILE, 'id used twice')] + [(FILE, 'unknown image')]),
    (lambda d: d.edit(lambda c: c['categories'][0].update(name='oval')), [(FILE, 'unknown category')]),
    (lambda d: d.edit(lambda c: c['categories'][0].update(name=[])),
     [(FILE, 'damaged entry'), (FILE, 'unknown category')]),
    (lambda d: d.edit(lambda c: c['annotations'][0].pop('area')), [(FILE, 'damaged entry')]),
    (lambda d: d.edit(lambda c: c.pop('images')), [(FILE, 'damaged entry')]),
    (lambda d: cut(d.file), [(FILE, 'unreadable annotation file')]),
    (lambda d: d.file.unlink(), [(FILE, 'missing file')]),
    # What mm leaves out is nobody's harm.
    (lambda d: d.edit(lambda c: c['annotations'][0].update(bbox=[9, 9, 0, 5], ignore=1)), []),
    (lambda d: d.edit(lambda c: c['categories'].append(dict(id=9, name='oval')) or c['annotations'][0].update(
        bbox=[9, 9, 0, 5], category_id=9)), []),
    (lambda d: d.edit(lambda c: c['annotations'][0].update(iscrowd=1)), []),
]


@pytest.mark.parametrize(('break_it', 'expected'), COCO)
def test_detection_data(data, break_it, expected):
    broken = data('coco')
    break_it(broken)
    found = broken.found()
    assert sorted(set(found)) == expected


def paint(path, value):
    mask = np.asarray(Image.open(path)).copy()
    mask[0, :3] = value
    Image.fromarray(mask).save(path)


ADE = [
    (lambda d: None, []),
    (lambda d: cut(d.images[0]), [('shapes_train_00000001.png', 'truncated image')]),
    (lambda d: cut(d.masks[1]), [('shapes_train_00000002.png', 'unreadable mask')]),
    (lambda d: d.masks[1].unlink(), [('shapes_train_00000002.png', 'missing file')]),
    (lambda d: d.images[1].unlink(), [('shapes_train_00000002.png', 'missing file')]),
    (lambda d: paint(d.masks[2], 5), [('shapes_train_00000003.png', 'value out of range')]),
    (lambda d: paint(d.masks[2], 255), []),
    (lambda d: paint(d.masks[2], 4), []),
    (lambda d: Image.new('L', (9, 9)).save(d.masks[3]), [('shapes_train_00000004.png', 'other size')]),
    (lambda d: [path.unlink() for path in d.images], [('training', 'missing file')]),
    (lambda d: d.config.train_dataloader.dataset.update(ann_file='none.txt'), [('none.txt', 'missing file')]),
    (lambda d: (d.config.train_dataloader.dataset.update(reduce_zero_label=False), paint(d.masks[0], 4)),
     [('shapes_train_00000001.png', 'value out of range')]),
]


@pytest.mark.parametrize(('break_it', 'expected'), ADE)
def test_segmentation_data(data, break_it, expected):
    broken = data('ade')
    for path in broken.masks:
        Image.fromarray(np.asarray(Image.open(path)) // 2).save(path)
    break_it(broken)
    assert broken.found() == expected


def test_ade20k_by_its_own_settings(data, tmp_path):
    """Suffixes, classes and the reduction of zero are the data set's own."""
    ade = data('ade')
    for path in ade.images:
        Image.open(path).save(path.with_suffix('.jpg'))
    pipeline = ade.config.train_dataloader.dataset.pipeline
    settings = dict(type='ADE20KDataset', data_root=str(ade.root), pipeline=pipeline,
                    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'))
    ade.config = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=settings)))
    assert ade.found() == []
    paint(ade.masks[0], 150)
    assert ade.found() == []
    paint(ade.masks[0], 151)
    assert ade.found() == [('shapes_train_00000001.png', 'value out of range')]


def test_every_data_set_is_looked_at_once(data):
    coco = data('coco')
    inner = coco.config.train_dataloader.dataset
    coco.config.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[inner, dict(inner, ann_file='gone.json')])
    train, gone, val = coco.scan()
    assert train.keys == ['train_dataloader.dataset.datasets.0']
    assert (train.images, val.images, gone.images) == (6, 2, 0)
    assert val.keys == ['val_dataloader.dataset', 'test_dataloader.dataset']
    assert [finding.flaw.kind for finding in gone.findings] == ['missing file']


@pytest.mark.parametrize(('config', 'message'), [
    (dict(), 'has no data sets'),
    (dict(train_dataloader=dict(dataset=dict(type='Nobodys'))), 'train_dataloader.dataset cannot be built: .*Nobodys'),
    (dict(train_dataloader=dict(dataset=dict(type='CocoDataset', colour='red'))),
     'cannot be built: TypeError.*colour')])
def test_configs_that_cannot_be_scanned(config, message):
    with pytest.raises(UserError, match=message):
        data_scan.scan_config(Config(dict(config, default_scope='mmdet')))


def everything_wrong(d):
    cut(d.images[1])
    d.images[2].unlink()

    def change(content):
        content['images'].append(dict(content['images'][0]))
        content['categories'].append(dict(content['categories'][0], name='oval'))
        for number, entry in enumerate([
                dict(bbox=[90, 90, 5, 5]), dict(bbox=[9, 9, 0, 5]), dict(category_id=77), dict(image_id=77), dict(id=1),
                dict(segmentation=[[50, 10, 90, 10, 90, 20, 50, 20]], bbox=[50, 10, 40, 10]),
                dict(segmentation=dict(size=[1, 1], counts=[1]))]):
            content['annotations'].append({**content['annotations'][0], 'id': 900 + number, **entry})

    d.edit(change)


def test_a_cleaned_file_has_nothing_wrong(data, capsys, tmp_path):
    coco, out = data('coco'), tmp_path / 'new' / 'clean.json'
    before = json.loads(coco.file.read_text())
    everything_wrong(coco)
    assert data_report.check(coco.config, str(out)) == 1
    printed = capsys.readouterr().out
    assert f'train_dataloader.dataset.ann_file={out}' in printed
    for part in ('images dropped (truncated image)', 'images dropped (missing file)', 'images dropped (id used twice)',
                 'categories dropped (id used twice)', 'annotations dropped (box outside)',
                 'annotations dropped (empty box)', 'annotations dropped (unknown category)',
                 'annotations dropped (unknown image)', 'annotations dropped (damaged mask)',
                 'annotations given another id (id used twice)',
                 'annotations cut off at the edge of the image (box outside)'):
        assert f'1 {part}' in printed
    coco.config.train_dataloader.dataset.ann_file = str(out)
    assert coco.found() == []
    content = json.loads(out.read_text())
    gone = coco.images[1].name, coco.images[2].name
    kept = [image['id'] for image in before['images'] if image['file_name'] not in gone]
    assert [image['id'] for image in content['images']] == kept
    sound = [entry for entry in before['annotations'] if entry['image_id'] in kept]
    assert content['annotations'][:len(sound)] == sound
    renumbered, clipped = content['annotations'][len(sound):]
    assert renumbered['id'] == 907
    assert (clipped['bbox'], clipped['area']) == ([50, 10, 14, 10], 140)
    assert [path.name for path in out.parent.iterdir()] == ['clean.json']


def test_a_cleaned_list_of_names(data, capsys, tmp_path):
    ade, out = data('ade'), tmp_path / 'names.txt'
    cut(ade.images[0])
    ade.masks[2].unlink()
    assert data_report.check(ade.config, str(out)) == 1
    assert out.read_text().split() == [f'shapes_train_{i:08d}' for i in (2, 4, 5, 6)]
    ade.config.train_dataloader.dataset.ann_file = str(out)
    assert ade.found() == []


def test_one_file_for_each_data_set_that_is_wrong(data, tmp_path):
    coco = data('coco')
    cut(coco.images[0])
    next((coco.root / 'val2017').iterdir()).unlink()
    assert data_report.check(coco.config, str(tmp_path / 'clean.json')) == 1
    assert {path.name for path in tmp_path.glob('*.json')} == {'clean_train.json', 'clean_val.json'}


def test_nothing_wrong_nothing_written(data, tmp_path, capsys):
    assert data_report.check(data('coco').config, str(tmp_path / 'clean.json')) == 0
    assert 'nothing is wrong' in capsys.readouterr().out
    assert not (tmp_path / 'clean.json').exists()


def test_the_cleaned_content_leaves_the_given_one_alone(data):
    coco = data('coco')
    everything_wrong(coco)
    scan = coco.scan()[0]
    before = json.dumps(scan.content)
    fix_coco(scan.content, scan.findings)
    assert json.dumps(scan.content) == before


def test_command_line(data, tmp_path):
    """In parallel, with progress on stderr; findings alone on stdout."""
    coco = data('coco')
    cut(coco.images[0])
    roots = [f'{split}_dataloader.dataset.data_root={coco.root}/' for split in data_scan.SPLITS]
    command = [sys.executable, str(ROOT / 'tools/check_data.py'), str(ROOT / DEMOS['coco']), '--fix', 'clean.json']
    result = subprocess.run([*command, '--cfg-options', *roots], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    first, header, train, val, used, *counts, written, use = result.stdout.splitlines()
    assert first == f'{coco.images[0]}: truncated image: OSError: image file is truncated'
    assert header.split() == ['data', 'set', 'images', 'wrong', 'what']
    assert train.split()[1:] == ['6', '1', '1', 'truncated', 'image']
    assert used.split() == ['data', 'set', 'what', 'is', 'used', 'number']
    assert counts[0].split() == ['train_dataloader.dataset', 'images', '6']
    assert written.startswith('clean.json: 1 images dropped (truncated image)')
    assert '6 images of train_dataloader.dataset in' in result.stderr


def test_a_worker_that_is_killed(monkeypatch):
    with pytest.raises(UserError, match='a process that reads train was killed.*after 0 of 2 images'):
        data_scan._run(os._exit, [9, 9], 'train')
