"""An evaluator's annotation file has the images that are loaded, by the same ids."""
import json

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.agreement.evaluated import evaluators_of
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')

ROWS = [  # {id: name} of the loader's file, of the evaluator's -> refused
    ({1: 'a.png', 2: 'b.png'}, {1: 'a.png', 2: 'b.png'}, None),
    ({1: 'a.png'}, {1: 'a.png', 2: 'b.png'}, None),
    ({1: 'x/a.png'}, {1: 'a.png'}, None),
    ({1: 'a.png', 2: 'b.png'}, {1: 'a.png'},
     r'no image of 1 of 2 ids of .*val\.json.*: 2: set val_evaluator\.ann_file'),
    ({1001: 'a.png'}, {1: 'a.png'}, r'evaluator reads .*other\.json \(val_evaluator.*\.ann_file\).*: 1001: '),
    ({'1': 'a.png'}, {1: 'a.png'}, 'no image of 1 of 1 ids'),
    ({1: 'a.png', 2: 'b.png'}, {1: 'a.png', 2: 'c.png'}, r'image 2 is c\.png; in .*val\.json.* it is b\.png'),
]


#: How the refusal of the key differs in a ConcatDataset with a list of metrics.
_WRAPPED = (r'set val_evaluator\.ann_file', "use mmdet's MultiDatasetsEvaluator")


@pytest.mark.parametrize(('loaded', 'evaluated', 'refused'), ROWS)
@pytest.mark.parametrize('wrapped', [False, True])
def test_images_of_the_evaluator(tmp_path, loaded, evaluated, refused, wrapped):
    init_default_scope('mmdet')
    for name, images in (('val', loaded), ('other', evaluated)):
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(
            images=[dict(id=key, file_name=file) for key, file in images.items()], annotations=[],
            categories=[dict(id=1, name='a')])))
    dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='val.json', metainfo=dict(classes=('a',)))
    metric = dict(type='CocoMetric', ann_file=str(tmp_path / 'other.json'))
    cfg = Config(dict(model={}, val_evaluator=[metric] if wrapped else metric, val_dataloader=dict(
        dataset=dict(type='ConcatDataset', datasets=[dataset]) if wrapped else dataset)))
    if refused is None:
        check_agreement(cfg, ('val',))
        return
    with pytest.raises(UserError, match=refused.replace(*_WRAPPED) if wrapped else refused):
        check_agreement(cfg, ('val',))


def test_evaluators_of_a_file(tmp_path):
    """The hint of --fix names each metric that reads the file, by whatever path."""
    for name in ('a.json', 'b.json'):
        (tmp_path / name).write_text('{}')
    (tmp_path / 'link.json').symlink_to(tmp_path / 'a.json')
    cfg = Config(dict(val_evaluator=dict(ann_file=str(tmp_path / 'a.json')), test_evaluator=[
        dict(ann_file=str(tmp_path / 'b.json')), dict(ann_file=str(tmp_path / 'link.json')), dict(type='IoUMetric')]))
    assert evaluators_of(cfg, str(tmp_path / 'a.json')) == ['val_evaluator.ann_file', 'test_evaluator.1.ann_file']
    assert evaluators_of(cfg, str(tmp_path / 'none.json')) == evaluators_of(cfg, '') == []


@pytest.mark.parametrize('text', ['<html>', '[]', '{}', '{"images": 3}', '{"images": [3]}', ''])
def test_an_evaluators_file_that_is_no_annotation_file(tmp_path, text):
    init_default_scope('mmdet')
    (tmp_path / 'other.json').write_text(text)
    (tmp_path / 'val.json').write_text('{"images": [], "categories": []}')
    cfg = Config(dict(model={}, val_evaluator=dict(type='CocoMetric', ann_file=str(tmp_path / 'other.json')),
                      val_dataloader=dict(dataset=dict(type='CocoDataset', ann_file=str(tmp_path / 'val.json')))))
    with pytest.raises(UserError, match=r'other\.json .*COCO annotation file'):
        check_agreement(cfg, ('val',))


def _parts(tmp_path, kind, files):
    init_default_scope('mmdet')
    for name in 'ab':
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name=f'{name}.png')], annotations=[], categories=[dict(id=1, name='x')])))
    parts = [dict(type='CocoDataset', ann_file=str(tmp_path / f'{name}.json'), metainfo=dict(classes=('x',)))
             for name in 'ab']
    metrics = [dict(type='CocoMetric', ann_file=str(tmp_path / f'{name}.json')) for name in files]
    return Config(dict(model={}, val_evaluator=dict(type=kind, metrics=metrics),
                       val_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts))))


@pytest.mark.parametrize(('kind', 'files', 'refused'), [
    ('MultiDatasetsEvaluator', 'ab', None),
    ('MultiDatasetsEvaluator', 'a', 'metrics has 1 metrics, but val_dataloader.dataset has 2 parts'),
    ('MultiDatasetsEvaluator', 'ba', r'image 1 is b\.png; in .*it is a\.png'),
    ('Evaluator', 'a', r'image 1 is a\.png; in .*it is b\.png: use mmdet.s MultiDatasetsEvaluator')])
def test_parts_of_a_concatenation(tmp_path, kind, files, refused):
    cfg = _parts(tmp_path, kind, files)
    if refused is None:
        check_agreement(cfg, ('val',))
        return
    with pytest.raises(UserError, match=refused):
        check_agreement(cfg, ('val',))
