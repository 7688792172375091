"""Ways through a config: its parts, the types that they name, its data sets."""
from collections.abc import Mapping


def type_name(settings):
    """Name of the type of a part of a config, without its scope; new-style configs give the class itself."""
    kind = (settings or {}).get('type') or ''
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__


def walk(node):
    """Yield every dict in a config, from the outside in."""
    if isinstance(node, Mapping):
        yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for value in node:
        yield from walk(value)


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
    """The data set of the test, without wrappers such as RepeatDataset."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset
