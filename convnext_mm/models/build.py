"""The check of a config's backbone before anything large is built."""
import torch
from mmengine.config import Config

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.models.isotropic_convnext import IsotropicConvNeXt
from convnext_mm.models.modernized_resnet import ModernizedResNet
from convnext_mm.utils.configs import walk


def check_backbone(cfg: Config) -> None:
    """Build every backbone of this project in a config on the meta device, to find wrong arguments at once.

    Raises:
        ArgumentValueError, ArgumentTypeError: Those of the backbone.
    """
    for _, node in walk(cfg.model):
        for kind in (ConvNeXt, IsotropicConvNeXt, ModernizedResNet):
            if node.get('type') in (f'convnext_mm.{kind.__name__}', kind):
                with torch.device('meta'):
                    kind(**{key: value for key, value in node.items() if key != 'type'})
