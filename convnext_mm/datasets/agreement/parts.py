"""Parts of a config that must agree: data sets, their files, transforms and evaluators."""
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.registry import DATASETS, TRANSFORMS, Registry

from convnext_mm.utils.configs import leaf_datasets, type_name
from convnext_mm.utils.errors import UserError

#: Transforms whose ``transforms`` belong to another library.
_FOREIGN = ('Albu',)
#: Transforms that have others inside by default -> the argument.
_POLICIES = {'AutoAugment': 'policies', 'RandAugment': 'aug_space'}
_INNER = re.compile(r'\.(dataset|datasets\.\d+)(?=\.|$)')


class Part(NamedTuple):
    """A part of a config: its key, its settings, and its class (None where it is not registered)."""

    key: str
    settings: Mapping
    kind: type | None

    def get(self, name: str) -> Any:
        """Return a setting, or the default that the class gives it."""
        return self.settings[name] if name in self.settings else default_of(self.kind, name)


def find_class(settings: Mapping, registry: Registry) -> type | None:
    """Return the class that ``settings['type']`` names in the default scope; None where it is not registered."""
    kind = settings.get('type')
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as scoped:
            kind = scoped.get(kind)
    return kind if inspect.isclass(kind) else None


def default_of(kind: type | None, argument: str) -> Any:
    """Return the default of a constructor's argument, from the nearest class that names it; None if none does."""
    for cls in getattr(kind, '__mro__', ()):
        parameters = inspect.signature(cls.__init__).parameters
        if argument in parameters:
            value = parameters[argument].default
            return None if value is inspect.Parameter.empty else value
    return None


def data_sets(cfg: Any, splits: Sequence[str]) -> Iterator[tuple[str, Part]]:
    """Yield (split, data set) of every data set of these splits, inside of wrappers too."""
    for split in splits:
        loader = f'{split}_dataloader'
        for key, leaf in leaf_datasets((cfg.get(loader) or {}).get('dataset') or {}, f'{loader}.dataset'):
            yield split, Part(key, leaf, find_class(leaf, DATASETS))


def evaluators(cfg: Any, split: str) -> list[tuple[str, Any]]:
    """Return (config key, settings) of the metrics of a split."""
    found = cfg.get(f'{split}_evaluator') or []
    if not isinstance(found, Mapping):
        return [(f'{split}_evaluator.{i}', metric) for i, metric in enumerate(found)]
    if 'metrics' in found:
        metrics = found['metrics']
        metrics = [metrics] if isinstance(metrics, Mapping) else metrics
        return [(f'{split}_evaluator.metrics.{i}', metric) for i, metric in enumerate(metrics)]
    return [(f'{split}_evaluator', found)]


def evaluated(cfg: Any, split: str) -> Iterator[tuple[str, Mapping, Part]]:
    """Yield (config key, metric, data set) of every metric of a split and each data set that it evaluates.

    A ``MultiDatasetsEvaluator`` has a metric for each part of a ``ConcatDataset``; others evaluate every part.

    Raises:
        UserError: It has fewer metrics than there are parts, the last of which would not be evaluated.
    """
    metrics, parts = evaluators(cfg, split), [part for _, part in data_sets(cfg, (split,))]
    whole = cfg.get(f'{split}_evaluator')
    if type_name(whole) != 'MultiDatasetsEvaluator':
        yield from ((*metric, part) for metric in metrics for part in parts)
        return
    if len(metrics) < len(parts):
        raise UserError(f'{split}_evaluator.metrics has {len(metrics)} metrics, but {split}_dataloader.dataset has '
                        f'{len(parts)} parts ({", ".join(part.key for part in parts)}), of which the last are not '
                        f'evaluated: give {split}_evaluator.metrics and dataset_prefixes one for each')
    yield from ((*metric, part) for metric, part in zip(metrics, parts))


def transforms(cfg: Any, split: str) -> Iterator[tuple[Part, list[tuple[str, Mapping]]]]:
    """Yield (data set, [(config key, transform)]) of a split's data sets.

    The transforms are in the order in which they run, those of wrappers after those of the data set within; transforms
    inside of others (``RandomChoice`` and the like) follow them.
    """
    for _, part in data_sets(cfg, (split,)):
        # The keys of the wrappers are the beginnings of the data set's key; the first of them is the loader's.
        parents = [part.key[:match.start()] for match in _INNER.finditer(part.key)][1:]
        levels = [(part.key, part.settings), *((key, _at(cfg, key)) for key in reversed(parents))]
        yield part, [step for key, node in levels
                     for step in _flatten(node.get('pipeline') or [], f'{key}.pipeline')]


def _at(cfg, key):
    for name in key.split('.'):
        cfg = cfg[int(name)] if name.isdigit() else cfg[name]
    return cfg


def _flatten(node, key):
    if isinstance(node, Mapping):
        if node.get('type'):
            yield key, node
        if type_name(node) not in _FOREIGN:
            for name, value in node.items():
                if isinstance(value, (Mapping, list, tuple)):
                    yield from _flatten(value, f'{key}.{name}')
        policies = _POLICIES.get(type_name(node), '')
        if policies and policies not in node:
            yield from _flatten(default_of(find_class(node, TRANSFORMS), policies) or (), f'{key}.{policies}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            if isinstance(value, (Mapping, list, tuple)):
                yield from _flatten(value, f'{key}.{i}')


def annotation_file(settings: Mapping) -> str | None:
    """Return the path of a data set's annotation file as mm joins it; None where it is not a local file."""
    path = os.path.join(settings.get('data_root') or '', settings.get('ann_file') or '')
    return path if not settings.get('backend_args') and os.path.isfile(path) else None
