"""The ConvNeXt backbone: four stages of features, each with its own LayerNorm, for FPN, UPerNet and their like."""
from collections.abc import Mapping, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from convnext_mm.checkpoint.loadable import LoadableBackbone, parse_init_cfg
from convnext_mm.checkpoint.mmengine_loader import register_loader, verify_models
from convnext_mm.models.arguments import (
    MAX_CHANNELS,
    MAX_LAYER_SCALE,
    parse_arch,
    parse_compile,
    parse_memory_format,
    parse_out_indices,
    parse_output_stride,
    parse_with_cp,
)
from convnext_mm.models.layers import ConvNeXtBlock, DilatedDownsampling, LayerNorm2d, emit, init_weights, run_block
from convnext_mm.models.staged import StagedBackbone
from convnext_mm.models.tracing import is_exporting
from convnext_mm.published.archs import NUM_STAGES
from convnext_mm.registry import MODELS
from convnext_mm.utils.arguments import check_flag, check_integer, check_number


@MODELS.register_module()
class ConvNeXt(LoadableBackbone, StagedBackbone):
    """ConvNeXt as a dense-prediction backbone.

    Maps images ``(N, in_channels, H, W)`` to a tuple with one ``(N, channels[i], H / (4 * 2**i), W / (4 * 2**i))``
    for every stage ``i`` of ``out_indices`` in ascending order (sizes rounded down; no stride is above
    ``output_stride``), each through its own LayerNorm ``norm{i}``. Stages behind the last one asked for are not built,
    and norms exist only for those asked for, so every parameter gets a gradient. A classifier has ``out_indices=(3,)``,
    ``out_norms=False`` and :class:`~convnext_mm.models.pooled_layer_norm.PooledLayerNorm` behind it.

    Args:
        arch (str | dict): ``atto``, ``femto``, ``pico``, ``nano``, ``tiny``, ``small``, ``base``, ``large``,
            ``xlarge``, or a dict of ``depths`` and ``channels``, four positive integers each. Defaults to ``tiny``.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages to emit, 0 to 3; negative numbers count from the end. Defaults to all.
        drop_path_rate (float): Stochastic depth of the last block, in [0, 1); it grows linearly from 0 at the first
            block. Defaults to 0.
        layer_scale_init_value (float): Initial value of each block's ``gamma``; 0 for no layer scale. Defaults to
            1e-6, the value of ImageNet training; the detection and segmentation recipes use 1.
        use_grn (bool): ConvNeXt V2's global response normalisation in every block; layer scale must then be given
            as 0 to be left out, as V2 has it. Defaults to False.
        frozen_stages (int): -1 freezes nothing, 0 the stem, k the stem and the first k stages, the downsampling
            layers that lead to them included. Frozen parts stay in eval mode; output norms stay trainable.
            Defaults to -1.
        with_cp (bool | int | Sequence[int]): Recompute blocks in the backward pass instead of keeping their
            activations: in all stages (True), in none (False), in the first k stages (an int, 0 to 4; each stage keeps
            half as much as the one before), or in the stages of a sequence, 0 to 3. Defaults to False.
        output_stride (int): 8, 16 or 32. Stages that would lie beyond this stride keep the resolution before them and
            dilate their convolutions instead, as segmentors want it; the weights are the same. Defaults to 32.
        memory_format (str): ``channels_last`` or ``contiguous_format``, the layout between the stem and the outputs,
            which are contiguous in either. Defaults to ``channels_last``.
        compile (bool): Compile the blocks with ``torch.compile``, once per width for all sizes of images; needs torch
            2.6 or newer. Defaults to False.
        out_norms (bool): Give every output its LayerNorm. Defaults to True.
        init_cfg (dict | list[dict], optional): mmengine's initialisation. Without it, the paper's: truncated
            normal of standard deviation 0.02, biases 0.

    Raises:
        ArgumentValueError, ArgumentTypeError: (a ValueError, a TypeError) for an argument out of range or of a wrong
            type, and from ``forward`` for images of another shape or smaller than the stride.

    Source: arXiv:2201.03545; `facebookresearch/ConvNeXt` ``object_detection/mmdet/models/backbones/convnext.py``,
    whose parameter names it keeps. Deviations: output norms and stages only where asked for; ``frozen_stages`` and
    ``with_cp``, which the official backbone lacks, after mmdet's ResNet; ``output_stride`` after timm's
    ``models/convnext.py``. The official initialisation cuts normal numbers off at 100 deviations, which changes none.
    """

    def __init__(self, arch: str | Mapping = 'tiny', in_channels: int = 3,
                 out_indices: Sequence[int] = (0, 1, 2, 3), drop_path_rate: float = 0.,
                 layer_scale_init_value: float = 1e-6, use_grn: bool = False, frozen_stages: int = -1,
                 with_cp: bool | int | Sequence[int] = False, output_stride: int = 32,
                 memory_format: str = 'channels_last', compile: bool = False, out_norms: bool = True,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        parse_init_cfg(init_cfg)
        self.depths, self.channels = parse_arch(arch)
        self.in_channels = check_integer('in_channels', in_channels, 1, MAX_CHANNELS)
        self.out_indices = parse_out_indices(out_indices)
        drop_path_rate = check_number('drop_path_rate', drop_path_rate, 0, 1)
        layer_scale_init_value = check_number('layer_scale_init_value', layer_scale_init_value, 0, MAX_LAYER_SCALE)
        use_grn = check_flag('use_grn', use_grn)
        self.frozen_stages = check_integer('frozen_stages', frozen_stages, -1, NUM_STAGES)
        self.with_cp = parse_with_cp(with_cp)
        self.memory_format = parse_memory_format(memory_format)
        compile = parse_compile(compile)
        self.output_stride = parse_output_stride(output_stride)

        last = max(sum(self.depths) - 1, 1)
        rates = (drop_path_rate * block / last for block in range(sum(self.depths)))
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            self.downsample_layers.append(self._make_downsampling(i))
            self.stages.append(nn.Sequential(*(
                ConvNeXtBlock(self.channels[i], next(rates), layer_scale_init_value, use_grn, self._dilation(i),
                              self.memory_format, compile)
                for _ in range(self.depths[i]))))
        for i in self.out_indices if check_flag('out_norms', out_norms) else ():
            self.add_module(f'norm{i}', LayerNorm2d(self.channels[i], channels_first=True))
        init_weights(self)
        self._freeze()
        register_loader()
        verify_models()

    def _dilation(self, stage):
        """Return the dilation of a stage's convolutions, which replaces strides beyond ``output_stride``."""
        return max(4 * 2 ** stage // self.output_stride, 1)

    def _make_downsampling(self, stage):
        """Return the layers before a stage: the stem before the first, else a LayerNorm and a convolution."""
        channels = self.channels[stage]
        if stage == 0:
            return nn.Sequential(nn.Conv2d(self.in_channels, channels, kernel_size=4, stride=4), LayerNorm2d(channels))
        before = self.channels[stage - 1]
        if self._dilation(stage) == 1:
            layer = nn.Conv2d(before, channels, kernel_size=2, stride=2)
        else:
            # The convolution keeps the resolution, and reaches as far as the blocks of the stage before it.
            layer = DilatedDownsampling(before, channels, self._dilation(stage - 1))
        return nn.Sequential(LayerNorm2d(before), layer)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in ``out_indices``; see the class for their shapes."""
        exporting = is_exporting()
        if not exporting:
            # What is exported takes images of other sizes than those at hand.
            self._check_input(x)
        x = x.contiguous(memory_format=getattr(torch, self.memory_format))
        outputs = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = downsample(x)
            for block in stage.children():
                x = run_block(block, x, i in self.with_cp and not exporting)
            if i in self.out_indices:
                outputs.append(emit(x, getattr(self, f'norm{i}', None)))
        return tuple(outputs)
