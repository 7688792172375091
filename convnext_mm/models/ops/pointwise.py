"""LayerNorm and the half of a block behind its convolution, for a GPU: torch's matrix products, and kernels of Triton
for all between them.

torch has a kernel a step, and under autocast some of them convert first: of a block's time on a GPU, most would go by
in passes over the maps, and on small maps in starting them.
"""
import functools

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from convnext_mm.models.ops import pointwise_kernels as kernels
from convnext_mm.models.ops.depthwise import blocks

#: Values of a program's tile, threads' warps, and programs of kernels that sum over rows.
TILE, WARPS, PROGRAMS = 4096, 8, 512
#: Columns of a tile of the hidden values.
HIDDEN_BLOCK = 256
#: Tiles of the first linear layer, rows, columns and depth, with warps and stages: of layers of so many inputs at most,
#: and of wider ones.
NARROW_INPUTS, NARROW, WIDE = 192, (128, 64, 32, 4, 4), (128, 128, 64, 8, 3)


def _power_of_2(number):
    return 1 << (number - 1).bit_length()


@functools.cache
def _tile(columns):
    """Rows and columns of a tile of whole rows."""
    block = _power_of_2(columns)
    return max(TILE // block, 1), block


def normalize(x, weight, bias, eps, dtype, channels_first=False):
    """LayerNorm of the channels.

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
    """Gradients of :func:`normalize`.

    Args:
        grad (Tensor): The result's, contiguous.
        x, weight, bias, eps, channels_first: As there.
        again (bool): Whether the result is given once more, not ``channels_first``. Defaults to False.

    Returns:
        tuple: Gradients of ``x``, of the weight and of the bias, both in float32, and the result or None.
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
    out = torch.empty_like(x, dtype=dtype)
    if out.numel():
        n, h, w, c = x.shape
        rows, block = _tile(c)
        kernels.add_branch[blocks(n * h * w, rows),](
            x, branch, bias, gamma, scale, out, n * h * w, h * w, c, rows, block, gamma is not None, scale is not None,
            num_warps=WARPS)
    return out


def _add_branch_backward(grad, branch, bias, gamma, scale, dtype):
    """The branch's gradient and the sums; with gamma where a ``branch`` is given."""
    n, h, w, c = grad.shape
    rows, block = _tile(c)
    programs, with_gamma = min(blocks(n * h * w, rows), PROGRAMS), branch is not None
    out, sums = torch.empty_like(grad, dtype=dtype), grad.new_empty(programs, 1 + with_gamma, c, dtype=torch.float32)
    if programs:
        kernels.add_branch_backward[programs,](grad, branch, bias, gamma, scale, out, sums, n * h * w, h * w, c, rows,
                                               block, with_gamma, scale is not None, num_warps=WARPS)
    return out, sums.sum(0)


def _gelu_backward(hidden, grad):
    """The GELU once more; ``grad``, of its result, turns into that of ``hidden``; and its sum over the rows."""
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
    """The GELU of a linear layer in half precision."""
    columns, inputs = weight.shape
    out = x.new_empty(len(x), columns)
    if len(x):
        rows, block, depth, warps, stages = NARROW if inputs <= NARROW_INPUTS else WIDE
        kernels.linear_gelu[blocks(len(x), rows) * blocks(columns, block),](
            x, weight, bias, out, len(x), inputs, columns, rows, block, depth, num_warps=warps, num_stages=stages)
    return out


def _apply_gamma(grad, of_bias, weight, bias, gamma):
    """Gradients of the second layer's weight and bias and of gamma, from those of the product."""
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


def residual_mlp(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps, dtype, grad):
    """:func:`convnext_mm.models.ops.block.residual_mlp`, its result in ``dtype``; with gradients if ``grad``."""
    x, y = x.contiguous(), y.contiguous()
    arguments = x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps, dtype
    return ResidualMLP.apply(*arguments) if grad else _forward(*arguments, keep=False)[0]


def _forward(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps, dtype, keep):
    """The result; with ``keep``, the values before the GELU and those behind the second product."""
    kind = y.dtype
    normed = normalize(y, norm_weight, norm_bias, eps, kind).view(-1, y.shape[-1])
    hidden = None
    if keep or kind == torch.float32:
        # Writing both values takes a kernel of its own longer than torch's two.
        hidden = torch.addmm(bias1.to(kind), normed, weight1.to(kind).t())
        active = F.gelu(hidden)
    else:
        active = _linear_gelu(normed, weight1.to(kind), bias1)
    branch = torch.mm(active, weight2.to(kind).t()).view(y.shape)
    return _add_branch(x, branch, bias2, gamma, scale, dtype), hidden, branch


class ResidualMLP(torch.autograd.Function):
    """:func:`residual_mlp` with gradients.

    bfloat16 and float32 have gamma's gradient from that of its product with the second weight; in float16, whose
    gradients without gamma would overflow, the branch is kept for it.
    """

    @staticmethod
    def forward(ctx, x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps, dtype):
        result, hidden, branch = _forward(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma,
                                          eps, dtype, keep=True)
        ctx.eps, ctx.x_dtype = eps, x.dtype
        branch = branch if gamma is not None and y.dtype == torch.float16 else None
        ctx.save_for_backward(hidden, branch, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, branch, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma = ctx.saved_tensors
        kind, channels, wanted = y.dtype, y.shape[-1], ctx.needs_input_grad
        grad = grad.contiguous()
        from_product = gamma is not None and branch is None
        of_branch, sums = _add_branch_backward(grad, branch, bias2, gamma, scale, kind)
        of_branch = of_branch.view(-1, channels)
        second = (weight2 * gamma[:, None] if from_product else weight2).to(kind)
        grad_hidden = torch.mm(of_branch, second)
        active, of_bias1 = _gelu_backward(hidden, grad_hidden)
        product = torch.mm(of_branch.t(), active) if wanted[7] or wanted[9] and from_product else None
        if from_product and product is not None:
            grads2 = _apply_gamma(product, sums[0], weight2, bias2, gamma)
        else:
            grads2 = (None if product is None else product.to(weight2.dtype),
                      (sums[0] if gamma is None else sums[0] * gamma).to(bias2.dtype),
                      None if branch is None else sums[1].to(gamma.dtype))
        del active
        grad_normed = torch.mm(grad_hidden, weight1.to(kind)).view(y.shape)
        grad_y, of_norm_weight, of_norm_bias, normed = normalize_backward(
            grad_normed, y, norm_weight, norm_bias, ctx.eps, again=wanted[5])
        grad_weight1 = torch.mm(grad_hidden.t(), normed.view(-1, channels)).to(weight1.dtype) if wanted[5] else None
        return (grad.to(ctx.x_dtype), grad_y, None, of_norm_weight.to(norm_weight.dtype),
                of_norm_bias.to(norm_bias.dtype), grad_weight1, of_bias1.to(bias1.dtype), *grads2, None, None)
