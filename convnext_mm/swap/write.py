"""Write a swapped config into a file: as a short leaf on the original, or the whole of it."""
import os
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from convnext_mm.swap.edits import Change, dotted
from convnext_mm.swap.imports import is_pure, read_names
from convnext_mm.swap.leaf import format_leaf, format_pure
from convnext_mm.swap.swap import Swap
from convnext_mm.utils.config_reading import read_file
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, whole_file
from convnext_mm.utils.text import format_table

#: Characters of a value in the table of changes.
_CELL = 44


def format_changes(changes: Iterable[Change]) -> str:
    """Return a table of changes: key, old value, new value, reason."""
    return format_table(('key', 'old', 'new', 'reason'), (
        (dotted(change.path), _format_cell(change.old), _format_cell(change.new), change.reason)
        for change in changes), left=4)


def _format_cell(value):
    if isinstance(value, dict):
        value = f"{value.get('type', 'dict')}({', '.join(f'{k}={v!r}' for k, v in value.items() if k != 'type')})"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _CELL else f'{text[:_CELL - 3]}...'


def check_target(target: str | Path, config: Config) -> None:
    """Make sure that a swapped config can be written to ``target``.

    Raises:
        UserError: It is not the name of a config, or that of the original, or nothing can be written there.
    """
    if Path(target).suffix != '.py':
        raise UserError(f'--out {str(target)!r}: expected the name of a config to write, such as configs/new.py')
    if Path(target).resolve() == Path(config.filename or '').resolve():
        raise UserError(f'--out {str(target)!r} is the original config, which is left as it is: give another name')
    check_place('--out', target)


def format_config(swap: Swap, base: str, full: bool = False) -> str:
    """Return the text of a swapped config: a leaf on ``base``, or the whole of it.

    Of a pure Python config it is always the whole, as mmengine takes no such base by its path.
    """
    if is_pure(swap.config):
        return format_pure(swap)
    return swap.config.pretty_text if full else format_leaf(swap, base)


def write_config(swap: Swap, source: str, target: str | Path, full: bool = False) -> None:
    """Write a swapped config; the file appears once it is complete and loads as the swapped config.

    Args:
        swap (Swap): The config with its changes.
        source (str): The original, as a path or as ``package::name``.
        target (str | Path): The file to write.
        full (bool): Write the whole config, which loads anywhere. Defaults to False; a pure Python config is always
            written whole.

    Raises:
        UserError: The file cannot be written, or does not load as the swapped config.
    """
    check_target(target, swap.config)
    with whole_file(target) as file:
        for base in [source] if full else _bases(source, swap, target):
            file.write_text(format_config(swap, base, full), encoding='utf-8')
            if _loads_as(file, swap.config):
                return
        raise UserError(f'a short config on {source} would not load as the swapped one: write the whole with --full')


def _bases(source, swap, target):
    """Yield names of the original for ``_base_``, the best first; not all of them load under every distribution."""
    file, folder, here = Path(swap.config.filename).resolve(), Path(target).resolve().parent, Path.cwd()
    if '::' in source:
        yield source
    if file.is_relative_to(here) and folder.is_relative_to(here) and 'site-packages' not in file.parts:
        yield os.path.relpath(file, folder)
    yield str(file)


def _loads_as(file, config):
    try:
        loaded = read_file(file)
    except Exception:  # A base may raise anything under this name; the next name may load.
        return False
    return _without_scopes(read_names(loaded)) == _without_scopes(read_names(config))


def _without_scopes(node):
    """Return a config without the scopes that mmengine writes into a base of the form ``package::name``."""
    if isinstance(node, dict):
        return {key: _without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return type(node)(map(_without_scopes, node)) if isinstance(node, (list, tuple)) else node
