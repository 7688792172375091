"""Write a swapped config as a person would: a short leaf on the original, or the whole of it."""
import contextlib
import keyword
import math
import os
from pathlib import Path

from mmengine.config import Config

from convnext_mm.published.archs import LETTERS
from convnext_mm.swap.edits import MISSING, plain
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import format_table

WIDTH = 120
_INDENT = '    '
_CELL = 44


def format_changes(changes):
    """A table of changes: key, old, new, reason."""
    return format_table(('key', 'old', 'new', 'reason'), (
        ('.'.join(map(str, change.path)), _cell(change.old), _cell(change.new), change.reason)
        for change in changes), left=4)


def _cell(value):
    if isinstance(value, dict):
        value = f"{value.get('type', 'dict')}({', '.join(f'{k}={v!r}' for k, v in value.items() if k != 'type')})"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _CELL else f'{text[:_CELL - 3]}...'


def check_target(target, config):
    """See that a file can be named so.

    Raises:
        UserError: It is not the name of a config, or that of the original.
    """
    if Path(target).suffix != '.py':
        raise UserError(f'--out {str(target)!r}: expected the name of a config to write, such as configs/new.py')
    if Path(target).resolve() == Path(config.filename or '').resolve():
        raise UserError(f'--out {str(target)!r} is the original config, which is left as it is: give another name')


def write_config(swap, source, target, full=False):
    """Write a swapped config, under its name only once it is complete and loads as it should.

    Args:
        swap (convnext_mm.swap.swap.Swap): The config with its changes.
        source (str): The original, as a path or as ``package::name``.
        target (str | Path): The file to write.
        full (bool): Write the whole config, which loads anywhere. Defaults to False.

    Raises:
        UserError: The file cannot be written, or does not load as the swapped config.
    """
    check_target(target, swap.config)
    target = Path(target)
    texts = [swap.config.pretty_text] if full else [format_leaf(swap, base) for base in _bases(source, swap, target)]
    partial = target.with_name(f'{target.stem}_partial_{os.getpid()}.py')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for text in texts:
            partial.write_text(text, encoding='utf-8')
            if _loads_as(partial, swap.config):
                partial.replace(target)
                return
    except OSError as error:
        raise UserError(f'--out {str(target)!r} cannot be written: {error}') from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    raise UserError(f'a short config on {source} would not load as the swapped one: write the whole with --full')


def _bases(source, swap, target):
    """Names for the original in ``_base_``, the best first; not all of them load under every distribution."""
    file = Path(swap.config.filename).resolve()
    if '::' in source:
        yield source
    here = Path.cwd()
    if file.is_relative_to(here) and target.resolve().is_relative_to(here) and 'site-packages' not in file.parts:
        yield os.path.relpath(file, target.resolve().parent)
    yield str(file)


def _loads_as(file, config):
    try:
        loaded = Config.fromfile(file)
    except Exception:  # Whatever the base raises under this name, another name or --full is the way.
        return False
    return _without_scopes(loaded.to_dict()) == _without_scopes(config.to_dict())


def _without_scopes(node):
    """A config without the scopes that mmengine writes into a base of the form ``package::name``."""
    if isinstance(node, dict):
        return {key: _without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return type(node)(map(_without_scopes, node)) if isinstance(node, (list, tuple)) else node


def format_leaf(swap, base):
    """Text of a config that has the original as ``_base_`` and holds what was changed, with the reasons."""
    cfg = plain(swap.config.to_dict())
    tree, comments = {}, {}
    for change in sorted(swap.changes, key=lambda change: (not str(change.path[-1]).endswith('backbone'),
                                                           not str(change.path[-1]).endswith('in_channels'))):
        path = _writable(change.path)
        comments.setdefault(path, change.reason)
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        value = cfg
        for key in path:
            value = value[key]
        replaced = isinstance(value, dict) and isinstance(_first_old(swap.changes, path), dict)
        node[path[-1]] = {'_delete_': True, **value} if replaced else value
    lines = [f'"""{Path(swap.config.filename or "model").stem} with a {_size(swap)} backbone."""',
             f'_base_ = {base!r}', '']
    for key in tree:
        lines += [f'# {line}' for line in [comments.get((key,))] if line]
        lines.append(f'{key} = {_format(tree[key], (key,), comments, 0, len(key) + 3)}')
    return '\n'.join(lines) + '\n'


def _first_old(changes, path):
    return next((change.old for change in changes if change.path == path), MISSING)


def _writable(path):
    """The part of a path up to the first list: a config replaces a list as a whole."""
    return next((path[:i] for i, key in enumerate(path) if isinstance(key, int)), path)


def _size(swap):
    arch = next(change.new for change in swap.changes if str(change.path[-1]).endswith('backbone'))['arch']
    return f'ConvNeXt-{LETTERS.get(arch, arch)}' if isinstance(arch, str) else 'ConvNeXt'


def _is_name(key):
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _format(value, path, comments, depth, used):
    """Python text of a value: on one line where that fits behind ``used`` columns, else one item a line."""
    inner_comments = [p for p in comments if len(p) > len(path) and p[:len(path)] == path]
    line = _flat(value)
    if not inner_comments and used + len(line) < WIDTH - 2:
        return line
    pad = _INDENT * (depth + 1)
    if isinstance(value, dict) and all(map(_is_name, value)):
        items, last = [], None
        for key, item in value.items():
            where, used = (*path, key), len(pad) + len(key) + 1
            reason = comments.get(where) or _sole_reason(item, where, comments, used)
            if reason and reason != last:
                items.append(f'{pad}# {reason}\n')
            last = reason or last
            told = {} if reason and where not in comments else comments
            items.append(f'{pad}{key}={_format(item, where, told, depth + 1, used)},\n')
        return f'dict(\n{"".join(items)[:-2]})'
    if isinstance(value, dict):
        items = [f'{pad}{key!r}: {_format(v, (*path, key), comments, depth + 1, len(pad) + len(repr(key)) + 2)},\n'
                 for key, v in value.items()]
        return f'{{\n{"".join(items)[:-2]}}}'
    if isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [f'{pad}{_format(item, (*path, i), comments, depth + 1, len(pad))},\n' for i, item in enumerate(value)]
        return f'{opening}\n{"".join(items)[:-2]}{"," if len(value) == 1 and opening == "(" else ""}{closing}'
    return line


def _sole_reason(value, path, comments, used):
    """The reason for all that changes in a dict that fits on a line, if it is one."""
    reasons = {comments[p] for p in comments if len(p) > len(path) and p[:len(path)] == path}
    return reasons.pop() if len(reasons) == 1 and used + len(_flat(value)) < WIDTH - 2 else None


def _flat(value):
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            return f'dict({", ".join(f"{key}={_flat(item)}" for key, item in value.items())})'
        return f'{{{", ".join(f"{key!r}: {_flat(item)}" for key, item in value.items())}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)
