"""The parts of the networks between ResNet and ConvNeXt, each assembled as a ``Design`` says.

They have the names of ConvNeXt's, so that those of the last step fit its checkpoints: ``dwconv`` is the k x k
convolution, which becomes depthwise on the way, and ``pwconv1`` and ``pwconv2`` are both 1x1 convolutions.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from convnext_mm.models.layers import DropPath, LayerNorm2d
from convnext_mm.published.roadmap import Design

#: The convolutions of a block, in order.
_ORDERS = dict(bottleneck=('pwconv1', 'dwconv', 'pwconv2'), inverted=('pwconv1', 'dwconv', 'pwconv2'),
               moved_up=('dwconv', 'pwconv1', 'pwconv2'))
_NORM_NAMES = dict(dwconv='norm', pwconv1='norm1', pwconv2='norm2')


class Pointwise(nn.Linear):
    """A 1x1 convolution whose weight has the shape of a linear layer's, ``(out, in)``: ``(N, in, H, W)`` to
    ``(N, out, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the result."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class Projection(nn.Conv2d):
    """A 1x1 convolution that takes every ``stride``-th pixel by hand.

    oneDNN's own strided one, of fewer than 8 channels in channels-last, writes beyond its memory on processors with
    AVX2 (seen with PyTorch 2.1 and 2.13).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the result."""
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def make_norm(design: Design, channels: int) -> nn.Module:
    """Return a norm of images ``(N, channels, H, W)``."""
    return nn.BatchNorm2d(channels) if design.norm == 'BN' else LayerNorm2d(channels)


def make_activation(design: Design) -> nn.Module:
    """Return an activation."""
    return nn.ReLU(inplace=True) if design.activation == 'ReLU' else nn.GELU()


def make_stem(design: Design, in_channels: int) -> nn.Sequential:
    """Return the layers from the image to maps of stride 4 and ``design.width`` channels.

    A convolution has a bias unless a BatchNorm, which has one, follows at once; so have those below.
    """
    width, bias = design.width, design.norm != 'BN'
    if design.stem == 'resnet':
        return nn.Sequential(nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=bias),
                             make_norm(design, width), make_activation(design), nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(nn.Conv2d(in_channels, width, 4, stride=4, bias=bias), make_norm(design, width))


def make_downsampling(design: Design, stage: int) -> nn.Module:
    """Return what halves the resolution before a stage from 1 on; nothing where its first block does that."""
    before, after = design.channels[stage - 1:stage + 1]
    if design.downsampling == 'block':
        return nn.Identity()
    return nn.Sequential(make_norm(design, before), nn.Conv2d(before, after, 2, stride=2))


def make_stage(design: Design, stage: int, rates: list[float]) -> nn.Sequential:
    """Return the blocks of a stage, of which each drops its branch with its rate."""
    channels, in_channels, stride = design.channels[stage], design.channels[stage], 1
    if design.downsampling == 'block':
        in_channels, stride = (design.channels[stage - 1], 2) if stage else (design.width, 1)
    blocks = [RoadmapBlock(design, in_channels, channels, stride, rates[0])]
    return nn.Sequential(*blocks, *(RoadmapBlock(design, channels, channels, 1, rate) for rate in rates[1:]))


class RoadmapBlock(nn.Module):
    """A residual block of the roadmap: three convolutions, with the norms and activations that the design has.

    Shape: ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``, rounded up.

    Args:
        design (Design): What it is made of.
        in_channels, channels (int): Of what it reads and of what it emits.
        stride (int): 1 or 2, of its k x k convolution.
        drop_path_rate (float): Probability of dropping the branch of a sample.
    """

    def __init__(self, design: Design, in_channels: int, channels: int, stride: int, drop_path_rate: float) -> None:
        super().__init__()
        hidden = channels // 4 if design.block == 'bottleneck' else 4 * channels
        inner = in_channels if design.block == 'moved_up' else hidden
        self.branch: list[str] = []
        for place, name in enumerate(_ORDERS[design.block]):
            normed = design.norms == 'all' or name == 'dwconv'
            bias = not (normed and design.norm == 'BN')
            layer: nn.Module
            if name == 'dwconv':
                layer, width = nn.Conv2d(inner, inner, design.kernel_size, stride, design.kernel_size // 2,
                                         groups=inner if design.depthwise else 1, bias=bias), inner
            else:
                ends = (in_channels, hidden) if name == 'pwconv1' else (hidden, channels)
                layer, width = Pointwise(*ends, bias=bias), ends[1]
            self._append(name, layer)
            if normed:
                self._append(_NORM_NAMES[name], make_norm(design, width))
            if place < 2 if design.activations == 'all' else name == 'pwconv1':
                self._append(f'act{place}', make_activation(design))
        scale = design.layer_scale_init_value
        self.gamma = nn.Parameter(torch.full((channels,), float(scale))) if scale else None
        self.drop_path = DropPath(drop_path_rate)
        self.shortcut = nn.Sequential(
            Projection(in_channels, channels, 1, stride, bias=design.norm != 'BN'), make_norm(design, channels)
        ) if stride > 1 or in_channels != channels else nn.Identity()
        self.act = make_activation(design) if design.activations == 'all' else nn.Identity()

    def _append(self, name, part):
        """Let the branch go on with a part."""
        self.add_module(name, part)
        self.branch.append(name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's result."""
        branch = x
        for name in self.branch:
            branch = getattr(self, name)(branch)
        if self.gamma is not None:
            branch = self.gamma[:, None, None] * branch
        return self.act(self.shortcut(x) + self.drop_path(branch))
