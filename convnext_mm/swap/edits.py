"""A config under change: every edit with what was there, what is there now, and why."""
from typing import Any, NamedTuple

#: Stands for a key that is not there.
MISSING = type('Missing', (), {'__repr__': lambda self: '-'})()


class Change(NamedTuple):
    """One edit: path from the root of the config, value before and after, reason."""

    path: tuple
    old: Any
    new: Any
    reason: str

    @property
    def is_backbone(self):
        """Whether the edit put in a backbone."""
        return str(self.path[-1]).endswith('backbone')


def plain(node):
    """Return nested dicts, lists and tuples as new ones of Python's own types; what they hold is shared."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(map(plain, node))
    return node


def dotted(path):
    """Return a path as text, ``model.neck.0.in_channels``."""
    return '.'.join(map(str, path))


class Edits:
    """A copy of a config that only :meth:`set` changes.

    Attributes:
        cfg (dict): The config as it stands.
        changes (list[Change]): The edits, in order.
        warnings (list[str]): What the user should know besides.
    """

    def __init__(self, cfg):
        self.cfg = plain(cfg)
        self.changes = []
        self.warnings = []

    def get(self, path, default=MISSING):
        """Return the value at ``path``, or ``default``."""
        node = self.cfg
        for key in path:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                return default
        return node

    def set(self, path, value, reason):
        """Put ``value`` at ``path``, and record the change unless the same value is there already."""
        old = self.get(path)
        if old is not MISSING and type(old) is type(value) and old == value:
            return
        self.changes.append(Change(path, plain(old), plain(value), reason))
        *parents, key = path
        self._unshare(parents)[key] = value

    def _unshare(self, path):
        """Return the container at ``path``, after turning tuples on the way into lists, which can change."""
        node = self.cfg
        for key in path:
            if isinstance(node[key], tuple):
                node[key] = list(node[key])
            node = node[key]
        return node
