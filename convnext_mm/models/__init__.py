"""The ConvNeXt backbone and its parts; importing this package registers them."""
from convnext_mm.models.convnext import ConvNeXt

__all__ = ['ConvNeXt']
