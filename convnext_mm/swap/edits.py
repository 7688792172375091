"""A config under change: every edit with what was there, what is there now, and why."""
from typing import Any, NamedTuple

from convnext_mm.utils.errors import UserError

#: Stands for a key that is not there.
MISSING = type('Missing', (), {'__repr__': lambda self: '-'})()


class RefusedError(UserError):
    """A backbone cannot be exchanged; ``kind`` is the reason in a few words, the same for all models it holds for."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Change(NamedTuple):
    """One edit: path from the root of the config, value before and after, reason."""

    path: tuple
    old: Any
    new: Any
    reason: str


def plain(node):
    """A copy of nested dicts, lists and tuples as such; what is in them is shared."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(map(plain, node))
    return node


class Edits:
    """A copy of a config that is changed by :meth:`set` alone.

    Attributes:
        cfg (dict): The config as it stands.
        changes (list[Change]): What was changed, in order.
        warnings (list[str]): What the user should know besides.
    """

    def __init__(self, cfg):
        self.cfg = plain(cfg)
        self.changes = []
        self.warnings = []

    def get(self, path, default=MISSING):
        """The value at ``path``, or ``default``."""
        node = self.cfg
        for key in path:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                return default
        return node

    def set(self, path, value, reason):
        """Put ``value`` at ``path``; nothing is recorded where it stands there already."""
        old = self.get(path)
        if old is not MISSING and type(old) is type(value) and old == value:
            return
        self.changes.append(Change(path, plain(old), plain(value), reason))
        *parents, key = path
        self._unshare(parents)[key] = value

    def _unshare(self, path):
        """The container at ``path``; tuples on the way become lists, because they must change."""
        node = self.cfg
        for key in path:
            if isinstance(node[key], tuple):
                node[key] = list(node[key])
            node = node[key]
        return node
