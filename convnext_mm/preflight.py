"""What can be known to be wrong with a config's data before anything is built: paths, files, numbers of classes."""
import json
import os
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS
from PIL import Image

from .errors import UserError

#: Data set type -> (what should be there, where it is published).
PUBLISHED_DATA = {
    'CocoDataset': ('COCO 2017: annotations/instances_{train,val}2017.json, train2017/ and val2017/',
                    'https://cocodataset.org/#download'),
    'ADE20KDataset': ('the ADE20K scene parsing challenge: images/{training,validation}/*.jpg and '
                      'annotations/{training,validation}/*.png',
                      'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'),
}
_MASKS_READ = 8


def check_data(cfg, splits):
    """Look at the data sets of a config, and raise what is wrong with them as one ``UserError``.

    Args:
        cfg (mmengine.Config): A detection or segmentation config.
        splits (Sequence[str]): Of ``train``, ``val`` and ``test``, those that will be used.

    Raises:
        UserError: Naming the path or the counts, what should be there, and the config keys to set.
    """
    for split in splits:
        loader = f'{split}_dataloader'
        if cfg.get(loader) is None:
            continue
        for key, dataset in _leaf_datasets(cfg[loader].get('dataset') or {}, f'{loader}.dataset'):
            classes = _dataset_classes(dataset)
            if classes:
                _check_heads(cfg.model, classes, key)
            if dataset.get('ann_file', '').endswith('.json'):
                _check_coco(dataset, key, classes, cfg.model)
            elif 'seg_map_path' in (dataset.get('data_prefix') or {}):
                _check_masks(dataset, key, classes)
        _check_evaluators(cfg, split)


def _check_evaluators(cfg, split):
    evaluators = cfg.get(f'{split}_evaluator') or []
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        path = evaluator.get('ann_file')
        if path and not os.path.isfile(path):
            raise UserError(f'{path} ({split}_evaluator.ann_file) does not exist; expected the annotation file of '
                            f'{split}_dataloader.dataset: set it by --cfg-options {split}_evaluator.ann_file=FILE')


def _leaf_datasets(dataset, key):
    """(config key, data set) of every data set inside wrappers such as RepeatDataset and ConcatDataset."""
    if 'dataset' in dataset:
        yield from _leaf_datasets(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from _leaf_datasets(inner, f'{key}.datasets.{i}')
    else:
        yield key, dataset


def _dataset_classes(dataset):
    """Class names that the data set gives its labels; None where only the data set itself knows."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(_dataset_type(dataset), 'METAINFO', {}).get('classes')
    return (classes,) if isinstance(classes, str) else classes


def _dataset_type(dataset):
    """The class of a data set, looked up in the default scope; None where it is not registered."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind


def _head_classes(model, key='model'):
    """(config key, num_classes) of every head; the RPN's own binary one aside."""
    if isinstance(model, Mapping):
        if isinstance(model.get('num_classes'), int):
            yield f'{key}.num_classes', model['num_classes']
        for name, value in model.items():
            if name != 'rpn_head':
                yield from _head_classes(value, f'{key}.{name}')
    elif isinstance(model, Sequence) and not isinstance(model, str):
        for i, value in enumerate(model):
            yield from _head_classes(value, f'{key}.{i}')


def _settings(model, classes, key):
    """The ``--cfg-options`` that fit a config to ``classes``."""
    names = ','.join(f"'{name}'" for name in classes)
    heads = ' '.join(f'{head}={len(classes)}' for head, _ in _head_classes(model))
    return f'{heads} and, for each data set, {key}.metainfo.classes="({names},)"'


def _shorten(names, most=5):
    names = list(names)
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def _check_heads(model, classes, key):
    wrong = [(head, number) for head, number in _head_classes(model) if number != len(classes)]
    if wrong:
        raise UserError(f'{key} has {len(classes)} classes ({_shorten(classes)}), but '
                        + ', '.join(f'{head}={number}' for head, number in wrong)
                        + f': set {_settings(model, classes, key)}')


def _path(dataset, relative):
    """A path of a data set as mm joins it: below ``data_root`` unless absolute."""
    return os.path.join(dataset.get('data_root') or '', relative or '')


def _missing(path, key, field, dataset):
    root = dataset.get('data_root')
    what = 'is an empty folder' if os.path.isdir(path) else 'does not exist'
    expected, published = PUBLISHED_DATA.get(str(dataset.get('type')).rsplit('.', 1)[-1],
                                             ('the data set of this config', None))
    source = f', published at {published}' if published else ''
    return UserError(f'{path} {what} ({key}.{field}, with data_root={root!r}); expected there: {expected}{source}; '
                     f'give your own place by --cfg-options {key}.data_root=DIR, or try `make demo`, which needs no '
                     'data set')


def _require_folder(dataset, key, name):
    folder = _path(dataset, (dataset.get('data_prefix') or {}).get(name))
    if not os.path.isdir(folder) or not any(os.scandir(folder)):
        raise _missing(folder, key, f'data_prefix.{name}', dataset)
    return folder


def _check_coco(dataset, key, classes, model):
    path = _path(dataset, dataset['ann_file'])
    if not os.path.isfile(path):
        raise _missing(path, key, 'ann_file', dataset)
    try:
        annotations = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise UserError(f'{path} ({key}.ann_file) is not JSON: {error}; expected a COCO annotation file') from None
    missing = [name for name in ('images', 'annotations', 'categories')
               if not isinstance(annotations, dict) or not isinstance(annotations.get(name), list)]
    if missing:
        raise UserError(f'{path} ({key}.ann_file) is not a COCO annotation file: it has no list {", ".join(missing)}')
    names = [category.get('name') for category in annotations['categories']]
    unknown = [name for name in classes or () if name not in names]
    if unknown:
        heads = sorted({number for _, number in _head_classes(model)})
        raise UserError(f'{path} ({key}.ann_file) has {len(names)} categories ({_shorten(names)}), but the heads '
                        f'predict {", ".join(map(str, heads))} classes, of which it lacks {len(unknown)} '
                        f'({_shorten(unknown)}): set {_settings(model, names, key)}')
    folder = _require_folder(dataset, key, 'img')
    if annotations['images']:
        first = os.path.join(folder, annotations['images'][0]['file_name'])
        if not os.path.isfile(first):
            raise _missing(first, key, 'data_prefix.img', dataset)


def _check_masks(dataset, key, classes):
    _require_folder(dataset, key, 'img_path')
    folder = Path(_require_folder(dataset, key, 'seg_map_path'))
    if not classes:
        return
    # ADE20K's class sets it by itself; its masks then hold 0 for "unlabelled" and 1 to K for the classes.
    reduce_zero_label = dataset.get('reduce_zero_label', _dataset_type(dataset).__name__ == 'ADE20KDataset')
    highest = len(classes) if reduce_zero_label else len(classes) - 1
    for path in islice(chain(folder.glob('*.png'), folder.glob('*/*.png')), _MASKS_READ):
        try:
            values = np.unique(np.asarray(Image.open(path)))
        except OSError as error:
            raise UserError(f'{path} ({key}.data_prefix.seg_map_path) cannot be read as a mask: {error}') from None
        above = values[(values > highest) & (values != dataset.get('ignore_index', 255))]
        if len(above):
            raise UserError(f'{path} ({key}.data_prefix.seg_map_path) has the value {above.max()}, but {key} has '
                            f'{len(classes)} classes, which with reduce_zero_label={reduce_zero_label} allow at most '
                            f'{highest}: set {key}.metainfo.classes and num_classes of the heads, or correct the masks')
