"""The networks between ResNet and ConvNeXt: one class, assembled from the table in ``published.roadmap``."""
import re
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from convnext_mm.checkpoint.fit import compare, is_sharded
from convnext_mm.models.arguments import MAX_CHANNELS, MAX_LAYER_SCALE, parse_out_indices
from convnext_mm.models.layers import LayerNorm2d
from convnext_mm.models.roadmap_block import make_downsampling, make_stage, make_stem
from convnext_mm.models.staged import StagedBackbone
from convnext_mm.models.tracing import is_exporting
from convnext_mm.published.archs import NUM_STAGES
from convnext_mm.published.roadmap import design_of
from convnext_mm.registry import MODELS
from convnext_mm.utils.arguments import check_flag, check_integer, check_number
from convnext_mm.utils.errors import ArgumentValueError

#: Names that are a backbone's own in a state dict that may hold a classifier beside it.
_OWN = re.compile(r'(downsample_layers|stages|norm\d)\.')


@MODELS.register_module()
class ModernizedResNet(StagedBackbone):
    """A ResNet on its way to ConvNeXt, after any step of the paper's roadmap.

    Maps images ``(N, in_channels, H, W)`` to a tuple with one ``(N, channels[i], H / (4 * 2**i), W / (4 * 2**i))`` for
    every stage ``i`` of ``out_indices`` in ascending order. Layers of an odd kernel round sizes up, as in a ResNet,
    and those of a 4x4 or 2x2 kernel round them down, as in ConvNeXt. The steps are in
    :mod:`convnext_mm.published.roadmap`.

    Args:
        regime (str): ``resnet50`` (to ConvNeXt-T) or ``resnet200`` (to ConvNeXt-B). Defaults to ``resnet50``.
        step (int | str): Number, 0 to 16, or name of the step: ``resnet`` is torchvision's ResNet-50 or timm's
            ResNet-200, ``separate_downsampling`` is ConvNeXt. Defaults to the last one.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): Stages to emit, 0 to 3; negative numbers count from the end. Defaults to all.
        drop_path_rate (float, optional): Stochastic depth of the last block, in [0, 1). Defaults to that of the
            recipe: 0 at step 0, then 0.1 for ``resnet50`` and 0.5 for ``resnet200``.
        layer_scale_init_value (float, optional): Initial value of each block's ``gamma``; 0 for no layer scale.
            Defaults to that of the recipe: 0 at step 0, then 1e-6.
        out_norms (bool): Give every output a LayerNorm of its own, as ConvNeXt has it for dense prediction. Defaults
            to False.
        pool (bool): Emit the mean over each map, ``(N, channels[i])``, for a classifier; the last step has a LayerNorm
            behind it. Defaults to False.
        width_divisor (int): Divide the channels of all layers by it, for small experiments. Defaults to 1.
        frozen_stages (int): -1 freezes nothing, 0 the stem, k the stem and the first k stages. Defaults to -1.
        init_cfg (dict | list[dict], optional): mmengine's initialisation.

    Raises:
        ArgumentValueError, ArgumentTypeError: (a ValueError, a TypeError) for an argument out of range or of a wrong
            type, and from ``forward`` for images of another shape or smaller than the stride.
        CheckpointError: A checkpoint that is loaded into it is that of another network.

    The paper leaves these open, and here they are so:

    - a norm follows the patchify stem, and no activation: as in ConvNeXt, where it is a LayerNorm;
    - the shortcut's 1x1 convolution keeps its norm when blocks have ``fewer_norms``, and gets a LayerNorm with them:
      the norm is none of the branch's, and the paper found training to diverge without norms where the resolution
      changes;
    - layer scale, which the recipe brings, multiplies the whole branch, its last norm included;
    - a convolution has a bias unless a BatchNorm follows at once;
    - weights are torchvision's (Kaiming's, over the outputs) at step 0, and normal with a deviation of 0.02 from the
      recipe on; no norm starts at 0;
    - strided k x k convolutions pad by ``k // 2``;
    - the drop path of the regime of ResNet-200 is ConvNeXt-B's, 0.5, at every step of the recipe.

    The optimizer constructor for layer decay takes it for a ConvNeXt by the names of its parts, so a layer is the stem,
    a stage, or three blocks of the third one. The paper has no layer decay for these networks: the rule is this
    project's own.

    Source: arXiv:2201.03545v2, section 2 and appendix C. For step 0 torchvision ``models/resnet.py`` and timm
    ``models/resnet.py``.
    """

    def __init__(self, regime: str = 'resnet50', step: int | str = 'separate_downsampling', *, in_channels: int = 3,
                 out_indices: Sequence[int] = (0, 1, 2, 3), drop_path_rate: float | None = None,
                 layer_scale_init_value: float | None = None, out_norms: bool = False, pool: bool = False,
                 width_divisor: int = 1, frozen_stages: int = -1, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        design = design_of(regime, step)
        self.regime, self.step = regime, step
        design = design._replace(width=design.width // check_integer('width_divisor', width_divisor, 1, design.width))
        if drop_path_rate is not None:
            design = design._replace(drop_path_rate=check_number('drop_path_rate', drop_path_rate, 0, 1))
        if layer_scale_init_value is not None:
            design = design._replace(layer_scale_init_value=check_number(
                'layer_scale_init_value', layer_scale_init_value, 0, MAX_LAYER_SCALE))
        self.design, self.depths, self.channels = design, design.depths, design.channels
        self.in_channels = check_integer('in_channels', in_channels, 1, MAX_CHANNELS)
        self.out_indices = parse_out_indices(out_indices)
        self.frozen_stages = check_integer('frozen_stages', frozen_stages, -1, NUM_STAGES)
        self.pool = check_flag('pool', pool)
        if check_flag('out_norms', out_norms) and pool:
            raise ArgumentValueError('out_norms must be False with pool=True, where the last step has a norm of its '
                                     'own, got True')
        self._build()
        for i in self.out_indices:
            if out_norms or pool and design.downsampling == 'layer':
                self.add_module(f'norm{i}', nn.LayerNorm(self.channels[i], eps=1e-6) if pool else
                                LayerNorm2d(self.channels[i], channels_first=True))
        self._init_parameters()
        self._freeze()

    def _build(self):
        """Make the stem and the stages up to the last one asked for."""
        design, last = self.design, max(sum(self.depths) - 1, 1)
        rates = [design.drop_path_rate * block / last for block in range(sum(self.depths))]
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            first = sum(self.depths[:i])
            self.downsample_layers.append(make_downsampling(design, i) if i else make_stem(design, self.in_channels))
            self.stages.append(make_stage(design, i, rates[first:first + self.depths[i]]))

    def _init_parameters(self):
        """Set the initial values of the convolutions; those of norms and layer scales are set already."""
        for module in self.modules():
            # Parameters on the meta device have no values; drawing some would import half of torch, for seconds.
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.is_meta:
                if self.design.weights == 'kaiming':
                    nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                else:
                    nn.init.normal_(module.weight, std=.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        """Raise a ``CheckpointError`` unless everything fits: not every caller looks at what torch returns."""
        if not is_sharded(self):
            there = {name[len(prefix):]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
            if not prefix:
                there = {name: tensor for name, tensor in there.items() if _OWN.match(name)}
            differences = compare(there, self.state_dict())
            # Files of old versions of torch lack these counters.
            missing = [name for name in differences.missing if not name.endswith('num_batches_tracked')]
            differences._replace(missing=missing).raise_any(
                f'the checkpoint is not that of regime={self.regime}, step={self.step} with these arguments', prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in ``out_indices``; see the class for their shapes."""
        if not is_exporting():
            # What is exported takes images of other sizes than those at hand.
            self._check_input(x)
        x = x.contiguous(memory_format=torch.channels_last)
        outputs = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            if i in self.out_indices:
                output = x.mean((2, 3)) if self.pool else x
                # mmcv's RoIAlign reads memory as if it were NCHW: a channels-last map gives it wrong features silently.
                outputs.append(getattr(self, f'norm{i}', nn.Identity())(output).contiguous())
        return tuple(outputs)
