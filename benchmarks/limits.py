"""The limits that figures are given as a share of: what this machine reaches, in this run, with nothing else to do.

Two limits. The peaks: the fastest matrix product and the fastest copy; a network that does all its products at the
one and moves its depthwise convolutions' maps at the other takes `Peaks.seconds`. And a ConvNeXt's own shapes: its
matrix products, in training those of both gradients too, each at its own shape by the library that is fastest there,
and a copy of the map of each depthwise convolution, timed as `OwnShapes` among the networks themselves. In inference,
weights may be laid out beforehand. Everything between (norms, activations, sums) is free in both.
"""
import math
from typing import NamedTuple

import products
import torch
from measure import time_call, warm_up
from products import FORWARD, OF_INPUT, OF_WEIGHT, Product
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

#: Name of `OwnShapes` among the contestants.
OWN_SHAPES = 'limit: own products and copies'
PEAK_SIDES = {'cpu': (1024, 2048), 'cuda': (4096, 8192)}
COPY_BYTES = {'cpu': 2 ** 28, 'cuda': 2 ** 31}
#: A backward pass computes two gradients, each as costly as the forward pass.
TRAINING = 3


class Work(NamedTuple):
    """What a forward pass has to do at least."""

    #: Multiplications and additions of matrix products, dense convolutions among them.
    flops: float
    #: Elements of the maps that depthwise convolutions take, as many as they give.
    depthwise: float


class Peaks(NamedTuple):
    """What the machine reaches."""

    #: Precision -> operations a second of a matrix product.
    flops: dict
    #: Bytes read and written a second by a copy.
    copy: float
    #: Precision -> the library of the fastest product.
    libraries: dict = {}

    def seconds(self, work, precision, task):
        """Return the least time for a forward pass, or forward and backward."""
        size = getattr(torch, precision).itemsize
        seconds = work.flops / self.flops[precision] + 2 * size * work.depthwise / self.copy
        return seconds * (TRAINING if task == 'training' else 1)


def measure_peaks(device, precisions, quick=False):
    """Measure the ``Peaks`` of a device: the best of a few calls each."""
    times, flops, libraries = 2 if quick else 7, {}, {}
    for precision in precisions:
        for side in (256,) if quick else PEAK_SIDES[device]:
            # Random as a network's: a GPU multiplies ones with less power, and so faster.
            library, seconds = products.fastest(Product(FORWARD, side, side), side, precision, device)
            if 2 * side ** 3 / seconds > flops.get(precision, 0):
                flops[precision], libraries[precision] = 2 * side ** 3 / seconds, library
    size = COPY_BYTES[device] // (16 if quick else 1)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    warm_up(lambda: target.copy_(source))
    copy = 2 * size / min(time_call(lambda: target.copy_(source)) for _ in range(times))
    return Peaks(flops, copy, libraries)


class Stage(NamedTuple):
    """The shapes of a stage: the product of its downsampling, and those of its blocks."""

    rows: int
    channels: int
    blocks: int
    #: Columns of the patches that the convolution before the stage multiplies.
    patch: int


def convnext_stages(arch, batch, height, width, in_channels=3):
    """Return the ``Stage`` of each of the four; ``arch`` has depths and channels."""
    stages = []
    for i, (depth, channels) in enumerate(zip(arch.depths, arch.channels)):
        stride = 4 * 2 ** i
        patch = 16 * in_channels if i == 0 else 4 * arch.channels[i - 1]
        stages.append(Stage(batch * (height // stride) * (width // stride), channels, depth, patch))
    return stages


def convnext_work(stages):
    """Return the ``Work`` of a ConvNeXt's forward pass."""
    flops = sum(2 * s.rows * s.channels * (s.patch + 8 * s.channels * s.blocks) for s in stages)
    return Work(flops, sum(s.rows * s.channels * s.blocks for s in stages))


class OwnShapes:
    """A ConvNeXt's own products and copies, in its own order: ``OwnShapes(...)()`` does them once.

    Attributes:
        libraries (dict): Product -> the library that is fastest at its shape here, and its operations a second.
    """

    def __init__(self, stages, precision, device, task='inference'):
        def random(*shape):
            return torch.randn(shape, device=device).to(getattr(torch, precision))
        self.how, self.is_training, self.libraries, self.memory = (precision, device), task == 'training', {}, {}
        # Weights are distinct as in the network, where no two products find theirs in the cache.
        self.stages = [dict(
            stage=s, patches=random(s.rows, s.patch), down=random(s.channels, s.patch), bias=random(s.channels),
            x=random(s.rows, s.channels), copy=random(s.rows, s.channels),
            wide=random(products.piece_rows(device, precision, s.rows), 4 * s.channels),
            wide_bias=random(4 * s.channels), narrow=random(s.rows, s.channels),
            blocks=[(random(4 * s.channels, s.channels), random(s.channels, 4 * s.channels)) for _ in range(s.blocks)])
            for s in stages]
        # All products are met once: each is timed by every library.
        self()

    @torch.no_grad()
    def __call__(self):
        for s in self.stages:
            self._multiply(FORWARD, s['patches'], s['down'], s['bias'], s['narrow'])
            for expand, reduce in s['blocks']:
                s['copy'].copy_(s['x'])
                for x, result in self._pieces(s, 'x', 'narrow'):
                    wide = s['wide'][:len(x)]
                    self._multiply(FORWARD, x, expand, s['wide_bias'], wide)
                    self._multiply(FORWARD, wide, reduce, s['bias'], result)
        for s in reversed(self.stages) if self.is_training else ():
            for expand, reduce in s['blocks']:
                for x, grad in self._pieces(s, 'x', 'narrow'):
                    wide = s['wide'][:len(x)]
                    self._multiply(OF_WEIGHT, grad, wide)
                    self._multiply(OF_INPUT, grad, reduce, out=wide)
                    self._multiply(OF_WEIGHT, wide, x)
                    self._multiply(OF_INPUT, wide, expand, out=grad)
                # The depthwise convolution's two gradients.
                s['copy'].copy_(s['x'])
                s['copy'].copy_(s['x'])
            self._multiply(OF_WEIGHT, s['narrow'], s['patches'])
            if s is not self.stages[0]:
                self._multiply(OF_INPUT, s['narrow'], s['down'], out=s['patches'])

    def _pieces(self, s, *names):
        """Return the pieces of some maps of a stage, side by side."""
        return zip(*(s[name].split(len(s['wide'])) for name in names))

    def _multiply(self, kind, a, b, bias=None, out=None):
        """Compute a product by the fastest library, where it can into memory that is there."""
        inputs, outputs = {FORWARD: b.shape[::-1], OF_INPUT: b.shape[::-1],
                           OF_WEIGHT: (b.shape[1], a.shape[1])}[kind]
        product = Product(kind, inputs, outputs)
        if product not in self.libraries:
            rows = products.piece_rows(self.how[1], self.how[0], len(a))
            library, seconds = products.fastest(product, rows, *self.how, self.is_training)
            self.libraries[product] = library, 2 * rows * inputs * outputs / seconds
        if kind == OF_WEIGHT:
            out = self.memory.setdefault((inputs, outputs), b.new_empty(outputs, inputs))
        products.multiply(self.libraries[product][0], product, a, b, bias, out)


def counted_work(forward):
    """Run a forward pass once to count its ``Work``."""
    depthwise = []

    def convolution(x, weight, bias, stride, padding, dilation, transposed, *args, out_shape=None, **kwargs):
        if weight[1] == 1 and x[1] == weight[0]:
            depthwise.append(math.prod(out_shape))
            return 0
        return conv_flop_count(x, weight, out_shape, transposed=transposed)
    mapping = {getattr(torch.ops.aten, name): convolution for name in ('convolution', '_convolution')}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, torch.no_grad():
        forward()
    return Work(counter.get_total_flops(), sum(depthwise))
