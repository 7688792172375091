"""Train models that one GPU cannot hold: mmengine's FSDP strategy with the checkpoints of a single process.

A checkpoint of a sharded run is the same as that of a single process: it holds whole tensors under the names of the
plain model, and the optimizer's states under the numbers that a plain optimizer gives them, in one file. It loads into
a plain model, and any number of processes resumes from it, under FSDP, DDP or alone.

Source: `open-mmlab/mmengine` ``_strategy/fsdp.py`` and ``runner/_flexible_runner.py``. The classes here remove
differences between its FlexibleRunner and its Runner.
"""
import copy
import time

import mmengine
import torch
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.fileio import join_path
from mmengine.optim import BaseOptimWrapper
from mmengine.runner import FlexibleRunner
from mmengine.runner.checkpoint import save_checkpoint
from torch import nn
from torch.distributed.fsdp import FullStateDictConfig, StateDictType
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from convnext_mm.engine.hooks.checkpoint import ATOMIC
from convnext_mm.models.layers import ConvNeXtBlock
from convnext_mm.registry import FUNCTIONS, RUNNERS, STRATEGIES
from convnext_mm.utils.parameters import plain_name


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Tell FSDP to gather each ``ConvNeXtBlock`` by itself and all other parameters together.

    FSDP gathers the parameters of a unit when its ``forward`` is called. A stage cannot be a unit because the backbone
    calls the blocks of a stage one by one; a head cannot be one because its ``loss`` is called, not its ``forward``.

    Args:
        module (nn.Module): Part of the model.
        recurse (bool): Whether FSDP asks about the children of ``module`` instead of ``module`` itself.
        nonwrapped_numel (int): Parameters of the part that are in no unit yet; not used.

    Returns:
        bool: Whether to look at the children, or to make ``module`` a unit.
    """
    return recurse or isinstance(module, ConvNeXtBlock)


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """Divide a model as mmengine's FSDP strategy does, and write checkpoints as a single process writes them.

    Other deviations: gradients are clipped by the norm of all shards together; parameter groups are made from whole
    parameters, because layer decay tells biases from weights by their shapes; processes without a GPU work, too.

    Args:
        kwargs: Those of mmengine's strategy; ``state_dict_cfg`` is always ``full``.
    """

    def __init__(self, **kwargs):
        super().__init__(**dict(kwargs, state_dict_cfg='full'))

    def _wrap_model(self, model):
        """Divide the model among the processes, and keep a blueprint of the whole one."""
        # torch moves the whole tensors of a checkpoint to the CPU. It would free tensors that are on the CPU already,
        # and it does not gather anything in a single process.
        offload = get_device() != 'cpu' and get_world_size() > 1
        self.state_dict_config.offload_to_cpu = self.optim_state_dict_config.offload_to_cpu = offload
        # A sharded model no longer tells the names and shapes of its parameters. The blueprint does, in meta tensors,
        # which take no memory.
        bare = {id(p): nn.Parameter(torch.empty_like(p, device='meta'), p.requires_grad) for p in model.parameters()}
        self.blueprint = copy.deepcopy(model, bare)
        if get_device() == 'cpu':
            self.model_wrapper = dict(self.model_wrapper or {}, device_id=torch.device('cpu'))
        return super()._wrap_model(model)

    def build_whole_model(self):
        """Return a plain copy of the model with its present weights, on this process's device.

        All processes must call this together.
        """
        with FSDP.state_dict_type(self.model, StateDictType.FULL_STATE_DICT, FullStateDictConfig(rank0_only=False)):
            weights = self.model.state_dict()
        model = copy.deepcopy(self.blueprint)
        model.load_state_dict(weights, assign=True)
        return model.to(get_device())

    def build_optim_wrapper(self, optim_wrapper, model=None):
        """Build the wrapper from whole parameters, and clip gradients by the norm of all shards together."""
        with FSDP.summon_full_params(model, writeback=False):
            wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(wrapper, 'clip_grad_kwargs', None) and wrapper.clip_func is nn.utils.clip_grad_norm_:
            # No setting of mmengine's does this: it knows torch's two functions alone, which see only the shards here.
            wrapper.clip_func = lambda parameters, **limits: model.clip_grad_norm_(**limits)
        return wrapper

    def model_state_dict(self):
        """Return the whole state dict, on the main process; the others must call this at the same time."""
        # torch sets attributes on these tensors. Saved with them, they would make the file need a full unpickler.
        return {name: tensor.detach() for name, tensor in self.model.state_dict().items()}

    def _parameter_names(self):
        """Return the names of the optimizer's parameters, in the order in which a plain optimizer numbers them."""
        names = {id(parameter): plain_name(name) for name, parameter in self.model.named_parameters()}
        return [names[id(p)] for group in self.optim_wrapper.optimizer.param_groups for p in group['params']]

    def optim_state_dict(self):
        """Return a single process's state dict, on the main process; the others must call this at the same time."""
        content = self.optim_wrapper.state_dict()
        whole = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer).get('state', {})
        content['state'] = {number: whole[name] for number, name in enumerate(self._parameter_names()) if name in whole}
        return content

    def load_optim_state_dict(self, state_dict):
        """Load a single process's state dict; each process keeps its part."""
        names = self._parameter_names()
        named = dict(
            state={names[number]: state for number, state in state_dict['state'].items()},
            param_groups=[dict(group, params=[names[number] for number in group['params']])
                          for group in state_dict['param_groups']])
        shards = FSDP.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, named)
        self.optim_wrapper.load_state_dict({**state_dict, **shards})

    def load_checkpoint(self, filename, *, map_location='cpu', **kwargs):
        """Load a file as mmengine does, but always to the CPU: a GPU may have no room for the whole."""
        return super().load_checkpoint(filename, map_location='cpu', **kwargs)

    def load_model_state_dict(self, state_dict, **kwargs):
        """Load a state dict as mmengine does, but skip meta tensors: those keep their initial values."""
        super().load_model_state_dict({name: tensor for name, tensor in state_dict.items() if not tensor.is_meta})

    def save_checkpoint(self, filename, *, save_optimizer=True, save_param_scheduler=True, extra_ckpt=None,
                        callback=None):
        """Write a checkpoint as one file, whole or not at all; arguments as in mmengine's strategy."""
        content = {'state_dict': self.model_state_dict(), **(extra_ckpt or {})}
        if save_optimizer and isinstance(getattr(self, 'optim_wrapper', None), BaseOptimWrapper):
            content['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            content['param_schedulers'] = self.scheduler_state_dict()
        content.setdefault('meta', {}).update(
            seed=self.seed, time=time.strftime('%Y%m%d_%H%M%S'), mmengine=mmengine.__version__)
        if callback is not None:
            callback(content)
        if is_main_process():
            save_checkpoint(content, filename, backend_args=None if '://' in filename else ATOMIC)


@RUNNERS.register_module()
class StrategyRunner(FlexibleRunner):
    """Run as mmengine's FlexibleRunner, but store the given epoch and iteration in checkpoints, as its Runner does.

    Args:
        kwargs: Those of mmengine's runner.
    """

    def save_checkpoint(self, out_dir, filename, file_client_args=None, save_optimizer=True, save_param_scheduler=True,
                        meta=None, by_epoch=True, backend_args=None):
        """Save a checkpoint with the arguments of mmengine's ``Runner.save_checkpoint``; the strategy writes it."""
        meta = {'epoch': self.epoch + bool(by_epoch), 'iter': self.iter + (not by_epoch), **(meta or {}),
                'cfg': self.cfg.pretty_text, 'experiment_name': self.experiment_name}
        if hasattr(self.train_dataloader.dataset, 'metainfo'):
            meta['dataset_meta'] = self.train_dataloader.dataset.metainfo
        self.strategy.save_checkpoint(
            str(join_path(out_dir, filename)), save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler, callback=self._before_save,
            extra_ckpt=dict(meta=meta, message_hub=self.message_hub.state_dict()))

    def _before_save(self, checkpoint):
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
