"""Matrix products and sums of a block on a CPU: oneDNN's where they are faster than torch's."""
import functools

import torch

#: Values that are summed at once: 1 MB in float32.
SUMMED = 2 ** 18


@functools.cache
def _has_onednn(dtype):
    """Return whether oneDNN multiplies matrices of a precision on this processor."""
    return torch.backends.mkldnn.is_available() and (
        dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_avx512():
    """Return whether torch's own code on this processor uses AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == 'AVX512'


def _takes_onednn(x, bias):
    """Return whether oneDNN computes a product faster than torch.

    In float32, torch leaves it to a library that does not know every processor. In any precision, torch copies the bias
    into the result first, a pass over it.
    """
    # Whoever looks at operations, such as torch's counter of FLOPs, gets those that it knows.
    return x.device.type == 'cpu' and (x.dtype == torch.float32 or bias is not None) \
        and _has_onednn(x.dtype) and torch._C._get_mkldnn_enabled() and not torch._C._len_torch_dispatch_stack()


def linear(x, weight, bias, out, gelu=False):
    """Return ``F.linear``, with ``gelu`` its GELU, in ``out`` or in memory of its own."""
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


def add_product(total, a, b, is_first):
    """Add ``a @ b`` to ``total``, in the precision of ``total``; the first product sets it."""
    if total.dtype == a.dtype:
        total.addmm_(a, b, beta=int(not is_first))
    elif is_first:
        total.copy_(torch.mm(a, b))
    else:
        total += torch.mm(a, b)
