"""Hooks of a run whose parameters are divided among processes (``convnext_mm.engine.runner.strategies``)."""
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODELS
from torch import nn

from convnext_mm.registry import HOOKS


@HOOKS.register_module()
class WholeValidationHook(Hook):
    """Validates a plain model with the weights of now.

    A sharded model is gathered by all processes at the same time, whenever one calls it; in validation some call it
    more often than others, as with windows that slide over images of different sizes, and would wait forever.
    """

    # After the averages took the place of the weights.
    priority = 'LOWEST'

    def before_val_epoch(self, runner):
        self._sharded = runner.model
        runner.model = runner.strategy.build_whole_model()

    def after_val_epoch(self, runner, metrics=None):
        runner.model = self._sharded


class _Shards(nn.Module):
    """This process's shards and the buffers of a sharded model, as parameters and buffers of a plain one."""

    def __init__(self, model):
        super().__init__()
        self.shards = nn.ParameterList(model.parameters())
        for number, buffer in enumerate(model.buffers()):
            self.register_buffer(f'buffer{number}', buffer)


@HOOKS.register_module()
class ShardedEMAHook(EMAHook):
    """mmengine's EMAHook for a sharded model: each process averages its shards; checkpoints hold whole averages.

    Args:
        args, kwargs: Those of mmengine's hook.
    """

    def before_run(self, runner):
        # mmengine's FlexibleRunner loads checkpoints before this.
        if not hasattr(self, 'ema_model'):
            self.src_model = _Shards(runner.model)
            self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))

    def before_save_checkpoint(self, runner, checkpoint):
        """Put the averages in place of the weights, and those under ``ema_state_dict``, as mmengine's hook does."""
        self._swap_ema_parameters()
        # Buffers are the model's own, which change back.
        averages = {name: tensor.clone() for name, tensor in runner.strategy.model_state_dict().items()}
        self._swap_ema_parameters()
        checkpoint['ema_state_dict'] = {'steps': self.ema_model.steps.clone(), **{
            f'module.{name}': tensor for name, tensor in checkpoint['state_dict'].items()}}
        checkpoint['state_dict'] = averages

    def after_load_checkpoint(self, runner, checkpoint):
        """On resume, take the averages over; else they begin with the weights at the first step."""
        self.before_run(runner)
        if not runner._resume or 'ema_state_dict' not in checkpoint:
            return
        runner.strategy.load_model_state_dict(checkpoint['state_dict'])
        self.ema_model.module.load_state_dict(self.src_model.state_dict())
        kept = checkpoint['ema_state_dict']
        self.ema_model.steps.copy_(kept['steps'])
        checkpoint['state_dict'] = {name.removeprefix('module.'): tensor for name, tensor in kept.items()
                                    if name != 'steps'}
