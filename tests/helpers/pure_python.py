"""A config in mmengine's pure Python form: types are classes, a base is read by ``read_base``, there is no scope."""
import mmcv.ops
import mmdet.registry
import mmseg.registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

REGISTRIES = dict(mmdet=mmdet.registry, mmseg=mmseg.registry)
#: Its keys that go into the base.
BASE = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator', 'env_cfg')


class _Code(str):
    """A text that is written as it is."""

    __repr__ = str.__str__


def _find(name, scope):
    """The class or function that a type names, whatever registry has it."""
    with DefaultScope.overwrite_default_scope(scope):
        # The toolbox's own come first: mmcv has transforms of the same names.
        every = [part for part in vars(REGISTRIES[scope]).values() if isinstance(part, Registry)]
        for registry in sorted(every, key=lambda registry: registry.scope != scope):
            found = registry.get(name)
            if found is not None:
                return found
    return getattr(mmcv.ops, name, None)


def _with_classes(node, scope, imports):
    if isinstance(node, dict):
        node = {key: _with_classes(value, scope, imports) for key, value in node.items()}
        for key in ('type', 'constructor'):
            if isinstance(node.get(key), str):
                found = _find(node[key], scope)
                assert found is not None, node
                # Two classes may share a name, as mmcv's and mmdet's transforms do.
                alias = f'{found.__module__}_{found.__qualname__}'.replace('.', '_')
                imports[alias] = f'from {found.__module__} import {found.__qualname__} as {alias}'
                node[key] = _Code(alias)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(_with_classes(value, scope, imports) for value in node)
    return node


def write_pure(config, folder):
    """Write the pure form of a config into ``folder``, with a base beside it, and return its path."""
    cfg = Config.fromfile(config).to_dict()
    scope = cfg.pop('default_scope')
    cfg.pop('custom_imports', None)
    texts = {}
    for name in ('pure_base', 'pure'):
        imports, lines = {}, []
        for key, value in cfg.items():
            if (key in BASE) == (name == 'pure_base'):
                lines.append(f'{key} = {_with_classes(value, scope, imports)!r}')
        texts[name] = '\n'.join([*imports.values(), *lines, '']) + 'default_scope = None\n' * (name == 'pure_base')
    (folder / 'pure_base.py').write_text(texts['pure_base'])
    start = 'from mmengine.config import read_base\nwith read_base():\n    from .pure_base import *\n'
    (folder / 'pure.py').write_text(start + texts['pure'])
    return folder / 'pure.py'
