"""Load checkpoints by mmengine's own functions: read files safely, and verify whole models with their heads.

mmengine's ``load_from``, ``resume``, ``init_detector``, ``init_model`` and the inferencers read a file by
``CheckpointLoader`` and put it into a model by ``load_state_dict``. ``register_loader`` and ``verify_models`` act
there, on the whole process; each says why nothing narrower will do.
"""
import functools
import os
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.runner import CheckpointLoader
from mmengine.utils import apply_to
from torch.nn.modules.module import register_module_module_registration_hook

from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.fit import VERIFIED, Differences
from convnext_mm.checkpoint.loadable import LoadableBackbone
from convnext_mm.checkpoint.state_dicts import BACKBONE, find_convnexts, find_state_dict, with_mm_heads
from convnext_mm.checkpoint.whole_model import fit_model, unwrap_model
from convnext_mm.utils.errors import describe_error


def register_loader() -> None:
    """Let mmengine read paths and addresses by ``load_from_convnext_mm``, from now on in this process.

    mmengine chooses a loader by the beginning of the path alone, from one table of the process: no config, model or
    hook can name another. A backbone calls this when it is built, ``convnext_mm.checkpoint_hook`` when it is imported;
    importing the package changes nothing.
    """
    if CheckpointLoader._get_checkpoint_loader('') is not load_from_convnext_mm:
        CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_convnext_mm, force=True)


@functools.cache
def verify_models() -> None:
    """Let every module that gets a backbone verify, from now on in this process, what mmengine loads into it.

    A backbone is not told which model it becomes a part of, and the model is another library's class. Only torch's
    hook on the registration of modules, which is one of the process, sees the two meet.
    """
    register_module_module_registration_hook(_watch)


def _watch(parent, name, child):
    """Let ``parent`` verify what it is loaded with, once it gets a backbone."""
    if isinstance(child, LoadableBackbone) and not any(isinstance(other, LoadableBackbone)
                                                       for other in parent.children()):
        parent._register_load_state_dict_pre_hook(_fit, with_module=True)


def _fit(model, state_dict, prefix, local_metadata, *_):
    """Replace what a file holds, before it is loaded into a whole model, by what fits the model.

    A model whose weights are initialised is about to be trained, so layers for another number of classes may keep
    their values; any other model has none to keep.
    """
    if prefix or 'file' not in local_metadata or local_metadata.pop(VERIFIED, False):
        return
    backbones = {name: child for name, child in model.named_children() if isinstance(child, LoadableBackbone)}
    fitted = fit_model(model, state_dict, training=all(child.is_init for child in backbones.values()))
    if fitted is not state_dict:
        # In place: the caller goes on with this very object, module by module.
        state_dict.clear()
        state_dict.update(fitted)
        state_dict._metadata.update((name, fitted._metadata[name]) for name in backbones)


def load_checkpoint(model: nn.Module, source: str | Path, training: bool = False) -> dict:
    """Load a checkpoint into a model, strictly.

    Args:
        model (nn.Module): A detector, segmentor or classifier of mm's, or a backbone. Where no part of it is a backbone
            of this project, the file may hold more than the model.
        source (str): A path, an address or a short name.
        training (bool): Head tensors that depend on the number of classes may have another shape; they keep their
            initial values, and a warning names them. Defaults to False.

    Returns:
        dict: What the file holds besides: ``meta`` and the like.

    Raises:
        CheckpointError: As ``convnext_mm.checkpoint.fit.load_pretrained``.
    """
    content = load_from_convnext_mm(source)
    with naming_file(source):
        state_dict, _ = find_state_dict(content)
    content['state_dict'] = fit_model(model, state_dict, training, source)
    with naming_file(source):
        _load_whole(unwrap_model(model), content['state_dict'])
    return content


def _load_whole(model, state_dict):
    """Load a state dict into a model; raise unless each tensor of the model gets a value.

    A model of other libraries' parts is checked here alone: its layers may rename and resize what they load, so nothing
    can be compared before.
    """
    if not state_dict.keys() & model.state_dict().keys():
        # Of a backbone alone, from the file of a whole model.
        state_dict = {name.removeprefix(BACKBONE): tensor for name, tensor in state_dict.items()
                      if name.startswith(BACKBONE)}
    try:
        lacking = model.load_state_dict(state_dict, strict=False).missing_keys
    except RuntimeError as error:  # Of another shape.
        raise CheckpointError(describe_error(error)) from error
    # Files of old versions of torch lack these counters.
    missing = [name for name in lacking if not name.endswith('num_batches_tracked')]
    Differences(missing, [], {}).raise_any(None)


def load_from_convnext_mm(filename: str | Path, map_location: str | torch.device | None = None) -> dict:
    """Read a checkpoint for mmengine: safely, in any format, its state dict under ``state_dict``.

    Args:
        filename (str): A path, an address or a short name.
        map_location (str | torch.device, optional): Where tensors go. Defaults to the CPU.

    Returns:
        dict: ``state_dict``, and what else the file holds.

    Raises:
        CheckpointError: As ``convnext_mm.checkpoint.files.read``.
    """
    content = read(locate(filename))
    try:
        state_dict, key = find_state_dict(content)
    except CheckpointError:
        # This holds no model: the caller knows what it asked for.
        return content
    if find_convnexts(state_dict):
        # mmseg's init_model looks into meta whether there is one or not.
        content = {'meta': {}, **(content if key else {}), 'state_dict': _note_file(state_dict, filename)}
        if key != 'state_dict':
            content.pop(key, None)
    # An optimizer keeps the very tensors that it is given, longer than their file may last.
    content = {name: value if name in ('state_dict', None) else apply_to(value, torch.is_tensor, torch.clone)
               for name, value in content.items()}
    if map_location in (None, 'cpu'):
        return content
    return apply_to(content, torch.is_tensor, lambda tensor: tensor.to(map_location))


def _note_file(state_dict, filename):
    """Return a state dict with mmseg's names of heads, and with the file's name in its metadata.

    torch hands the metadata to the module of its name, by which ``_fit`` and the log know the file.
    """
    metadata = getattr(state_dict, '_metadata', None) or {}
    state_dict = OrderedDict(with_mm_heads(state_dict))
    noted = {name: {**metadata.get(name, {}), 'file': os.fspath(filename)} for name in ('', 'backbone')}
    state_dict._metadata = {**metadata, **noted}
    return state_dict
