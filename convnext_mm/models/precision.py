"""Prediction in bfloat16: a model's network computes in it, what is done with its results stays in float32."""
import functools

import torch
import torch.nn as nn

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.utils.errors import ArgumentValueError

#: Names of the last layers of mm's heads, whose results are scores, boxes and masks.
LAST_LAYERS = ('conv_seg', 'fc_cls', 'fc_reg', 'rpn_cls', 'rpn_reg', 'conv_logits', 'retina_cls', 'retina_reg',
               'conv_cls', 'conv_reg', 'conv_centerness', 'atss_cls', 'atss_reg', 'atss_centerness')


def check_precision(precision: str, device: str | torch.device, exported: bool = False) -> None:
    """Raise an ``ArgumentValueError`` where a model cannot predict in a precision, or where that would be slower.

    Args:
        precision (str): ``float32`` or ``bfloat16``.
        device (str | torch.device): Where it runs.
        exported (bool): Whether it is another runtime's file. Defaults to False.
    """
    if precision == 'float32':
        return
    if exported:
        raise ArgumentValueError(f'--precision {precision} is for checkpoints: an exported file computes as it was '
                                 'exported; leave it out, or export with --half')
    if torch.device(device).type == 'cpu' and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ArgumentValueError(f'--precision {precision} cannot be used here: this processor has no instructions for '
                                 'it, and would be slower than in float32; leave it out')


def predict_in_bfloat16(model: nn.Module) -> None:
    """Change a model on its device so that it predicts under bfloat16 autocast.

    Heads give float32, so scores, boxes and labels are computed in it, and operators of mmcv, most of which have no
    bfloat16 on a CPU, compute in it. On a CPU, this package's backbones keep their weights in bfloat16, where autocast
    would convert them for each image, and the layers around them run in channels last.

    Args:
        model (nn.Module): Of mmdet, mmseg or mmpretrain, maybe wrapped for several processes or augmented tests.
    """
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module
    device = next(model.parameters()).device.type
    for name, module in model.named_modules():
        if type(module).__module__.startswith('mmcv.ops'):
            module.forward = _in_float32(module.forward, device, _to_plain)
        elif name.rpartition('.')[2] in LAST_LAYERS:
            module.forward = _in_float32(module.forward, device, _to_float32)
        # Regions are pooled from all of a neck's maps for each of several heads: better converted once.
        elif type(module).__name__.endswith('Head') or name == 'neck' and hasattr(model, 'roi_head'):
            module.forward = _giving_float32(module.forward)
    if device == 'cpu':
        for child in model.children():
            if isinstance(child, ConvNeXt):
                _convert_weights(child)
            else:
                child.to(memory_format=torch.channels_last)
    model.forward = torch.autocast(device, torch.bfloat16)(model.forward)


def _convert_weights(backbone):
    """Round the weights and biases that autocast would round for each call."""
    for module in backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bfloat16()


def _change(value, function):
    """Return a value with ``function`` of all its tensors; lists, tuples and dicts are looked into."""
    if torch.is_tensor(value):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)(_change(entry, function) for entry in value)
    return {key: _change(entry, function) for key, entry in value.items()} if type(value) is dict else value


def _to_float32(tensor):
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _to_plain(tensor):
    """Return a tensor as mmcv's operators take it: RoIAlign reads a channels-last map as if it were NCHW, silently."""
    return _to_float32(tensor).contiguous()


def _giving_float32(forward):
    @functools.wraps(forward)
    def call(*args, **kwargs):
        return _change(forward(*args, **kwargs), _to_float32)
    return call


def _in_float32(forward, device, change):
    @functools.wraps(forward)
    def call(*args, **kwargs):
        with torch.autocast(device, enabled=False):
            return forward(*_change(args, change), **_change(kwargs, change))
    return call
