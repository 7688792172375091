"""A block's two halves as autograd functions that keep and move less than autograd's own, with the same results.

* :func:`depthwise_conv`: on a GPU, kernels of this package's own (``depthwise``). On a CPU, oneDNN's
  weight gradient of a 7 x 7 kernel runs as a dense convolution in blocks of 16 channels; kernels up to 3 wide have a
  depthwise one, which is 2 to 14 times as fast in all.
* :func:`residual_mlp`: keeps the pixels before the LayerNorm and before the GELU and recomputes the rest; gamma and
  the residual are one pass, and gamma's gradient comes from the second weight's. On a GPU, what stands between the
  matrix products has kernels of its own (``pointwise``); on a CPU the layers run over pieces of the
  image that stay in the cache, and over no sample that stochastic depth drops.

Tensors are channels last: ``(N, H, W, C)`` in memory, whatever the order of their axes.
"""
import functools
import importlib.util
import itertools
import types
import warnings

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

#: Pixels of a piece on a CPU in float32, twice as many in bfloat16: a few MB of hidden values, and matrix products
#: long enough to run at their peak.
PIECE = 2048
#: Values that are summed at once: 1 MB in float32.
SUMMED = 2 ** 18
_KERNEL = 7
_PAD = _KERNEL // 2
#: (column in the middle, width): how the columns of the kernel are shared out.
_COLUMNS = (1, 3), (4, 3), (6, 1)
#: What the kernels of a GPU need: precisions, a torch whose Triton knows tuples, Ampere.
_KERNEL_TYPES = torch.float32, torch.bfloat16, torch.float16
_TORCH_SINCE, _CAPABILITY_SINCE = (2, 7), (8, 0)


def has_kernels(device):
    """Whether a device, ``torch.device``, runs the kernels of this package's own."""
    return _try_kernels(device)


def takes_kernels(x):
    """Whether there are kernels for a tensor: plain ones of their precisions, on a device that runs them."""
    return type(x) is torch.Tensor and x.dtype in _KERNEL_TYPES and has_kernels(x.device)


def _has_autocast(kind):
    return torch.amp.is_autocast_available(kind)


# What torch.compiler.assume_constant_result does, which imports the whole compiler: 2 s.
has_kernels._dynamo_marked_constant = _has_autocast._dynamo_marked_constant = True


@functools.cache
def _try_kernels(device):
    if device.type != 'cuda' or torch.version.cuda is None or importlib.util.find_spec('triton') is None \
            or tuple(map(int, torch.__version__.split('.')[:2])) < _TORCH_SINCE \
            or torch.cuda.get_device_capability(device) < _CAPABILITY_SINCE:
        return False
    from convnext_mm.models.ops import depthwise
    try:
        depthwise.depthwise_conv(*(torch.zeros(shape, device=device) for shape in ((1, 1, 1, 1), (1, 1, 7, 7), (1,))))
    # Triton compiles with what the machine has.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(f'blocks run on kernels of torch alone, slower: Triton does not run on {device} ({reason})',
                      stacklevel=2)
        return False
    return True


def _is_small(x):
    """The kernels of the convolution count in 32 bits in an image."""
    return x.shape[1] * x.shape[2] * x.shape[3] < 2 ** 31


def _conv(x, weight, bias, dilation=1):
    """``F.conv2d``, or the same by a kernel of this package's own, for compilers too."""
    if dilation == 1 and x.dtype in _KERNEL_TYPES and has_kernels(x.device) and _is_small(x):
        return torch.ops.convnext_mm.depthwise_conv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, padding=_PAD * dilation, dilation=dilation, groups=weight.shape[0])


def block(x, scale, conv_weight, conv_bias, norm_weight, norm_bias, weight1, bias1, grn_gamma, grn_beta, weight2, bias2,
          gamma, eps, dilation):
    """A ConvNeXt block.

    Args:
        x (Tensor): ``(N, C, H, W)``.
        scale (Tensor, optional): Stochastic depth's factor of each sample, ``(N, 1, 1, 1)``.
        conv_weight, conv_bias, ... (Tensor): The block's parameters; ``grn_gamma``, ``grn_beta`` and ``gamma`` may be
            None.
        eps (float): The LayerNorm's.
        dilation (int): The depthwise convolution's.

    Returns:
        Tensor: ``(N, C, H, W)``, channels last in memory.
    """
    if grn_gamma is not None:
        # It looks at the whole image between the two layers.
        return formula(x, scale, conv_weight, conv_bias, norm_weight, norm_bias, weight1, bias1, grn_gamma, grn_beta,
                       weight2, bias2, gamma, eps, dilation, conv=depthwise_conv)
    y = depthwise_conv(x, conv_weight, conv_bias, dilation, _precision(x))
    x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    result = residual_mlp(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps)
    return result.permute(0, 3, 1, 2)


def formula(x, scale, conv_weight, conv_bias, norm_weight, norm_bias, weight1, bias1, grn_gamma, grn_beta, weight2,
            bias2, gamma, eps, dilation, conv=_conv):
    """The block in torch's own operations, for compilers."""
    y = conv(x.to(_precision(x)), conv_weight, conv_bias, dilation).permute(0, 2, 3, 1)
    y = F.gelu(F.linear(F.layer_norm(y, (y.shape[-1],), norm_weight, norm_bias, eps), weight1, bias1))
    if grn_gamma is not None:
        y = response_norm(y, grn_gamma, grn_beta)
    precision = result_type(x, y, gamma)
    y = F.linear(y, weight2, bias2)
    if gamma is not None:
        y = gamma * y
    y = y.permute(0, 3, 1, 2)
    return x.to(precision) + (y if scale is None else y * scale)


@functools.cache
def compiled_block(channels):
    """:func:`formula`, compiled once for all blocks of a width and all sizes of images.

    Reaching torch's limit of recompilations raises an error instead of running uncompiled.
    """
    # torch counts recompilations by code object: a width has its own.
    function = types.FunctionType(formula.__code__.replace(co_name=f'block_{channels}'), formula.__globals__,
                                  argdefs=formula.__defaults__)
    compiled, config = torch.compile(function, dynamic=True, fullgraph=True), torch.fx.experimental._config

    def run(*args):
        # Else a first image as high as wide would have the next one compiled again. (torch's own patch() takes 32
        # microseconds where this takes 7.)
        before, config.use_duck_shape = config.use_duck_shape, False
        try:
            return compiled(*args)
        finally:
            config.use_duck_shape = before
    return run


def _autocast_dtype(kind):
    """Precision of autocast on a kind of device; None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        enabled = _has_autocast(kind) and torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if enabled else None
    # Before torch 2.4.
    if kind == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _precision(x):
    """Precision in which autocast, or else the input, has the branch computed."""
    return _autocast_dtype(x.device.type) or x.dtype


def layer_norm(x, weight, bias, eps, channels_first=False):
    """``F.layer_norm`` of the channels of images ``(N, H, W, C)``; the result, of that shape, is contiguous as
    ``(N, C, H, W)`` if ``channels_first``."""
    if takes_kernels(x):
        from convnext_mm.models.ops import pointwise
        function = pointwise.LayerNorm.apply if _records(x, weight, bias) else pointwise.normalize
        dtype = torch.float32 if _autocast_dtype(x.device.type) else x.dtype
        with torch.cuda.device_of(x):
            y = function(x.contiguous(), weight, bias, eps, dtype, channels_first)
        return y.permute(0, 2, 3, 1) if channels_first else y
    return plain_layer_norm(x, weight, bias, eps, channels_first)


def plain_layer_norm(x, weight, bias, eps, channels_first=False):
    """:func:`layer_norm` in torch's own operations."""
    y = F.layer_norm(x, (x.shape[-1],), weight, bias, eps)
    return y.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if channels_first else y


def response_norm(x, gamma, beta):
    """ConvNeXt V2's GRN of ``(N, H, W, C)``, its norms over the image taken in float32 at least."""
    response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True,
                                        dtype=torch.promote_types(x.dtype, torch.float32))
    response = (response / (response.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
    return gamma * (x * response) + beta + x


def _records(*tensors):
    """Whether autograd records what is done with some tensors, or None."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def depthwise_conv(x, weight, bias, dilation, dtype=None):
    """``F.conv2d`` of images ``(N, C, H, W)`` with one 7 x 7 kernel a channel, ``(C, 1, 7, 7)``; size is kept.

    ``dtype`` is the precision of the result; by default that of ``x``.
    """
    dtype, grad = dtype or x.dtype, _records(x, weight, bias)
    if dilation == 1 and takes_kernels(x) and dtype in _KERNEL_TYPES and _is_small(x):
        from convnext_mm.models.ops import depthwise
        with torch.cuda.device_of(x):
            if grad:
                y = depthwise.DepthwiseConv.apply(x.to(dtype).permute(0, 2, 3, 1), weight, bias)
            else:
                y = depthwise.convolve(x.permute(0, 2, 3, 1), weight, bias, dtype=dtype)
        return y.permute(0, 3, 1, 2)
    if dilation == 1 and x.device.type == 'cpu' and grad and weight.requires_grad:
        return _DepthwiseConv.apply(x.to(dtype), weight, bias)
    return _conv(x.to(dtype), weight, bias, dilation)


def _conv_backward(grad, x, weight, padding, wanted):
    channels = weight.shape[0]
    return torch.ops.aten.convolution_backward(grad, x, weight, [channels], [1, 1], padding, [1, 1], False, [0, 0],
                                               channels, wanted)


class _DepthwiseConv(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _conv(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _conv_backward(grad, x, weight.to(x.dtype), [_PAD, _PAD], (True, False, False))[0]
        rows = grad.permute(0, 2, 3, 1).reshape(-1, len(weight))
        grad_bias = _sum_rows(rows, weight.dtype) if ctx.needs_input_grad[2] else None
        return grad_x, _weight_gradient(grad, x).to(weight.dtype), grad_bias


def _weight_gradient(grad, x):
    """Gradient ``(C, 1, 7, 7)`` by narrow kernels over the image, shifted by columns.

    Rows are laid end to end with zeros between them, so a shifted image is the same memory read from another place.
    What a narrow kernel reads across the end of a row meets a gradient of zero.
    """
    n, c, h, w = x.shape
    shape, size = (n, h, w + _PAD, c), n * h * (w + _PAD) * c

    def lay_out(t):
        memory = t.new_zeros(size + 2 * _PAD * c)
        # A column of zeros at the left, for kernels that reach one column further.
        memory[_PAD * c:][:size].view(shape)[:, :, 1:w + 1] = t.permute(0, 2, 3, 1)
        return memory

    def image(memory, shift):
        return memory[(_PAD + shift) * c:][:size].view(shape).permute(0, 3, 1, 2)
    grad, x = image(lay_out(grad), 0), lay_out(x)
    return torch.cat([
        _conv_backward(grad, image(x, middle - _PAD), x.new_empty(c, 1, _KERNEL, width), [_PAD, width // 2],
                       (False, True, False))[1] for middle, width in _COLUMNS], 3)


def residual_mlp(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps):
    """``x + scale * gamma * (weight2 @ gelu(weight1 @ layer_norm(y) + bias1) + bias2)``.

    Args:
        x (Tensor): The residual stream, ``(N, H, W, C)``.
        y (Tensor): What the branch starts from, ``(N, H, W, C)``; its precision is that of the branch.
        scale (Tensor, optional): Stochastic depth's factor of each sample, ``N`` values.
        norm_weight, norm_bias, gamma (Tensor): ``(C)`` each; gamma may be None.
        weight1, weight2 (Tensor): ``(hidden, C)`` and ``(C, hidden)``, with the biases ``bias1`` and ``bias2``.
        eps (float): The LayerNorm's.

    Returns:
        Tensor: ``(N, H, W, C)``, in the wider of the precisions of ``x`` and ``gamma`` (of ``y`` without a gamma).
    """
    arguments = x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma
    grad = _records(*arguments)
    if takes_kernels(x) and takes_kernels(y):
        from convnext_mm.models.ops import pointwise
        with torch.cuda.device_of(x):
            return pointwise.residual_mlp(*arguments, eps, result_type(x, y, gamma), grad)
    if grad:
        return _ResidualMLP.apply(*arguments, eps)
    return _forward(*arguments, eps, keep=False)[0]


def result_type(x, y, gamma):
    """Precision of the sum of the residual stream and its branch."""
    return torch.promote_types(x.dtype, y.dtype if gamma is None else gamma.dtype)


def _pieces(shape, scale, device, dtype):
    """Slices of the pixels of images ``(N, H, W, C)``: pieces to compute, at least one, and those to leave alone.

    The latter are of samples that stochastic depth drops; on a GPU, to know them is to wait for it.
    """
    pixels, on_cpu = shape[1] * shape[2], device.type == 'cpu'
    factors = [1.] * shape[0] if scale is None or not on_cpu else scale.flatten().tolist()
    # Sums of pieces lose more in float16, whose gradients are often near its smallest numbers.
    step = PIECE * 4 // dtype.itemsize if on_cpu and dtype != torch.float16 else max(shape[0] * pixels, 1)
    pieces, dropped, start = [], [], 0
    for is_kept, samples in itertools.groupby(factors, bool):
        stop = start + pixels * len(list(samples))
        if is_kept:
            pieces += (slice(first, min(first + step, stop)) for first in range(start, stop, step))
        else:
            dropped.append(slice(start, stop))
        start = stop
    return pieces or [slice(0, 0)], dropped


def _longest(pieces):
    return max(rows.stop - rows.start for rows in pieces)


def _per_pixel(scale, shape):
    return None if scale is None else scale.reshape(-1).repeat_interleave(shape[1] * shape[2])[:, None]


def _norm(y, weight, bias, eps):
    """LayerNorm in the precision of ``y``, with its statistics; computed in that of its weight."""
    # On a CPU, torch's takes a weight in float32 beside half precision.
    mixed = y.device.type == 'cpu' and weight.dtype == torch.float32 and y.dtype.itemsize == 2
    normed, *statistics = torch.native_layer_norm(y if mixed else y.to(weight.dtype), (y.shape[-1],), weight, bias, eps)
    return normed.to(y.dtype), *statistics


@functools.cache
def _has_onednn(dtype):
    """Whether oneDNN multiplies matrices of a precision on this processor."""
    return torch.backends.mkldnn.is_available() and (
        dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_avx512():
    return torch.backends.cpu.get_cpu_capability() == 'AVX512'


def _takes_onednn(x, bias):
    """Whether a product is oneDNN's: where torch leaves it to a library that does not know every processor (float32),
    or copies the bias into the result before, a pass over it in any precision."""
    # What looks at operations, as torch's counter of FLOPs does, gets those that it knows.
    return x.device.type == 'cpu' and (x.dtype == torch.float32 or bias is not None) \
        and _has_onednn(x.dtype) and torch._C._get_mkldnn_enabled() and not torch._C._len_torch_dispatch_stack()


def _linear(x, weight, bias, out, gelu=False):
    """``F.linear``, with ``gelu`` the GELU of it; the result is in ``out``, or in memory of its own."""
    if _takes_onednn(x, bias):
        # Its GELU is faster than another pass with AVX-512, and slower without.
        fused = gelu and _has_avx512()
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *(('gelu', [], 'none') if fused else ('none', [], '')))
        gelu = gelu and not fused
    else:
        y = torch.mm(x, weight.t(), out=out) if bias is None else torch.addmm(bias, x, weight.t(), out=out)
    return torch._C._nn.gelu(y, out=y) if gelu else y


def _forward(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps, keep):
    """The result; with ``keep``, the values before the GELU by the piece, and those before gamma where the gradient
    needs them."""
    dtype, shape = y.dtype, x.shape
    pieces, dropped = _pieces(shape, scale, x.device, dtype)
    scale, x, y = _per_pixel(scale, shape), x.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
    weight1, bias1, weight2, bias2 = (t.to(dtype) for t in (weight1, bias1, weight2, bias2))
    result = x.new_empty(x.shape, dtype=result_type(x, y, gamma))
    kept, before_gamma = [], torch.empty_like(y) if keep and gamma is not None and not _from_weight(dtype) else None
    # Memory that is asked for and given back by the piece costs more than what is computed in it.
    hidden_buffer = y.new_empty(_longest(pieces), len(weight1))
    branch_buffer = None if result.dtype == dtype else y.new_empty(_longest(pieces), y.shape[1])
    for rows in dropped:
        result[rows] = x[rows]
    for rows in pieces:
        length, part = rows.stop - rows.start, result[rows]
        normed = _norm(y[rows], norm_weight, norm_bias, eps)[0]
        if keep:
            kept.append(_linear(normed, weight1, bias1, None))
            active = torch._C._nn.gelu(kept[-1], out=hidden_buffer[:length])
        else:
            active = _linear(normed, weight1, bias1, hidden_buffer[:length], gelu=True)
        branch = _linear(active, weight2, bias2, part if branch_buffer is None else branch_buffer[:length])
        if before_gamma is not None:
            before_gamma[rows] = branch
        if branch.dtype != result.dtype:
            branch = part.copy_(branch)
        if scale is not None:
            branch.mul_(scale[rows])
        if gamma is None:
            torch.add(x[rows], branch, out=part)
        else:
            torch.addcmul(x[rows], branch, gamma, out=part)
    return result.view(shape), kept, before_gamma


def _from_weight(dtype):
    """Whether gamma's gradient comes from that of the second weight, taken before gamma.

    Not in float16: without gamma, near its initial 1e-6, gradients of a scaled loss overflow.
    """
    return dtype != torch.float16


class _ResidualMLP(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *arguments):
        result, kept, before_gamma = _forward(*arguments, keep=True)
        x, *others, ctx.eps = arguments
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(before_gamma, *others, *kept)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        before_gamma, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, *kept = \
            ctx.saved_tensors
        dtype, shape = y.dtype, y.shape
        pieces, dropped = _pieces(shape, scale, y.device, dtype)
        grad_x, scale = grad.to(ctx.x_dtype), _per_pixel(scale, shape)
        grad, y = grad.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
        # Gamma's products are with the weight where its gradient comes from that of the weight.
        folded = gamma is not None and before_gamma is None
        first, second = (t.to(dtype).t() for t in (weight1, weight2 * gamma[:, None] if folded else weight2))
        if not _has_avx512():
            # There products with a matrix in this order take up to 1.6 times as long.
            first, second = first.contiguous(), second.contiguous()
        grad_y = torch.empty_like(y)
        grad_norm_weight, grad_norm_bias, grad_bias1, grad_bias2 = map(
            torch.zeros_like, (norm_weight, norm_bias, bias1, bias2))
        grad_weight1, grad_weight2 = torch.empty_like(weight1), torch.empty_like(weight2)
        grad_gamma = None if gamma is None else torch.zeros_like(gamma)
        for rows in dropped:
            grad_y[rows] = 0
        longest = _longest(pieces)
        buffers, narrow = kept[0].new_empty(2, longest, len(weight1)), y.new_empty(longest, shape[-1])
        wide = norm_weight.new_empty(2, longest, shape[-1])
        wanted1, wanted2 = ctx.needs_input_grad[5], ctx.needs_input_grad[7] or ctx.needs_input_grad[9]
        for rows, hidden in zip(pieces, kept):
            length = len(hidden)
            active, grad_hidden = buffers[:, :length]
            branch, y_rows = grad[rows], y[rows]
            if scale is not None:
                branch = torch.mul(branch, scale[rows], out=wide[0, :length])
            if before_gamma is not None:
                grad_gamma += (branch * before_gamma[rows]).sum(0)
                branch = branch * gamma
            grad_bias2 += branch.sum(0)
            if branch.dtype != dtype:
                branch = narrow[:length].copy_(branch)
            if wanted2:
                torch._C._nn.gelu(hidden, out=active)
                _add_product(grad_weight2, branch.t(), active, rows is pieces[0])
            grad_active = _linear(branch, second, None, active)
            torch.ops.aten.gelu_backward.grad_input(grad_active, hidden, grad_input=grad_hidden)
            grad_bias1 += _sum_rows(grad_hidden, bias1.dtype)
            normed, mean, deviation = _norm(y_rows, norm_weight, norm_bias, ctx.eps)
            if wanted1:
                _add_product(grad_weight1, grad_hidden.t(), normed, rows is pieces[0])
            grad_normed = _linear(grad_hidden, first, None, narrow[:length])
            if norm_weight.dtype != dtype:
                # torch's takes two precisions, but sums the weight's gradient in the lower one.
                grad_normed, y_rows = wide[0, :length].copy_(grad_normed), wide[1, :length].copy_(y_rows)
            grad_y[rows], of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
                grad_normed, y_rows, (shape[-1],), mean, deviation, norm_weight, norm_bias, (True, True, True))
            grad_norm_weight += of_weight
            grad_norm_bias += of_bias
        if folded:
            # These gradients are of gamma's products with the weight and the bias.
            if wanted2:
                grad_gamma = torch.linalg.vecdot(grad_weight2, weight2) + grad_bias2 * bias2
                grad_weight2.mul_(gamma[:, None])
            grad_bias2.mul_(gamma)
        return (grad_x, grad_y.view(shape), None, grad_norm_weight, grad_norm_bias, grad_weight1, grad_bias1,
                grad_weight2, grad_bias2, grad_gamma, None)


def _sum_rows(rows, dtype):
    """``rows.sum(0, dtype=dtype)``, of some at a time: torch converts all it is given before."""
    total = rows.new_zeros(rows.shape[1], dtype=dtype)
    for part in rows.split(max(SUMMED // rows.shape[1], 1)):
        total += part.sum(0, dtype=dtype)
    return total


def _add_product(total, a, b, is_first):
    """``total += a @ b``, summed in the precision of ``total``; the first product sets it."""
    if total.dtype == a.dtype:
        total.addmm_(a, b, beta=int(not is_first))
    elif is_first:
        total.copy_(torch.mm(a, b))
    else:
        total += torch.mm(a, b)
