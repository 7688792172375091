"""Fit the state dict of a whole model, heads included, to the model."""
import logging
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper

from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.fit import VERIFIED, compare, describe_lack, fit_backbone, is_sharded
from convnext_mm.checkpoint.loadable import LoadableBackbone
from convnext_mm.checkpoint.namings import CLASSIFIER
from convnext_mm.checkpoint.state_dicts import (
    describe_method,
    find_convnexts,
    parse,
    with_mm_classifier,
    with_mm_heads,
)

#: Layers of heads whose first dimension depends on the number of classes: training may start them anew.
CLASS_LAYERS = re.compile(r'^head\.fc\.|'
                          r'\.(?:fc_cls|fc_reg|fc_seg|conv_logits|conv_seg|conv_cls|multi_level_conv_cls|cls_score|'
                          r'cls_branches|cls_embed|class_embed|label_embedding|'
                          r'(?:retina|atss|gfl|fcos|rtm|tood|vfnet)_cls)\.')


def fit_model(model: nn.Module, state_dict: dict, training: bool = False, file: str | Path | None = None) -> dict:
    """Return the state dict that a whole model wants, from one in any naming: complete, nothing left over.

    Args:
        model (nn.Module): The model; one without a ``LoadableBackbone`` gets its state dict back as it is.
        state_dict (dict): Of the same model, in mmdet 2.x or 3.x, mmseg 0.x or 1.x, or transformers naming, with the
            backbone in any naming.
        training (bool): See ``mmengine_loader.load_checkpoint``. Defaults to False.
        file (str, optional): Where it is from, for messages. Defaults to what its reader noted.

    Raises:
        CheckpointError: As ``load_pretrained``, for all of the model's tensors.
    """
    model = unwrap_model(model)
    backbones = {name: module for name, module in model.named_modules() if isinstance(module, LoadableBackbone)}
    if not backbones or is_sharded(model):
        return state_dict
    metadata = dict(getattr(state_dict, '_metadata', None) or {})
    file = metadata.get('', {}).get('file') or file
    with naming_file(file):
        own, state_dict = model.state_dict(), with_mm_heads(state_dict)
        if f'{CLASSIFIER["norm"]}.weight' in own and find_convnexts(state_dict):
            state_dict = with_mm_classifier(state_dict)
        fitted, summaries = _fit_backbones(backbones, state_dict, training)
        renewed = _check_whole(fitted, own, training)
    if renewed:
        fitted.update((name, own[name]) for name in renewed)
        print_log(f'Of another number of classes, left as initialised: {", ".join(renewed)}', logger='current',
                  level=logging.WARNING)
    print_log(f'Loaded {file or "a state dict"}: {len(fitted) - len(renewed)} of {len(own)} tensors of '
              f'{type(model).__name__}; backbone: {"; ".join(summaries)}', logger='current')
    metadata.update((name, {**metadata.get(name, {}), VERIFIED: True}) for name in ('', *backbones))
    fitted._metadata = metadata
    return fitted


def _fit_backbones(backbones, state_dict, training):
    """Return a state dict with the tensors of ``{name: backbone}`` in their own names, and a summary of each."""
    prefixes = {name: f'{name}.' if name else '' for name in backbones}
    fitted = OrderedDict((name, tensor) for name, tensor in state_dict.items()
                         if not name.startswith(tuple(prefixes.values())))
    summaries = []
    for name, backbone in backbones.items():
        prefix = prefixes[name]
        if find_convnexts(state_dict) and not find_convnexts(state_dict, prefix):
            raise CheckpointError(describe_lack(prefix))
        tensors, summary = fit_backbone(backbone, parse(state_dict, prefix), prefix, training)
        fitted.update((prefix + key, tensor) for key, tensor in tensors.items())
        summaries.append(summary)
    return fitted, summaries


def _check_whole(fitted, own, training):
    """Raise unless a state dict fits a model; return the names of the layers that training starts anew."""
    differences = compare(fitted, own)
    renewed = [name for name, (there, wanted) in differences.misshapen.items()
               if training and CLASS_LAYERS.search(name) and there[1:] == wanted[1:]]
    wrong = differences._replace(
        # Files of old versions of torch lack these counters.
        missing=[name for name in differences.missing if not name.endswith('num_batches_tracked')],
        misshapen={name: shapes for name, shapes in differences.misshapen.items() if name not in renewed})
    wrong.raise_any(_find_whole_cause(fitted, own, wrong.misshapen))
    return renewed


def unwrap_model(model: Any) -> nn.Module:
    """Return the model that mmengine's wrappers, for several devices or test-time augmentation, hold."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _find_whole_cause(there, wanted, misshapen):
    """Return why the state dict of a whole model does not fit, in words; None if it cannot be told."""
    methods = describe_method(there), describe_method(wanted)
    if methods[0] != methods[1]:
        return f'the checkpoint holds a {methods[0]}, the config builds a {methods[1]}'
    if misshapen and all(map(CLASS_LAYERS.search, misshapen)):
        return 'the checkpoint has another number of classes than the config'
    return None
