"""Prediction on a CPU with weights that are laid out once."""
import torch.nn as nn

from convnext_mm.models.layers import ConvNeXtBlock
from convnext_mm.models.ops.packed import keep_packed


def pack_weights(model: nn.Module) -> None:
    """Have the blocks of a model that predicts on a CPU keep their linear weights as oneDNN multiplies by them.

    Results are the same. The copies are made in the first call, and take as much memory as the weights. Weights that
    have changed since, by an optimizer or by ``load_state_dict``, are laid out again. What is written into
    ``weight.data``, as EMA hooks do, cannot be seen: call this again then. Blocks of ConvNeXt V2, blocks with hooks and
    GPUs go on without copies.

    Args:
        model (nn.Module): With a backbone of this package, or without.
    """
    for module in model.modules():
        if isinstance(module, ConvNeXtBlock):
            keep_packed(module.pwconv1.weight)
            keep_packed(module.pwconv2.weight)
