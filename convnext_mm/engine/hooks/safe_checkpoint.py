"""What a Runner does around its checkpoints: verify what it loads, and write what every torch reads safely."""
import logging

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict

from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.state_dicts import find_state_dict
from convnext_mm.checkpoint.whole_model import fit_model
from convnext_mm.registry import HOOKS

#: Types that torch's ``weights_only`` mode loads.
_PLAIN = (str, bytes, int, float, bool, type(None), set, torch.Tensor, torch.Size)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Strict loading and safe saving of checkpoints, for mmengine's Runner.

    Loading: the whole model is verified (``checkpoint.whole_model.fit_model``): strictly in testing and on resume; in
    training, ``load_from`` may bring head tensors of another number of classes. Saving: mmengine's records of a run
    are numpy arrays in objects, which ``torch.load(weights_only=True)`` refuses; they are written as tensors and
    turned back on resume, so that files of this project's trainings also resume where that mode is the default.
    """

    # Before EMAHook, which takes the state dict over as it finds it.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume and 'iter' not in checkpoint.get('meta', {}):
            raise CheckpointError(f'{runner._load_from} holds weights alone, so there is no run to resume: start a new '
                                  'one from it with load_from, without resume')
        training = isinstance(runner.optim_wrapper, (OptimWrapper, OptimWrapperDict)) and not runner._resume
        with naming_file(runner._load_from):
            state_dict, _ = find_state_dict(checkpoint)
        # Of a sharded model, its strategy keeps the names and shapes.
        model = getattr(getattr(runner, 'strategy', None), 'blueprint', runner.model)
        checkpoint['state_dict'] = fit_model(model, state_dict, training, runner._load_from)
        hub = checkpoint.get('message_hub')
        if isinstance(hub, dict) and 'histories' in hub:
            hub['log_scalars'] = {key: _to_history(value) for key, value in hub.pop('histories').items()}

    def before_save_checkpoint(self, runner, checkpoint):
        hub = dict(checkpoint['message_hub'])
        # Under a key of their own: mmengine without this hook then resumes with empty histories instead of failing.
        hub['histories'] = {**hub.get('histories', {}),
                            **{key: _from_history(value) for key, value in hub['log_scalars'].items()}}
        hub['log_scalars'] = {}
        checkpoint['message_hub'] = hub
        for key in checkpoint:
            if key != 'state_dict':
                checkpoint[key] = _to_plain(checkpoint[key], key)


def _from_history(history):
    values, counts = history.data
    return dict(values=torch.as_tensor(values), counts=torch.as_tensor(counts), max_length=history.max_length)


def _to_history(saved):
    return HistoryBuffer(saved['values'].cpu().numpy(), saved['counts'].cpu().numpy(), saved['max_length'])


def _to_plain(value, name):
    """``value`` with numpy's numbers and arrays as Python's numbers and tensors."""
    if isinstance(value, np.generic):
        # First, as numpy's float64 is also one of Python's.
        return value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value)
    if isinstance(value, dict):
        # A Counter of milestones, too: schedulers only look their steps up in it.
        return {key.item() if isinstance(key, np.generic) else key: _to_plain(child, f'{name}.{key}')
                for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        children = [_to_plain(child, f'{name}.{i}') for i, child in enumerate(value)]
        return children if isinstance(value, list) else tuple(children)
    print_log(f'{name} of the checkpoint is a {type(value).__name__}: the file will need --trust-checkpoint',
              logger='current', level=logging.WARNING)
    return value
