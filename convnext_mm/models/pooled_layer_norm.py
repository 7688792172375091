"""What the paper's classifiers have between the backbone and the linear layer."""
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from convnext_mm.models.arguments import MAX_CHANNELS
from convnext_mm.registry import MODELS
from convnext_mm.utils.arguments import check_integer


@MODELS.register_module()
class PooledLayerNorm(BaseModule):
    """Pool the last map over its height and width, then normalise: a neck for classifiers.

    Maps a tuple of ``(N, C, H, W)`` to a tuple of one ``(N, C)``, which mmpretrain's ``LinearClsHead`` takes.
    mmpretrain's ``ConvNeXt`` has the norm in the backbone.

    Args:
        in_channels (int): C, of the last map.
        init_cfg (dict | list[dict], optional): mmengine's initialisation.

    Raises:
        ArgumentValueError, ArgumentTypeError: ``in_channels`` is no positive integer.

    Source: `facebookresearch/ConvNeXt` ``models/convnext.py``, ``forward_features``.
    """

    def __init__(self, in_channels: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.norm = nn.LayerNorm(check_integer('in_channels', in_channels, 1, MAX_CHANNELS), eps=1e-6)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Return the normalised means of the last of the maps ``inputs``."""
        return (self.norm(inputs[-1].mean((2, 3))),)
