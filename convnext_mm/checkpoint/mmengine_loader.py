"""What mmengine's own functions load with: files are read safely, and whole models are verified with their heads.

mmengine's ``load_from``, ``resume``, ``init_detector``, ``init_model`` and the inferencers all read a file by
``CheckpointLoader`` and put it into a model by ``load_state_dict``. Both have an extension point, and both are used:
a loader for paths and addresses, and a hook on every module that a backbone becomes a part of.
"""
import functools
import os
from collections import OrderedDict

import torch
from mmengine.runner import CheckpointLoader
from mmengine.utils import apply_to
from torch.nn.modules.module import register_module_module_registration_hook

from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.fit import VERIFIED
from convnext_mm.checkpoint.loadable import LoadableBackbone
from convnext_mm.checkpoint.namings import find, unwrap, with_mm_heads
from convnext_mm.checkpoint.whole_model import fit_model, unwrap_model


def register_loader():
    """Let mmengine read paths and addresses by ``load_from_convnext_mm``, from now on in this process.

    A backbone calls this when it is built, ``convnext_mm.checkpoint_hook`` when it is imported; importing the package
    changes nothing.
    """
    if CheckpointLoader._get_checkpoint_loader('') is not load_from_convnext_mm:
        CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_convnext_mm, force=True)


@functools.cache
def verify_models():
    """Let every module that gets a backbone verify, from now on in this process, what mmengine loads into it."""
    register_module_module_registration_hook(_watch)


def _watch(parent, name, child):
    """Let ``parent`` verify what it is loaded with, once it gets a backbone."""
    if isinstance(child, LoadableBackbone) and not any(isinstance(other, LoadableBackbone)
                                                       for other in parent.children()):
        parent._register_load_state_dict_pre_hook(_fit, with_module=True)


def _fit(model, state_dict, prefix, local_metadata, *_):
    """Before a file is loaded into a whole model: put what fits, complete, in the place of what the file holds.

    A model whose weights are initialised is about to be trained, so layers for another number of classes may keep
    their values; any other model has none to keep.
    """
    if prefix or 'file' not in local_metadata or local_metadata.pop(VERIFIED, False):
        return
    backbones = {name: child for name, child in model.named_children() if isinstance(child, LoadableBackbone)}
    fitted = fit_model(model, state_dict, training=all(child.is_init for child in backbones.values()))
    if fitted is not state_dict:
        state_dict.clear()
        state_dict.update(fitted)
        # In place: whoever loads goes on with this very object, module by module.
        state_dict._metadata.update((name, fitted._metadata[name]) for name in backbones)


def load_checkpoint(model, source, training=False):
    """Load a checkpoint into a model, strictly.

    Args:
        model (nn.Module): A detector or segmentor with a ``convnext_mm.ConvNeXt``, or the backbone itself.
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
        state_dict, _ = unwrap(content)
    content['state_dict'] = fit_model(model, state_dict, training, source)
    unwrap_model(model).load_state_dict(content['state_dict'], strict=False)
    return content


def load_from_convnext_mm(filename, map_location=None):
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
        state_dict, key = unwrap(content)
    except CheckpointError:
        # Not a model's: whoever asked for it knows what it is.
        return content
    if find(state_dict):
        metadata = getattr(state_dict, '_metadata', None) or {}
        state_dict = OrderedDict(with_mm_heads(state_dict))
        # mmengine passes this on to the module of that name, and so the log can tell the file.
        state_dict._metadata = {**metadata, **{name: {**metadata.get(name, {}), 'file': os.fspath(filename)}
                                               for name in ('', 'backbone')}}
        # mmseg's init_model looks into meta whether there is one or not.
        content = {'meta': {}, **(content if key else {}), 'state_dict': state_dict}
        if key != 'state_dict':
            content.pop(key, None)
    # An optimizer keeps the very tensors that it is given, longer than their file may last.
    content = {name: value if name in ('state_dict', None) else apply_to(value, torch.is_tensor, torch.clone)
               for name, value in content.items()}
    if map_location in (None, 'cpu'):
        return content
    return apply_to(content, torch.is_tensor, lambda tensor: tensor.to(map_location))
