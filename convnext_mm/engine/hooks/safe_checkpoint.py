"""Verify the checkpoints that a Runner loads, and write checkpoints that every torch reads safely."""
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

#: Types that torch loads in its ``weights_only`` mode.
_PLAIN = (str, bytes, int, float, bool, type(None), set, torch.Tensor, torch.Size)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Load checkpoints strictly and save them safely, in mmengine's Runner.

    Loading verifies the whole model (``checkpoint.whole_model.fit_model``). Testing and resuming are strict; in
    training, a ``load_from`` file may have heads for another number of classes. Saving turns mmengine's records of a
    run (objects that hold numpy arrays, which ``torch.load(weights_only=True)`` refuses) into tensors, and resuming
    turns them back. So the files also resume where that mode is torch's default.
    """

    # Before EMAHook, which takes the state dict as it is.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner, checkpoint):
        """Verify the checkpoint, fit it to the model and restore mmengine's records."""
        if runner._resume and 'iter' not in checkpoint.get('meta', {}):
            raise CheckpointError(f'{runner._load_from} holds weights alone, so there is no run to resume: start a new '
                                  'one from it with load_from, without resume')
        training = isinstance(runner.optim_wrapper, (OptimWrapper, OptimWrapperDict)) and not runner._resume
        with naming_file(runner._load_from):
            state_dict, _ = find_state_dict(checkpoint)
        # The strategy of a sharded model keeps a blueprint with the whole model's names and shapes.
        model = getattr(getattr(runner, 'strategy', None), 'blueprint', runner.model)
        checkpoint['state_dict'] = fit_model(model, state_dict, training, runner._load_from)
        hub = checkpoint.get('message_hub')
        if isinstance(hub, dict) and 'histories' in hub:
            hub['log_scalars'] = {key: _to_history(value) for key, value in hub.pop('histories').items()}

    def before_save_checkpoint(self, runner, checkpoint):
        """Turn everything except the state dict into plain types and tensors."""
        hub = dict(checkpoint['message_hub'])
        # The histories get their own key: mmengine without this hook then resumes without them instead of failing.
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
    """Return ``value`` with numpy's numbers and arrays turned into Python's numbers and tensors.

    Warn where something else remains that ``weights_only`` mode refuses; ``name`` says where it is.
    """
    if isinstance(value, np.generic):
        # This comes first because numpy's float64 is also a float.
        return value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value)
    if isinstance(value, dict):
        # A Counter of milestones becomes a dict, too: schedulers only look steps up in it.
        return {key.item() if isinstance(key, np.generic) else key: _to_plain(child, f'{name}.{key}')
                for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        children = [_to_plain(child, f'{name}.{i}') for i, child in enumerate(value)]
        return children if isinstance(value, list) else tuple(children)
    print_log(f'{name} of the checkpoint is a {type(value).__name__}: the file will need --trust-checkpoint',
              logger='current', level=logging.WARNING)
    return value
