"""Ways through a config: its parts, the types that they name, its data sets."""
from collections.abc import Iterator, Mapping
from typing import Any


def type_name(node: Any) -> str:
    """Return the type that a part of a config names, without scope or module; an empty text where it names none."""
    kind = node.get('type') if isinstance(node, Mapping) else None
    return (kind.rsplit('.', 1)[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')) or ''


def walk(node: Any, path: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    """Yield (path, dict) of every dict at and below ``node``, outer ones first; a path is keys and indices."""
    if isinstance(node, dict):
        yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from walk(value, (*path, key))


def is_segmentor(model: Any) -> bool:
    """Return whether a model, or the config of one, is a segmentor: whether it has a ``decode_head``."""
    return 'decode_head' in model if isinstance(model, Mapping) else hasattr(model, 'decode_head')


def is_classifier(model: Any) -> bool:
    """Return whether a model, or the config of one, is one of mmpretrain's classifiers."""
    return (type_name(model) if isinstance(model, Mapping) else type(model).__name__).endswith('Classifier')


def join_preprocessor(cfg: Any) -> None:
    """Give a config's model the ``data_preprocessor`` that stands beside it, as in mmpretrain's configs.

    mmengine's runner does so; what builds the model itself would else give it images that are not normalised.
    """
    beside = cfg.get('data_preprocessor')
    if beside and isinstance(cfg.get('model'), Mapping):
        cfg.model.setdefault('data_preprocessor', beside)


def leaf_datasets(dataset: Mapping, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (config key, data set) of every data set inside wrappers such as RepeatDataset and ConcatDataset.

    Args:
        dataset (Mapping): A data set's part of a config.
        key (str): Its key in the config, such as ``train_dataloader.dataset``.
    """
    if 'dataset' in dataset:
        yield from leaf_datasets(dataset['dataset'], f'{key}.dataset')
    elif 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from leaf_datasets(inner, f'{key}.datasets.{i}')
    else:
        yield key, dataset


def test_dataset(cfg: Any) -> dict:
    """Return the part of a config that describes the data set of the test, without wrappers such as RepeatDataset."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset
