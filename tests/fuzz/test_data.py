"""Damaged annotation files, images and masks give a clear error or usable samples; none crashes, hangs or fills memory.

`make test` tries some, `make check-long` 1,000, the same in every run.
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
from mmengine.registry import init_default_scope
from PIL import Image

from convnext_mm.datasets import scan as data_scan
from convnext_mm.datasets import shapes
from convnext_mm.datasets.fix import fix_coco
from convnext_mm.datasets.guard import build_guarded
from convnext_mm.datasets.preflight import check_data
from convnext_mm.utils.errors import UserError
from tests.helpers.fuzzing import bounded, damage, damages, run, show

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
pytestmark = pytest.mark.long


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A config of two drawn images, one instance with polygons, one a crowd; scans stay in this process."""
    # Takes longer than any damaged file may.
    import_module('mmdet.datasets')
    init_default_scope('mmdet')
    monkeypatch.setattr(data_scan, '_run', lambda function, tasks, key: list(map(function, tasks)))
    shapes.generate_coco(tmp_path / 'coco', train=2, val=1, width=64, height=64, seed=3)
    file = tmp_path / 'coco/annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    x, y, w, h = content['annotations'][0]['bbox']
    content['annotations'][0]['segmentation'] = [[x, y, x + w, y, x + w, y + h, x + .5, y + h - .25]]
    content['annotations'][-1].update(iscrowd=1)
    file.write_text(json.dumps(content))
    dataset = dict(type='CocoDataset', data_root=str(tmp_path / 'coco'),
                   ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/'),
                   metainfo=dict(classes=shapes.CLASSES), pipeline=[
                       dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                       dict(type='PackDetInputs')])
    return Config(dict(default_scope='mmdet', model=dict(), train_dataloader=dict(dataset=dataset)))


@pytest.fixture
def ade(tmp_path, monkeypatch):
    import_module('mmseg.datasets')
    init_default_scope('mmseg')
    monkeypatch.setattr(data_scan, '_run', lambda function, tasks, key: list(map(function, tasks)))
    shapes.generate_ade(tmp_path / 'ade', train=2, val=1, width=64, height=64, seed=3)
    dataset = dict(type='BaseSegDataset', data_root=str(tmp_path / 'ade'), img_suffix='.png', reduce_zero_label=True,
                   data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
                   metainfo=dict(classes=shapes.SEMANTIC_CLASSES), pipeline=[
                       dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    return Config(dict(default_scope='mmseg', model=dict(), train_dataloader=dict(dataset=dataset)))


def samples(cfg):
    """What training gets to see, as `tools/train.py` goes about it: the samples, or the error that ends it, as text."""
    try:
        # pycocotools reports on stdout.
        with bounded(), contextlib.redirect_stdout(io.StringIO()):
            check_data(cfg, ('train',))
            dataset = build_guarded(cfg.train_dataloader.dataset, .5)
            return [dataset[i] for i in range(len(dataset))]
    except UserError as error:
        return str(error)


def scan(cfg):
    """The scan of `tools/check_data.py`."""
    with bounded():
        (found,), _ = data_scan.scan_config(cfg)
    return found


def check_detection_samples(found):
    for sample in found:
        instances = sample['data_samples'].gt_instances
        assert sample['inputs'].shape[0] == 3
        assert instances.bboxes.tensor.isfinite().all()
        assert ((instances.labels >= 0) & (instances.labels < 3)).all()
        assert instances.masks.masks.shape == (len(instances), *sample['inputs'].shape[1:])


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=3), st.just([]), st.just({}),
    st.lists(st.floats(), max_size=8), st.lists(st.lists(st.floats(-1e3, 1e3), max_size=8), max_size=2),
    st.sampled_from([10 ** 30, -10 ** 30, 10 ** 400, 1e300, '9' * 50, '../../etc/passwd', 'a\0b',
                     [[0, 0, 1e9, 0, 1e9, 1e9]], dict(size=[64, 64], counts='zzz')]))


def places(node, path=()):
    """Paths to all nodes of parsed JSON, long lists by their ends."""
    yield path
    children = node.items() if isinstance(node, dict) else list(enumerate(node))[:4] if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replace(content, path, action, value):
    """Parsed JSON with the node at ``path`` replaced, removed, or doubled."""
    content = json.loads(json.dumps(content))
    if not path:
        return value
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if action == 'double' and isinstance(parent, list):
        parent.insert(path[-1], parent[path[-1]])
    elif action == 'remove':
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return content


@pytest.mark.parametrize('how', ['bytes', 'values'])
def test_damaged_annotation_files(how, coco, size, tmp_path, record_property):
    file, tally = tmp_path / 'coco/annotations/instances_train2017.json', Counter()
    sound = file.read_bytes()
    parsed = json.loads(sound)
    whole = samples(coco)
    assert len(whole) == 2
    if how == 'bytes':
        drawn = damages(len(sound), [b'e9', b'-', b'null', b'[', b'}', b'1e999', b'NaN', b'"'])
    else:
        actions = st.sampled_from(['replace', 'remove', 'double'])
        drawn = st.tuples(st.sampled_from(list(places(parsed))), actions, VALUES)

    @given(drawn)
    def check(change):
        file.write_bytes(damage(sound, change) if how == 'bytes' else json.dumps(replace(parsed, *change)).encode())
        found, seen = scan(coco), samples(coco)
        if isinstance(seen, str):
            known = str(file), 'training samples cannot be used', 'train_dataloader.dataset'
            assert any(text in seen for text in known), seen
            tally['refused'] += 1
        else:
            check_detection_samples(seen)
            tally['with findings, usable' if found.findings else 'nothing found, usable'] += 1
        if found.content is not None:
            # What is written without the findings has none, but for those of classes that are gone.
            fixed, _ = fix_coco(found.content, found.findings)
            file.write_text(json.dumps(fixed))
            left = [finding for finding in scan(coco).findings
                    if 'which the file does not have' not in finding.flaw.detail]
            assert left == []
            after = samples(coco)
            if isinstance(after, str):
                assert any(word in after for word in ('classes', 'no image', 'none of', 'are left')), after
            else:
                check_detection_samples(after)

    run(check, size(30, 250))
    record_property('tally', show(tally))
    assert tally['refused']
    assert tally['refused'] < sum(tally.values())


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_damaged_images(kind, coco, size, tmp_path, record_property):
    path, tally = sorted((tmp_path / 'coco/train2017').iterdir())[0], Counter()
    buffer = io.BytesIO()
    Image.open(path).save(buffer, kind, exif=Image.Exif())
    sound = buffer.getvalue()

    @given(damages(len(sound), [
        b'\xff\xd9', b'\xff\xc0\0\x11\x08\xff\xff\xff\xff\3', b'IEND\xaeB`\x82', b'II*\0', b'BM']))
    def check(change):
        path.write_bytes(damage(sound, change))
        found, seen = scan(coco), samples(coco)
        assert not isinstance(seen, str), seen
        check_detection_samples(seen)
        ids = [sample['data_samples'].img_id for sample in seen]
        assert ids in ([1, 2], [2, 2])
        named = any(finding.file == str(path) for finding in found.findings)
        assert ids == [1, 2] or named, 'passed over, but not found'
        tally['used' if ids == [1, 2] else 'passed over'] += 1

    run(check, size(30, 170))
    record_property('tally', show(tally))
    assert tally['passed over']


def test_damaged_masks(ade, size, tmp_path, record_property):
    masks, tally = sorted((tmp_path / 'ade/annotations/training').iterdir()), Counter()
    sound = masks[1].read_bytes()

    @given(damages(len(sound), [b'IEND\xaeB`\x82', b'\xff\xff\xff\xff']))
    def check(change):
        masks[1].write_bytes(damage(sound, change))
        found, seen = scan(ade), samples(ade)
        if isinstance(seen, str):
            assert str(masks[1]) in seen
            assert found.findings
            tally['refused'] += 1
        else:
            assert all(np.array_equal(sample['data_samples'].gt_sem_seg.shape, (64, 64)) for sample in seen)
            tally['used'] += 1

    run(check, size(30, 160))
    record_property('tally', show(tally))
    assert tally['refused']
