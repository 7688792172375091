"""The depthwise 7 x 7 convolution on kernels of Triton, registered as an operator of torch, so that compilers take it.

Images are ``(N, H, W, C)`` here, and contiguous.
"""
import functools
from typing import NamedTuple

import torch
import triton
from torch.autograd.function import once_differentiable

from convnext_mm.models.ops import depthwise_kernels

KERNEL = depthwise_kernels.KERNEL
COLS = depthwise_kernels.COLS.value
#: Channels of a program, one a lane of a warp.
BLOCK = 32
#: Registers of a thread, and the warps that a multiprocessor has room for with so many.
REGISTERS, WARPS = 168, 12
#: The fewest rows of a program: it goes over three more at either end.
ROWS = 8
#: Partial sums of a weight's gradient that are added at once.
SUMMED = 32
#: Triton's interpreter takes no PTX.
_ASSEMBLY = isinstance(depthwise_kernels.convolve, triton.JITFunction)


def blocks(count, size):
    """Return how many blocks of a size hold a count; Triton's own function takes longer than what it is for."""
    return -(-count // size)


@functools.cache
def _processors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 1


class _Plan(NamedTuple):
    """How images ``(N, H, W, C)`` are shared out among programs."""

    #: Blocks of channels.
    channels: int
    #: Strips of ``COLS`` columns side by side in a program, one for each warp.
    strips: int
    #: Rows of such strips in a program.
    rows: int
    #: Programs of a block of channels.
    programs: int


@functools.lru_cache(maxsize=4096)
def _plan(shape, warps):
    """Return the plan with as many programs as a GPU with room for ``warps`` runs at once, all with as many rows."""
    n, h, w, c = shape
    strips, channels = blocks(w, COLS), blocks(c, BLOCK)
    # Neighbours share a cache, but a program's second warp is not to be idle in a narrow image.
    together = 1 if strips % 2 and strips < 9 else 2
    total = n * blocks(strips, together) * h
    rows = max(blocks(total, max(warps // together // channels, 1)), min(ROWS, h))
    return _Plan(channels, together, rows, blocks(total, rows))


def lay_out(weight):
    """Return a weight ``(C, 1, 7, 7)`` as the kernels read it, ``(49, C)``."""
    return weight.reshape(len(weight), -1).t().contiguous()


def convolve(x, taps, bias, flip=False, dtype=None):
    """Convolve images in float32, bfloat16 or float16; sum in float32.

    Args:
        x (Tensor): ``(N, H, W, C)``.
        taps (Tensor): The weight as :func:`lay_out` has it, ``(49, C)``.
        bias (Tensor): ``(C)``.
        flip (bool): Turn the weight around and leave the bias out, for the input's gradient. Defaults to False.
        dtype (torch.dtype, optional): Of the result. Defaults to that of ``x``.

    Returns:
        Tensor: ``(N, H, W, C)``.
    """
    x = x.contiguous()
    n, h, w, c = x.shape
    out = torch.empty_like(x, dtype=dtype)
    if out.numel():
        plan = _plan(x.shape, WARPS * _processors(x.device))
        depthwise_kernels.convolve[plan.channels, plan.programs](
            x, taps, bias, out, n, h, w, plan.rows, c, flip, plan.strips, BLOCK, _ASSEMBLY, num_warps=plan.strips,
            maxnreg=REGISTERS)
    return out


def weight_gradient(x, grad):
    """Return the gradients of the weight and the bias, ``(C, 1, 7, 7)`` and ``(C)``, in float32.

    Args:
        x, grad (Tensor): The images and the gradient of their convolution, ``(N, H, W, C)``.
    """
    x, grad = x.contiguous(), grad.contiguous()
    n, h, w, c = x.shape
    empty = x.new_empty if x.numel() else x.new_zeros
    grads = empty(c, 1, KERNEL, KERNEL, dtype=torch.float32), empty(c, dtype=torch.float32)
    if not x.numel():
        return grads
    plan = _plan(x.shape, WARPS * _processors(x.device))
    # The sums of the programs are added up in one order, so that no run differs from another.
    sums = x.new_empty(plan.programs, KERNEL * KERNEL + 1, c, dtype=torch.float32)
    depthwise_kernels.weigh[plan.channels, plan.programs](
        x, grad, sums, n, h, w, plan.rows, c, plan.strips, BLOCK, _ASSEMBLY, num_warps=plan.strips, maxnreg=REGISTERS)
    depthwise_kernels.add_up[KERNEL * KERNEL + 1, plan.channels](sums, *grads, plan.programs, c, SUMMED, BLOCK)
    return grads


@torch.library.custom_op('convnext_mm::depthwise_conv', mutates_args=())
def depthwise_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Compute :func:`convolve` with gradients."""
    with torch.cuda.device_of(x):
        return convolve(x, lay_out(weight), bias)


@torch.library.custom_op('convnext_mm::depthwise_conv_input_gradient', mutates_args=())
def _input_gradient(grad: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    with torch.cuda.device_of(grad):
        return convolve(grad, lay_out(weight), bias, flip=True)


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


class DepthwiseConv(torch.autograd.Function):
    """``DepthwiseConv.apply(x, weight, bias)``: the operator where nothing is compiled, which costs less in Python."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        taps = lay_out(weight)
        ctx.save_for_backward(x, taps, bias)
        return convolve(x, taps, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, taps, bias = ctx.saved_tensors
        grad_x = convolve(grad, taps, bias, flip=True) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return grad_x, None, None
        grad_weight, grad_bias = weight_gradient(x, grad)
        return grad_x, grad_weight.to(taps.dtype), grad_bias.to(bias.dtype)
