"""Format a swapped config as a person would write it: a leaf on the original, with a reason above each change."""
import keyword
import math
from pathlib import Path

from convnext_mm.published.archs import LETTERS
from convnext_mm.swap.edits import MISSING, plain
from convnext_mm.swap.imports import to_code
from convnext_mm.swap.swap import Swap

WIDTH = 120
_INDENT = '    '


def format_leaf(swap: Swap, base: str) -> str:
    """Return the text of a config that has the original as ``_base_`` and holds what was changed."""
    tree, comments = _collect(swap)
    return _format_file(swap, [f'_base_ = {base!r}'], tree, comments)


def format_pure(swap: Swap) -> str:
    """Return the text of a pure Python config that needs no base: what it imports, and the whole of it."""
    statements, tree = to_code(swap.config)
    return _format_file(swap, statements, tree, _collect(swap)[1])


def _format_file(swap, statements, tree, comments):
    """Return the text of a config: statements, and ``{key: value}`` with a reason above each change."""
    lines = [f'"""{Path(swap.config.filename or "model").stem} with a {_backbone_name(swap)} backbone."""',
             *statements, '']
    for key, value in tree.items():
        if (key,) in comments:
            lines.append(f'# {comments[key,]}')
        lines.append(f'{key} = {_format(value, (key,), comments, 0, len(key) + 3)}')
    return '\n'.join(lines) + '\n'


def _collect(swap):
    """Return the changed values as nested dicts, and ``{path: reason}``; backbones and channels come first."""
    cfg, tree, comments = plain(swap.config.to_dict()), {}, {}
    for change in sorted(swap.changes, key=lambda change: (not change.is_backbone,
                                                           not str(change.path[-1]).endswith('in_channels'))):
        path = _writable(change.path)
        comments.setdefault(path, change.reason)
        node, value = tree, cfg
        for key in path[:-1]:
            node, value = node.setdefault(key, {}), value[key]
        value = value[path[-1]]
        is_replaced = isinstance(value, dict) and isinstance(_first_old(swap.changes, path), dict)
        node[path[-1]] = {'_delete_': True, **value} if is_replaced else value
    return tree, comments


def _writable(path):
    """Return the part of a path up to the first list: a config replaces a list as a whole."""
    return next((path[:i] for i, key in enumerate(path) if isinstance(key, int)), path)


def _first_old(changes, path):
    return next((change.old for change in changes if change.path == path), MISSING)


def _backbone_name(swap):
    arch = next(change.new for change in swap.changes if change.is_backbone)['arch']
    return f'ConvNeXt-{LETTERS.get(arch, arch)}' if isinstance(arch, str) else 'ConvNeXt'


def _format(value, path, comments, depth, used):
    """Return Python text of a value: on one line if it fits and has no comments inside, else one item a line.

    Args:
        value: Of the config.
        path (tuple): Where it stands.
        comments (dict): ``{path: reason}``, written above the items.
        depth (int): Indentation of the line that the value begins in.
        used (int): Columns before it in that line.
    """
    opening, items, closing = _parts(value)
    if not items or not _reasons_below(path, comments) and _fits(value, used):
        return _flat(value)
    pad = _INDENT * (depth + 1)
    lines, last = [], None
    for key, prefix, item in items:
        where, start, inner = (*path, key), len(pad) + len(prefix), comments
        reason = comments.get(where)
        below = _reasons_below(where, comments)
        if reason is None and len(below) == 1 and _fits(item, start):
            # The only reason inside a short item goes above it, so that the item stays on one line.
            reason, inner = below.pop(), {}
        if reason and reason != last:
            lines.append(f'{pad}# {reason}')
        last = reason or last
        lines.append(f'{pad}{prefix}{_format(item, where, inner, depth + 1, start)},')
    return '\n'.join([opening, *lines]).removesuffix(',') + closing


def _parts(value):
    """Return how a container opens, ``(key, text before the item, item)`` of each item, and how it closes."""
    if isinstance(value, dict) and all(map(_is_name, value)):
        return 'dict(', [(key, f'{key}=', item) for key, item in value.items()], ')'
    if isinstance(value, dict):
        return '{', [(key, f'{key!r}: ', item) for key, item in value.items()], '}'
    if isinstance(value, list):
        return '[', [(i, '', item) for i, item in enumerate(value)], ']'
    if isinstance(value, tuple):
        return '(', [(i, '', item) for i, item in enumerate(value)], ',)' if len(value) == 1 else ')'
    return _flat(value), [], ''


def _is_name(key):
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _flat(value):
    """Return Python text of a value on one line."""
    if isinstance(value, (dict, list, tuple)):
        opening, items, closing = _parts(value)
        return opening + ', '.join(prefix + _flat(item) for _, prefix, item in items) + closing
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def _fits(value, used):
    """Return whether a value fits on the rest of a line, with a bracket and a comma behind it."""
    return used + len(_flat(value)) < WIDTH - 2


def _reasons_below(path, comments):
    """Return the distinct reasons of all changes inside the value at ``path``."""
    return {reason for where, reason in comments.items() if len(where) > len(path) and where[:len(path)] == path}
