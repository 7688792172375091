"""LayerNorm and the half of a block behind its convolution, in torch's own operations.

On a CPU the layers run over pieces of the images that stay in the cache, and skip samples that stochastic depth drops.
On another device without kernels the images are one piece. Gamma and the residual are one pass, and gamma's gradient
comes from that of the second weight.
"""
import itertools
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from convnext_mm.models.ops.cpu import add_weight_gradient, has_avx512, lay_out, linear, sum_rows
from convnext_mm.models.ops.tensors import MLPTensors, result_type

#: Pixels of a piece on a CPU in float32, twice as many in bfloat16: a few MB of hidden values, and matrix products
#: long enough to run at their peak.
PIECE = 2048


class _Pieces(NamedTuple):
    """How the pixels of images ``(N, H, W, C)``, laid out as rows, are shared out."""

    #: Slices to compute one after another, at least one.
    computed: list
    #: Slices of samples that stochastic depth drops.
    dropped: list
    #: Rows of the longest slice to compute.
    longest: int


def _cut(shape, scale, device, dtype):
    """Return the ``_Pieces`` of images. A GPU computes all samples: to know the dropped ones is to wait for it."""
    pixels, on_cpu = shape[1] * shape[2], device.type == 'cpu'
    factors = [1.] * shape[0] if scale is None or not on_cpu else scale.flatten().tolist()
    # Sums of pieces lose more in float16, whose gradients are often near its smallest numbers.
    step = PIECE * 4 // dtype.itemsize if on_cpu and dtype != torch.float16 else max(shape[0] * pixels, 1)
    computed, dropped, start = [], [], 0
    for is_kept, samples in itertools.groupby(factors, bool):
        stop = start + pixels * len(list(samples))
        if is_kept:
            computed += (slice(first, min(first + step, stop)) for first in range(start, stop, step))
        else:
            dropped.append(slice(start, stop))
        start = stop
    computed = computed or [slice(0, 0)]
    return _Pieces(computed, dropped, max(rows.stop - rows.start for rows in computed))


def _per_pixel(scale, shape):
    """Return the factor of each row, ``(rows, 1)``, from that of each sample."""
    return None if scale is None else scale.reshape(-1).repeat_interleave(shape[1] * shape[2])[:, None]


def _norm(y, weight, bias, eps):
    """Return the LayerNorm, computed in its weight's precision, in that of ``y``; and its rows' statistics."""
    # On a CPU, torch's takes a weight in float32 beside half precision.
    mixed = y.device.type == 'cpu' and weight.dtype == torch.float32 and y.dtype.itemsize == 2
    normed, *statistics = torch.native_layer_norm(y if mixed else y.to(weight.dtype), (y.shape[-1],), weight, bias, eps)
    return normed.to(y.dtype), *statistics


def residual_mlp(x, y, scale, tensors, eps):
    """Compute :func:`convnext_mm.models.ops.block.residual_mlp` without gradients."""
    return _forward(x, y, scale, tensors, eps, keep=False)[0]


def _forward(x, y, scale, tensors, eps, keep):
    """Return the result and, with ``keep``, what its gradient takes.

    Returns:
        tuple: The result; a list with the values before the GELU of each piece; the values before gamma, None where
        gamma's gradient does without them.
    """
    dtype, shape, gamma = y.dtype, x.shape, tensors.gamma
    pieces = _cut(shape, scale, x.device, dtype)
    scale, x, y = _per_pixel(scale, shape), x.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
    bias1, bias2 = tensors.bias1.to(dtype), tensors.bias2.to(dtype)
    weight1 = lay_out(tensors.weight1, bias1, y, len(pieces.computed))
    weight2 = lay_out(tensors.weight2, bias2, y, len(pieces.computed))
    result = x.new_empty(x.shape, dtype=result_type(x, y, gamma))
    kept, before_gamma = [], torch.empty_like(y) if keep and gamma is not None and not _from_weight(dtype) else None
    # Memory that is asked for and given back by the piece costs more than what is computed in it.
    hidden_buffer = y.new_empty(pieces.longest, len(bias1))
    branch_buffer = None if result.dtype == dtype else y.new_empty(pieces.longest, y.shape[1])
    for rows in pieces.dropped:
        result[rows] = x[rows]
    for rows in pieces.computed:
        length, part = rows.stop - rows.start, result[rows]
        normed = _norm(y[rows], tensors.norm_weight, tensors.norm_bias, eps)[0]
        if keep:
            kept.append(linear(normed, weight1, bias1, None))
            active = torch._C._nn.gelu(kept[-1], out=hidden_buffer[:length])
        else:
            active = linear(normed, weight1, bias1, hidden_buffer[:length], gelu=True)
        branch = linear(active, weight2, bias2, part if branch_buffer is None else branch_buffer[:length])
        if before_gamma is not None:
            before_gamma[rows] = branch
        _add_branch(x[rows], branch, None if scale is None else scale[rows], gamma, part)
    return result.view(shape), kept, before_gamma


def _add_branch(x, branch, scale, gamma, out):
    """Write ``x + scale * gamma * branch`` into ``out``, which may be the memory of ``branch``."""
    if branch.dtype != out.dtype:
        branch = out.copy_(branch)
    if scale is not None:
        branch.mul_(scale)
    if gamma is None:
        torch.add(x, branch, out=out)
    else:
        torch.addcmul(x, branch, gamma, out=out)


def _from_weight(dtype):
    """Return whether gamma's gradient comes from that of the second weight, taken before gamma.

    Not in float16: without gamma, near its initial 1e-6, gradients of a scaled loss overflow.
    """
    return dtype != torch.float16


class ResidualMLP(torch.autograd.Function):
    """``ResidualMLP.apply(x, y, scale, eps, *tensors)``: :func:`residual_mlp` with gradients."""

    @staticmethod
    def forward(ctx, x, y, scale, eps, *tensors):
        result, kept, before_gamma = _forward(x, y, scale, MLPTensors(*tensors), eps, keep=True)
        ctx.x_dtype, ctx.eps = x.dtype, eps
        ctx.save_for_backward(y, scale, before_gamma, *tensors, *kept)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, scale, before_gamma, *others = ctx.saved_tensors
        tensors, kept = MLPTensors(*others[:len(MLPTensors._fields)]), others[len(MLPTensors._fields):]
        shape = y.shape
        pieces, scale = _cut(shape, scale, y.device, y.dtype), _per_pixel(scale, shape)
        grad_x, grad, y = grad.to(ctx.x_dtype), grad.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
        grad_y = torch.empty_like(y)
        for rows in pieces.dropped:
            grad_y[rows] = 0
        gradients = _Gradients(tensors, MLPTensors(*ctx.needs_input_grad[4:]), before_gamma is None, y, pieces.longest)
        for rows, hidden in zip(pieces.computed, kept):
            branch = gradients.of_branch(grad[rows], None if scale is None else scale[rows],
                                         None if before_gamma is None else before_gamma[rows])
            grad_hidden = gradients.of_hidden(branch, hidden)
            grad_y[rows] = gradients.of_input(grad_hidden, y[rows], ctx.eps)
        return grad_x, grad_y.view(shape), None, None, *gradients.finish()


class _Gradients:
    """The backward pass by the piece, from the result to ``y``: it sums the parameters' gradients.

    For each piece, call :meth:`of_branch`, :meth:`of_hidden` and :meth:`of_input` in this order, then :meth:`finish`.

    Args:
        tensors (MLPTensors): The parameters.
        wanted (MLPTensors): Whether each of them needs a gradient.
        from_weight (bool): Whether gamma's gradient comes from that of the second weight.
        y (Tensor): What the branch started from, ``(rows, C)``.
        longest (int): Rows of the longest piece.
    """

    def __init__(self, tensors, wanted, from_weight, y, longest):
        self.tensors, self.dtype = tensors, y.dtype
        # The second layer and gamma after it are one layer then, whose weight and bias are products with gamma.
        self.folded = from_weight and tensors.gamma is not None
        second = tensors.weight2 * tensors.gamma[:, None] if self.folded else tensors.weight2
        self.first, self.second = (t.to(self.dtype).t() for t in (tensors.weight1, second))
        if not has_avx512():
            # There products with a matrix in this order take up to 1.6 times as long.
            self.first, self.second = self.first.contiguous(), self.second.contiguous()
        # The first piece sets the gradients of the weights, which are large; it adds to the others.
        self.is_first = True
        self.sums = MLPTensors(
            norm_weight=torch.zeros_like(tensors.norm_weight), norm_bias=torch.zeros_like(tensors.norm_bias),
            weight1=torch.empty_like(tensors.weight1) if wanted.weight1 else None,
            bias1=torch.zeros_like(tensors.bias1),
            weight2=torch.empty_like(tensors.weight2) if wanted.weight2 or wanted.gamma else None,
            bias2=torch.zeros_like(tensors.bias2),
            gamma=None if tensors.gamma is None else torch.zeros_like(tensors.gamma))
        # Memory of the pieces, which take turns in it.
        self.hidden_buffers = y.new_empty(2, longest, len(tensors.weight1))
        self.branch_buffer = y.new_empty(longest, y.shape[1])
        self.norm_buffers = tensors.norm_weight.new_empty(2, longest, y.shape[1])

    def of_branch(self, grad, scale, before_gamma):
        """Return the gradient of the second layer's result from that of the residual sum."""
        if scale is not None:
            grad = torch.mul(grad, scale, out=self.norm_buffers[0, :len(grad)])
        if before_gamma is not None:
            self.sums.gamma.add_((grad * before_gamma).sum(0))
            grad = grad * self.tensors.gamma
        self.sums.bias2.add_(grad.sum(0))
        return grad if grad.dtype == self.dtype else self.branch_buffer[:len(grad)].copy_(grad)

    def of_hidden(self, branch, hidden):
        """Return the gradient of the first layer's result ``hidden`` from that of the second's."""
        active, grad_hidden = self.hidden_buffers[:, :len(hidden)]
        if self.sums.weight2 is not None:
            torch._C._nn.gelu(hidden, out=active)
            add_weight_gradient(self.sums.weight2, branch, active, self.is_first)
        grad_active = linear(branch, self.second, None, active)
        torch.ops.aten.gelu_backward.grad_input(grad_active, hidden, grad_input=grad_hidden)
        self.sums.bias1.add_(sum_rows(grad_hidden, self.sums.bias1.dtype))
        return grad_hidden

    def of_input(self, grad_hidden, y, eps):
        """Return the gradient of the branch's input ``y`` from that of the first layer's result."""
        weight, bias, length = self.tensors.norm_weight, self.tensors.norm_bias, len(y)
        normed, mean, deviation = _norm(y, weight, bias, eps)
        if self.sums.weight1 is not None:
            add_weight_gradient(self.sums.weight1, grad_hidden, normed, self.is_first)
        self.is_first = False
        grad_normed = linear(grad_hidden, self.first, None, self.branch_buffer[:length])
        if weight.dtype != self.dtype:
            # torch's takes two precisions, but sums the weight's gradient in the lower one.
            grad_normed = self.norm_buffers[0, :length].copy_(grad_normed)
            y = self.norm_buffers[1, :length].copy_(y)
        grad_y, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            grad_normed, y, (y.shape[1],), mean, deviation, weight, bias, (True, True, True))
        self.sums.norm_weight.add_(of_weight)
        self.sums.norm_bias.add_(of_bias)
        return grad_y

    def finish(self):
        """Return the gradients of all parameters, an ``MLPTensors``; None for weights that want none."""
        sums, tensors = self.sums, self.tensors
        if self.folded:
            # So far, the gradients are those of the products with gamma.
            if sums.weight2 is not None:
                sums.gamma.copy_(torch.linalg.vecdot(sums.weight2, tensors.weight2) + sums.bias2 * tensors.bias2)
                sums.weight2.mul_(tensors.gamma[:, None])
            sums.bias2.mul_(tensors.gamma)
        return sums
