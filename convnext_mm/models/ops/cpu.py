"""Matrix products and sums of a block on a CPU: oneDNN's where they are faster than torch's.

torch leaves a product to MKL in float32 and to oneDNN in bfloat16. Which is the faster follows from the kind of the
processor, so the choice is the same in every run on a machine, and a run that is resumed has the same bits as one that
never stopped. A choice by measured times could differ between the two.
"""
import functools
import math
import os
import platform
import re
from pathlib import Path

import torch

from convnext_mm.models.ops.packed import pack, take_packed

#: Values that are summed at once: 1 MB in float32.
SUMMED = 2 ** 18
#: Fewer rows gain less by oneDNN's gradient of a convolution than it costs to lay out a weight and to add it.
LEAST_ROWS = 2048
#: Images that the rows of a product are laid out as, for oneDNN's gradient of a convolution.
IMAGES = 32


@functools.cache
def _has_onednn(dtype):
    """Return whether oneDNN multiplies matrices of a precision on this processor."""
    return torch.backends.mkldnn.is_available() and (
        dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_avx512():
    """Return whether torch's own code on this processor uses AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == 'AVX512'


def _maker():
    """Return a text in which the system names this processor's maker, if it does."""
    return Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else platform.processor()


@functools.cache
def _is_intel():
    """Return whether Intel made this processor, or may have."""
    maker = _maker()
    return 'Intel' in maker or not re.search('AMD|Hygon|Centaur|Zhaoxin', maker)


def is_mkl_narrow():
    """Return whether MKL, in float32, uses half of this processor's vectors: it has AVX-512 code for Intel's alone."""
    return has_avx512() and not _is_intel()


def _takes_onednn(x, bias):
    """Return whether oneDNN computes a product faster than torch.

    In float32, torch leaves it to MKL, which is the faster on Intel's processors and does not know every other. In any
    precision, torch copies the bias into the result first, a pass over it.
    """
    # Whoever looks at operations, such as torch's counter of FLOPs, gets those that it knows.
    return x.device.type == 'cpu' and (bias is not None or x.dtype == torch.float32 and not _is_intel()) \
        and _has_onednn(x.dtype) and torch._C._get_mkldnn_enabled() and not torch._C._len_torch_dispatch_stack()


def lay_out(weight, bias, x, products):
    """Return a weight as :func:`linear` takes it for one or more products, with rows in the precision of ``x``."""
    packed = None
    if _takes_onednn(x, bias):
        packed = take_packed(weight, x.dtype)
        if packed is None and products > 1:
            packed = pack(weight, x.dtype)
    return weight.to(x.dtype) if packed is None else packed


def linear(x, weight, bias, out, gelu=False):
    """Return ``F.linear``, with ``gelu`` its GELU, in ``out`` or in memory of its own; see :func:`lay_out`."""
    if _takes_onednn(x, bias):
        # With AVX-512 its GELU is faster than another pass, without it slower.
        fused = gelu and has_avx512()
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *(('gelu', [], 'none') if fused else ('none', [], '')))
        gelu = gelu and not fused
    else:
        y = torch.mm(x, weight.t(), out=out) if bias is None else torch.addmm(bias, x, weight.t(), out=out)
    return torch._C._nn.gelu(y, out=y) if gelu else y


def sum_rows(rows, dtype):
    """Return ``rows.sum(0, dtype=dtype)``, summed some rows at a time: torch converts all it is given before."""
    total = rows.new_zeros(rows.shape[1], dtype=dtype)
    for part in rows.split(max(SUMMED // rows.shape[1], 1)):
        total += part.sum(0, dtype=dtype)
    return total


def add_weight_gradient(total, grad, x, is_first):
    """Add a linear layer's gradient of its weight, ``grad.t() @ x``, to ``total``; the first one sets it."""
    if len(x) >= LEAST_ROWS and grad.dtype == torch.float32 == total.dtype and is_mkl_narrow() \
            and _takes_onednn(grad, None):
        product = _onednn_weight_gradient(grad, x)
    elif total.dtype == grad.dtype:
        total.addmm_(grad.t(), x, beta=int(not is_first))
        return
    else:
        product = torch.mm(grad.t(), x)
    if is_first:
        total.copy_(product)
    else:
        total += product


def _onednn_weight_gradient(grad, x):
    """Return ``grad.t() @ x`` as the gradient of a 1 x 1 convolution, the only form in which oneDNN reads columns.

    With one thread, torch leaves fewer than 16 images to MKL, so the rows are pixels of many.
    """
    images = math.gcd(len(x), IMAGES)
    grad, x = (t.contiguous().view(images, len(t) // images, 1, t.shape[1]).permute(0, 3, 1, 2) for t in (grad, x))
    shape = grad.shape[1], x.shape[1], 1, 1
    return torch.ops.aten.convolution_backward(grad, x, x.new_empty(shape), None, [1, 1], [0, 0], [1, 1], False, [0, 0],
                                               1, (False, True, False))[1].view(shape[:2])
