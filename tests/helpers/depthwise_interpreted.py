"""The kernels of the depthwise convolution in Triton's interpreter, on the CPU: prints differences as JSON.

A program of its own, because Triton reads ``TRITON_INTERPRET=1`` when a kernel is defined.
"""
import json
import sys

import torch
import torch.nn.functional as F

from convnext_mm.models.layers import ConvNeXtBlock
from convnext_mm.models.ops import block, depthwise
from tests.helpers.models import randomise, relative_difference

#: Images and the warps that there is room for: channels beyond a block and beside it, one strip and two, a strip cut
#: short, rows in parts, several patches a program.
CASES = {'one': ((1, 8, 5, 9), 1), 'cut': ((1, 33, 2, 9), 1), 'parts': ((1, 3, 18, 5), 99), 'many': ((2, 3, 4, 18), 3),
         'low': ((1, 2, 1, 1), 1)}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(function, *tensors):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    result = function(*tensors)
    return dict(zip(('y', 'x', 'weight', 'bias'), (result.detach(), *torch.autograd.grad(
        result, tensors, random(*result.shape, seed=3)))))


def operator(x, weight, bias):
    return depthwise.depthwise_conv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def plain(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=3, groups=len(weight))


def of_case(shape, warps, dtype=torch.float32):
    depthwise._processors = lambda device: warps
    depthwise.WARPS = 1
    tensors = random(*shape), random(shape[1], 1, 7, 7, seed=1), random(shape[1], seed=2)
    expected = gradients(plain, *(tensor.double() for tensor in tensors))
    found = gradients(lambda x, *others: operator(x.to(dtype), *others).float(), *tensors)
    return {name: relative_difference(found[name].double(), expected[name]) for name in expected}


def of_block():
    """Compare a whole block on the kernels, eager and as a graph, with the same without them."""
    model = randomise(ConvNeXtBlock(4, layer_scale_init_value=1.)).train()
    x = random(1, 4, 6, 7)

    def run(function):
        model.zero_grad()
        result = function(x)
        result.sum().backward()
        return [result.detach(), *(p.grad.clone() for p in model.parameters())]
    expected = run(model)
    block._try_kernels = lambda device: True
    torch._dynamo.reset()
    return {name: max(map(relative_difference, run(function), expected)) for name, function in (
        ('eager', model), ('compiled', torch.compile(model, backend='aot_eager', fullgraph=True)))}


def main():
    found = {name: of_case(*case) for name, case in CASES.items()}
    found['bfloat16'] = of_case((1, 3, 4, 9), 1, torch.bfloat16)
    found['block'] = of_block()
    torch.library.opcheck(depthwise.depthwise_conv, (
        random(1, 4, 5, 3).requires_grad_(), random(3, 1, 7, 7).requires_grad_(), random(3).requires_grad_()))
    json.dump(found, sys.stdout)


if __name__ == '__main__':
    main()
