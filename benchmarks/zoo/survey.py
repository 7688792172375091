"""Swap every config of the installed toolboxes, and build and train every distinct model among them for a step.

What is done is kept in a log and not done again. After a change to the swap every config is swapped again, and a model
that comes out different is verified.
"""
import logging
import os
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import torch

from benchmarks.zoo.log import Log, states
from benchmarks.zoo.trial import swap_config, verify_config
from convnext_mm.utils.config_files import leaf_configs
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Bar

PACKAGES = ('mmdet', 'mmseg')


def survey(log_path, workers, only=''):
    """Swap every config of the installed toolboxes and verify every distinct model.

    Args:
        log_path (str | Path): File of the rows.
        workers (int): Processes.
        only (str): Part of the names of the configs to take. Defaults to all.

    Returns:
        list[dict]: One row for each config: ``config``, ``status``, ``kind``, ``reason``, ``model``.

    Raises:
        UserError: No config has ``only`` in its name, or a worker was killed.
    """
    log = Log(log_path, states())
    names = [(package, name) for package in PACKAGES for name in leaf_configs(package) if only in f'{package}/{name}']
    if not names:
        raise UserError(f'no config of {" or ".join(PACKAGES)} has {only!r} in its path')
    with _start_workers(workers) as pool:
        run_tasks(pool, swap_config, [n for n in names if ('config', '/'.join(n)) not in log.rows], log,
                  'configs swapped')
        rows, models = [log.rows['config', '/'.join(name)] for name in names], {}
        for name, row in zip(names, rows):
            if row['status'] == 'swapped' and ('model', row['model']) not in log.rows:
                models.setdefault(row['model'], (*name, row['model']))
        run_tasks(pool, verify_config, list(models.values()), log, 'models verified')
    return [_join(row, log) for row in rows]


def verify_tasks(tasks, log_path, workers):
    """Verify models that were swapped elsewhere.

    Args:
        tasks (list[tuple[str]]): Arguments of :func:`verify_config`.
        log_path (str | Path): File of the rows.
        workers (int): Processes.

    Returns:
        list[dict]: A row of :func:`verify_config` for each.
    """
    log = Log(log_path, states())
    with _start_workers(workers) as pool:
        run_tasks(pool, verify_config, [task for task in tasks if ('model', task[2]) not in log.rows], log,
                  'models verified')
    return [log.rows['model', task[2]] for task in tasks]


def _start_workers(count):
    # transformers reads these when it is imported, which is before a worker calls its first function.
    os.environ.update(HF_HUB_OFFLINE='1', TRANSFORMERS_OFFLINE='1', TRANSFORMERS_VERBOSITY='error')
    return ProcessPoolExecutor(count, get_context('spawn'), _be_quiet)


def _be_quiet():
    """Set up a worker: no warnings, and one thread."""
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def run_tasks(pool, function, tasks, log, what):
    """Call a function for each task in the workers, keep the rows that it returns, and show a bar."""
    futures = [pool.submit(function, *task) for task in tasks]
    bar = Bar(len(futures), what) if futures else None
    for future in as_completed(futures):
        try:
            log.add(future.result())
        except BrokenProcessPool as error:
            raise UserError('a worker was killed, most likely for want of memory: the same call goes on from here; '
                            'give it fewer --workers') from error
        bar.add()


def _join(row, log):
    """Return a config's row with the result of its model."""
    if row['status'] != 'swapped':
        return row
    result = log.rows['model', row['model']]
    return dict(row, status=result['status'], kind='', reason=result['reason'], necks=result.get('necks', False))
