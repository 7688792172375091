"""A COCO file is parsed once for the checks that count and for those that compare, and freed."""
import json

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from convnext_mm.datasets import outlines, preflight
from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.outlines import is_kept, keep_outline, read_outline
from convnext_mm.utils.errors import UserError

CONTENT = dict(images=[dict(id=3, file_name='a/b.png', width=9, height=9), dict(id=1, file_name='c.png', width=9,
                                                                                height=9)],
               annotations=[dict(id=1, image_id=3, category_id=2, bbox=[1, 1, 5, 5], area=25, iscrowd=0)],
               categories=[dict(id=2, name='b'), dict(id=1, name='a')])


@pytest.fixture
def parsed(monkeypatch):
    """The files that are parsed, by length."""
    parses, parse = [], outlines.parse_json

    def counted(content):
        parses.append(len(content))
        return parse(content)

    for module in (outlines, preflight):
        monkeypatch.setattr(module, 'parse_json', counted)
    yield parses
    outlines.forget_outlines()


def test_what_is_kept(tmp_path, parsed):
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(CONTENT))
    for _ in range(2):
        outline = read_outline(str(file))
        assert [category['name'] for category in outline.categories] == ['b', 'a']
        assert outline.images == {3: 'b.png', 1: 'c.png'}
    assert len(parsed) == 1
    file.write_text(json.dumps(dict(CONTENT, images=[])))
    assert not is_kept(str(file))
    assert read_outline(str(file)).images == {}
    outlines.forget_outlines()
    assert not is_kept(str(file))


@pytest.mark.parametrize('content', [[], {}, dict(CONTENT, images=None), dict(CONTENT, categories=[1])])
def test_other_files(tmp_path, content):
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match='a.json is not a COCO annotation file: its (images|categories) are not'):
        read_outline(str(file))
    with pytest.raises(UserError):
        keep_outline(str(file), content)


@pytest.fixture
def cfg(tmp_path):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    init_default_scope('mmdet')
    (tmp_path / 'a').mkdir()
    for name in ('a/b.png', 'c.png'):
        Image.new('RGB', (9, 9)).save(tmp_path / name)
    for name in ('train', 'val', 'other'):
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(CONTENT, info=name)))
    loaders = {f'{split}_dataloader': dict(dataset=dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file=f'{split}.json', data_prefix=dict(img=''),
        metainfo=dict(classes=('b', 'a')), pipeline=[dict(type='LoadImageFromFile')])) for split in ('train', 'val')}
    return Config(dict(default_scope='mmdet', model={}, **loaders,
                       val_evaluator=dict(type='CocoMetric', ann_file=str(tmp_path / 'other.json'))))


def test_each_file_is_parsed_once_before_a_training(cfg, parsed, tmp_path):
    preflight.check_data(cfg, ('train', 'val'))
    check_agreement(cfg, ('train', 'val'))
    assert sorted(parsed) == sorted((tmp_path / f'{name}.json').stat().st_size for name in ('train', 'val', 'other'))
    assert not any(is_kept(str(tmp_path / f'{name}.json')) for name in ('train', 'val', 'other'))


def entry(**values):
    return lambda content: content['annotations'][0].update(values)


@pytest.mark.parametrize('split', ['train', 'val', 'other'])
@pytest.mark.parametrize(('edit', 'message'), [
    (entry(segmentation=[[0, 0, 9e5, 9e5] * 3000]), 'outline beyond 10,000,000'),
    (entry(segmentation=[[0, 0, 1e12, 5, 5, 1]]), 'coordinates beyond 1,000,000'),
    (entry(iscrowd='0'), 'iscrowd must be 0, 1, true or false'), (entry(bbox=['1', 1, 2, 2]), 'no numbers'),
    (entry(image_id=3.5), 'image_id must be a whole number')])
def test_every_file_that_is_drawn_is_checked(cfg, tmp_path, split, edit, message):
    """Those of training, of validation, and the evaluator's own."""
    content = json.loads((tmp_path / f'{split}.json').read_text())
    edit(content)
    (tmp_path / f'{split}.json').write_text(json.dumps(content))
    key = 'val_evaluator' if split == 'other' else f'{split}_dataloader.dataset'
    with pytest.raises(UserError, match=rf'{split}\.json \({key}\.ann_file\): .*{message}'):
        preflight.check_data(cfg, ('train', 'val'))


def test_ids_twice_in_the_evaluators_own_file_are_renumbered_later(cfg, tmp_path):
    file = tmp_path / 'other.json'
    file.write_text(json.dumps(dict(CONTENT, annotations=CONTENT['annotations'] * 2)))
    preflight.check_data(cfg, ('val',))
