"""Every config of the installed toolboxes, swapped, and every distinct model among them built and trained for a step.

What is done is kept in a file, one line of JSON for each config or model, and not done again until a toolbox or the
code that did it changes: after a change to the swap every config is swapped again, and what comes out different
verified.
"""
import contextlib
import gc
import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import packages_distributions, version
from multiprocessing import get_context
from pathlib import Path

import convnext_mm
from convnext_mm.swap.edits import plain
from convnext_mm.utils.config_files import config_folder, leaf_configs
from convnext_mm.utils.errors import UserError

PACKAGES = ('mmdet', 'mmseg')
#: The code that is tried.
PACKAGE = Path(convnext_mm.__file__).parent
#: What is done -> the files and folders that decide what comes of it.
_SOURCES = {
    'swap': ('models/arguments.py', 'published', 'swap/swap.py', 'swap/consumers.py', 'swap/edits.py', 'swap/inputs.py',
             'swap/optimizer.py', 'swap/sources.py'),
    'verify': ('models', 'engine/optimizers/layer_decay.py', 'swap/samples.py', 'swap/verify.py'),
}
#: What a row is about -> what was done to it.
_KINDS = dict(config='swap', model='verify')
#: Keys of a model that change neither its structure nor what its parts read of each other.
_IRRELEVANT = ('init_cfg', 'data_preprocessor', 'test_cfg', 'drop_path_rate', 'num_classes', 'num_things_classes',
               'num_stuff_classes', 'pretrained', 'class_weight', 'teacher_ckpt', 'drop_rate', 'dropout_ratio')


def digest(node):
    """A short name of a piece of config."""
    return hashlib.sha256(json.dumps(node, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _distinct(node):
    if isinstance(node, dict):
        return {str(key): _distinct(value) for key, value in node.items() if key not in _IRRELEVANT}
    return [_distinct(value) for value in node] if isinstance(node, (list, tuple)) else node


def versions():
    """Installed distributions that decide the result, name -> version."""
    names = packages_distributions()
    return {names[package][0]: version(names[package][0])
            for package in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain') if package in names}


def states():
    """A short name of the code and the versions of the toolboxes behind each thing that is done."""
    return {name: digest([[file.read_text() for path in paths for file in _files(PACKAGE / path)], versions()])
            for name, paths in _SOURCES.items()}


def _files(path):
    return sorted(file for file in path.rglob('*') if file.suffix in ('.py', '.json')) if path.is_dir() else [path]


def _quiet():
    """A worker's setting: one thread, no warnings, no network."""
    import logging
    import warnings

    import torch
    os.environ.update(HF_HUB_OFFLINE='1', TRANSFORMERS_OFFLINE='1', TRANSFORMERS_VERBOSITY='error')
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def _swapped(package, name):
    from mmengine.config import Config

    from convnext_mm.swap.swap import swap
    cfg = Config.fromfile(config_folder(package) / name)
    return cfg, lambda: swap(cfg, 'atto', pretrained=None)


def swap_one(package, name):
    """Load and swap one config.

    Returns:
        dict: ``config``, ``status`` (``swapped``, ``refused``, ``unloadable`` or ``swap failed``), and ``model``, or
        ``kind`` and ``reason``.
    """
    from convnext_mm.swap.edits import RefusedError
    row = dict(config=f'{package}/{name}')
    try:
        _, do = _swapped(package, name)
    except Exception as error:  # A config is a program: one that does not load is its toolbox's affair.
        return dict(row, status='unloadable', kind='', reason=_line(error).replace(f'{config_folder(package)}/', ''))
    try:
        config = do().config
    except RefusedError as error:
        return dict(row, status='refused', kind=error.kind, reason=str(error))
    except Exception as error:
        return dict(row, status='swap failed', kind='', reason=_line(error))
    paramwise = (config.get('optim_wrapper') or {}).get('paramwise_cfg')
    return dict(row, status='swapped', model=digest([_distinct(plain(config.model.to_dict())), plain(paramwise)]))


def verify_one(package, name, model):
    """Verify the model of one config, and where that fails, see whether the original config works.

    Returns:
        dict: ``model``, ``status`` (``verified``, ``kernel``, ``package``, ``upstream`` or ``failed``), ``reason``, and
        ``necks``, whether the backbone and its necks work where the whole model cannot run.
    """
    from convnext_mm.swap.verify import MissingPackageError, NoKernelError, VerificationError, verify, verify_necks
    cfg, do = _swapped(package, name)
    row, started = dict(model=model, config=f'{package}/{name}'), time.process_time()
    try:
        verify(do().config)
        row.update(status='verified', reason='')
    except NoKernelError as error:
        row.update(status='kernel', reason=error.operator)
    except MissingPackageError as error:
        row.update(status='package', reason=str(error))
    except VerificationError as error:
        row.update(status='failed', reason=str(error))
    gc.collect()  # An error keeps its model until here; two of the largest would be too much.
    if row['status'] == 'failed':
        try:
            verify(cfg, swapped=False)
        except VerificationError as original:
            row.update(status='upstream', reason=str(original))
        gc.collect()
    if row['status'] in ('package', 'upstream'):
        with contextlib.suppress(VerificationError):
            verify_necks(do().config)
            row.update(necks=True)
    return dict(row, seconds=round(time.process_time() - started, 1))


def _line(error):
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def _parsed(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


class Log:
    """Rows of JSON in a file: what is there is not done again.

    Args:
        path (str | Path): The file.
        current (dict): Of :func:`states`; rows of another state are dropped.
    """

    def __init__(self, path, current):
        self.path, self.rows = Path(path), {}
        first, *rest = map(_parsed, self.path.read_text().splitlines() if self.path.exists() else ('{}',))
        kept = {kind for kind, name in _KINDS.items() if (first or {}).get(name) == current[name]}
        self.rows = {key: row for key, row in ((self._key(row), row) for row in filter(None, rest)) if key[0] in kept}
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


def _run(pool, function, tasks, log, title):
    """Run tasks on all cores, keep their rows, and tell how far it is and how long it takes."""
    started, last = time.monotonic(), 0.
    futures = [pool.submit(function, *task) for task in tasks]
    for done, future in enumerate(as_completed(futures), 1):
        try:
            log.add(future.result())
        except BrokenProcessPool as error:
            raise UserError('a worker was killed, most likely for want of memory: the same call goes on from here; '
                            'give it fewer --workers') from error
        elapsed = time.monotonic() - started
        if elapsed - last > 10 or done == len(futures):
            last = elapsed
            left = elapsed / done * (len(futures) - done)
            print(f'{title}: {done} of {len(futures)}, {elapsed / 60:.1f} min, about {left / 60:.1f} min left',
                  file=sys.stderr, flush=True)


def survey(log_path, workers, only=''):
    """Swap every config of the installed toolboxes and verify every distinct model.

    Args:
        log_path (str | Path): File of the rows.
        workers (int): Processes.
        only (str): Part of the names of the configs to take. Defaults to all.

    Returns:
        list[dict]: One row for each config: ``config``, ``status``, ``kind``, ``reason``, ``model``.
    """
    log = Log(log_path, states())
    names = [(package, name) for package in PACKAGES for name in leaf_configs(package) if only in f'{package}/{name}']
    if not names:
        raise UserError(f'no config of {" or ".join(PACKAGES)} has {only!r} in its path')
    with ProcessPoolExecutor(workers, get_context('spawn'), _quiet) as pool:
        _run(pool, swap_one, [n for n in names if ('config', '/'.join(n)) not in log.rows], log, 'swapped')
        rows = [log.rows['config', '/'.join(name)] for name in names]
        models = {}
        for name, row in zip(names, rows):
            if row['status'] == 'swapped' and ('model', row['model']) not in log.rows:
                models.setdefault(row['model'], (*name, row['model']))
        _run(pool, verify_one, list(models.values()), log, 'verified')
    return [_joined(row, log) for row in rows]


def verify_models(tasks, log_path, workers):
    """Verify models that were swapped elsewhere.

    Args:
        tasks (list[tuple[str]]): Arguments of :func:`verify_one`.
        log_path (str | Path): File of the rows.
        workers (int): Processes.

    Returns:
        list[dict]: A row of :func:`verify_one` for each.
    """
    log = Log(log_path, states())
    with ProcessPoolExecutor(workers, get_context('spawn'), _quiet) as pool:
        _run(pool, verify_one, [task for task in tasks if ('model', task[2]) not in log.rows], log, 'verified')
    return [log.rows['model', task[2]] for task in tasks]


def _joined(row, log):
    """A config's row with the result of its model."""
    if row['status'] != 'swapped':
        return row
    result = log.rows['model', row['model']]
    return dict(row, status=result['status'], kind='', reason=result['reason'], necks=result.get('necks', False))
