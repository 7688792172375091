"""mmengine's strategies for models that one GPU cannot hold, with what this project's runs keep under any strategy.

A checkpoint of a sharded run is that of a single process: whole tensors by the model's own names, the optimizer's
states by the numbers that a plain optimizer gives them, one file that is written whole or not at all. It loads into a
plain model, and is resumed by any number of processes under FSDP, DDP or alone.

Source: `open-mmlab/mmengine` ``_strategy/fsdp.py`` and ``runner/_flexible_runner.py``, whose deviations from its Runner
are mended here.
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
def wrap_blocks(module, recurse, nonwrapped_numel):
    """Policy of FSDP: each ``ConvNeXtBlock`` is gathered by itself, everything else with the model as a whole.

    A stage cannot be a unit, since the backbone calls its blocks one by one, nor can a head, whose ``loss`` is called
    in place of its ``forward``: FSDP gathers parameters when ``forward`` is called.

    Args:
        module (nn.Module): Part of the model.
        recurse (bool): Asked whether to look at the part's own parts.
        nonwrapped_numel (int): Parameters of the part that are in no unit yet; not used.
    """
    return recurse or isinstance(module, ConvNeXtBlock)


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """mmengine's FSDP strategy, with checkpoints as a single process writes them.

    Deviations: gradients are clipped by the norm of all shards together; parameter groups are made from whole
    parameters, by whose shapes rules like layer decay tell biases from weights; processes without a GPU work too.

    Args:
        kwargs: Those of mmengine's strategy; ``state_dict_cfg`` is always ``full``.
    """

    def __init__(self, **kwargs):
        super().__init__(**dict(kwargs, state_dict_cfg='full'))

    def _wrap_model(self, model):
        # What is on the CPU already is freed when torch takes it there; and a single process has nothing to gather.
        offload = get_device() != 'cpu' and get_world_size() > 1
        self.state_dict_config.offload_to_cpu = self.optim_state_dict_config.offload_to_cpu = offload
        # A copy without memory for parameters: their names and shapes, which a sharded model does not tell any more.
        bare = {id(p): nn.Parameter(torch.empty_like(p, device='meta'), p.requires_grad) for p in model.parameters()}
        self.blueprint = copy.deepcopy(model, bare)
        if get_device() == 'cpu':
            self.model_wrapper = dict(self.model_wrapper or {}, device_id=torch.device('cpu'))
        return super()._wrap_model(model)

    def build_whole_model(self):
        """A plain model of its own with the weights of now, on this process's device; all processes have to call it."""
        with FSDP.state_dict_type(self.model, StateDictType.FULL_STATE_DICT, FullStateDictConfig(rank0_only=False)):
            weights = self.model.state_dict()
        model = copy.deepcopy(self.blueprint)
        model.load_state_dict(weights, assign=True)
        return model.to(get_device())

    def build_optim_wrapper(self, optim_wrapper, model=None):
        """mmengine's, from whole parameters, and with clipping by the norm of all shards together."""
        with FSDP.summon_full_params(model, writeback=False):
            wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(wrapper, 'clip_grad_kwargs', None) and wrapper.clip_func is nn.utils.clip_grad_norm_:
            wrapper.clip_func = lambda parameters, **limits: model.clip_grad_norm_(**limits)
        return wrapper

    def model_state_dict(self):
        """The whole state dict; on the first process, all of which have to call it."""
        # torch leaves marks on its tensors, which would be stored with them and which only pickles of any code restore.
        return {name: tensor.detach() for name, tensor in self.model.state_dict().items()}

    def _parameter_names(self):
        """Names of the optimizer's parameters, in the order by which a plain optimizer numbers them."""
        names = {id(parameter): plain_name(name) for name, parameter in self.model.named_parameters()}
        return [names[id(p)] for group in self.optim_wrapper.optimizer.param_groups for p in group['params']]

    def optim_state_dict(self):
        """The state dict that a single process would have; on the first process, all of which have to call it."""
        content = self.optim_wrapper.state_dict()
        whole = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer).get('state', {})
        content['state'] = {number: whole[name] for number, name in enumerate(self._parameter_names()) if name in whole}
        return content

    def load_optim_state_dict(self, state_dict):
        """Take a single process's state dict over, each process its part."""
        names = self._parameter_names()
        named = dict(
            state={names[number]: state for number, state in state_dict['state'].items()},
            param_groups=[dict(group, params=[names[number] for number in group['params']])
                          for group in state_dict['param_groups']])
        shards = FSDP.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, named)
        self.optim_wrapper.load_state_dict({**state_dict, **shards})

    def load_checkpoint(self, filename, *, map_location='cpu', **kwargs):
        """mmengine's, but to the CPU: a GPU has no room for the whole."""
        return super().load_checkpoint(filename, map_location='cpu', **kwargs)

    def load_model_state_dict(self, state_dict, **kwargs):
        """mmengine's; of the blueprint's tensors, which stand for those that are to stay as they are, none is taken."""
        super().load_model_state_dict({name: tensor for name, tensor in state_dict.items() if not tensor.is_meta})

    def save_checkpoint(self, filename, *, save_optimizer=True, save_param_scheduler=True, extra_ckpt=None,
                        callback=None):
        """mmengine's, as one file that is written whole or not at all."""
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
    """mmengine's FlexibleRunner, whose checkpoints note the epoch and iteration that they are given, as its Runner's.

    Args:
        kwargs: Those of mmengine's runner.
    """

    def save_checkpoint(self, out_dir, filename, file_client_args=None, save_optimizer=True, save_param_scheduler=True,
                        meta=None, by_epoch=True, backend_args=None):
        """As mmengine's ``Runner.save_checkpoint``; how the file is written is the strategy's."""
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
