"""Changes of a config that a command line or a machine asks for."""
import torch.distributed
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.logging import print_log

from convnext_mm.utils.configs import test_dataset, type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place


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
    """Write checkpoints by this project's hook (``convnext_mm.engine.hooks.checkpoint``), and stop politely."""
    hook = cfg.setdefault('default_hooks', ConfigDict()).setdefault('checkpoint', ConfigDict(type='CheckpointHook'))
    if hook is not None and type_name(hook) == 'CheckpointHook':
        hook.type = 'convnext_mm.CheckpointHook'
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='convnext_mm.InterruptionHook')]


def set_show_dir(cfg, show_dir: str) -> None:
    """Write pictures of the predictions beside the ground truth into the folder ``show_dir``.

    Raises:
        UserError: The folder cannot be written.
    """
    check_place('--show-dir', show_dir)
    hook = dict(type='convnext_mm.PredictionPicturesHook', out_dir=show_dir)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


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


def _has_masks(model):
    return 'mask_head' in model.get('roi_head', {}) or 'mask_head' in model
