"""The block's second half on a CPU: its gradients, and the samples that stochastic depth drops."""
import pytest
import torch

from convnext_mm.models.ops.block import residual_mlp
from convnext_mm.models.ops.tensors import MLPTensors
from tests.helpers.blocks import images, make_block, needs_float16


def apply(x, y, scale, *tensors):
    return residual_mlp(x, y, scale, MLPTensors(*tensors), 1e-6)


def test_gradcheck():
    """Of several pieces, with a sample dropped."""
    arguments = [images(2, 4, 6, 5), images(2, 4, 6, 5), torch.tensor([0., 1.6]), *(
        images(*shape) for shape in ((5,), (5,), (20, 5), (20,), (5, 20), (5,), (5,)))]
    arguments = [a.double().requires_grad_(i != 2) for i, a in enumerate(arguments)]
    assert torch.autograd.gradcheck(apply, arguments)


@pytest.mark.parametrize(('dtype', 'tolerance'), [
    (torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2),
    pytest.param(torch.float16, 2e-3, marks=needs_float16)], ids=str)
@pytest.mark.parametrize('gamma', [0, 1.])
@pytest.mark.parametrize('kept', ['0000', '1000', '0001', '0110', '1011', '1111'])
def test_dropped_samples_are_left_alone(kept, gamma, dtype, tolerance):
    """Whatever their branches would give: the others' results and the parameters' gradients are as without them."""
    block, scale = make_block(gamma), torch.tensor([1.25 * int(character) for character in kept])
    x, y, grad = images(3, 4, 7, 9, 16)
    y[scale == 0] = float('nan')
    parameters = [p.detach().to(torch.promote_types(dtype, p.dtype)) for n, p in block.named_parameters()
                  if not n.startswith('dwconv') and n != 'gamma']
    parameters.append(None if block.gamma is None else block.gamma.detach().to(parameters[0].dtype))

    def run(x, y, scale, grad):
        learning = [t if t is None else t.clone().requires_grad_() for t in (x, y, *parameters)]
        result = apply(*learning[:2], scale, *learning[2:])
        learning = [t for t in learning if t is not None]
        return result, *torch.autograd.grad(result, learning, grad.to(result.dtype))
    arguments = x.to(parameters[0].dtype), y.to(dtype), scale, grad
    found, expected = run(*arguments), run(*(t[scale != 0] for t in arguments))
    for images_of_all, images_of_some in zip(found[:3], expected):
        torch.testing.assert_close(images_of_all[scale != 0], images_of_some, rtol=tolerance, atol=tolerance)
    assert torch.equal(found[0][scale == 0], arguments[0][scale == 0])
    assert torch.equal(found[1], grad.to(found[1].dtype))
    assert not found[2][scale == 0].any()
    for of_all, of_some in zip(found[3:], expected[3:], strict=True):
        torch.testing.assert_close(of_all, of_some, rtol=tolerance, atol=tolerance * (1 + of_some.abs().max().item()))
