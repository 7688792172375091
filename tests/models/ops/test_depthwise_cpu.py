"""The depthwise convolution's gradients on a CPU."""
import pytest
import torch

from convnext_mm.models.ops.depthwise_cpu import DepthwiseConv
from tests.helpers.blocks import images


@pytest.mark.parametrize('shape', [(2, 3, 9, 8), (1, 2, 7, 1), (1, 2, 1, 9), (3, 1, 2, 2)])
def test_gradcheck_of_the_convolution(shape):
    x, weight, bias = images(*shape), images(shape[1], 1, 7, 7), images(shape[1])
    x, weight, bias = (t.double().requires_grad_() for t in (x, weight, bias))
    assert torch.autograd.gradcheck(DepthwiseConv.apply, (x, weight, bias))
