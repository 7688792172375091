"""Hooks for models whose parameters are divided among processes (``convnext_mm.engine.runner.strategies``)."""
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODELS
from torch import nn

from convnext_mm.registry import HOOKS


@HOOKS.register_module()
class WholeValidationHook(Hook):
    """Validate with a whole, plain copy of the model instead of the sharded one.

    Every call of a sharded model needs all processes at the same time. In validation some processes call the model
    more often than others, for example where windows slide over images of different sizes, and would wait forever.
    """

    # After EMAHook has replaced the weights by their averages.
    priority = 'LOWEST'

    def before_val_epoch(self, runner):
        """Put the copy in the model's place."""
        self._sharded = runner.model
        runner.model = runner.strategy.build_whole_model()

    def after_val_epoch(self, runner, metrics=None):
        """Put the sharded model back."""
        runner.model = self._sharded


class _Shards(nn.Module):
    """A plain module with this process's shards of a sharded model as parameters, and its buffers as buffers."""

    def __init__(self, model):
        super().__init__()
        self.shards = nn.ParameterList(model.parameters())
        for number, buffer in enumerate(model.buffers()):
            self.register_buffer(f'buffer{number}', buffer)


@HOOKS.register_module()
class ShardedEMAHook(EMAHook):
    """Average a sharded model as mmengine's EMAHook does: each process its shards; checkpoints hold whole averages.

    Args:
        args, kwargs: Those of mmengine's hook.
    """

    def before_run(self, runner):
        """Build the averages, unless ``after_load_checkpoint`` has done so."""
        # mmengine's FlexibleRunner loads checkpoints before it calls this.
        if not hasattr(self, 'ema_model'):
            self.src_model = _Shards(runner.model)
            self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))

    def before_save_checkpoint(self, runner, checkpoint):
        """Swap averages and weights in the file, as mmengine's hook does: the weights go to ``ema_state_dict``."""
        self._swap_ema_parameters()
        # Clone, because the next swap changes the model's buffers in place.
        averages = {name: tensor.clone() for name, tensor in runner.strategy.model_state_dict().items()}
        self._swap_ema_parameters()
        checkpoint['ema_state_dict'] = {'steps': self.ema_model.steps.clone(), **{
            f'module.{name}': tensor for name, tensor in checkpoint['state_dict'].items()}}
        checkpoint['state_dict'] = averages

    def after_load_checkpoint(self, runner, checkpoint):
        """Load the averages on resume; otherwise they start from the weights at the first step."""
        self.before_run(runner)
        if not runner._resume or 'ema_state_dict' not in checkpoint:
            return
        runner.strategy.load_model_state_dict(checkpoint['state_dict'])
        self.ema_model.module.load_state_dict(self.src_model.state_dict())
        kept = checkpoint['ema_state_dict']
        self.ema_model.steps.copy_(kept['steps'])
        checkpoint['state_dict'] = {name.removeprefix('module.'): tensor for name, tensor in kept.items()
                                    if name != 'steps'}
