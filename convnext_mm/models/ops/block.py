"""A block as a formula of torch's own operations, and the choice of the code that computes it faster.

* :func:`depthwise_conv` runs on this package's kernels on a GPU (``depthwise``), and on a CPU with a faster gradient
  (``depthwise_cpu``).
* :func:`residual_mlp` runs on kernels too (``pointwise``), elsewhere in torch's operations (``pointwise_cpu``). Both
  keep the values before the LayerNorm and before the GELU for the backward pass, and recompute the rest.

Tensors are channels last: ``(N, H, W, C)`` in memory, whatever the order of their axes.
"""
import functools
import importlib.util
import warnings

import torch
import torch.nn.functional as F

from convnext_mm.models.ops import depthwise_cpu, pointwise_cpu
from convnext_mm.models.ops.tensors import result_type

#: What the kernels need on a GPU: these precisions, a torch whose Triton knows tuples, and Ampere.
_KERNEL_TYPES = torch.float32, torch.bfloat16, torch.float16
_TORCH_SINCE, _CAPABILITY_SINCE = (2, 7), (8, 0)


def has_kernels(device):
    """Return whether a ``torch.device`` runs this package's kernels."""
    return _try_kernels(device)


def takes_kernels(x):
    """Return whether this package's kernels take a tensor: plain, of their precisions, on a device that runs them."""
    return type(x) is torch.Tensor and x.dtype in _KERNEL_TYPES and has_kernels(x.device)


def _has_autocast(kind):
    return torch.amp.is_autocast_available(kind)


# This is what torch.compiler.assume_constant_result does, which imports the whole compiler: 2 s.
has_kernels._dynamo_marked_constant = _has_autocast._dynamo_marked_constant = True


@functools.cache
def _try_kernels(device):
    """Run a kernel once on a device; warn and return False where Triton fails."""
    if device.type != 'cuda' or torch.version.cuda is None or importlib.util.find_spec('triton') is None \
            or tuple(map(int, torch.__version__.split('.')[:2])) < _TORCH_SINCE \
            or torch.cuda.get_device_capability(device) < _CAPABILITY_SINCE:
        return False
    from convnext_mm.models.ops import depthwise
    try:
        depthwise.depthwise_conv(*(torch.zeros(shape, device=device) for shape in ((1, 1, 1, 1), (1, 1, 7, 7), (1,))))
    # Triton compiles with what the machine has, so any error may come.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(f'blocks run on kernels of torch alone, slower: Triton does not run on {device} ({reason})',
                      stacklevel=2)
        return False
    return True


def _is_small(x):
    """Return whether an image is small enough for the convolution's kernels, which count in 32 bits."""
    return x.shape[1] * x.shape[2] * x.shape[3] < 2 ** 31


def _autocast_dtype(kind):
    """Return the precision of autocast on a kind of device, or None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        enabled = _has_autocast(kind) and torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if enabled else None
    # Before torch 2.4.
    if kind == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _precision(x):
    """Return the precision of a block's branch: that of autocast, or else that of the input."""
    return _autocast_dtype(x.device.type) or x.dtype


def _records(*tensors):
    """Return whether autograd records what is done with some tensors; each may be None."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def block(x, scale, tensors, eps, dilation):
    """Compute a ConvNeXt block by the fastest code for its tensors.

    Args:
        x (Tensor): ``(N, C, H, W)``.
        scale (Tensor, optional): Stochastic depth's factor of each sample, ``(N, 1, 1, 1)``.
        tensors (BlockTensors): The block's parameters.
        eps (float): The LayerNorm's.
        dilation (int): The depthwise convolution's.

    Returns:
        Tensor: ``(N, C, H, W)``, channels last in memory.
    """
    if tensors.grn_gamma is not None:
        # GRN looks at the whole image between the two layers.
        return formula(x, scale, tensors, eps, dilation, conv=depthwise_conv)
    y = depthwise_conv(x, tensors.conv_weight, tensors.conv_bias, dilation, _precision(x))
    x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    return residual_mlp(x, y, scale, tensors.mlp, eps).permute(0, 3, 1, 2)


def _conv(x, weight, bias, dilation=1):
    """Convolve as ``F.conv2d`` does, or by the operator of this package, both of which compilers take."""
    if dilation == 1 and x.dtype in _KERNEL_TYPES and has_kernels(x.device) and _is_small(x):
        return torch.ops.convnext_mm.depthwise_conv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, padding=depthwise_cpu.PAD * dilation, dilation=dilation, groups=weight.shape[0])


def formula(x, scale, tensors, eps, dilation, conv=_conv):
    """Compute :func:`block` in torch's own operations, for compilers."""
    mlp = tensors.mlp
    y = conv(x.to(_precision(x)), tensors.conv_weight, tensors.conv_bias, dilation).permute(0, 2, 3, 1)
    y = F.layer_norm(y, (y.shape[-1],), mlp.norm_weight, mlp.norm_bias, eps)
    y = F.gelu(F.linear(y, mlp.weight1, mlp.bias1))
    if tensors.grn_gamma is not None:
        y = response_norm(y, tensors.grn_gamma, tensors.grn_beta)
    precision = result_type(x, y, mlp.gamma)
    y = F.linear(y, mlp.weight2, mlp.bias2)
    if mlp.gamma is not None:
        y = mlp.gamma * y
    y = y.permute(0, 3, 1, 2)
    return x.to(precision) + (y if scale is None else y * scale)


def layer_norm(x, weight, bias, eps, channels_first=False):
    """Return ``F.layer_norm`` of the channels of images ``(N, H, W, C)``, in the same shape.

    With ``channels_first`` the result is contiguous as ``(N, C, H, W)``.
    """
    if takes_kernels(x):
        from convnext_mm.models.ops import pointwise
        function = pointwise.LayerNorm.apply if _records(x, weight, bias) else pointwise.normalize
        dtype = torch.float32 if _autocast_dtype(x.device.type) else x.dtype
        with torch.cuda.device_of(x):
            y = function(x.contiguous(), weight, bias, eps, dtype, channels_first)
        return y.permute(0, 2, 3, 1) if channels_first else y
    return plain_layer_norm(x, weight, bias, eps, channels_first)


def plain_layer_norm(x, weight, bias, eps, channels_first=False):
    """Compute :func:`layer_norm` in torch's own operations."""
    # Tracers take the image's size for one that varies, not the weight's.
    y = F.layer_norm(x, weight.shape, weight, bias, eps)
    return y.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if channels_first else y


def response_norm(x, gamma, beta):
    """Return ConvNeXt V2's GRN of ``(N, H, W, C)``; take its norms over the image in float32 at least."""
    response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True,
                                        dtype=torch.promote_types(x.dtype, torch.float32))
    response = (response / (response.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
    return gamma * (x * response) + beta + x


def depthwise_conv(x, weight, bias, dilation, dtype=None):
    """Convolve images ``(N, C, H, W)`` with a 7 x 7 kernel for each channel, ``(C, 1, 7, 7)``; the size stays.

    The result has the precision ``dtype``, by default that of ``x``.
    """
    dtype, grad = dtype or x.dtype, _records(x, weight, bias)
    if dilation == 1 and takes_kernels(x) and dtype in _KERNEL_TYPES and _is_small(x):
        from convnext_mm.models.ops import depthwise
        with torch.cuda.device_of(x):
            if grad:
                y = depthwise.DepthwiseConv.apply(x.to(dtype).permute(0, 2, 3, 1), weight, bias)
            else:
                y = depthwise.convolve(x.permute(0, 2, 3, 1), depthwise.lay_out(weight), bias, dtype=dtype)
        return y.permute(0, 3, 1, 2)
    if dilation == 1 and x.device.type == 'cpu' and grad and weight.requires_grad:
        return depthwise_cpu.DepthwiseConv.apply(x.to(dtype), weight, bias)
    return _conv(x.to(dtype), weight, bias, dilation)


def residual_mlp(x, y, scale, tensors, eps):
    """Return ``x + scale * gamma * (weight2 @ gelu(weight1 @ layer_norm(y) + bias1) + bias2)``.

    Args:
        x (Tensor): The residual stream, ``(N, H, W, C)``.
        y (Tensor): The input of the branch, ``(N, H, W, C)``; the branch has its precision.
        scale (Tensor, optional): Stochastic depth's factor of each sample, ``N`` values.
        tensors (MLPTensors): The parameters.
        eps (float): The LayerNorm's.

    Returns:
        Tensor: ``(N, H, W, C)``, in the wider of the precisions of ``x`` and ``gamma`` (of ``y`` without a gamma).
    """
    grad = _records(x, y, scale, *tensors)
    if takes_kernels(x) and takes_kernels(y):
        from convnext_mm.models.ops import pointwise
        with torch.cuda.device_of(x):
            return pointwise.residual_mlp(x, y, scale, tensors, eps, result_type(x, y, tensors.gamma), grad)
    if grad:
        return pointwise_cpu.ResidualMLP.apply(x, y, scale, eps, *tensors)
    return pointwise_cpu.residual_mlp(x, y, scale, tensors, eps)
