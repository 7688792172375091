"""LayerNorm and the block's second half on kernels of Triton's interpreter, on the CPU: prints differences as JSON.

A program of its own, because Triton reads ``TRITON_INTERPRET=1`` when a kernel is defined.
"""
import json
import sys

import torch
import torch.nn.functional as F

from convnext_mm import ConvNeXt
from convnext_mm.models.ops import block, pointwise
from convnext_mm.models.ops.tensors import MLPTensors
from tests.helpers.models import randomise, relative_difference

#: Tiles this small are several to a map, and several to a program; columns of neither end at a tile's edge.
pointwise.TILE, pointwise.PROGRAMS, pointwise.HIDDEN_BLOCK, pointwise.NARROW = 64, 3, 16, (16, 16, 16, 4, 1)
NAMES = 'x', 'y', 'scale', 'norm_weight', 'norm_bias', 'weight1', 'bias1', 'weight2', 'bias2', 'gamma'
SHAPES = (2, 5, 3, 6), (2, 5, 3, 6), (2, 1, 1, 1), (6,), (6,), (24, 6), (24,), (6, 24), (6,), (6,)
#: Precision of the branch, tensors that are not there, parameters without a gradient.
MLP_CASES = {
    'float32': (torch.float32, (), ()), 'no gamma': (torch.float32, ('gamma',), ()),
    'no scale': (torch.float32, ('scale',), ()), 'bfloat16': (torch.bfloat16, (), ()),
    'float16': (torch.float16, (), ()), 'float16, no gamma': (torch.float16, ('gamma', 'scale'), ()),
    'weights frozen': (torch.float32, (), ('weight1', 'weight2')),
    'all frozen': (torch.float32, (), NAMES[3:]), 'second weight and gamma frozen': (
        torch.float32, (), ('weight2', 'gamma')), 'float16, weights frozen': (
        torch.float16, (), ('weight1', 'weight2'))}
NORM_CASES = {'norm': (torch.float32, False), 'norm, channels first': (torch.float32, True),
              'norm, bfloat16': (torch.bfloat16, True)}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def results(function, tensors, learning, grad):
    """Return the result, and gradients of some of the tensors, by name."""
    tensors = {name: tensor.detach().requires_grad_(name in learning) for name, tensor in tensors.items()}
    result = function(**tensors)
    found = torch.autograd.grad(result, [tensors[name] for name in learning], grad.to(result.dtype))
    return dict(result=result.detach(), **dict(zip(learning, found)))


def plain(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma):
    branch = F.layer_norm(y, y.shape[-1:], norm_weight, norm_bias, 1e-6)
    branch = F.linear(F.gelu(F.linear(branch, weight1, bias1)), weight2, bias2)
    return x + branch * (1 if gamma is None else gamma) * (1 if scale is None else scale)


def own(x, y, scale, **tensors):
    return block.residual_mlp(x, y, scale, MLPTensors(**tensors), eps=1e-6)


def linear_gelu(x, weight, bias):
    """Stand in for the kernel in bfloat16, where the interpreter multiplies the bits of the values."""
    return F.gelu(F.linear(x, weight, bias.to(x.dtype)))


def of_mlp(dtype, absent, frozen):
    tensors = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(zip(NAMES, SHAPES))}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in absent}
    learning = [name for name in tensors if name != 'scale' and name not in frozen]
    given = {**tensors, 'y': tensors['y'].to(dtype)}
    exact = {name: tensor.double() for name, tensor in given.items()}
    none, kernel = dict.fromkeys(absent), pointwise._linear_gelu
    pointwise._linear_gelu = linear_gelu if dtype == torch.bfloat16 else kernel
    found = results(lambda **some: own(**some, **none), given, learning, random(*SHAPES[0], seed=20))
    expected = results(lambda **some: plain(**some, **none), exact, learning, random(*SHAPES[0], seed=20))
    with torch.no_grad():
        found['inference'], expected['inference'] = own(**given, **none), expected['result']
    pointwise._linear_gelu = kernel
    return {name: relative_difference(found[name].double(), expected[name]) for name in expected}


def of_norm(dtype, channels_first):
    tensors = dict(x=random(2, 5, 3, 33).to(dtype), weight=random(33, seed=1), bias=random(33, seed=2))
    grad = random(2, 33, 5, 3, seed=3).permute(0, 2, 3, 1)

    def own(x, weight, bias):
        y = block.layer_norm(x, weight, bias, 1e-6, channels_first)
        assert y.permute(0, 3, 1, 2).is_contiguous() == channels_first
        return y
    found = results(own, tensors, list(tensors), grad)
    expected = results(lambda x, weight, bias: F.layer_norm(x, (33,), weight, bias, 1e-6),
                       {name: tensor.double() for name, tensor in tensors.items()}, list(tensors), grad)
    return {name: relative_difference(found[name].double(), expected[name]) for name in expected}


def of_model(**kwargs):
    """Compare a whole backbone on the kernels with itself without them."""
    model = randomise(ConvNeXt(dict(depths=(1, 1, 1, 1), channels=(4, 6, 8, 5)), layer_scale_init_value=1., **kwargs))
    x, found = random(1, 3, 32, 32), []
    for has_kernels in (True, False):
        block._try_kernels = lambda device, has_kernels=has_kernels: has_kernels
        model.zero_grad()
        outputs = model(x)
        assert all(output.is_contiguous() for output in outputs)
        sum(output.square().sum() for output in outputs).backward()
        with torch.no_grad():
            alone = model(x)
        found.append({name: tensor.detach().clone() for name, tensor in (
            *((f'output {i}', output) for i, output in enumerate(outputs)),
            *((f'inference {i}', output) for i, output in enumerate(alone)),
            *((name, p.grad) for name, p in model.named_parameters()))})
    return {name: relative_difference(found[0][name], found[1][name]) for name in found[1]}


def main():
    found = {f'model, {name}': of_model(**kwargs) for name, kwargs in (
        ('plain', {}), ('with_cp', dict(with_cp=True)), ('GRN', dict(use_grn=True)),
        ('stride', dict(output_stride=8)), ('layout', dict(memory_format='contiguous_format')))}
    block._try_kernels = lambda device: True
    found.update((f'mlp, {name}', of_mlp(*case)) for name, case in MLP_CASES.items())
    found.update((name, of_norm(*case)) for name, case in NORM_CASES.items())
    empty = own(**{name: random(0, *shape[1:]) if i < 3 else random(*shape).requires_grad_()
                   for i, (name, shape) in enumerate(zip(NAMES, SHAPES))})
    empty.sum().backward()
    found['empty'] = dict(values=empty.numel())
    json.dump(found, sys.stdout)


if __name__ == '__main__':
    main()
