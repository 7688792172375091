"""Building a config's backbone for nothing but its arguments."""
import torch

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.utils.configs import walk


def check_backbone(cfg):
    """Build every ``convnext_mm.ConvNeXt`` of a config without memory, so that a wrong argument is found at once.

    Raises:
        ArgumentValueError, ArgumentTypeError: The backbone's own.
    """
    for _, node in walk(cfg.model):
        if node.get('type') in ('convnext_mm.ConvNeXt', ConvNeXt):
            with torch.device('meta'):
                ConvNeXt(**{key: value for key, value in node.items() if key != 'type'})
