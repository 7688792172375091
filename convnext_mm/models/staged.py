"""What backbones of a stem, four stages and layers between them share: freezing, and the check of images."""
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from convnext_mm.utils.errors import ArgumentValueError


def check_images(x: Tensor, in_channels: int, stride: int, out_indices: tuple) -> None:
    """Raise an ``ArgumentValueError`` for images of a wrong shape, or smaller than a backbone's stride."""
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ArgumentValueError(f'x must be images of shape (N, {in_channels}, H, W) for in_channels={in_channels}, '
                                 f'got shape {tuple(x.shape)}')
    if min(x.shape[2:]) < stride:
        raise ArgumentValueError(f'x must be images of at least {stride} x {stride} pixels (the stride for '
                                 f'out_indices={out_indices}), got H x W = {x.shape[2]} x {x.shape[3]}')


class StagedBackbone(BaseModule):
    """Base of a backbone whose stage ``i`` is ``downsample_layers[i]``, the stem or what comes before it, and
    ``stages[i]``; its maps have stride ``4 * 2**i``.

    A subclass sets ``in_channels``, ``out_indices``, ``frozen_stages`` and both lists of modules, of which those behind
    the last stage asked for are not built, and then calls ``_freeze``.
    """

    downsample_layers: nn.ModuleList
    stages: nn.ModuleList
    in_channels: int
    out_indices: tuple
    frozen_stages: int
    #: Where dilation keeps the resolution of later stages. (``torch.compile`` cannot look into an overridden property.)
    output_stride: int = 32

    @property
    def stride(self) -> int:
        """Return the pixels of the image per pixel of the coarsest stage that is built."""
        return min(4 * 2 ** (len(self.stages) - 1), self.output_stride)

    def _frozen_modules(self):
        """Return the stem and the first ``frozen_stages`` stages with the layers before them."""
        if self.frozen_stages < 0:
            return []
        return [*self.downsample_layers[:max(self.frozen_stages, 1)], *self.stages[:self.frozen_stages]]

    def _freeze(self):
        """Set the frozen parts to eval mode, without gradients."""
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set training mode, except for frozen parts; return self."""
        super().train(mode)
        self._freeze()
        return self

    def _check_input(self, x):
        """Raise an error for images of a wrong shape, or smaller than the stride."""
        check_images(x, self.in_channels, self.stride, self.out_indices)
