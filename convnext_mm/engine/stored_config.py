"""Read the text of a config that mmengine stores in a checkpoint, without executing it."""
import ast
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

#: Stands for a setting that a config does not have.
ABSENT = '-'


def read_stored(text: str) -> dict:
    """Return the settings of a config's text as plain containers.

    The text comes from a file that may be from anywhere, so nothing in it is called. Calls of ``dict`` become dicts;
    what is no literal, such as the name of a class, stays as text.

    Raises:
        SyntaxError: The text is not Python.
    """
    settings = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            settings[node.targets[0].id] = _value(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Dict):
            # mmengine writes a config so where a key is no identifier.
            settings.update(_value(node.value))
    return settings


def _value(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        # Whether a list or a tuple was written makes no difference to a run.
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if _is_dict_call(node):
        parts = [value for value in map(_value, node.args) if isinstance(value, dict)]
        return {key: value for part in parts for key, value in part.items()} | {
            keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return -value if isinstance(value, (int, float)) else ast.unparse(node)
    return ast.unparse(node)


def _is_dict_call(node):
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict'
            and None not in [keyword.arg for keyword in node.keywords])


def read_present(cfg: Config) -> dict:
    """Return the settings of a config in the form that ``read_stored`` gives them."""
    plain = Config(cfg.to_dict())
    # Without yapf, which takes seconds.
    object.__setattr__(plain, '_format_python_code', False)
    return read_stored(plain.pretty_text)


def differences(stored: Any, present: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, stored value, present value) of the innermost settings that differ, ``ABSENT`` for a missing one.

    Lists of different lengths are one setting.
    """
    if isinstance(stored, dict) and isinstance(present, dict):
        for key in sorted({*stored, *present}, key=str):
            yield from differences(stored.get(key, ABSENT), present.get(key, ABSENT), f'{path}.{key}'.lstrip('.'))
    elif isinstance(stored, list) and isinstance(present, list) and len(stored) == len(present):
        for i, pair in enumerate(zip(stored, present)):
            if any(isinstance(value, (dict, list)) for value in pair):
                yield from differences(*pair, f'{path}[{i}]')
            elif stored != present:
                yield path, stored, present
                return
    elif stored != present:
        yield path, stored, present
