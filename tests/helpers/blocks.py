"""What the tests of a block's code share: random blocks, images, and results with gradients."""
import pytest
import torch

from convnext_mm.models.layers import ConvNeXtBlock
from tests.helpers.kernels import TORCH
from tests.helpers.models import randomise

needs_float16 = pytest.mark.skipif(TORCH < (2, 4), reason=f'torch {torch.__version__} has no float16 on the CPU')


def make_block(gamma=1., channels=16, **kwargs):
    block = randomise(ConvNeXtBlock(channels, layer_scale_init_value=gamma, **kwargs))
    if gamma:
        block.gamma.data.uniform_(.5 * gamma, 1.5 * gamma, generator=torch.Generator().manual_seed(1))
    return block.train()


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def run(function, block, x, autocast=None):
    """Result and gradients, name -> tensor; the same samples are dropped each time."""
    block.zero_grad()
    x = x.detach().requires_grad_()
    torch.manual_seed(3)
    with torch.autocast('cpu', autocast or torch.bfloat16, enabled=autocast is not None):
        result = function(x)
    result.backward(images(*x.shape).to(result.dtype))
    return dict(result=result.detach(), x=x.grad, **{
        n: None if p.grad is None else p.grad.clone() for n, p in block.named_parameters()})
