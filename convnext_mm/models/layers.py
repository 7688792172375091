"""The parts of a ConvNeXt: channels-first LayerNorm, stochastic depth, response normalisation and the block.

Sources: "A ConvNet for the 2020s" (arXiv:2201.03545), figure 4 and section 2.6, `facebookresearch/ConvNeXt`
``models/convnext.py``; for GRN "ConvNeXt V2" (arXiv:2301.00808), section 3.2, `facebookresearch/ConvNeXt-V2`.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor

from convnext_mm.models.ops import block
from convnext_mm.models.ops.compiled import compiled_block
from convnext_mm.models.ops.tensors import BlockTensors, MLPTensors
from convnext_mm.models.tracing import is_compiling


def init_weights(backbone: nn.Module) -> None:
    """Set the initial values of the paper; those of norms and layer scales are set already."""
    for module in backbone.modules():
        # Parameters on the meta device have no values; drawing some would import half of torch, for seconds.
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def run_block(block: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """Return a block's result; with ``recompute``, its activations are not kept but computed again for gradients."""
    if recompute and torch.is_grad_enabled():
        return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
    return block(x)


def emit(x: Tensor, norm: nn.Module | None) -> Tensor:
    """Return a map as a backbone emits it, normalised if there is a norm.

    mmcv's RoIAlign reads memory as if it were NCHW: a channels-last map gives it wrong features silently.
    """
    return (x if norm is None else norm(x)).contiguous()


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of an image: ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Mean and variance are taken in float32 whatever the input's precision (torch's kernel accumulates there), so
    half-precision activations beyond 256, whose squares overflow float16, are normalised correctly.

    Args:
        num_channels (int): C.
        eps (float): Added to the variance. Defaults to 1e-6, the official value (torch's is 1e-5).
        channels_first (bool): Whether the result is contiguous rather than channels last in memory. Defaults to False.

    Source: `facebookresearch/ConvNeXt` ``models/convnext.py``, ``LayerNorm`` with ``channels_first``. Deviation: a
    subclass of ``nn.LayerNorm``, so rules by module type know it.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6, channels_first: bool = False) -> None:
        super().__init__(num_channels, eps=eps)
        self.channels_first = channels_first

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised image, of the shape of ``x``."""
        # Compilers and tracers get what they can look into.
        plain = is_compiling() or torch.jit.is_tracing()
        norm = block.plain_layer_norm if plain else block.layer_norm
        return norm(x.permute(0, 2, 3, 1), self.weight, self.bias, self.eps, self.channels_first).permute(0, 3, 1, 2)


class DilatedDownsampling(nn.Conv2d):
    """The 2 x 2 convolution in place of a downsampling one that would lie beyond the output stride: the size stays.

    It is ``nn.Conv2d`` with ``padding='same'``, whose padding at the ends of an axis may differ, which formats for
    export lack.

    Args:
        in_channels, out_channels (int): Channels.
        dilation (int): Distance between the taps, in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=2, padding=dilation // 2, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the result, of the height and width of ``x``."""
        more = self.dilation[0] % 2
        return super().forward(F.pad(x, (0, more, 0, more)) if more else x)


class DropPath(nn.Module):
    """Stochastic depth by the sample: in training, set a sample's branch to zero with probability ``rate``.

    Branches that stay are scaled by ``1 / (1 - rate)``, so the expectation does not change. Shape: any; the first axis
    is the batch.

    Args:
        rate (float): Probability in [0, 1).

    Source: "Deep Networks with Stochastic Depth" (arXiv:1603.09382).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def draw(self, x: Tensor) -> Tensor | None:
        """Draw each sample's factor, ``(N, 1, ...)``: 0 or ``1 / (1 - rate)``; return None where nothing is dropped."""
        if not self.training or self.rate == 0:
            return None
        keep = 1 - self.rate
        return x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its factors."""
        factor = self.draw(x)
        return x if factor is None else x * factor

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the layer."""
        return f'rate={self.rate:.3f}'


class GRN(nn.Module):
    """Global response normalisation of ConvNeXt V2, channels last: ``(N, H, W, C)`` to ``(N, H, W, C)``.

    Args:
        num_channels (int): C.

    Source: arXiv:2301.00808, section 3.2; parameter names and shapes of `facebookresearch/ConvNeXt-V2`
    ``models/utils.py``. Deviation: the norm over the image is taken in float32, where half precision overflows.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, num_channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values, of the shape of ``x``."""
        return block.response_norm(x, self.gamma, self.beta)


#: The parts of a block as it is built, and their classes; ``grn`` depends on an argument.
_PARTS = dict(dwconv=nn.Conv2d, norm=nn.LayerNorm, pwconv1=nn.Linear, act=nn.GELU, pwconv2=nn.Linear,
              drop_path=DropPath)


def _is_as_built(part, kind):
    """Return whether a part is of exactly that class, and calling it runs no hook."""
    return type(part) is kind and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
                                       or part._backward_pre_hooks)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, pointwise expansion by 4, GELU, pointwise reduction, layer scale, residual.

    Shape: ``(N, C, H, W)`` to ``(N, C, H, W)``; the result is channels last in memory.

    Args:
        channels (int): C.
        drop_path_rate (float): Probability of dropping the branch of a sample, in [0, 1). Defaults to 0.
        layer_scale_init_value (float): Initial value of ``gamma``; 0 for no layer scale. Defaults to 1e-6.
        use_grn (bool): GRN after the GELU, as in ConvNeXt V2. Defaults to False.
        dilation (int): Distance between the taps of the depthwise convolution, in pixels. Defaults to 1.
        memory_format (str): Layout of the depthwise convolution. Defaults to ``channels_last``.
        compile (bool): Compile the block; see :func:`~convnext_mm.models.ops.compiled.compiled_block`. Defaults to
            False.

    Source: arXiv:2201.03545, figure 4; `facebookresearch/ConvNeXt` ``models/convnext.py``, ``Block`` in its
    channels-last form (linear layers in place of 1x1 convolutions). Deviation:
    :mod:`convnext_mm.models.ops.block` computes the same formula; the parts run one by one only where one of them was
    exchanged or has a hook.
    """

    def __init__(self, channels: int, drop_path_rate: float = 0., layer_scale_init_value: float = 1e-6,
                 use_grn: bool = False, dilation: int = 1, memory_format: str = 'channels_last',
                 compile: bool = False) -> None:
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
        self.use_grn = use_grn
        # A name: torch.save cannot save torch's own object for a layout.
        self.memory_format = memory_format
        self.compiled = compile

    def _is_whole(self):
        """Return whether all parts are as built: none was exchanged, none has a hook."""
        if not all(_is_as_built(getattr(self, name), kind) for name, kind in _PARTS.items()):
            return False
        return _is_as_built(self.grn, GRN if self.use_grn else nn.Identity)

    def _tensors(self):
        """Return the block's parameters as its functions take them."""
        mlp = MLPTensors(self.norm.weight, self.norm.bias, self.pwconv1.weight, self.pwconv1.bias,
                         self.pwconv2.weight, self.pwconv2.bias, self.gamma)
        grn = (self.grn.gamma, self.grn.beta) if self.use_grn else (None, None)
        return BlockTensors(self.dwconv.weight, self.dwconv.bias, mlp, *grn)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's result, ``(N, C, H, W)``."""
        x = x.contiguous(memory_format=getattr(torch, self.memory_format))
        if not self._is_whole() or torch.jit.is_tracing():
            return self._by_parts(x)
        compiles = self.compiled and not is_compiling()
        if compiles:
            function = compiled_block(self.dwconv.in_channels)
        else:
            # Whoever compiles or exports a whole model gets what compilers can look into.
            function = block.formula if is_compiling() else block.block
        scale = self.drop_path.draw(x)
        if scale is None and compiles:
            # Blocks that drop nothing share the code of those that do.
            scale = x.new_ones(len(x), 1, 1, 1)
        return function(x, scale, self._tensors(), self.norm.eps, self.dwconv.dilation[0])

    def _by_parts(self, x):
        """Compute the block by calling its parts, so that exchanged ones and hooks take part."""
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = self.pwconv2(self.grn(self.act(self.pwconv1(self.norm(branch)))))
        if self.gamma is not None:
            branch = self.gamma * branch
        return x + self.drop_path(branch.permute(0, 3, 1, 2))
