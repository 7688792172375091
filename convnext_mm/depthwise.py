"""The depthwise 7 x 7 convolution as an operator of torch's own, so that compilers take it, on kernels of Triton.

Images are ``(N, H, W, C)`` here, and contiguous.
"""
from typing import NamedTuple

import torch
import triton

from . import depthwise_kernels

KERNEL = depthwise_kernels.KERNEL
COLS = depthwise_kernels.COLS.value
#: Channels of a program, one a lane of a warp.
BLOCK = 32
#: Programs that fill a GPU, and the fewest rows that one is given for that.
PROGRAMS, ROWS = 2048, 8
#: Triton's interpreter takes no PTX.
_ASSEMBLY = isinstance(depthwise_kernels.convolve, triton.JITFunction)


def _blocks(count, size):
    return -(-count // size)


class _Plan(NamedTuple):
    """How images ``(N, H, W, C)`` are shared out among programs."""

    #: Blocks of channels; groups of strips; rows of a program; strips of ``COLS`` columns of a program, one a warp.
    channels: int
    across: int
    rows: int
    strips: int


def _plan(x):
    n, h, w, c = x.shape
    strips = _blocks(w, COLS)
    # Neighbours share a cache, but a program's second warp is not to be idle in a narrow image.
    together = 1 if strips % 2 and strips < 5 else 2
    channels, across = _blocks(c, BLOCK), _blocks(strips, together)
    parts = min(max(PROGRAMS // (n * across * channels), 1), _blocks(h, ROWS))
    return _Plan(channels, across, _blocks(h, parts), together)


def convolve(x, weight, bias, flip=False):
    """Convolution of images, any of float32, bfloat16 and float16, summed in float32.

    Args:
        x (Tensor): ``(N, H, W, C)``.
        weight (Tensor): ``(C, 1, 7, 7)``.
        bias (Tensor): ``(C)``.
        flip (bool): Turn the weight around and leave the bias out, for the input's gradient. Defaults to False.

    Returns:
        Tensor: ``(N, H, W, C)``, of the precision of ``x``.
    """
    x = x.contiguous()
    n, h, w, c = x.shape
    out = torch.empty_like(x)
    if out.numel():
        taps = weight.reshape(c, -1).t().contiguous()
        plan = _plan(x)
        depthwise_kernels.convolve[plan.channels * plan.across, _blocks(h, plan.rows), n](
            x, taps, bias, out, h, w, plan.rows, c, flip, plan.strips, BLOCK, _ASSEMBLY, num_warps=plan.strips)
    return out


def weight_gradient(x, grad):
    """Gradients of the weight and the bias, ``(C, 1, 7, 7)`` and ``(C)``, in float32.

    Args:
        x, grad (Tensor): The images and the gradient of their convolution, ``(N, H, W, C)``.
    """
    x, grad = x.contiguous(), grad.contiguous()
    n, h, w, c = x.shape
    if not x.numel():
        return x.new_zeros(c, 1, KERNEL, KERNEL, dtype=torch.float32), x.new_zeros(c, dtype=torch.float32)
    plan = _plan(x)
    patches = n * plan.across * _blocks(h, plan.rows)
    # All programs get as many patches. What each sums is added up in one order: no run differs from another.
    programs = _blocks(patches, _blocks(patches * plan.channels, PROGRAMS))
    sums = x.new_empty(programs, KERNEL * KERNEL + 1, c, dtype=torch.float32)
    depthwise_kernels.weigh[plan.channels, programs](
        x, grad, sums, n, h, w, plan.rows, c, plan.strips, BLOCK, _ASSEMBLY, num_warps=plan.strips)
    sums = sums.sum(0)
    return sums[:-1].t().reshape(c, 1, KERNEL, KERNEL).contiguous(), sums[-1].clone()


@torch.library.custom_op('convnext_mm::depthwise_conv', mutates_args=())
def depthwise_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """:func:`convolve` with gradients."""
    with torch.cuda.device_of(x):
        return convolve(x, weight, bias)


@torch.library.custom_op('convnext_mm::depthwise_conv_input_gradient', mutates_args=())
def _input_gradient(grad: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    with torch.cuda.device_of(grad):
        return convolve(grad, weight, bias, flip=True)


@torch.library.custom_op('convnext_mm::depthwise_conv_weight_gradient', mutates_args=())
def _weight_gradient(x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.cuda.device_of(x):
        return weight_gradient(x, grad)


@depthwise_conv.register_fake
@_input_gradient.register_fake
def _(x, weight, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_weight_gradient.register_fake
def _(x, grad):
    c = x.shape[-1]
    return x.new_empty(c, 1, KERNEL, KERNEL, dtype=torch.float32), x.new_empty(c, dtype=torch.float32)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    x, weight, bias = ctx.saved_tensors
    grad_x = _input_gradient(grad, weight, bias) if ctx.needs_input_grad[0] else None
    if not any(ctx.needs_input_grad[1:]):
        return grad_x, None, None
    grad_weight, grad_bias = _weight_gradient(x, grad)
    return grad_x, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)


depthwise_conv.register_autograd(_backward, setup_context=_keep)
