"""Parts of a config of another kind than mmengine takes: named before anything reads them."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from convnext_mm.utils.config_kinds import check_kinds
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

DATA = 'train_dataloader.dataset'


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('model', 3, 'a dict'), ('optim_wrapper', 3, 'a dict'), ('optim_wrapper', 'AdamW', 'a dict'),
    ('train_cfg', [1], 'a dict'), ('train_dataloader', 3, 'a dict'), ('test_dataloader', [], 'a dict'),
    ('test_evaluator', 3, 'a dict or a list'), ('param_scheduler', 'cosine', 'a dict or a list'),
    ('custom_hooks', 3, 'a list'), ('default_hooks', 'none', 'a dict'),
    ('model.backbone', 3, 'a dict'), ('model.decode_head', 3, 'a dict or a list'), ('model.neck', 'FPN', 'a dict or a'),
    ('optim_wrapper.optimizer', 'AdamW', 'a dict'), ('custom_hooks', [3], 'a dict'),
    ('train_dataloader.sampler', 3, 'a dict'), ('train_dataloader.batch_size', 'two', 'an integer'),
    (f'{DATA}.pipeline', [3], 'a dict'),
    ('train_cfg.val_interval', 'often', 'a number'), ('load_from', 3, 'a path'), ('default_scope', 3, 'a text'),
    (DATA, 3, 'a dict'), (f'{DATA}.data_root', 3, 'a path'), (f'{DATA}.ann_file', [3], 'a path'),
    (f'{DATA}.data_prefix', 3, 'a dict or a path'), (f'{DATA}.pipeline', 'resize', 'a list'),
    (f'{DATA}.metainfo', ['cat'], 'a dict'),
    ('val_dataloader.dataset', dict(type='RepeatDataset', dataset=dict(data_root=3)), 'a path'),
    ('val_dataloader.dataset', dict(type='ConcatDataset', datasets=3), 'a list'),
    ('val_dataloader.dataset', dict(type='ConcatDataset', datasets=[dict(data_root='a'), 3]), 'a dict')])
def test_another_kind_is_named(key, value, words):
    cfg = Config.fromfile(ROOT / 'configs/demo/upernet.py')
    cfg.merge_from_dict({key: dict(value, _delete_=True) if isinstance(value, dict) else value})
    with pytest.raises(UserError, match=f'^{re.escape(key)}[a-z0-9_.]* must be {words}') as caught:
        check_kinds(cfg)
    assert 'correct the config' in str(caught.value)


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*/*.py')), ids=lambda path: path.stem)
def test_right_configs_pass(path):
    check_kinds(Config.fromfile(path))


def test_parts_may_be_none_and_paths_objects():
    check_kinds(Config(dict(model=None, val_cfg=None, val_dataloader=None, test_evaluator=None)))
    check_kinds(dict(train_dataloader=dict(dataset=dict(data_root=Path('data'), ann_file=None, data_prefix='train'))))
