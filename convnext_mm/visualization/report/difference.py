"""What differs between two configs, field by field."""
from collections.abc import Iterator, Mapping

#: Settings of a start rather than of a recipe.
_OWN_SETTINGS = {'work_dir', 'launcher', 'resume', 'load_from'}


def _flatten(node, path='') -> Iterator[tuple]:
    """Yield field and value of everything in a config that is no dict, nor a list with dicts in it."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flatten(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(v, (Mapping, list, tuple)) and 'type' in str(v)
                                                 for v in node):
        for i, value in enumerate(node):
            yield from _flatten(value, f'{path}.{i}')
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def config_difference(base: Mapping, config: Mapping) -> list[tuple[str, object, object]]:
    """Return the fields in which two configs differ.

    Settings of a start, such as ``work_dir``, are left out, and so is what testing shares with validation.

    Returns:
        list[tuple[str, object, object]]: Field, its value in ``base`` and in ``config``, None where there is none.
    """
    shared = [name for name in ('dataloader', 'evaluator')
              if all(c.get(f'val_{name}') == c.get(f'test_{name}') for c in (base, config))]
    skipped = _OWN_SETTINGS | {f'test_{name}' for name in shared}
    old, new = (dict(_flatten({key: value for key, value in c.items() if key not in skipped})) for c in (base, config))
    return [(path, old.get(path), new.get(path)) for path in dict.fromkeys([*old, *new])
            if old.get(path) != new.get(path)]
