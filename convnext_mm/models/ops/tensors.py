"""The tensors that a block learns, under the names by which its forward and backward passes know them."""
from typing import NamedTuple

import torch
from torch import Tensor


class MLPTensors(NamedTuple):
    """The parameters of a block behind its convolution, or one value for each of them, such as its gradient.

    Attributes:
        norm_weight, norm_bias (Tensor): The LayerNorm's, ``(C)``.
        weight1, bias1 (Tensor): The first linear layer's, ``(hidden, C)`` and ``(hidden)``.
        weight2, bias2 (Tensor): The second linear layer's, ``(C, hidden)`` and ``(C)``.
        gamma (Tensor, optional): The layer scale, ``(C)``; None where the block has none.
    """

    norm_weight: Tensor
    norm_bias: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    gamma: Tensor | None


class BlockTensors(NamedTuple):
    """All parameters of a block.

    Attributes:
        conv_weight, conv_bias (Tensor): The depthwise convolution's, ``(C, 1, 7, 7)`` and ``(C)``.
        mlp (MLPTensors): Those behind the convolution.
        grn_gamma, grn_beta (Tensor, optional): Those of GRN, ``(1, 1, 1, hidden)``; None where the block has none.
    """

    conv_weight: Tensor
    conv_bias: Tensor
    mlp: MLPTensors
    grn_gamma: Tensor | None = None
    grn_beta: Tensor | None = None


def result_type(x, y, gamma):
    """Return the precision of the sum of the residual stream ``x`` and its branch ``y``."""
    return torch.promote_types(x.dtype, y.dtype if gamma is None else gamma.dtype)
