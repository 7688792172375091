"""The parts of a ConvNeXt: channels-first LayerNorm, stochastic depth, response normalisation and the block.

Sources: "A ConvNet for the 2020s" (arXiv:2201.03545), figure 4 and section 2.6, `facebookresearch/ConvNeXt`
``models/convnext.py``; for GRN "ConvNeXt V2" (arXiv:2301.00808), section 3.2, `facebookresearch/ConvNeXt-V2`.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of an image: ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Mean and variance are taken in float32 whatever the input's precision (torch's kernel accumulates there), so
    half-precision activations beyond 256, whose squares overflow float16, are normalised correctly.

    Args:
        num_channels (int): C.
        eps (float): Added to the variance. Defaults to 1e-6, the official value (torch's is 1e-5).

    Source: `facebookresearch/ConvNeXt` ``models/convnext.py``, ``LayerNorm`` with ``channels_first``. Deviation: a
    subclass of ``nn.LayerNorm``, so rules by module type know it.
    """

    def __init__(self, num_channels, eps=1e-6):
        super().__init__(num_channels, eps=eps)

    def forward(self, x):
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth per sample: in training, a sample's branch is zeroed with probability ``rate``.

    What is kept is scaled by ``1 / (1 - rate)``, so the expectation does not change. Shape: any, the first axis
    being the batch.

    Args:
        rate (float): Probability in [0, 1).

    Source: "Deep Networks with Stochastic Depth" (arXiv:1603.09382).
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self):
        return f'rate={self.rate:.3f}'


class GRN(nn.Module):
    """Global response normalisation of ConvNeXt V2, channels last: ``(N, H, W, C)`` to ``(N, H, W, C)``.

    Args:
        num_channels (int): C.

    Source: arXiv:2301.00808, section 3.2; parameter names and shapes of `facebookresearch/ConvNeXt-V2`
    ``models/utils.py``. Deviation: the norm over the image is taken in float32, where half precision overflows.
    """

    def __init__(self, num_channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, num_channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, num_channels))

    def forward(self, x):
        # promote_types keeps a float64 model in float64.
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True,
                                            dtype=torch.promote_types(x.dtype, torch.float32))
        response = (response / (response.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
        return self.gamma * (x * response) + self.beta + x


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, pointwise expansion by 4, GELU, pointwise reduction, layer scale, residual.

    Shape: ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Args:
        channels (int): C.
        drop_path_rate (float): Probability of dropping the branch of a sample, in [0, 1). Defaults to 0.
        layer_scale_init_value (float): Initial value of ``gamma``; 0 for no layer scale. Defaults to 1e-6.
        use_grn (bool): GRN after the GELU, as in ConvNeXt V2. Defaults to False.
        dilation (int): Distance between the taps of the depthwise convolution, in pixels. Defaults to 1.

    Source: arXiv:2201.03545, figure 4; `facebookresearch/ConvNeXt` ``models/convnext.py``, ``Block`` in its
    channels-last form (linear layers in place of 1x1 convolutions).
    """

    def __init__(self, channels, drop_path_rate=0., layer_scale_init_value=1e-6, use_grn=False, dilation=1):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, kernel_size=7, padding=3 * dilation, dilation=dilation,
                                groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.grn = GRN(4 * channels) if use_grn else nn.Identity()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), float(layer_scale_init_value))) \
            if layer_scale_init_value else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x):
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = self.pwconv2(self.grn(self.act(self.pwconv1(self.norm(branch)))))
        if self.gamma is not None:
            branch = self.gamma * branch
        return x + self.drop_path(branch.permute(0, 3, 1, 2))
