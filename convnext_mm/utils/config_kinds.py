"""Check the kinds of a config's parts before anything reads them."""
import os
from collections.abc import Mapping
from typing import Any

from convnext_mm.utils.errors import UserError

_DICT, _LIST, _PATH = ('a dict', Mapping), ('a list', (list, tuple)), ('a path', (str, os.PathLike))
_DICT_OR_LIST = 'a dict or a list of dicts', (Mapping, list, tuple)
_INTEGER, _NUMBER, _TEXT = ('an integer', int), ('a number', (int, float)), ('a text', str)
#: Parts of a config -> what they are; any part may also be None.
_PARTS = dict(
    dict.fromkeys(('model', 'data_preprocessor', 'optim_wrapper', 'default_hooks', 'env_cfg', 'visualizer',
                   'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
                   'auto_scale_lr', 'randomness'), _DICT),
    **dict.fromkeys(('val_evaluator', 'test_evaluator', 'param_scheduler'), _DICT_OR_LIST), custom_hooks=_LIST,
    default_scope=_TEXT, load_from=_PATH, work_dir=_PATH)
#: The same within some of these parts, and within a data set.
_MODEL = dict(dict.fromkeys(('neck', 'head', 'decode_head', 'auxiliary_head'), _DICT_OR_LIST), **dict.fromkeys(
    ('backbone', 'data_preprocessor', 'rpn_head', 'roi_head', 'bbox_head', 'mask_head'), _DICT))
_INNER = dict(
    dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), dict(
        sampler=_DICT, batch_sampler=_DICT, batch_size=_INTEGER, num_workers=_INTEGER)),
    model=_MODEL, optim_wrapper=dict(optimizer=_DICT), train_cfg=dict(val_interval=_NUMBER),
    randomness=dict(seed=_INTEGER))
_DATASET = dict(data_root=_PATH, ann_file=_PATH, data_prefix=('a dict or a path', (Mapping, str)), metainfo=_DICT,
                pipeline=_LIST)


def check_kinds(cfg: Any) -> None:
    """Raise a ``UserError`` that names the first part of a config which is of another kind than mmengine takes.

    Args:
        cfg (mmengine.Config): Of any task.
    """
    _check_fields(cfg, _PARTS, '')
    for name, fields in _INNER.items():
        _check_fields(cfg.get(name) or {}, fields, f'{name}.')
    for i, hook in enumerate(cfg.get('custom_hooks') or ()):
        _check(hook, f'custom_hooks.{i}', _DICT)
    for split in ('train', 'val', 'test'):
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if dataset is not None:
            _check_dataset(dataset, f'{split}_dataloader.dataset')


def _check_dataset(dataset, key):
    """Check a data set, and those that it wraps."""
    _check(dataset, key, _DICT)
    _check_fields(dataset, _DATASET, f'{key}.')
    for i, transform in enumerate(dataset.get('pipeline') or ()):
        _check(transform, f'{key}.pipeline.{i}', _DICT)
    if dataset.get('dataset') is not None:
        _check_dataset(dataset['dataset'], f'{key}.dataset')
    elif dataset.get('datasets') is not None:
        _check(dataset['datasets'], f'{key}.datasets', _LIST)
        for i, inner in enumerate(dataset['datasets']):
            _check_dataset(inner, f'{key}.datasets.{i}')


def _check_fields(node, fields, place):
    for name, kind in fields.items():
        if node.get(name) is not None:
            _check(node[name], f'{place}{name}', kind)


def _check(value, key, kind):
    words, types = kind
    if not isinstance(value, types):
        raise UserError(f'{key} must be {words}, got {value!r}: correct the config, or what --cfg-options says of it')
