"""The products of a linear layer by each library at hand, and the fastest of them: python benchmarks/products.py

On a CPU, torch leaves a product to MKL or to oneDNN by rules of its own, and oneDNN can be called as a linear layer,
as one whose weight is laid out beforehand, or as a convolution of 1x1. On a GPU there is torch alone. Prints a table
for the layers of a ConvNeXt-T's blocks, in the pieces in which the backbone computes them. A minute on two cores.
"""
import functools
import math
import sys
from typing import NamedTuple

import environment
import torch
from measure import time_call

from convnext_mm import ARCHS
from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.models.ops.cpu import IMAGES
from convnext_mm.models.ops.packed import keep_packed, take_packed
from convnext_mm.models.ops.pointwise_cpu import PIECE
from convnext_mm.utils.text import format_table

KINDS = FORWARD, OF_INPUT, OF_WEIGHT = 'forward', "input's gradient", "weight's gradient"
TORCH, LINEAR, PACKED, CONVOLUTION = 'torch.mm', 'oneDNN linear', 'oneDNN packed', 'oneDNN convolution'
#: Calls of which the fastest counts, after one that does not.
CALLS = 7


class Product(NamedTuple):
    """A product of a linear layer: of its forward pass, or one of its two gradients."""

    kind: str
    inputs: int
    outputs: int

    def __str__(self):
        return f'{self.kind} {self.inputs} to {self.outputs}'

    def operands(self):
        """Return which two it multiplies, 'x' and 'weight' or the gradient of the result."""
        return {FORWARD: ('x', 'weight'), OF_INPUT: ('grad', 'weight'), OF_WEIGHT: ('grad', 'x')}[self.kind]


def _by_torch(kind, a, b, bias, out):
    if kind == FORWARD:
        return torch.addmm(bias, a, b.t(), out=out)
    return torch.mm(a if kind == OF_INPUT else a.t(), b, out=out)


def _by_linear(kind, a, b, bias, out):
    if kind == OF_WEIGHT:
        a, b, bias = a.t().contiguous(), b.t().contiguous(), None
    elif kind == OF_INPUT:
        b, bias = b.t(), None
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, 'none', [], '')


def _by_packed(kind, a, b, bias, out):
    packed = take_packed(b, b.dtype)
    if packed is None:
        keep_packed(b)
        packed = take_packed(b, b.dtype)
    return _by_linear(kind, a, packed, bias, out)


def _as_images(rows):
    images = math.gcd(len(rows), IMAGES)
    return rows.view(images, len(rows) // images, 1, rows.shape[1]).permute(0, 3, 1, 2)


def _by_convolution(kind, a, b, bias, out):
    if kind == FORWARD:
        return torch.conv2d(_as_images(a), b[:, :, None, None], bias)
    if kind == OF_INPUT:
        grad, x, weight = a, a.new_empty(len(a), b.shape[1]), b
    else:
        grad, x, weight = a, b, a.new_empty(a.shape[1], b.shape[1])
    wanted = kind == OF_INPUT, kind == OF_WEIGHT, False
    return torch.ops.aten.convolution_backward(_as_images(grad), _as_images(x), weight[:, :, None, None], None, [1, 1],
                                               [0, 0], [1, 1], False, [0, 0], 1, wanted)[int(kind == OF_WEIGHT)]


CALLERS = {TORCH: _by_torch, LINEAR: _by_linear, PACKED: _by_packed, CONVOLUTION: _by_convolution}


def libraries(device, precision, kind, learns=False):
    """Return the names of the libraries for a kind of product; weights that learn are not laid out beforehand."""
    has_onednn = device == 'cpu' and torch.backends.mkldnn.is_available() and (
        precision == 'float32' or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not has_onednn:
        return TORCH,
    return tuple(name for name in CALLERS if name != PACKED or kind == FORWARD and not learns)


def piece_rows(device, precision, rows):
    """Return how many of the rows are multiplied at once: on a CPU as many as stay in the cache."""
    return rows if device == 'cuda' else min(rows, PIECE * 4 // getattr(torch, precision).itemsize)


def multiply(library, product, a, b, bias=None, out=None):
    """Compute a product by a library; torch's writes it into ``out``."""
    return CALLERS[library](product.kind, a, b, bias, out)


def make_tensors(product, rows, precision, device):
    """Return random operands, bias and memory for the result of a product."""
    def random(*shape):
        return torch.randn(shape, device=device).to(getattr(torch, precision))
    shapes = dict(x=(rows, product.inputs), grad=(rows, product.outputs), weight=(product.outputs, product.inputs))
    result = dict(zip(KINDS, (shapes['grad'], shapes['x'], shapes['weight'])))[product.kind]
    return *(random(*shapes[name]) for name in product.operands()), random(product.outputs), random(*result)


@functools.cache
def measure_libraries(product, rows, precision, device, learns=False):
    """Return ``{library: least seconds}`` of a product, timed in turn."""
    tensors, seconds = make_tensors(product, rows, precision, device), {}
    with torch.no_grad():
        for _ in range(CALLS + 1):
            for name in libraries(device, precision, product.kind, learns):
                seconds.setdefault(name, []).append(time_call(lambda name=name: multiply(name, product, *tensors)))
    return {name: min(times[1:]) for name, times in seconds.items()}


def fastest(product, rows, precision, device, learns=False):
    """Return the name of the library that computes a product in the least time, and these seconds."""
    seconds = measure_libraries(product, rows, precision, device, learns)
    best = min(seconds, key=seconds.get)
    return best, seconds[best]


def table(precisions, device, channels, rows=2 ** 16):
    """Return GFLOP/s of each library for the two layers of the blocks of some widths; a star is at the fastest."""
    lines = []
    for precision in precisions:
        count = piece_rows(device, precision, rows)
        for narrow in channels:
            for shape in ((narrow, 4 * narrow), (4 * narrow, narrow)):
                for kind in KINDS:
                    seconds = measure_libraries(Product(kind, *shape), count, precision, device)
                    least = min(seconds.values())
                    cells = {name: f'{8e-9 * count * narrow ** 2 / second:.0f}{"*" if second == least else " "}'
                             for name, second in seconds.items()}
                    lines.append((precision, f'{shape[0]} to {shape[1]}', kind,
                                  *(cells.get(name, '') for name in CALLERS)))
    return format_table(('', '', '', *CALLERS), lines, left=3)


def main(argv=None):
    Parser(description=__doc__).parse_args(argv)
    found = environment.describe()
    precisions = ('float32', 'bfloat16') if environment.has_bfloat16() else ('float32',)
    print(f'{environment.describe_in_words(found)}: GFLOP/s')
    print(table(precisions, found['device'], ARCHS['tiny'].channels))


if __name__ == '__main__':
    sys.exit(run(main))
