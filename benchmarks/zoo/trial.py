"""Swap one config, or verify the model of one."""
import contextlib
import gc
import time

from mmengine.config import Config

from benchmarks.zoo.log import digest
from convnext_mm.swap.edits import plain
from convnext_mm.swap.errors import MissingPackageError, NoKernelError, RefusedError, VerificationError
from convnext_mm.swap.swap import swap
from convnext_mm.swap.verify import verify, verify_necks
from convnext_mm.utils.config_files import config_folder

#: Keys of a model that change neither its structure nor what its parts read of each other.
_IRRELEVANT = ('init_cfg', 'data_preprocessor', 'test_cfg', 'drop_path_rate', 'num_classes', 'num_things_classes',
               'num_stuff_classes', 'pretrained', 'class_weight', 'teacher_ckpt', 'drop_rate', 'dropout_ratio')


def keep_relevant(node):
    """Return settings of a model without what makes no difference to a trial."""
    if isinstance(node, dict):
        return {str(key): keep_relevant(value) for key, value in node.items() if key not in _IRRELEVANT}
    return [keep_relevant(value) for value in node] if isinstance(node, (list, tuple)) else node


def _summarise(error):
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def swap_config(package, name):
    """Load and swap one config.

    Returns:
        dict: ``config``, ``status`` (``swapped``, ``refused``, ``unloadable`` or ``swap failed``), and ``model``, or
        ``kind`` and ``reason``.
    """
    row, folder = dict(config=f'{package}/{name}'), config_folder(package)
    try:
        cfg = Config.fromfile(folder / name)
    except Exception as error:  # A config is a program: one that does not load is its toolbox's affair.
        return dict(row, status='unloadable', kind='', reason=_summarise(error).replace(f'{folder}/', ''))
    try:
        config = swap(cfg, 'atto', pretrained=None).config
    except RefusedError as error:
        return dict(row, status='refused', kind=error.kind, reason=str(error))
    except Exception as error:
        return dict(row, status='swap failed', kind='', reason=_summarise(error))
    paramwise = (config.get('optim_wrapper') or {}).get('paramwise_cfg')
    return dict(row, status='swapped', model=digest([keep_relevant(plain(config.model.to_dict())), plain(paramwise)]))


def verify_config(package, name, model):
    """Verify the model of one config; where that fails, see whether the original model works.

    Returns:
        dict: ``model``, ``status`` (``verified``, ``kernel``, ``package``, ``upstream`` or ``failed``), ``reason``, and
        ``necks``, whether the backbone and its necks work where the whole model cannot run.
    """
    row, started = dict(model=model, config=f'{package}/{name}'), time.process_time()
    cfg = Config.fromfile(config_folder(package) / name)
    config = swap(cfg, 'atto', pretrained=None).config
    try:
        verify(config)
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
            verify_necks(config)
            row.update(necks=True)
    return dict(row, seconds=round(time.process_time() - started, 1))
