"""The check of a config's backbone before anything large is built."""
import torch
from mmengine.config import Config

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.utils.configs import walk


def check_backbone(cfg: Config) -> None:
    """Build every ``convnext_mm.ConvNeXt`` of a config on the meta device, to find wrong arguments at once.

    Raises:
        ArgumentValueError, ArgumentTypeError: Those of the backbone.
    """
    for _, node in walk(cfg.model):
        if node.get('type') in ('convnext_mm.ConvNeXt', ConvNeXt):
            with torch.device('meta'):
                ConvNeXt(**{key: value for key, value in node.items() if key != 'type'})
