"""A ConvNeXt in place of another backbone, in any OpenMMLab config."""
from convnext_mm.swap.swap import swap_backbone

__all__ = ['swap_backbone']
