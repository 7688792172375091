"""Tell a mistake in a config, which shows when mm builds its parts, from an error of a program."""
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import Any

from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError, describe_error

#: What is raised for a type that there is not, an argument that is not taken or is missing, and a wrong value.
_MISTAKES = (AssertionError, KeyError, TypeError, ValueError)


@contextmanager
def mistakes_named() -> Iterator[None]:
    """Raise a ``UserError`` for a mistake in a config of which mmengine builds parts in this context.

    An error counts where a function of mmengine's that builds is on its way: the runner builds most parts only when it
    begins to train, and errors of the training itself keep their traceback.
    """
    try:
        yield
    except _MISTAKES as raised:
        error: BaseException = raised
        # mmengine raises an error of a hook once more, without the way that it came.
        while error.__context__:
            error = error.__context__
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        building = [frame for frame in frames if _builds(frame)]
        if isinstance(raised, UserError) or not building:
            raise
        # mmengine alone writes so, where it has looked a type up.
        kind, unknown, rest = ' '.join(map(str, error.args)).partition(' is not in the ')
        if unknown and 'registry' in frames[-1].f_locals:
            place, hint = rest.partition(' registry')[0], _near(kind, frames[-1].f_locals['registry'])
            raise UserError(f'type {kind!r} of the config is not in the {place} registry; {hint}') from error
        parts = [type_name(frame.f_locals.get('cfg')) for frame in reversed(building)]
        raise UserError(f'{next(filter(None, parts), "the runner")} of the config cannot be built: '
                        f'{describe_error(error)}; correct its arguments') from error


def _builds(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return frame.f_globals.get('__name__', '').startswith('mmengine.') and (
        name.startswith('build_') or name == 'from_cfg')


def _near(kind: str, registry: Any) -> str:
    """Return a hint at the registered type whose name is nearest."""
    scope, dot, name = kind.rpartition('.')
    registries = [registry]
    while registries[-1].parent:
        registries.append(registries[-1].parent)
    if scope:
        registries = [child for key, child in registries[-1].children.items() if key == scope]
    near = get_close_matches(name, {known for one in registries for known in one.module_dict}, 1, .7)
    return f'did you mean {scope}{dot}{near[0]}?' if near else 'correct its name, or import its module (custom_imports)'
