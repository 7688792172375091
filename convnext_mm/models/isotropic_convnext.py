"""The isotropic ConvNeXt: one resolution throughout, as a plain transformer has it."""
from collections.abc import Mapping, Sequence

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from convnext_mm.checkpoint.loadable import LoadableBackbone, parse_init_cfg
from convnext_mm.checkpoint.mmengine_loader import register_loader, verify_models
from convnext_mm.models.arguments import (
    MAX_CHANNELS,
    MAX_LAYER_SCALE,
    parse_compile,
    parse_isotropic_arch,
    parse_memory_format,
    parse_out_indices,
)
from convnext_mm.models.layers import ConvNeXtBlock, LayerNorm2d, emit, init_weights, run_block
from convnext_mm.models.staged import check_images
from convnext_mm.models.tracing import is_exporting
from convnext_mm.registry import MODELS
from convnext_mm.utils.arguments import check_flag, check_integer, check_number


@MODELS.register_module()
class IsotropicConvNeXt(LoadableBackbone, BaseModule):
    """The isotropic ConvNeXt of the paper's table 2: blocks of one width behind a stem of stride 16.

    Maps images ``(N, in_channels, H, W)`` to a tuple with one ``(N, channels, H / 16, W / 16)``, rounded down, for
    every block of ``out_indices`` in ascending order, each through its own LayerNorm ``norm{i}``. So it takes the place
    of a ViT before heads that read maps of several depths. Blocks behind the last one asked for are not built. A
    classifier has ``out_norms=False`` and :class:`~convnext_mm.models.pooled_layer_norm.PooledLayerNorm` behind it.

    Args:
        arch (str | dict): ``small`` (18 blocks of 384 channels), ``base`` (18 of 768), ``large`` (36 of 1024), or a
            dict of ``depth`` and ``channels``. Defaults to ``small``.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Blocks to emit; negative numbers count from the end. Defaults to the last.
        drop_path_rate (float): Stochastic depth of the last block, in [0, 1); it grows linearly from 0 at the first
            block. Defaults to 0.
        layer_scale_init_value (float): Initial value of each block's ``gamma``; 0 for no layer scale, which the paper's
            S and B have; L has 1e-6. Defaults to 0.
        with_cp (bool): Recompute the blocks in the backward pass instead of keeping their activations. Defaults to
            False.
        memory_format (str): ``channels_last`` or ``contiguous_format``, the layout between the stem and the outputs,
            which are contiguous in either. Defaults to ``channels_last``.
        compile (bool): Compile the blocks with ``torch.compile``; needs torch 2.6 or newer. Defaults to False.
        out_norms (bool): Give every output its LayerNorm. Defaults to True.
        init_cfg (dict | list[dict], optional): mmengine's initialisation. Without it, the paper's, as in ``ConvNeXt``.

    Raises:
        ArgumentValueError, ArgumentTypeError: (a ValueError, a TypeError) for an argument out of range or of a wrong
            type, and from ``forward`` for images of another shape or smaller than the stride.

    Source: arXiv:2201.03545, section 3.3; `facebookresearch/ConvNeXt` ``models/convnext_isotropic.py``, whose parameter
    names it keeps. Deviation: output norms, which are this project's own, as the official model is a classifier.
    """

    #: Pixels of the image per pixel of the maps.
    stride = 16

    def __init__(self, arch: str | Mapping = 'small', in_channels: int = 3, out_indices: Sequence[int] = (-1,),
                 drop_path_rate: float = 0., layer_scale_init_value: float = 0., *, with_cp: bool = False,
                 memory_format: str = 'channels_last', compile: bool = False, out_norms: bool = True,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        parse_init_cfg(init_cfg)
        self.depths, self.channels = parse_isotropic_arch(arch)
        depth, channels = self.depths[0], self.channels[0]
        self.in_channels = check_integer('in_channels', in_channels, 1, MAX_CHANNELS)
        self.out_indices = parse_out_indices(out_indices, depth, 'block')
        rate = check_number('drop_path_rate', drop_path_rate, 0, 1)
        scale = check_number('layer_scale_init_value', layer_scale_init_value, 0, MAX_LAYER_SCALE)
        self.with_cp = check_flag('with_cp', with_cp)
        self.memory_format = parse_memory_format(memory_format)
        compile = parse_compile(compile)
        self.stem = nn.Conv2d(self.in_channels, channels, kernel_size=self.stride, stride=self.stride)
        self.blocks = nn.Sequential(*(
            ConvNeXtBlock(channels, rate * i / max(depth - 1, 1), scale, memory_format=self.memory_format,
                          compile=compile)
            for i in range(self.out_indices[-1] + 1)))
        for i in self.out_indices if check_flag('out_norms', out_norms) else ():
            self.add_module(f'norm{i}', LayerNorm2d(channels, channels_first=True))
        init_weights(self)
        register_loader()
        verify_models()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the blocks in ``out_indices``; see the class for their shapes."""
        exporting = is_exporting()
        if not exporting:
            # What is exported takes images of other sizes than those at hand.
            check_images(x, self.in_channels, self.stride, self.out_indices)
        x = self.stem(x.contiguous(memory_format=getattr(torch, self.memory_format)))
        outputs = []
        for i, block in enumerate(self.blocks.children()):
            x = run_block(block, x, self.with_cp and not exporting)
            if i in self.out_indices:
                outputs.append(emit(x, getattr(self, f'norm{i}', None)))
        return tuple(outputs)
