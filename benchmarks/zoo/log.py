"""Keep what is done in a file, until a toolbox or the code that did it changes."""
import hashlib
import json
from importlib.metadata import packages_distributions, version
from pathlib import Path

import convnext_mm

#: The code that is tried.
PACKAGE = Path(convnext_mm.__file__).parent
_SWAP = ('channels', 'consumers', 'edits', 'errors', 'imports', 'inputs', 'optimizer', 'slots', 'sources',
         'swap')
_VERIFY = ('samples', 'stand_alone', 'verify')
#: What is done -> the files and folders that decide the result.
_SOURCES = {
    'swap': ('models/arguments.py', 'published', 'utils/configs.py', *(f'swap/{name}.py' for name in _SWAP)),
    'verify': ('models', 'engine/optimizers/layer_decay.py', *(f'swap/{name}.py' for name in _VERIFY)),
}
#: What a row is about -> what was done to it.
_KINDS = dict(config='swap', model='verify')


def digest(node):
    """Return a short name of a piece of config: the same for the same content."""
    return hashlib.sha256(json.dumps(node, sort_keys=True, default=str).encode()).hexdigest()[:16]


def versions():
    """Return the versions of the installed distributions that decide the result, by name."""
    names = packages_distributions()
    return {names[package][0]: version(names[package][0])
            for package in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain') if package in names}


def states():
    """Return a digest of the code and of the versions of the toolboxes, for each thing that is done."""
    return {name: digest([[file.read_text() for path in paths for file in _files(PACKAGE / path)], versions()])
            for name, paths in _SOURCES.items()}


def _files(path):
    return sorted(file for file in path.rglob('*') if file.suffix in ('.py', '.json')) if path.is_dir() else [path]


def _parse(line):
    """Return the row of a line, or None for a line that was not written to its end."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


class Log:
    """Rows of JSON in a file; what has a row is not done again.

    Args:
        path (str | Path): The file.
        current (dict): From :func:`states`; rows of another state are dropped.
    """

    def __init__(self, path, current):
        self.path = Path(path)
        first, *rest = map(_parse, self.path.read_text().splitlines() if self.path.exists() else ('{}',))
        kept = {kind for kind, name in _KINDS.items() if (first or {}).get(name) == current[name]}
        rows = {self._key(row): row for row in rest if row}
        self.rows = {key: row for key, row in rows.items() if key[0] in kept}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that no half of a line from a process that was stopped stays in it.
        self.path.write_text(''.join(json.dumps(row) + '\n' for row in (current, *self.rows.values())))

    @staticmethod
    def _key(row):
        return ('model', row['model']) if 'seconds' in row else ('config', row['config'])

    def add(self, row):
        """Keep a row."""
        self.rows[self._key(row)] = row
        with self.path.open('a') as file:
            file.write(json.dumps(row) + '\n')
