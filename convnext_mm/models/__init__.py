"""The ConvNeXt backbone and its parts; importing this package registers them."""
from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.models.isotropic_convnext import IsotropicConvNeXt
from convnext_mm.models.modernized_resnet import ModernizedResNet
from convnext_mm.models.pooled_layer_norm import PooledLayerNorm

__all__ = ['ConvNeXt', 'IsotropicConvNeXt', 'ModernizedResNet', 'PooledLayerNorm']
