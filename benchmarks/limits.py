"""The limits that figures are given as a share of: what this machine reaches, in this run, with nothing else to do.

Two limits. The peaks: the fastest matrix product and the fastest copy; a network that does all its products at the
one and moves its depthwise convolutions' maps at the other takes `Peaks.seconds`. And a ConvNeXt's own shapes: its
matrix products each at its own shape, and a copy of the map of each depthwise convolution, timed as `OwnShapes`
among the networks themselves. Everything between (norms, activations, sums) is free in both.
"""
import functools
import math
from typing import NamedTuple

import torch
from measure import time_call, warm_up
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

    def seconds(self, work, precision, task):
        """Return the least time for a forward pass, or forward and backward."""
        size = getattr(torch, precision).itemsize
        seconds = work.flops / self.flops[precision] + 2 * size * work.depthwise / self.copy
        return seconds * (TRAINING if task == 'training' else 1)


def measure_peaks(device, precisions, quick=False):
    """Measure the ``Peaks`` of a device: the best of a few calls each."""
    times = 2 if quick else 7
    flops = {}
    for precision in precisions:
        for side in (256,) if quick else PEAK_SIDES[device]:
            # Random as a network's: a GPU multiplies ones with less power, and so faster.
            a, b, out = (torch.randn(side, side, device=device).to(getattr(torch, precision)) for _ in range(3))
            multiply = functools.partial(torch.mm, a, b, out=out)
            warm_up(multiply)
            flops[precision] = max(flops.get(precision, 0), 2 * side ** 3 / min(time_call(multiply)
                                                                                for _ in range(times)))
    size = COPY_BYTES[device] // (16 if quick else 1)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    warm_up(lambda: target.copy_(source))
    return Peaks(flops, 2 * size / min(time_call(lambda: target.copy_(source)) for _ in range(times)))


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
    """A ConvNeXt's own products and copies, in its own order: ``OwnShapes(...)()`` does them once."""

    def __init__(self, stages, precision, device):
        def random(*shape):
            return torch.randn(shape, device=device).to(getattr(torch, precision))
        # Weights are distinct as in the network, where no two products find theirs in the cache.
        self.stages = [dict(
            patches=random(s.rows, s.patch), down=random(s.channels, s.patch), bias=random(s.channels),
            x=random(s.rows, s.channels), copy=random(s.rows, s.channels), wide=random(s.rows, 4 * s.channels),
            wide_bias=random(4 * s.channels), narrow=random(s.rows, s.channels),
            blocks=[(random(4 * s.channels, s.channels), random(s.channels, 4 * s.channels)) for _ in range(s.blocks)])
            for s in stages]

    @torch.no_grad()
    def __call__(self):
        for s in self.stages:
            _multiply(s['patches'], s['down'], s['bias'], s['narrow'])
            for expand, reduce in s['blocks']:
                s['copy'].copy_(s['x'])
                _multiply(s['x'], expand, s['wide_bias'], s['wide'])
                _multiply(s['wide'], reduce, s['bias'], s['narrow'])


def _multiply(x, weight, bias, out):
    """Compute ``F.linear`` into memory that is there: a limit asks for none."""
    torch.addmm(bias, x, weight.t(), out=out)


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
