"""From a config and a command line to a Runner: what the tools share that train, test, evaluate and predict."""
import os
from pathlib import Path

import torch
import torch.distributed
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.datasets.guard import guard_data
from convnext_mm.datasets.preflight import check_data
from convnext_mm.interruption import interruptible
from convnext_mm.models.build import check_backbone
from convnext_mm.resume import set_resume
from convnext_mm.run_status import begin_status, update_status
from convnext_mm.step_size import set_step_size
from convnext_mm.strategy_choice import choose_strategy, fit_to_strategy
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import RunInterrupted, UserError
from convnext_mm.utils.files import check_work_dir

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


class OverrideAction(DictAction):
    """mmengine's, with its errors as a parser's."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'argument {option_string}: {" ".join(values)!r} is not KEY=VALUE ...: {error}')


def add_config_arguments(parser):
    """Arguments of every tool that reads a config, named as in mmdet's and mmseg's tools."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=OverrideAction, metavar='KEY=VALUE',
                        help='override settings of the config, such as model.backbone.with_cp=True')
    # What load_config reads besides, for tools without these arguments.
    parser.set_defaults(work_dir=None, launcher='none', strategy=None)


def add_arguments(parser):
    """Arguments that training and testing share, named as in mmdet's and mmseg's tools."""
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (work_dirs/FOLDER/NAME of the config)')
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='load checkpoints that may run code when they are read')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')


def read_config(file, options=None, strategy=None):
    """The config in a file, with overrides (``{'key.of.the.config': value}``) merged, and ``strategy`` before them.

    Raises:
        UserError: Where the file does not exist or is not a config, or an override does not fit.
    """
    if not os.path.isfile(file):
        raise UserError(f'config {str(file)!r} does not exist; expected the path of a config file, such as '
                        'configs/cascade/convnext_t_3x.py')
    try:
        cfg = Config.fromfile(file)
    except Exception as error:  # A config is a program of the user's: whatever it raises is theirs to see.
        raise UserError(f'config {str(file)!r} cannot be read: {type(error).__name__}: {error}') from error
    if strategy is not None:
        choose_strategy(cfg, strategy)
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f'--cfg-options {options} does not fit {file}: {error}') from error
    return cfg


def load_config(args, *needed):
    """The config of a command line, overrides merged, with ``work_dir`` and ``launcher`` set.

    Args:
        args (argparse.Namespace): See :func:`add_arguments`.
        needed (str): Top-level keys besides ``model`` that the config must have.

    Raises:
        UserError: Where the file is not a config that can be trained, or an override does not fit.
    """
    cfg, path = read_config(args.config, args.cfg_options, args.strategy), Path(args.config)
    missing = [key for key in ('model', *needed) if cfg.get(key) is None]
    if missing:
        raise UserError(f'config {args.config!r} has no {", ".join(missing)}: expected a config of a model with its '
                        'data and schedule')
    cfg.launcher = args.launcher
    # Leaves of several families share a name, so the folder is part of the default.
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.resolve().parent.name, path.stem))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return cfg


def has_accelerator():
    """Whether mmengine trains on something else than the CPU here."""
    return get_device() not in ('cpu', 'mps')


def fit_to_device(cfg):
    """Replace what a machine without an accelerator cannot run, saying so in one line each."""
    if has_accelerator():
        return
    if type_name(cfg.get('optim_wrapper')) == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
        print_log('No accelerator: mixed precision is off, training runs in float32', logger='current')
    if _replace_type(cfg.model, 'SyncBN', 'BN'):
        print_log('No accelerator: SyncBN runs as BN', logger='current')
    if cfg.launcher == 'pytorch':
        # mmengine's own start of a process group asks for a GPU; one that runs already is left alone.
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        cfg.setdefault('model_wrapper_cfg', dict(
            type='MMDistributedDataParallel', broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)))
        if type_name(cfg.model_wrapper_cfg) == 'MMDistributedDataParallel':
            cfg.model_wrapper_cfg.device_ids = None


def _replace_type(node, old, new):
    """Set ``type`` from ``old`` to ``new`` everywhere below ``node``; return how often."""
    if isinstance(node, dict):
        count = sum(_replace_type(value, old, new) for value in node.values())
        if node.get('type') == old:
            node['type'] = new
            count += 1
        return count
    return sum(_replace_type(value, old, new) for value in node) if isinstance(node, (list, tuple)) else 0


def set_amp(cfg):
    """Turn mixed precision on, in the config's ``amp_dtype`` (float16 if it has none)."""
    wrapper = cfg.optim_wrapper
    if type_name(wrapper) == 'AmpOptimWrapper':
        print_log('--amp: the config trains in mixed precision anyway', logger='current')
        return
    if type_name(wrapper) not in ('OptimWrapper', ''):
        raise UserError(f'--amp needs optim_wrapper.type=OptimWrapper, the config has {type_name(wrapper)}')
    dtype = cfg.get('amp_dtype', 'float16')
    if dtype not in ('float16', 'bfloat16'):
        raise UserError(f'amp_dtype must be float16 or bfloat16, got {dtype!r}')
    # bfloat16 has float32's range: nothing underflows, so nothing is to be scaled.
    wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic' if dtype == 'float16' else 1.0)


def set_deterministic(cfg):
    """Have torch choose algorithms whose results are the same each time, and a seed, where the config has none."""
    randomness = cfg.setdefault('randomness', ConfigDict())
    randomness.deterministic = True
    if randomness.get('seed') is None:
        randomness.seed = 0


def use_whole_checkpoints(cfg):
    """Write checkpoints by this project's hook (``convnext_mm.checkpoint_writing``), and stop politely."""
    hook = cfg.setdefault('default_hooks', ConfigDict()).setdefault('checkpoint', ConfigDict(type='CheckpointHook'))
    if hook is not None and type_name(hook) == 'CheckpointHook':
        hook.type = 'convnext_mm.CheckpointHook'
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='convnext_mm.InterruptionHook')]


def set_show_dir(cfg, show_dir):
    """Write pictures of the predictions below ``show_dir``."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show-dir needs default_hooks.visualization in the config, which has none')
    hook.draw = True
    if type_name(hook) == 'SegVisualizationHook':
        cfg.visualizer.save_dir = show_dir
    else:
        hook.test_out_dir = show_dir


def set_tta(cfg):
    """Wrap the model for test-time augmentation by the config's ``tta_model`` and ``tta_pipeline``."""
    if _has_masks(cfg.model):
        raise UserError('--tta is not possible for this config: mmdet merges boxes, not masks, and its TTA refuses '
                        'instance segmentation; test it without --tta')
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing:
        raise UserError(f'--tta needs {" and ".join(missing)} in the config, which has none')
    cfg.model.setdefault('test_cfg', ConfigDict()).update(cfg.get('tta_test_cfg', {}))
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    test_dataset(cfg).pipeline = cfg.tta_pipeline


def test_dataset(cfg):
    """The data set of the test, without wrappers such as RepeatDataset."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _has_masks(model):
    return 'mask_head' in model.get('roi_head', {}) or 'mask_head' in model


def build_runner(cfg, trust_checkpoint=False):
    """The runner that the config asks for, mmengine's by default; its checkpoints and data are read safely."""
    trust_pickles(trust_checkpoint)
    register_loader()
    hooks = cfg.get('custom_hooks') or []
    if 'SafeCheckpointHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='convnext_mm.SafeCheckpointHook')]
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    guard_data(runner, cfg.get('max_bad_samples', 0.001))
    return runner


def train(args):
    """Train by a command line (see `tools/train.py`)."""
    cfg = load_config(args, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    trust_pickles(args.trust_checkpoint)
    set_resume(cfg, args.resume)
    if args.deterministic:
        set_deterministic(cfg)
    if args.amp:
        set_amp(cfg)
    set_step_size(cfg, args.effective_batch_size, args.auto_scale_lr)
    fit_to_strategy(cfg, args.strategy, has_accelerator())
    use_whole_checkpoints(cfg)
    check_backbone(cfg)
    check_data(cfg, ('train', 'val'))
    check_work_dir(cfg.work_dir)
    fit_to_device(cfg)
    runner = build_runner(cfg, args.trust_checkpoint)
    begin_status(cfg.work_dir)
    try:
        with interruptible(cfg.work_dir):
            runner.train()
    except RunInterrupted:
        raise
    except BaseException as error:
        update_status(cfg.work_dir, state='failed', reason=f'{type(error).__name__}: {error}',
                      exit_code=getattr(error, 'exit_code', 1))
        raise
    update_status(cfg.work_dir, state='finished')
