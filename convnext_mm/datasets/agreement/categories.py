"""Compare the order of categories: the config's, and that by which the built data sets number their labels."""
from collections.abc import Sequence
from typing import Any

from convnext_mm.datasets.agreement.parts import Part, annotation_file, data_sets, evaluated
from convnext_mm.datasets.heads import dataset_classes
from convnext_mm.datasets.outlines import read_outline
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: Data sets that sort the categories of their file by id; the others take them in the file's order.
SORTED_BY_ID = ('Objects365V1Dataset',)
#: Data sets that take every category of their file, whatever ``metainfo.classes`` selects.
WHOLE_FILE = ('LVISDataset', 'LVISV05Dataset', 'LVISV1Dataset')
#: Metrics that number categories as mmdet's ``CocoDataset`` does.
COCO_METRICS = ('CocoMetric', 'FasterCocoMetric', 'OVCocoMetric', 'CocoOccludedSeparatedMetric')


def check_order(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that each label has one name: in the config, in each file, and in each split.

    Raises:
        UserError: The name of a label depends on where one looks; the message has both orders and what to set.
    """
    if 'language_model' in cfg.model:
        # Such a model is told the names of the classes with each image.
        return
    parts = [(split, part, classes) for split, part in data_sets(cfg, splits)
             if part.kind and (classes := dataset_classes(part.settings, part.kind))]
    files = {part.key: order for _, part, classes in parts if (order := _file_order(part, classes))}
    for split, part, classes in parts:
        if part.key in files:
            _compare_file(part.key, files, classes)
        _compare_evaluators(cfg, split, part, classes)
    for split, part, classes in parts[1:]:
        _compare_splits(parts[0], (split, part, classes))


def _file_order(part: Part, classes: Sequence[str]):
    """Return (path, names by label) of a data set that numbers labels by its file; None for others."""
    kind = part.kind
    if kind is None:
        return None
    own = next((cls.__module__ for cls in kind.__mro__ if 'load_data_list' in vars(cls)), '')
    path = annotation_file(part.settings)
    if not hasattr(kind, 'COCOAPI') or not own.startswith('mmdet.datasets.') or not path:
        return None
    name = kind.__name__
    if name in WHOLE_FILE:
        return path, _names(read_outline(path).categories, None, False)
    return path, _names(read_outline(path).categories, classes, name in SORTED_BY_ID)


def _names(categories, classes, by_id):
    """Return the names of the categories that a data set takes, by label."""
    if by_id:
        categories = sorted(categories, key=lambda category: category['id'])
    names = [category.get('name') for category in categories]
    return [name for name in names if classes is None or name in classes]


def _first_difference(one, other):
    """Return the first label at which two lists of names differ; None where one goes on as the other."""
    return next((label for label, names in enumerate(zip(one, other)) if names[0] != names[1]), None)


def _compare_file(key, files, classes):
    path, order = files[key]
    label = _first_difference(order, classes)
    if label is None:
        return
    orders = {tuple(names) for _, names in files.values()}
    names = ','.join(f"'{name}'" for name in order)
    mend = f'set {key}.metainfo.classes="({names},)", in each data set' if len(orders) == 1 else (
        f'list the categories in one order in {_files(files)}, and {key}.metainfo.classes in that order')
    raise UserError(
        f'the order of categories differs: {path} ({key}.ann_file) numbers labels as {shorten(order)}, '
        f'{key}.metainfo.classes names them as {shorten(classes)}, so that label {label} is {order[label]!r} in the '
        f'data and {classes[label]!r} in predictions and figures: {mend}')


def _files(files):
    return shorten(dict.fromkeys(path for path, _ in files.values()))


def _compare_evaluators(cfg, split, part, classes):
    for key, metric, _ in (pair for pair in evaluated(cfg, split) if pair[2].key == part.key):
        path = annotation_file(dict(metric, data_root=None))
        if type_name(metric) not in COCO_METRICS or not path or not hasattr(part.kind, 'COCOAPI'):
            continue
        categories = read_outline(path).categories
        order = _names(categories, classes, bool(metric.get('sort_categories')))
        label = _first_difference(order, classes)
        if label is not None:
            other = 'False' if metric.get('sort_categories') else 'True'
            turned = _names(categories, classes, not metric.get('sort_categories'))
            mend = f'set {key}.sort_categories={other}' if turned == list(classes) else (
                f'list the categories of {path} in the order of {part.key}.metainfo.classes, or set {key}.ann_file')
            raise UserError(
                f'the order of categories differs: {key} numbers labels by {path} ({key}.ann_file) as '
                f'{shorten(order)}, {part.key}.metainfo.classes as {shorten(classes)}, so that the figures of label '
                f'{label} are those of {order[label]!r} instead of {classes[label]!r}: {mend}')


def _compare_splits(first: tuple[str, Part, Sequence[str]], other: tuple[str, Part, Sequence[str]]):
    """Make sure that the classes that two data sets share have the same labels in both."""
    (_, one, names), (_, two, others) = first, other
    if len(names) != len(others) or _first_difference(names, others) is None:
        return
    labels = {name: label for label, name in enumerate(names)}
    for label, name in enumerate(others):
        if labels.get(name, label) != label:
            raise UserError(
                f'the order of classes differs: {one.key}.metainfo.classes is {shorten(names)}, '
                f'{two.key}.metainfo.classes is {shorten(others)}, so that {name!r} is label {labels[name]} in one and '
                f'{label} in the other: set {two.key}.metainfo.classes to the order of {one.key}')
