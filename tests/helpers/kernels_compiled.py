"""Every kernel compiled for GPUs that are not here: prints ``{capability: {kernel: bytes of shared memory}}`` as JSON.

``kernels_compiled.py CHANNELS,... CAPABILITY,... PRECISION,...``, as ``96,768 80,90 float32``. The package's own
functions run on the CPU, on tensors whose values nobody computes; where they start a kernel, it is compiled.
"""
import functools
import itertools
import json
import sys
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from convnext_mm.models.ops import depthwise, pointwise
from convnext_mm.models.ops.tensors import MLPTensors

COMPILE = triton.JITFunction.run


def compile_instead(kernel, largest, *args, warmup, **kwargs):
    compiled = COMPILE(kernel, *args, warmup=True, **kwargs)
    name = kernel.fn.__name__
    largest[name] = max(largest.get(name, 0), compiled.metadata.shared)


def target(capability):
    """Return a driver with all that Triton asks of one."""
    return SimpleNamespace(get_current_target=lambda: GPUTarget('cuda', capability, 32),
                           get_current_device=lambda: capability, get_current_stream=lambda device: 0)


def start_kernels(channels, kind):
    """Call what starts a kernel, for maps of a precision, with parameters in float32."""
    # Narrow images have a program a strip, wide ones one for two.
    for width in 8, 16:
        x = torch.empty(1, 2, width, channels, dtype=kind)
        depthwise.convolve(x.float(), depthwise.lay_out(torch.empty(channels, 1, 7, 7)), torch.empty(channels),
                           dtype=kind)
        x, weight, bias = (t.requires_grad_() for t in (x, torch.empty(channels, 1, 7, 7), torch.empty(channels)))
        depthwise.DepthwiseConv.apply(x, weight, bias).sum().backward()
    vector = torch.ones(channels, requires_grad=True)
    for channels_first in False, True:
        pointwise.LayerNorm.apply(x, vector, bias, 1e-6, kind, channels_first).sum().backward()
    weight1, bias1 = torch.ones(4 * channels, channels, requires_grad=True), torch.ones(4 * channels)
    for gamma, scale in itertools.product((vector, None), (torch.ones(1), None)):
        tensors = MLPTensors(vector, bias, weight1, bias1, weight1.t(), bias, gamma)
        pointwise.residual_mlp(x.float(), x, scale, tensors, 1e-6, torch.float32, True).sum().backward()
        with torch.no_grad():
            pointwise.residual_mlp(x.float(), x, scale, tensors, 1e-6, torch.float32, False)


def main(channels, capabilities, precisions):
    taken = {}
    for capability in capabilities:
        triton.JITFunction.run = functools.partialmethod(compile_instead, taken.setdefault(capability, {}))
        driver.set_active(target(int(capability)))
        for count, precision in itertools.product(channels, precisions):
            start_kernels(int(count), getattr(torch, precision))
    print(json.dumps(taken))


if __name__ == '__main__':
    main(*(argument.split(',') for argument in sys.argv[1:]))
