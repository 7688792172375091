"""The default scope of a config, in which its types without a prefix are looked up."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import DefaultScope, init_default_scope


def set_default_scope(cfg: Any) -> None:
    """Make the scope of a config that of the process.

    A pure Python config has none: its types are classes, and each toolbox looks up what its own code names.
    """
    scope = cfg.get('default_scope', 'mmengine')
    if scope is not None:
        init_default_scope(scope)


@contextmanager
def default_scope(scope: str | None) -> Iterator[None]:
    """Have a default scope, or with None no scope at all, until the context ends."""
    before = DefaultScope._instance_dict
    # mmengine's overwrite_default_scope leaves the scope of the process where it is given None.
    DefaultScope._instance_dict = before.copy() if scope else type(before)()
    try:
        with DefaultScope.overwrite_default_scope(scope):
            yield
    finally:
        DefaultScope._instance_dict = before
