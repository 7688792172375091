"""Fit a config to the strategy by which several processes train one model, from `--strategy` or from the config."""
from importlib.util import find_spec

from mmengine.config import Config

from convnext_mm.engine.hooks.ema import PLAIN
from convnext_mm.utils.config_files import config_folder
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError

#: Type of a strategy in a config -> its name on a command line.
_SHORT = dict(FSDPStrategy='fsdp', DeepSpeedStrategy='deepspeed')


def choose_strategy(cfg, name: str) -> None:
    """Replace the config's strategy by the one of ``--strategy name``."""
    drop_strategy(cfg)
    cfg.pop('model_wrapper_cfg', None)
    fragment = config_folder('convnext_mm') / '_base_' / 'strategies' / f'{name}.py'
    cfg.merge_from_dict(Config.fromfile(fragment).to_dict())


def drop_strategy(cfg) -> None:
    """Remove the config's strategy and its runner; a runner without a strategy stays."""
    if cfg.pop('strategy', None) is not None:
        cfg.pop('runner_type', None)


def fit_to_strategy(cfg, name: str | None, has_accelerator: bool) -> None:
    """Adapt a training's config to its strategy.

    Args:
        cfg (Config): With ``launcher`` set.
        name (str, optional): The strategy of the command line; None stands for that of the config.
        has_accelerator (bool): Whether this machine has one.

    Raises:
        UserError: A package, a GPU or other processes are missing.
    """
    name = name or _SHORT.get(type_name(cfg.get('strategy')))
    if name is None:
        return
    if name == 'deepspeed':
        _check_deepspeed(has_accelerator)
    if cfg.launcher == 'none':
        raise UserError(f'--strategy {name} divides the work among processes, and this is a single one: start several '
                        f'by torchrun --nproc_per_node=GPUS -m convnext_mm train CONFIG --strategy {name}, or leave it '
                        'out')
    if name == 'fsdp':
        _fit_fsdp(cfg)
    elif name == 'deepspeed':
        _fit_deepspeed(cfg)


def _fit_fsdp(cfg):
    # A config may name mmengine's types; this project's replace them.
    cfg.runner_type, cfg.strategy.type = 'convnext_mm.StrategyRunner', 'convnext_mm.FSDPStrategy'
    hooks = [dict(hook, type='convnext_mm.ShardedEMAHook') if type_name(hook) == 'EMAHook' else hook
             for hook in cfg.get('custom_hooks') or []]
    cfg.custom_hooks = [*hooks, dict(type='convnext_mm.WholeValidationHook')]
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if isinstance(checkpoint.get('save_best'), list):
        # Sharded averages are validated alone.
        checkpoint.save_best = [name for name in checkpoint.save_best if not name.endswith(PLAIN)]


def _check_deepspeed(has_accelerator):
    if find_spec('deepspeed') is None:
        raise UserError('--strategy deepspeed needs the package deepspeed, which is not installed: pip install '
                        'deepspeed, or take --strategy fsdp, which needs nothing')
    if not has_accelerator:
        raise UserError('--strategy deepspeed needs a GPU, and there is none; --strategy ddp and fsdp work without')


def _fit_deepspeed(cfg):
    """Move settings from the optimizer wrapper to DeepSpeed, which clips, accumulates and lowers precision itself."""
    wrapper, strategy = cfg.optim_wrapper, cfg.strategy
    if any(type_name(hook) == 'EMAHook' for hook in cfg.get('custom_hooks') or []):
        raise UserError('--strategy deepspeed writes checkpoints that hold no averages, and the config has an EMAHook: '
                        'take it out, or take --strategy fsdp')
    if type_name(wrapper) == 'AmpOptimWrapper':
        half = 'bf16' if wrapper.get('dtype') == 'bfloat16' else 'fp16'
        strategy.setdefault(half, dict(enabled=True))
        strategy.setdefault('inputs_to_half', ['inputs'])
    clip = wrapper.get('clip_grad')
    if clip is not None:
        if set(clip) - {'type', 'max_norm'} or clip.get('type', 'norm') != 'norm':
            raise UserError('--strategy deepspeed clips gradients by clip_grad=dict(max_norm=...), the config has '
                            f'{clip}')
        strategy.setdefault('gradient_clipping', clip.max_norm)
    strategy.setdefault('gradient_accumulation_steps', wrapper.get('accumulative_counts', 1))
    for key in ('dtype', 'loss_scale', 'use_fsdp', 'clip_grad', 'accumulative_counts'):
        wrapper.pop(key, None)
    wrapper.type = 'DeepSpeedOptimWrapper'
