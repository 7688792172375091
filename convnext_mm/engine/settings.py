"""Change a config as the command line asks, and as the machine needs."""
import torch.distributed
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.logging import print_log

from convnext_mm.utils.configs import leaf_datasets, type_name, walk
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place
from convnext_mm.utils.freed_memory import keep_freed_memory

#: Settings of a data loader that torch refuses without workers.
_WITH_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


def has_accelerator() -> bool:
    """Return whether mmengine trains on something faster than the CPU here."""
    return get_device() not in ('cpu', 'mps')


def fit_to_device(cfg) -> None:
    """Replace settings that a machine without an accelerator cannot run, and log each replacement.

    There the process also keeps the memory that it frees, and several processes are connected by gloo.
    """
    if has_accelerator():
        return
    keep_freed_memory()
    if type_name(cfg.get('optim_wrapper')) == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
        print_log('No accelerator: mixed precision is off, training runs in float32', logger='current')
    synchronised = [node for _, node in walk(cfg.model) if type_name(node) in ('SyncBN', 'SyncBatchNorm')]
    for node in synchronised:
        node['type'] = 'BN'
    if synchronised:
        print_log('No accelerator: SyncBN runs as BN', logger='current')
    if cfg.launcher == 'pytorch':
        _connect_by_gloo(cfg)


def _connect_by_gloo(cfg):
    """Start the process group for processes without a GPU, and let DDP run on the CPU."""
    # mmengine asks for a GPU whenever it starts a process group itself, and keeps one that runs.
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False)))
    if type_name(cfg.model_wrapper_cfg) == 'MMDistributedDataParallel':
        cfg.model_wrapper_cfg.device_ids = None


def fit_workers(cfg) -> None:
    """Take out of data loaders without workers what torch takes only with some, and log what was taken out."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if not loader or loader.get('num_workers', 0):
            continue
        taken = [f'{name}={loader.pop(name)}' for name in _WITH_WORKERS if loader.get(name)]
        if taken:
            print_log(f'{split}_dataloader.num_workers=0 loads without workers, so {" and ".join(taken)} '
                      f'{"are" if len(taken) > 1 else "is"} left out', logger='current')


def set_amp(cfg) -> None:
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
    # bfloat16 has the range of float32: gradients do not underflow, so the loss needs no scale.
    wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic' if dtype == 'float16' else 1.0)


def set_deterministic(cfg) -> None:
    """Make torch use algorithms with the same results each time, and set seed 0 where the config has none."""
    randomness = cfg.setdefault('randomness', ConfigDict())
    randomness.deterministic = True
    if randomness.get('seed') is None:
        randomness.seed = 0


def use_whole_checkpoints(cfg) -> None:
    """Use this project's hooks for checkpoints and signals: CheckpointHook, RunStateHook and InterruptionHook."""
    hook = cfg.setdefault('default_hooks', ConfigDict()).setdefault('checkpoint', ConfigDict(type='CheckpointHook'))
    if hook is not None and type_name(hook) == 'CheckpointHook':
        hook.type = 'convnext_mm.CheckpointHook'
    hooks = list(cfg.get('custom_hooks') or [])
    for own in hooks:
        if type_name(own) == 'EarlyStoppingHook':
            # Before the CheckpointHook, so that a checkpoint after a validation has its counts.
            own.setdefault('priority', 'LOW')
    cfg.custom_hooks = [*hooks, dict(type='convnext_mm.RunStateHook'), dict(type='convnext_mm.InterruptionHook')]


def set_show_dir(cfg, show_dir: str) -> None:
    """Write pictures of the predictions beside the ground truth into the folder ``show_dir``.

    Raises:
        UserError: The folder cannot be written.
    """
    check_place('--show-dir', show_dir, is_folder=True)
    hook = dict(type='convnext_mm.PredictionPicturesHook', out_dir=show_dir)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def set_tta(cfg) -> None:
    """Wrap the model for test-time augmentation by the config's ``tta_model`` and ``tta_pipeline``."""
    if _has_masks(cfg.model):
        raise UserError('--tta is not possible for this config: mmdet merges boxes, not masks, and its TTA refuses '
                        'instance segmentation; test it without --tta')
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing:
        raise UserError(f'--tta needs {" and ".join(missing)} in the config, which has none')
    cfg.model.setdefault('test_cfg', ConfigDict()).update(cfg.get('tta_test_cfg', {}))
    # Unpacked by two stars, a pure Python config would give the class itself, which cannot be written into a log.
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)
    for _, dataset in leaf_datasets(cfg.test_dataloader.dataset, 'test_dataloader.dataset'):
        dataset['pipeline'] = cfg.tta_pipeline


def _has_masks(model):
    return 'mask_head' in model.get('roi_head', {}) or 'mask_head' in model
