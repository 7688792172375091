"""Ways through a config: its parts, the types that they name, its data sets."""
from collections.abc import Mapping


def type_name(node):
    """Return the name of the type of a part of a config, without scope or module; empty where it has none."""
    kind = node.get('type') if isinstance(node, Mapping) else None
    return (kind.rsplit('.', 1)[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')) or ''


def walk(node, path=()):
    """Yield every dict at and below ``node`` with its path, a tuple of keys and indices, outer ones first."""
    if isinstance(node, Mapping):
        yield path, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from walk(value, (*path, key))


def is_segmentor(model):
    """Return whether a model, or its part of a config, is a segmentor's: whether it has a ``decode_head``."""
    return 'decode_head' in model if isinstance(model, Mapping) else hasattr(model, 'decode_head')


def leaf_datasets(dataset, key):
    """Yield (config key, data set) of every data set inside wrappers such as RepeatDataset and ConcatDataset."""
    if 'dataset' in dataset:
        yield from leaf_datasets(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from leaf_datasets(inner, f'{key}.datasets.{i}')
    else:
        yield key, dataset


def test_dataset(cfg):
    """Return the data set of the test, without wrappers such as RepeatDataset."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset
