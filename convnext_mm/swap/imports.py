"""What a pure Python config imports: dotted names while it is swapped, objects when it is built, imports in a file.

mmengine's own text of such a config has names in place of objects, which not everything of mm takes (``nms`` for one).
"""
import keyword
from types import FunctionType
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject


class Imported(str):
    """The dotted name of an object that a config imports, such as ``mmdet.models.RetinaNet``.

    Attributes:
        lazy (LazyObject | LazyAttr): What imports it.
    """

    lazy: Any

    def __new__(cls, name: str, lazy: Any) -> 'Imported':
        text = super().__new__(cls, name)
        text.lazy = lazy
        return text

    def __deepcopy__(self, memo: dict) -> 'Imported':
        return self


class _Code(str):
    """A text that is written as it is, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def read_names(cfg: Config) -> dict:
    """Return a config as a dict with the names of what it imports."""
    # The only way to a config's objects that does not import them.
    return _map(cfg._to_lazy_dict(), (LazyObject, LazyAttr, type, FunctionType), _to_name)


def _to_name(found):
    """Return the ``Imported`` of an object; one that a function made cannot be imported, and stays."""
    if isinstance(found, (type, FunctionType)):
        if '.' in found.__qualname__:
            return found
        found = LazyObject(found.__module__, found.__qualname__)
    return Imported(f'{found.module}.{found}', found)


def to_objects(node: Any) -> Any:
    """Return a part of what ``read_names`` returned with its objects, which a ``ConfigDict`` imports when asked."""
    return _map(node, Imported, lambda name: name.lazy)


def is_pure(cfg: Config) -> bool:
    """Return whether a config imports objects."""
    found: list = []
    _map(read_names(cfg), Imported, found.append)
    return bool(found)


def to_code(cfg: Config) -> tuple[list[str], dict]:
    """Return import statements, and a config as a dict whose objects are the names that these give them."""
    statements: dict[str, str] = {}
    names = read_names(cfg)
    taken = {*names, *keyword.kwlist}
    tree = _map(names, Imported, lambda name: _Code(_name_in_file(name.lazy, statements, taken)))
    return sorted(statements), tree


def _map(node, kinds, function):
    """Return nested dicts, lists and tuples with ``function`` of every object of some kinds in its place."""
    if isinstance(node, kinds):
        return function(node)
    if isinstance(node, dict):
        return {key: _map(value, kinds, function) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_map(value, kinds, function) for value in node)
    return node


def _name_in_file(lazy, statements, taken):
    """Return the Python text of an object, and add what imports it to ``{statement: name}``."""
    if isinstance(lazy, LazyAttr):
        return f'{_name_in_file(lazy.source, statements, taken)}.{lazy.name}'
    if not isinstance(lazy._module, str):  # import a.b; import a.c
        statements.update((f'import {module}', lazy.module) for module in lazy._module)
        return lazy.module
    start, name = (f'from {lazy._module} import', lazy._imported) if lazy._imported else ('import', lazy._module)
    known = next((text for text in statements if f'{text} '.startswith(f'{start} {name} ')), None)
    if known:
        return statements[known]
    alias, number = name.rpartition('.')[2], 1
    while alias in taken:
        alias, number = f'{name.rpartition(".")[2]}_{number + 1}', number + 1
    taken.add(alias)
    statements[f'{start} {name}' if alias == name else f'{start} {name} as {alias}'] = alias
    return alias
