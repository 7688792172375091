"""LayerNorm and the half of a block behind its convolution, on a GPU.

The matrix products are torch's, and kernels of Triton compute all between them. torch would run a kernel for each step,
and under autocast convert before some of them: most of a block's time would go into passes over the maps, and on small
maps into starting kernels.
"""
import functools

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from convnext_mm.models.ops import pointwise_kernels as kernels
from convnext_mm.models.ops.depthwise import blocks
from convnext_mm.models.ops.tensors import MLPTensors

#: Values of a program's tile, warps of a program, and programs of kernels that sum over rows.
TILE, WARPS, PROGRAMS = 4096, 8, 512
#: Columns of a tile of the hidden values.
HIDDEN_BLOCK = 256
#: Tiles of the first linear layer as (rows, columns, depth, warps, stages): for at most so many inputs, and for more.
NARROW_INPUTS, NARROW, WIDE = 192, (128, 64, 32, 4, 4), (128, 128, 64, 8, 3)


def _power_of_2(number):
    return 1 << (number - 1).bit_length()


@functools.cache
def _tile(columns):
    """Return the rows and columns of a tile of whole rows."""
    block = _power_of_2(columns)
    return max(TILE // block, 1), block


def normalize(x, weight, bias, eps, dtype, channels_first=False):
    """Return the LayerNorm of the channels.

    Args:
        x (Tensor): ``(N, H, W, C)``, contiguous.
        weight, bias (Tensor): ``(C)``.
        eps (float): Added to the variance.
        dtype (torch.dtype): Of the result.
        channels_first (bool): Whether the result is ``(N, C, H, W)``. Defaults to False.

    Returns:
        Tensor: Contiguous.
    """
    n, h, w, c = x.shape
    out = x.new_empty((n, c, h, w) if channels_first else x.shape, dtype=dtype)
    if out.numel():
        rows, block = _tile(c)
        kernels.normalize[blocks(n * h * w, rows),](x, weight, bias, out, n * h * w, h * w, eps, c, rows, block,
                                                     channels_first, num_warps=WARPS)
    return out


def normalize_backward(grad, x, weight, bias, eps, channels_first=False, again=False):
    """Return the gradients of :func:`normalize`.

    Args:
        grad (Tensor): The result's, contiguous.
        x, weight, bias, eps, channels_first: As there.
        again (bool): Return the LayerNorm itself too, never ``channels_first``. Defaults to False.

    Returns:
        tuple: The gradients of ``x``, of the weight and of the bias, the latter two in float32; the LayerNorm or None.
    """
    n, h, w, c = x.shape
    rows, block = _tile(c)
    programs = min(blocks(n * h * w, rows), PROGRAMS)
    grad_x, out = torch.empty_like(x), torch.empty_like(x, dtype=grad.dtype) if again else None
    sums = x.new_empty(programs, 2, c, dtype=torch.float32)
    if programs:
        kernels.normalize_backward[programs,](grad, x, weight, bias, grad_x, out, sums, n * h * w, h * w, eps, c, rows,
                                              block, channels_first, again, num_warps=WARPS)
    return grad_x, *sums.sum(0), out


def _add_branch(x, branch, bias, gamma, scale, dtype):
    """Return ``x + scale * gamma * (branch + bias)``."""
    out = torch.empty_like(x, dtype=dtype)
    if out.numel():
        n, h, w, c = x.shape
        rows, block = _tile(c)
        kernels.add_branch[blocks(n * h * w, rows),](
            x, branch, bias, gamma, scale, out, n * h * w, h * w, c, rows, block, gamma is not None, scale is not None,
            num_warps=WARPS)
    return out


def _add_branch_backward(grad, branch, bias, gamma, scale, dtype):
    """Return the gradients of :func:`_add_branch`.

    Returns:
        tuple: The branch's, without gamma if ``branch`` is None; sums over the rows, ``(1 or 2, C)``: of the gradient
        without gamma, and gamma's gradient where a ``branch`` is given.
    """
    n, h, w, c = grad.shape
    rows, block = _tile(c)
    programs, with_gamma = min(blocks(n * h * w, rows), PROGRAMS), branch is not None
    out, sums = torch.empty_like(grad, dtype=dtype), grad.new_empty(programs, 1 + with_gamma, c, dtype=torch.float32)
    if programs:
        kernels.add_branch_backward[programs,](grad, branch, bias, gamma, scale, out, sums, n * h * w, h * w, c, rows,
                                               block, with_gamma, scale is not None, num_warps=WARPS)
    return out, sums.sum(0)


def _gelu_backward(hidden, grad):
    """Turn ``grad``, the gradient of the GELU's result, into that of ``hidden``.

    Returns:
        tuple: The GELU of ``hidden``, and the sum of its gradient over the rows.
    """
    pixels, columns = hidden.shape
    block = min(_power_of_2(columns), HIDDEN_BLOCK)
    rows, across = TILE // block, blocks(columns, block)
    programs = min(blocks(pixels, rows), blocks(4 * PROGRAMS, across))
    active, sums = torch.empty_like(hidden), hidden.new_empty(programs, columns, dtype=torch.float32)
    if programs:
        kernels.gelu_backward[across, programs](hidden, grad, active, sums, pixels, columns, rows, block,
                                                num_warps=WARPS)
    return active, sums.sum(0)


def _linear_gelu(x, weight, bias):
    """Return the GELU of a linear layer in half precision."""
    columns, inputs = weight.shape
    out = x.new_empty(len(x), columns)
    if len(x):
        rows, block, depth, warps, stages = NARROW if inputs <= NARROW_INPUTS else WIDE
        kernels.linear_gelu[blocks(len(x), rows) * blocks(columns, block),](
            x, weight, bias, out, len(x), inputs, columns, rows, block, depth, num_warps=warps, num_stages=stages)
    return out


def _apply_gamma(grad, of_bias, weight, bias, gamma):
    """Return the gradients of the second weight, its bias and gamma, from those of their products with gamma."""
    weight, (channels, columns) = weight.contiguous(), weight.shape
    results = torch.empty_like(weight), torch.empty_like(bias), torch.empty_like(gamma)
    kernels.apply_gamma[channels,](grad, weight, bias, gamma, of_bias, *results, columns, _power_of_2(columns),
                                   num_warps=WARPS)
    return results


class LayerNorm(torch.autograd.Function):
    """``LayerNorm.apply(x, weight, bias, eps, dtype, channels_first)``: :func:`normalize` with gradients."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps, dtype, channels_first):
        ctx.save_for_backward(x, weight, bias)
        ctx.eps, ctx.channels_first = eps, channels_first
        return normalize(x, weight, bias, eps, dtype, channels_first)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias = ctx.saved_tensors
        grad_x, of_weight, of_bias, _ = normalize_backward(grad.contiguous(), x, weight, bias, ctx.eps,
                                                           ctx.channels_first)
        return grad_x, of_weight.to(weight.dtype), of_bias.to(bias.dtype), None, None, None


def residual_mlp(x, y, scale, tensors, eps, dtype, grad):
    """Compute :func:`convnext_mm.models.ops.block.residual_mlp` in a precision, with gradients if ``grad``."""
    x, y = x.contiguous(), y.contiguous()
    if grad:
        return ResidualMLP.apply(x, y, scale, eps, dtype, *tensors)
    return _forward(x, y, scale, tensors, eps, dtype, keep=False)[0]


def _forward(x, y, scale, tensors, eps, dtype, keep):
    """Return the result and what its gradient takes.

    Returns:
        tuple: The result; the values before the GELU, which may be None without ``keep``; the second product's result.
    """
    kind = y.dtype
    normed = normalize(y, tensors.norm_weight, tensors.norm_bias, eps, kind).view(-1, y.shape[-1])
    weight1, hidden = tensors.weight1.to(kind), None
    if keep or kind == torch.float32:
        # A kernel of its own that writes both values takes longer than torch's two.
        hidden = torch.addmm(tensors.bias1.to(kind), normed, weight1.t())
        active = F.gelu(hidden)
    else:
        active = _linear_gelu(normed, weight1, tensors.bias1)
    branch = torch.mm(active, tensors.weight2.to(kind).t()).view(y.shape)
    return _add_branch(x, branch, tensors.bias2, tensors.gamma, scale, dtype), hidden, branch


class ResidualMLP(torch.autograd.Function):
    """``ResidualMLP.apply(x, y, scale, eps, dtype, *tensors)``: :func:`residual_mlp` with gradients.

    In bfloat16 and float32, gamma's gradient comes from that of its product with the second weight. In float16, whose
    gradients without gamma would overflow, the branch is kept for it.
    """

    @staticmethod
    def forward(ctx, x, y, scale, eps, dtype, *tensors):
        tensors = MLPTensors(*tensors)
        result, hidden, branch = _forward(x, y, scale, tensors, eps, dtype, keep=True)
        ctx.eps, ctx.x_dtype = eps, x.dtype
        branch = branch if tensors.gamma is not None and y.dtype == torch.float16 else None
        ctx.save_for_backward(hidden, branch, y, scale, *tensors)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, branch, y, scale, *tensors = ctx.saved_tensors
        tensors, wanted = MLPTensors(*tensors), MLPTensors(*ctx.needs_input_grad[5:])
        grad = grad.contiguous()
        of_branch, sums = _add_branch_backward(grad, branch, tensors.bias2, tensors.gamma, scale, y.dtype)
        grad_hidden, of_bias1, second = _second_layer_backward(of_branch.view(-1, y.shape[-1]), sums, hidden, tensors,
                                                               wanted)
        grad_normed = torch.mm(grad_hidden, tensors.weight1.to(y.dtype)).view(y.shape)
        grad_y, of_norm_weight, of_norm_bias, normed = normalize_backward(
            grad_normed, y, tensors.norm_weight, tensors.norm_bias, ctx.eps, again=wanted.weight1)
        of_weight1 = None
        if wanted.weight1:
            of_weight1 = torch.mm(grad_hidden.t(), normed.view(-1, y.shape[-1])).to(tensors.weight1.dtype)
        return grad.to(ctx.x_dtype), grad_y, None, None, None, *MLPTensors(
            norm_weight=of_norm_weight.to(tensors.norm_weight.dtype),
            norm_bias=of_norm_bias.to(tensors.norm_bias.dtype), weight1=of_weight1,
            bias1=of_bias1.to(tensors.bias1.dtype), **second)


def _second_layer_backward(of_branch, sums, hidden, tensors, wanted):
    """Compute the gradients of the second linear layer and of gamma.

    Args:
        of_branch (Tensor): The gradient of the layer's result, ``(rows, C)``.
        sums (Tensor): As :func:`_add_branch_backward` returns them: two where the branch was kept.
        hidden (Tensor): The values before the GELU.
        tensors, wanted (MLPTensors): The parameters, and whether each needs a gradient.

    Returns:
        tuple: The gradient of ``hidden``, its sum over the rows, and ``{name: gradient}`` of weight2, bias2 and gamma.
    """
    weight2, bias2, gamma = tensors.weight2, tensors.bias2, tensors.gamma
    kept_branch = len(sums) == 2
    folded = gamma is not None and not kept_branch
    grad_hidden = torch.mm(of_branch, (weight2 * gamma[:, None] if folded else weight2).to(of_branch.dtype))
    active, of_bias1 = _gelu_backward(hidden, grad_hidden)
    product = torch.mm(of_branch.t(), active) if wanted.weight2 or wanted.gamma and folded else None
    if folded and product is not None:
        of_weight2, of_bias2, of_gamma = _apply_gamma(product, sums[0], weight2, bias2, gamma)
    else:
        of_weight2 = None if product is None else product.to(weight2.dtype)
        of_bias2 = (sums[0] if gamma is None else sums[0] * gamma).to(bias2.dtype)
        of_gamma = sums[1].to(gamma.dtype) if kept_branch else None
    return grad_hidden, of_bias1, dict(weight2=of_weight2, bias2=of_bias2, gamma=of_gamma)
